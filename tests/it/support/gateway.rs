//! The gateway as its users have it: the built binary, a folder of configuration, a port, signals.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::client::{Answer, Request};

/// How often a start is tried again when another process was faster to take the port.
const PORT_TRIES: usize = 5;

/// A folder of the test's own, gone with it, or one of the repository.
enum Root {
    Own(TempDir),
    Given(PathBuf),
}

impl Root {
    fn path(&self) -> &Path {
        match self {
            Root::Own(folder) => folder.path(),
            Root::Given(path) => path,
        }
    }
}

/// The lines that a gateway has printed.
type Log = Arc<watch::Sender<Vec<String>>>;

/// A folder of configuration, and what else a gateway is started with.
pub struct Setup {
    root: Root,
    env: Vec<(String, String)>,
    binary: PathBuf,
}

/// A gateway that runs. Dropping it kills it; a test that failed shows its log.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    root: Root,
    child: Child,
    log: Log,
    /// The key for its management pages, where it has keys.
    pub admin_key: Option<&'static str>,
}

impl Setup {
    /// A root with this text as its `config/gateway.yaml`.
    pub fn new(config: &str) -> Self {
        Setup::empty().file("config/gateway.yaml", config)
    }

    /// An empty root.
    pub fn empty() -> Self {
        Setup::of(Root::Own(tempfile::tempdir().expect("a folder")))
    }

    /// A folder of the repository as the root; nothing is written there.
    pub fn at(root: &Path) -> Self {
        Setup::of(Root::Given(root.to_owned()))
    }

    fn of(root: Root) -> Self {
        Setup { root, env: Vec::new(), binary: env!("CARGO_BIN_EXE_moongate").into() }
    }

    /// Another copy of the binary.
    pub fn binary(mut self, binary: &Path) -> Self {
        self.binary = binary.to_owned();
        self
    }

    /// Writes a file below the root.
    pub fn file(self, path: &str, text: &str) -> Self {
        write(self.root.path(), path, text);
        self
    }

    /// Sets a variable, for the configuration's `${NAME}` and the gateway itself.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Runs a command of the binary to its end in the root: `check`, `schema`, ...
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        let output = super::within(60, "the end of a command", self.command().args(arguments).output());
        let output = output.await.expect("the binary starts");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Begins a command of the binary in the root that goes on until it is killed, or dropped.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command().args(arguments).spawn().expect("the binary starts")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(self.root.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        for name in ["MOONGATE_LISTEN", "MOONGATE_UPSTREAM", "MOONGATE_CONFIG", "LMSTUDIO_URL", "HTTP_PROXY", "http_proxy"] {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the gateway and waits until it is ready.
    pub async fn start(self) -> Gateway {
        for _ in 0..PORT_TRIES {
            let address = free_address();
            let mut child = self
                .command()
                .args(["serve", "--config", "config/gateway.yaml", "--listen", &address.to_string()])
                .spawn()
                .expect("the binary starts");
            let log = collect_log(&mut child);
            if ready(address, &mut child).await {
                return Gateway { address, root: self.root, child, log, admin_key: None };
            }
            let log = log.borrow().join("\n");
            assert!(log.to_lowercase().contains("in use"), "the gateway has ended at its start:\n{log}");
        }
        panic!("no free port in {PORT_TRIES} tries")
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// A port of this process' own, below those that the system gives to whoever asks for any: no fake server can be given it meanwhile.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 100) as u16 * 200;
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn collect_log(child: &mut Child) -> Log {
    let log = Log::default();
    collect(child.stdout.take().expect("piped"), log.clone());
    collect(child.stderr.take().expect("piped"), log.clone());
    log
}

fn collect(from: impl AsyncRead + Unpin + Send + 'static, log: Log) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            log.send_modify(|log| log.push(line));
        }
    });
}

/// Asks `/readyz` until it says yes: a process has no event for "I listen".
async fn ready(address: SocketAddr, child: &mut Child) -> bool {
    let mut pause = Duration::from_millis(2);
    for _ in 0..200 {
        if child.try_wait().expect("a child can be asked").is_some() {
            return false;
        }
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            let answer = Request::new(address, "GET", "/readyz").answer().await;
            if answer.status() == 200 {
                return true;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    panic!("the gateway is not ready after 20 s")
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

impl Gateway {
    /// A gateway with this configuration and these variables.
    pub async fn start<const N: usize>(config: &str, env: [(&str, &str); N]) -> Gateway {
        let setup = Setup::new(config);
        env.into_iter().fold(setup, |setup, (name, value)| setup.env(name, value)).start().await
    }

    /// A GET request.
    pub fn get(&self, path: &str) -> Request {
        Request::new(self.address, "GET", path)
    }

    /// A POST request.
    pub fn post(&self, path: &str) -> Request {
        Request::new(self.address, "POST", path)
    }

    /// A chat that says "hello" to this model, with these fields besides.
    pub fn chat(&self, model: &str, more: Value) -> Request {
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }] });
        for (name, value) in more.as_object().expect("fields") {
            body[name] = value.clone();
        }
        self.post("/v1/chat/completions").json(&body)
    }

    /// The `base_url` for SDKs.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// A path below its root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Writes a file below its root.
    pub fn write(&self, path: &str, text: &str) {
        write(self.root.path(), path, text);
    }

    /// `POST /reload`.
    pub async fn reload(&self) -> Answer {
        self.post("/reload").header("content-length", "0").answer().await
    }

    /// What it counts under this name now, labels included where it has some.
    pub async fn metric(&self, name: &str) -> i64 {
        let mut page = self.get("/metrics");
        if let Some(key) = &self.admin_key {
            page = page.key(key);
        }
        let text = page.answer().await.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        match value {
            Some(value) => value.parse().expect("a number"),
            None => {
                assert!(name.contains('{'), "no {name} in {text}");
                // With labels it is not there before it is counted for the first time.
                0
            }
        }
    }

    /// Waits until it counts so many. Asked again and again: a counter has no event.
    pub async fn counts(&self, name: &str, wanted: i64) {
        let reached = async {
            while self.metric(name).await != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        super::within(30, &format!("{name} at {wanted}"), reached).await;
    }

    /// The id of its process.
    pub fn process_id(&self) -> u32 {
        self.child.id().expect("it still runs")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = self.process_id().try_into().expect("a process id");
        kill(Pid::from_raw(id), signal).expect("a signal can be sent");
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        super::within(30, "the end of the gateway", self.child.wait()).await.expect("a child can be waited for")
    }

    /// Waits until it takes no new requests: it refuses the connection, or answers 503.
    pub async fn refuses(&self) {
        let refused = async {
            while let Ok(tcp) = tokio::net::TcpStream::connect(self.address).await {
                drop(tcp);
                let answer = self.get("/readyz").try_answer().await;
                if answer.is_none_or(|answer| answer.status() == 503) {
                    return;
                }
            }
        };
        super::within(10, "no new requests", refused).await;
    }

    /// SIGTERM, and a clean end.
    pub async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.ended().await;
        assert!(status.success(), "the gateway has ended with {status}");
    }

    /// Waits until a line of the log has these words.
    pub async fn logged(&self, words: &str) {
        let mut log = self.log.subscribe();
        let line = log.wait_for(|lines| lines.iter().any(|line| line.contains(words)));
        super::within(60, &format!("{words:?} in the log"), line).await.expect("the log lives");
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.borrow().join("\n")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log());
        }
    }
}
