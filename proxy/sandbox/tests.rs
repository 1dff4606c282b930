//! Rules as the kernel holds them. Each test sandboxes a thread, as a process with one thread would itself.

use std::fs;
use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit};

use super::*;

/// What `attempt` comes to in a thread under the rules. Where the kernel has no sandbox, `None`, after it said so.
fn under<T: Send + 'static>(rules: Rules, attempt: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let applied = std::thread::spawn(move || rules.apply().map(|()| attempt())).join().unwrap();
    match supported() {
        Ok(()) => Some(applied.unwrap()),
        Err(message) => {
            assert_eq!(applied.map(drop), Err(message));
            None
        }
    }
}

fn refused<T: std::fmt::Debug>(result: std::io::Result<T>) {
    assert_eq!(result.unwrap_err().kind(), PermissionDenied);
}

/// Another program on this machine: it ends with the test.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        Self(Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap())
    }

    fn id(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn files_are_read_inside_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
    for folder in [&inside, &outside] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "text").unwrap();
    }
    let rules = Rules { read: vec![inside.clone()], ..Rules::default() };
    under(rules, move || {
        assert_eq!(fs::read_to_string(inside.join("file")).unwrap(), "text");
        refused(fs::write(inside.join("file"), "changed"));
        refused(fs::remove_file(inside.join("file")));
        refused(fs::read(outside.join("file")));
        refused(fs::read_dir(&outside));
        refused(fs::rename(outside.join("file"), inside.join("other")));
        refused(fs::hard_link(outside.join("file"), inside.join("other")));
        refused(fs::read("/etc/passwd"));
    });
}

#[test]
fn a_link_leads_nowhere_that_its_target_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, secret) = (folder.path().join("inside"), folder.path().join("secret"));
    fs::create_dir(&inside).unwrap();
    fs::write(&secret, "text").unwrap();
    std::os::unix::fs::symlink(&secret, inside.join("link")).unwrap();
    let rules = Rules { write: vec![inside.clone()], ..Rules::default() };
    under(rules, move || {
        refused(fs::read(inside.join("link")));
        std::os::unix::fs::symlink(&secret, inside.join("own")).unwrap();
        refused(fs::read(inside.join("own")));
    });
}

#[test]
fn files_are_written_inside_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
    fs::create_dir(&inside).unwrap();
    fs::write(&outside, "text").unwrap();
    let rules = Rules { write: vec![inside.clone()], ..Rules::default() };
    under(rules, move || {
        fs::create_dir(inside.join("new")).unwrap();
        fs::write(inside.join("new/file"), "text").unwrap();
        fs::rename(inside.join("new/file"), inside.join("file")).unwrap();
        assert_eq!(fs::read_to_string(inside.join("file")).unwrap(), "text");
        fs::remove_dir_all(inside.join("new")).unwrap();
        refused(fs::OpenOptions::new().write(true).open(&outside));
        refused(fs::OpenOptions::new().write(true).truncate(true).open(&outside));
        refused(fs::write(outside.with_extension("new"), ""));
        fs::write("/dev/null", "text").unwrap();
    });
}

#[test]
fn devices_are_made_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().to_owned();
    under(Rules { write: vec![inside.clone()], ..Rules::default() }, move || {
        let make = |kind| rustix::fs::mknodat(rustix::fs::CWD, inside.join("new"), kind, rustix::fs::Mode::RWXU, 0);
        // Number 0 is no device, and anybody may make it.
        assert_eq!(make(rustix::fs::FileType::CharacterDevice), Err(rustix::io::Errno::ACCESS));
        assert_eq!(make(rustix::fs::FileType::BlockDevice), Err(rustix::io::Errno::ACCESS));
        make(rustix::fs::FileType::Fifo).unwrap();
    });
}

#[test]
fn modes_and_times_are_held_where_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    let read = vec![folder.path().to_owned()];
    let change = |file: &Path| {
        let mode = fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600));
        let times = fs::File::open(file).unwrap().set_modified(std::time::SystemTime::now());
        let owner = std::os::unix::fs::chown(file, None, None);
        [mode, times, owner]
    };
    let path = file.clone();
    under(Rules { read: read.clone(), ..Rules::default() }, move || change(&path).into_iter().for_each(refused));
    under(Rules { write: read, ..Rules::default() }, move || change(&file).into_iter().for_each(Result::unwrap));
}

#[test]
fn one_file_can_be_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    fs::write(&one, "text").unwrap();
    fs::write(&other, "text").unwrap();
    under(Rules { write: vec![one.clone()], ..Rules::default() }, move || {
        fs::write(&one, "changed").unwrap();
        refused(fs::read(&other));
    });
}

#[test]
fn programs_run_and_stay_inside() {
    let run = |script: &'static str| {
        under(Rules::default(), move || {
            let done = Command::new("/bin/sh").args(["-c", script]).stderr(Stdio::null()).output().unwrap();
            (done.status.success(), String::from_utf8(done.stdout).unwrap())
        })
    };
    for (script, expected) in [("echo text | cat", (true, "text\n")), ("cat /etc/passwd", (false, ""))] {
        if let Some(done) = run(script) {
            assert_eq!((done.0, done.1.as_str()), expected, "{script}");
        }
    }
}

#[test]
fn a_path_that_does_not_exist_is_named_and_changes_nothing() {
    if supported().is_err() {
        return;
    }
    let missing = || vec![PathBuf::from("/no/such/folder")];
    let rules = |read, write| Rules { read, write, network: false };
    for (rules, list) in [(rules(missing(), vec![]), "read"), (rules(vec![], missing()), "write")] {
        let thread = std::thread::spawn(move || {
            let message = rules.apply().unwrap_err();
            assert_eq!(message, format!("the sandbox's `{list}` names /no/such/folder, which does not exist"));
            fs::read("/etc/passwd").unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap();
        });
        thread.join().unwrap();
    }
}

#[test]
fn without_the_network_there_are_no_sockets_but_pairs() {
    under(Rules::default(), || {
        refused(TcpListener::bind("127.0.0.1:0"));
        refused(UdpSocket::bind("[::1]:0"));
        refused(UnixListener::bind("/dev/null/none"));
        UnixStream::pair().unwrap();
        // One of these could be connected to any other socket of its kind.
        refused(UnixDatagram::pair());
    });
}

#[test]
fn with_the_network_sockets_of_other_programs_stay_out_of_reach() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let _engine = UnixListener::bind(&path).unwrap();
    let rules = Rules { read: vec![folder.path().to_owned()], network: true, ..Rules::default() };
    under(rules, move || {
        TcpListener::bind("127.0.0.1:0").unwrap();
        UnixStream::pair().unwrap();
        refused(UnixStream::connect(&path));
    });
}

#[test]
fn other_processes_are_left_alone() {
    let bystander = Bystander::start();
    let id = bystander.id();
    under(Rules { network: true, ..Rules::default() }, move || {
        let other = rustix::process::Pid::from_raw(id).unwrap();
        let limit = || Rlimit { current: Some(0), maximum: Some(0) };
        refused(rustix::process::prlimit(Some(other), Resource::Cpu, limit()).map_err(Into::into));
        refused(fs::read(format!("/proc/{id}/environ")));
        refused(fs::read(format!("/proc/{id}/cmdline")));
        if signals_are_held() {
            assert_eq!(kill(Pid::from_raw(id), Signal::SIGKILL), Err(nix::errno::Errno::EPERM));
        }
        // Its own it may end.
        let mut own = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        own.kill().unwrap();
        own.wait().unwrap();
    });
}

/// Whether the kernel keeps signals inside: Linux 6.12.
fn signals_are_held() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(12))
}

#[test]
fn what_programs_need_is_there() {
    under(Rules::default(), || {
        for path in ["/dev/null", "/dev/zero", "/dev/urandom", "/proc/self/status", "/proc/self/maps", "/proc/cpuinfo"] {
            fs::File::open(path).unwrap();
        }
        for path in ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/ld.so.cache", "/etc/ssl/certs"] {
            if let Err(e) = fs::File::open(path) {
                assert_eq!(e.kind(), NotFound, "{path}");
            }
        }
        for path in ["/etc", "/", "/proc", "/tmp", "/var", "/run", "/dev", "/sys"] {
            if Path::new(path).exists() {
                refused(fs::read_dir(path));
            }
        }
    });
}
