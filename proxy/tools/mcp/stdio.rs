//! MCP over a child process: its own process group, a bare environment, and its standard error in our log.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

use super::connect::Target;

/// What a program sees of the gateway's own environment: enough to run, to speak, and to trust certificates. No secrets.
const INHERITED: [&str; 10] =
    ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"];
/// How long a program may take to end by itself, and then after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long the last words of a program that ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// The longest line of standard error that is logged, and how many lines in a minute.
const MAX_LINE: u64 = 2000;
const MAX_LINES: u32 = 120;

/// A running program.
pub(super) struct StdioTransport {
    pipes: AsyncRwTransport<RoleClient, ChildStdout, ChildStdin>,
    group: Group,
    exited: bool,
}

/// The program with everything it started. Dropping it kills them all at once, inside or outside a runtime.
struct Group {
    child: Child,
    id: Option<Pid>,
}

/// Why the program ended: the last line that it wrote to standard error.
pub(super) struct Exit {
    last_line: watch::Receiver<String>,
}

/// Starts the program: no shell, arguments as written. `Err` says why it did not start.
pub(super) fn spawn(target: &Target) -> Result<(StdioTransport, Exit), String> {
    let config = &target.config;
    let program = config.command.as_deref().unwrap_or_default();
    let folder = config.cwd.as_ref().map_or_else(|| target.root.clone(), |cwd| target.root.join(cwd));
    // A program named by a path with a folder is relative to the root like every path in a configuration.
    let path: OsString = if program.contains('/') { target.root.join(program).into_os_string() } else { program.into() };
    let inherited = INHERITED.iter().filter_map(|name| std::env::var_os(name).map(|value| (*name, value)));
    let mut command = Command::new(path);
    command
        .args(&config.args)
        .env_clear()
        .envs(inherited)
        .envs(config.env.iter().map(|(name, value)| (name, value.expose())))
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound if !folder.is_dir() => format!("the folder {} does not exist", folder.display()),
        io::ErrorKind::NotFound => format!("there is no program `{program}`"),
        _ => format!("`{program}` cannot be started: {e}"),
    })?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let group = Group { child, id };
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(format!("`{program}` has no standard input, output, or error"));
    };
    let (last, last_line) = watch::channel(String::new());
    #[expect(clippy::disallowed_methods, reason = "it ends with the program whose words it copies")]
    tokio::spawn(log(target.name.clone(), stderr, last));
    Ok((StdioTransport { pipes: AsyncRwTransport::new(stdout, stdin), group, exited: false }, Exit { last_line }))
}

impl Exit {
    /// The message, with the program's last words where it left some.
    pub(super) async fn explain(mut self, message: String) -> String {
        // The log has read all there is when it drops its end.
        let _ = tokio::time::timeout(LAST_WORDS, self.last_line.wait_for(|_| false)).await;
        let line = self.last_line.borrow();
        if line.is_empty() { message } else { format!("{message} (its last words: {})", *line) }
    }
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // ESRCH: they are all gone.
            let _ = killpg(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

impl Transport<RoleClient> for StdioTransport {
    type Error = io::Error;

    fn send(&mut self, item: ClientJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.pipes.send(item)
    }

    /// The program's end is the connection's, even while something it started holds its output open.
    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        if !self.exited {
            tokio::select! {
                biased;
                message = self.pipes.receive() => return message,
                _ = self.group.child.wait() => self.exited = true,
            }
        }
        tokio::time::timeout(LAST_WORDS, self.pipes.receive()).await.ok()?
    }

    /// As the protocol asks: close its input, wait, SIGTERM, wait, SIGKILL. What it started goes with it.
    async fn close(&mut self) -> io::Result<()> {
        let closed = self.pipes.close().await;
        if tokio::time::timeout(GRACE, self.group.child.wait()).await.is_err() {
            self.group.signal(Signal::SIGTERM);
            if tokio::time::timeout(GRACE, self.group.child.wait()).await.is_err() {
                self.group.signal(Signal::SIGKILL);
                let _ = self.group.child.wait().await;
            }
        }
        self.group.signal(Signal::SIGKILL);
        closed
    }
}

/// Copies standard error into the log, line by line, until the program ends. Long lines and floods are cut.
async fn log(server: String, stderr: ChildStderr, last: watch::Sender<String>) {
    let mut reader = BufReader::new(stderr);
    let mut window = tokio::time::Instant::now();
    let (mut lines, mut continued) = (0, false);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let begins = !std::mem::replace(&mut continued, !line.ends_with(b"\n"));
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        // The rest of a line that was too long is skipped.
        if !begins || text.is_empty() {
            continue;
        }
        last.send_replace(text.chars().take(200).collect());
        if window.elapsed() > Duration::from_secs(60) {
            (window, lines) = (tokio::time::Instant::now(), 0);
        }
        lines += 1;
        match lines.cmp(&MAX_LINES) {
            std::cmp::Ordering::Less => tracing::info!(target: "moongate::mcp::stderr", server, "{text}"),
            std::cmp::Ordering::Equal => {
                tracing::warn!(target: "moongate::mcp::stderr", server, "more lines this minute are left out");
            }
            std::cmp::Ordering::Greater => {}
        }
    }
}

#[cfg(test)]
mod tests;
