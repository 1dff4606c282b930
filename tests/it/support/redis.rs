//! A real Redis of a test's own: started on a free port, killed, paused, started again; and a primary with a replica and a Sentinel.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::within;

/// One server.
pub struct Redis {
    pub port: u16,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port()
}

impl Redis {
    /// A server that writes each change to its disk before it answers.
    pub async fn start() -> Redis {
        Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// A server with these arguments.
    pub async fn with(arguments: &[&str]) -> Redis {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut redis = Redis { port: free_port(), folder: tempfile::tempdir().expect("a folder"), arguments, child: None };
        redis.begin().await;
        redis
    }

    /// Starts it (again), on its port and with its data. Returns when it answers.
    pub async fn begin(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(self.folder.path());
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        self.child = Some(command.spawn().expect("redis-server is installed: `make test` does it"));
        answers(self.port).await;
    }

    /// The URL for the gateway's configuration.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// As `kill -9`.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.expect("it is ours");
    }

    /// Stops it in the middle of whatever it does, its connections open; `SIGCONT` lets it go on.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs");
        kill(Pid::from_raw(i32::try_from(id).expect("an id")), signal).expect("it is ours");
    }

    /// Asks it something; the answer as `redis-cli` prints it.
    pub async fn ask(&self, words: &[&str]) -> String {
        ask(self.port, words).await
    }
}

async fn ask(port: u16, words: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(words).kill_on_drop(true);
    let output = within(10, "redis-cli", command.output()).await.expect("it is installed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Returns when whoever listens there answers.
async fn answers(port: u16) {
    let asking = async {
        loop {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await {
                let mut answer = [0; 5];
                let asked = stream.write_all(b"PING\r\n").await.is_ok() && stream.read_exact(&mut answer).await.is_ok();
                if asked && &answer == b"+PONG" {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(20, "an answer of Redis", asking).await;
}

/// A primary, its two replicas, and the Sentinel that puts one of them in its place.
pub struct Sentinel {
    pub primary: Redis,
    replicas: [Redis; 2],
    pub port: u16,
    _sentinel: Child,
    _file: PathBuf,
}

impl Sentinel {
    /// Returns when the replicas have caught up and the Sentinel knows them.
    pub async fn start() -> Sentinel {
        let primary = Redis::start().await;
        let of = primary.port.to_string();
        let follow = ["--replicaof", "127.0.0.1", &of, "--appendonly", "yes"];
        let replicas = [Redis::with(&follow).await, Redis::with(&follow).await];
        let (port, file) = (free_port(), primary.folder.path().join("sentinel.conf"));
        let config = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 3000\n",
            primary.port
        );
        std::fs::write(&file, config).expect("a file");
        let mut command = Command::new("redis-sentinel");
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let sentinel = command.spawn().expect("redis-sentinel is installed: `make test` does it");
        answers(port).await;
        let sentinels = Sentinel { primary, replicas, port, _sentinel: sentinel, _file: file };
        let known = async {
            loop {
                let known = sentinels.ask(&["SENTINEL", "REPLICAS", "main"]).await;
                let mut all = true;
                for replica in &sentinels.replicas {
                    let link = replica.ask(&["INFO", "replication"]).await;
                    all &= known.contains(&replica.port.to_string()) && link.contains("master_link_status:up");
                }
                if all {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within(30, "the replicas", known).await;
        sentinels
    }

    /// The URL for the gateway's configuration.
    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/main/0", self.port)
    }

    async fn ask(&self, words: &[&str]) -> String {
        ask(self.port, words).await
    }
}
