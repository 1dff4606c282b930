//! The processes of the bench: started, waited for, measured, and ended with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;

/// How long a process may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running process. Dropping it ends it.
pub struct Process {
    pub addr: SocketAddr,
    child: Child,
    /// The gateway's configuration and log.
    folder: Option<PathBuf>,
}

impl Process {
    /// The mock upstream, on a port of its choice.
    pub fn mock() -> Result<Self> {
        let mut child = this_executable(&["mock"])?.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("the mock has no stdout")?).read_line(&mut line)?;
        Ok(Process { addr: line.trim().parse()?, child, folder: None })
    }

    /// A bare proxy before `upstream`.
    pub fn baseline(upstream: SocketAddr, threads: usize) -> Result<Self> {
        let addr = free_addr()?;
        let child = this_executable(&["baseline", &addr.to_string(), &upstream.to_string(), &threads.to_string()])?.spawn()?;
        Process { addr, child, folder: None }.listening()
    }

    /// Burns a core.
    pub fn burner() -> Result<Self> {
        let child = this_executable(&["burn"])?.spawn()?;
        Ok(Process { addr: ([127, 0, 0, 1], 0).into(), child, folder: None })
    }

    /// The gateway with `config` and `scripts` (names and texts), its log in a temporary folder, which stays when the gateway does not start.
    pub fn gateway(executable: &Path, config: &Value, scripts: &[(&str, &str)]) -> Result<Self> {
        let addr = free_addr()?;
        let folder = std::env::temp_dir().join(format!("moongate-load-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("gateway.yaml");
        std::fs::write(&file, serde_json::to_string_pretty(config)?)?;
        for (name, text) in scripts {
            std::fs::write(folder.join(name), text)?;
        }
        let log = std::fs::File::create(folder.join("gateway.log"))?;
        let mut command = Command::new(executable);
        command.args(["serve", "--listen", &addr.to_string(), "--config"]).arg(file);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let started = Process { addr, child, folder: None }.listening().and_then(Process::ready);
        let mut process = started.map_err(|error| format!("{error}; see {}", folder.join("gateway.log").display()))?;
        process.folder = Some(folder);
        Ok(process)
    }

    /// Waits until the port is open, and makes sure that it is this process that opened it.
    #[expect(clippy::disallowed_methods, reason = "the bench has nothing else to do while a process starts")]
    fn listening(mut self) -> Result<Self> {
        let began = Instant::now();
        loop {
            let is_open = TcpStream::connect(self.addr).is_ok();
            std::thread::sleep(Duration::from_millis(50));
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("a process of the bench ended with {status}").into());
            }
            if is_open {
                return Ok(self);
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("nothing listens on {}", self.addr).into());
            }
        }
    }

    /// Waits until all that it starts, Python workers too, is there.
    #[expect(clippy::disallowed_methods, reason = "the bench has nothing else to do while a process starts")]
    fn ready(self) -> Result<Self> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let mut answer = String::new();
            let mut stream = TcpStream::connect(self.addr)?;
            write!(stream, "GET /readyz HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.addr)?;
            stream.read_to_string(&mut answer)?;
            if answer.starts_with("HTTP/1.1 200 ") {
                return Ok(self);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("the gateway is not ready".into())
    }

    /// The CPU time of all its threads since their start.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(self.child.id())
    }

    /// The CPU time of the processes that it has started and that still run.
    pub fn children_cpu(&self) -> Result<Duration> {
        let parent = self.child.id().to_string();
        let processes = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let is_child = |id: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // Behind the name: the state, then the parent.
            stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)) == Some(&parent)
        };
        processes.filter(is_child).map(cpu_of).sum()
    }

    /// A file in the folder of the gateway's configuration.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(name))
    }

    /// The most memory that it had in use, in bytes.
    pub fn peak_bytes(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// The memory that it has in use, in bytes.
    pub fn memory(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    fn status(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or_else(|| format!("no {field}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// The CPU time of all threads of a process since their start. Threads that have ended are not in it: the proxies' never do.
pub fn cpu_of(id: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
        let times = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += times.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The virtual environment that this Python is of.
pub fn environment(python: &Path) -> Result<PathBuf> {
    let python = std::path::absolute(python)?;
    Ok(python.parent().and_then(Path::parent).ok_or("--python is not in a virtual environment")?.to_owned())
}

/// Ends this process when its parent has: the parent holds the other end of stdin.
#[expect(clippy::disallowed_methods, reason = "a part of the bench has nothing to clean up")]
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

fn this_executable(args: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).stdin(Stdio::piped());
    Ok(command)
}

fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
