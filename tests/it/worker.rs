//! The Python worker: the real binary at the other end of a socket pair, with the tests' virtual environment.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::programs;

const WORKER: &str = env!("CARGO_BIN_EXE_moongate-python");
/// Importing the SDK takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tools that the tests call.
const TOOLS: &str = r#"
import ctypes, errno, os, socket, sys


def look(path: str) -> str:
    """Read a file."""
    with open(path) as file:
        return file.read()


def write(path: str) -> str:
    """Write a file."""
    with open(path, "w") as file:
        file.write("written")
    return "written"


def about() -> dict:
    """Say which Python this is."""
    return {
        "prefix": sys.prefix,
        "executable": sys.executable,
        "last": sys.path[-1],
        "utf8": sys.flags.utf8_mode,
        "stdin": os.readlink("/proc/self/fd/0"),
    }


def open_socket(port: int) -> str:
    """Say hello to a server."""
    with socket.socket() as client:
        client.connect(("127.0.0.1", port))
        return client.recv(5).decode()


def pair() -> str:
    """Talk over a pair."""
    one, other = socket.socketpair()
    one.send(b"hello")
    return other.recv(5).decode()


def fill(megabytes: int) -> str:
    """Use memory."""
    filled = [b"x" * (1 << 20) for _ in range(megabytes)]
    return str(len(filled))


def spin() -> str:
    """Never end, and hear nothing."""
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def end(pid: int) -> str:
    """End another process."""
    os.kill(pid, 9)
    return "ended"


def call(numbers: list[int], first: int = 0) -> list[str]:
    """Make system calls, with one argument at most."""
    libc = ctypes.CDLL(None, use_errno=True)
    results = []
    for number in numbers:
        ctypes.set_errno(0)
        libc.syscall(ctypes.c_long(number), ctypes.c_long(first), *[ctypes.c_long(0)] * 5)
        results.append(errno.errorcode.get(ctypes.get_errno(), "ok"))
    return results


def program(path: str) -> str:
    """Let a program of this Python read a file."""
    import subprocess

    done = subprocess.run([sys.executable, "-c", f"open({path!r})"], capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1] if done.returncode else "read"


def leave_behind() -> str:
    """Start programs that do not end by themselves."""
    import subprocess

    subprocess.Popen(["sleep", "60"])
    subprocess.Popen(["sh", "-c", "sleep 60; true"])
    return "started"


def say() -> str:
    """Print."""
    print("a line")
    return os.read(0, 1).decode()
"#;
const NAMES: [&str; 12] =
    ["look", "write", "about", "open_socket", "pair", "fill", "spin", "end", "call", "program", "leave_behind", "say"];

/// A folder with the tools, which goes away with the test.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("own")).unwrap();
    fs::write(root.path().join("own/tools.py"), TOOLS).unwrap();
    root
}

fn settings(root: &Path) -> Value {
    json!({ "root": root, "venv": programs::venv(), "memory_bytes": 1 << 30, "tracing": false, "sandbox": null })
}

fn sandboxed(root: &Path, write: &[&Path], network: &str) -> Value {
    let mut settings = settings(root);
    settings["sandbox"] = json!({ "read": [root], "write": write, "network": network });
    settings
}

/// A worker that runs, and the gateway's end of its socket.
struct Worker {
    child: Child,
    socket: UnixStream,
    calls: u64,
}

impl Worker {
    /// A worker with these settings, at work in their root.
    fn start(settings: &Value) -> Self {
        let (socket, its) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let root = settings["root"].as_str().filter(|root| Path::new(root).is_dir()).unwrap_or("/");
        let child = Command::new(WORKER)
            .args(["--settings", &settings.to_string()])
            .current_dir(root)
            .stdin(OwnedFd::from(its))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { child, socket, calls: 0 }
    }

    /// One that has said that it is ready, and has loaded the tools.
    fn ready(settings: &Value) -> Self {
        let mut worker = Self::start(settings);
        let ready = worker.receive();
        assert_eq!(ready["type"], "ready", "{ready}");
        assert_eq!(ready["sdk_error"], Value::Null, "{ready}");
        let tools: Vec<String> = NAMES.iter().map(|name| format!("own.tools:{name}")).collect();
        worker.send(&json!({ "type": "load", "agents": [], "tools": tools }));
        let loaded = worker.receive();
        for tool in &tools {
            assert_eq!(loaded["tools"][tool]["name"], tool.rsplit(':').next().unwrap(), "{loaded}");
        }
        worker
    }

    fn send(&mut self, frame: &Value) {
        let text = frame.to_string();
        self.socket.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).unwrap();
        self.socket.write_all(text.as_bytes()).unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut length = [0; 4];
        if self.socket.read_exact(&mut length).is_err() {
            let _ = self.child.kill();
            let mut said = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("the worker ended: {said}");
        }
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Begins a call, and does not wait for its end.
    fn begin(&mut self, tool: &str, arguments: &Value) {
        self.calls += 1;
        let function = format!("own.tools:{tool}");
        self.send(&json!({ "type": "call", "call": self.calls, "function": function, "arguments": arguments }));
    }

    /// What the call gave, or the message of its error.
    fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, String> {
        self.begin(tool, arguments);
        let ended = self.receive();
        assert_eq!((ended["type"].as_str(), ended["call"].as_u64()), (Some("ended"), Some(self.calls)), "{ended}");
        match ended["error"]["message"].as_str() {
            None => Ok(ended["result"]["value"].clone()),
            Some(message) => Err(message.to_owned()),
        }
    }

    /// Fails unless the call ends in `PermissionError`.
    fn refuses(&mut self, tool: &str, arguments: &Value) {
        let message = self.call(tool, arguments).unwrap_err();
        assert!(message.starts_with("PermissionError"), "{tool}: {message}");
    }

    /// The exit code, once it ends by itself within `patience`.
    fn end(&mut self, patience: Duration) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < patience, "the worker still runs after {patience:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the kernel can hold a sandbox. If it cannot, a worker with one says so and does not start.
fn has_sandbox() -> bool {
    let Err(message) = moongate::sandbox::supported() else { return true };
    let root = root();
    assert_eq!(last_words(&sandboxed(root.path(), &[], "none")), format!("moongate-python: {message}\n"));
    false
}

/// What a worker that does not start writes to standard error.
fn last_words(settings: &Value) -> String {
    let mut worker = Worker::start(settings);
    assert_eq!(worker.end(PATIENCE), Some(1));
    let mut said = String::new();
    worker.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

#[test]
fn it_runs_the_environments_python() {
    let root = root();
    let mut worker = Worker::ready(&settings(root.path()));
    let about = worker.call("about", &json!({})).unwrap();
    assert_eq!(about["prefix"], json!(programs::venv()));
    assert_eq!(about["executable"], json!(programs::venv().join("bin/python")));
    assert_eq!(about["last"], json!(root.path()));
    assert_eq!(about["utf8"], 1);
    assert_eq!(about["stdin"], "/dev/null");
}

#[test]
fn it_runs_without_an_environment() {
    let root = root();
    let mut settings = settings(root.path());
    settings["venv"] = Value::Null;
    let ready = Worker::start(&settings).receive();
    assert_eq!(ready["type"], "ready");
    assert_ne!(ready["prefix"], json!(programs::venv()));
}

#[test]
fn lines_leave_when_they_are_printed() {
    let root = root();
    let mut worker = Worker::ready(&settings(root.path()));
    assert_eq!(worker.call("say", &json!({})).unwrap(), "");
    let mut line = [0; 7];
    worker.child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"a line\n");
}

#[test]
fn it_goes_with_its_gateway_whatever_python_does() {
    let root = root();
    let mut worker = Worker::ready(&settings(root.path()));
    worker.begin("spin", &json!({}));
    // It has the thread now: a call behind it is answered.
    worker.begin("about", &json!({}));
    assert_eq!(worker.receive()["call"], 2);
    worker.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(worker.end(Duration::from_secs(1)), Some(0));
}

#[test]
fn what_it_started_goes_with_it() {
    let root = root();
    let sandbox = if has_sandbox() { sandboxed(root.path(), &[], "none")["sandbox"].take() } else { Value::Null };
    for sandbox in [Value::Null, sandbox] {
        let mut settings = settings(root.path());
        settings["sandbox"] = sandbox;
        let mut worker = Worker::ready(&settings);
        assert_eq!(worker.call("leave_behind", &json!({})).unwrap(), "started");
        let begun = Instant::now();
        worker.socket.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(worker.end(Duration::from_secs(1)), Some(0));
        // Its standard output ends with the last program that has it.
        worker.child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn its_memory_has_an_end() {
    let root = root();
    let mut settings = settings(root.path());
    settings["memory_bytes"] = json!(512 << 20);
    let mut worker = Worker::ready(&settings);
    let message = worker.call("fill", &json!({ "megabytes": 2048 })).unwrap_err();
    assert!(message.starts_with("MemoryError"), "{message}");
    assert_eq!(worker.call("fill", &json!({ "megabytes": 10 })).unwrap(), "10");
}

#[test]
fn files_outside_of_the_sandbox_are_out_of_reach() {
    if !has_sandbox() {
        return;
    }
    let (root, outside) = (root(), tempfile::tempdir().unwrap());
    let secret = outside.path().join("secret");
    fs::write(&secret, "text").unwrap();
    let out = root.path().join("out");
    fs::create_dir(&out).unwrap();
    let mut worker = Worker::ready(&sandboxed(root.path(), &[&out], "none"));
    let path = |path: PathBuf| json!({ "path": path });
    assert_eq!(worker.call("look", &path(root.path().join("own/tools.py"))).unwrap(), TOOLS);
    assert_eq!(worker.call("write", &path(out.join("file"))).unwrap(), "written");
    assert_eq!(worker.call("look", &path(out.join("file"))).unwrap(), "written");
    worker.refuses("look", &path(secret.clone()));
    worker.refuses("look", &path("/etc/passwd".into()));
    worker.refuses("write", &path(root.path().join("own/tools.py")));
    worker.refuses("write", &path(outside.path().join("new")));
    // Programs that it starts are Python, too, and as little free.
    let said = worker.call("program", &path(secret)).unwrap();
    assert!(said.as_str().unwrap().starts_with("PermissionError"), "{said}");
    assert_eq!(worker.call("program", &path(out.join("file"))).unwrap(), "read");
}

#[test]
fn the_network_is_there_when_it_is_allowed() {
    if !has_sandbox() {
        return;
    }
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = json!({ "port": server.local_addr().unwrap().port() });
    let root = root();
    let mut worker = Worker::ready(&sandboxed(root.path(), &[], "none"));
    worker.refuses("open_socket", &port);
    assert_eq!(worker.call("pair", &json!({})).unwrap(), "hello");
    drop(worker);

    let mut worker = Worker::ready(&sandboxed(root.path(), &[], "allow"));
    worker.begin("open_socket", &port);
    server.accept().unwrap().0.write_all(b"hello").unwrap();
    assert_eq!(worker.receive()["result"]["value"], "hello");
}

#[test]
fn other_processes_are_out_of_reach() {
    if !has_sandbox() {
        return;
    }
    let root = root();
    let mut worker = Worker::ready(&sandboxed(root.path(), &[], "allow"));
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    // Older kernels cannot hold signals.
    if (numbers.next(), numbers.next()) >= (Some(6), Some(12)) {
        for pid in [bystander.id(), std::process::id()] {
            worker.refuses("end", &json!({ "pid": pid }));
        }
        kill(Pid::from_raw(i32::try_from(bystander.id()).unwrap()), None).unwrap();
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn system_calls_that_lead_out_are_refused() {
    if !has_sandbox() {
        return;
    }
    use nix::libc;
    let refused = [
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_bpf,
        libc::SYS_keyctl,
        libc::SYS_mount,
        libc::SYS_kexec_load,
        libc::SYS_perf_event_open,
        libc::SYS_io_uring_setup,
        libc::SYS_open_by_handle_at,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_shmget,
    ];
    let root = root();
    for network in ["none", "allow"] {
        let mut worker = Worker::ready(&sandboxed(root.path(), &[], network));
        let results = worker.call("call", &json!({ "numbers": refused })).unwrap();
        assert_eq!(results, json!(vec!["EPERM"; refused.len()]));
        let sockets = worker.call("call", &json!({ "numbers": [libc::SYS_socket, libc::SYS_getpid] })).unwrap();
        assert_eq!(sockets, json!(["EACCES", "ok"]), "a socket of no family");
        let new_users = json!({ "numbers": [libc::SYS_clone, libc::SYS_clone3], "first": libc::CLONE_NEWUSER });
        assert_eq!(worker.call("call", &new_users).unwrap(), json!(["EPERM", "ENOSYS"]));
        if cfg!(target_arch = "x86_64") {
            // The same calls by the numbers of the x32 ABI.
            let numbers = [libc::SYS_socket, libc::SYS_getpid].map(|number| number | 0x4000_0000);
            assert_eq!(worker.call("call", &json!({ "numbers": numbers })).unwrap(), json!(["ENOSYS", "ENOSYS"]));
        }
    }
}

#[test]
fn bad_settings_are_one_line() {
    let root = root();
    let with = |key: &str, value: Value| {
        let mut settings = settings(root.path());
        settings[key] = value;
        settings
    };
    let mut wrong = vec![
        (json!({}), "the settings cannot be read: missing field `root` at line 1 column 2"),
        (with("root", json!("own")), "the settings name `own`, which is no absolute path"),
        (with("venv", json!("/no/such")), "there is no virtual environment in /no/such: it has no bin/python"),
    ];
    if has_sandbox() {
        let sandbox = json!({ "read": ["/no/such"], "write": [], "network": "none" });
        wrong.push((with("sandbox", sandbox), "the sandbox's `read` names /no/such, which does not exist"));
    }
    for (settings, message) in wrong {
        assert_eq!(last_words(&settings), format!("moongate-python: {message}\n"));
    }
}

#[test]
fn it_says_what_it_is_to_who_starts_it_by_hand() {
    let done = Command::new(WORKER).stdin(Stdio::null()).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(said, "moongate-python: the gateway starts this program, as `moongate-python --settings '{...}'`\n");
}
