//! MCP over a program's standard input and output, its standard error in our log.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

use super::connect::Target;
use crate::program::{self, Program};

/// How long the last words of a program that ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// A running program.
pub(super) struct StdioTransport {
    pipes: AsyncRwTransport<RoleClient, ChildStdout, ChildStdin>,
    program: Program,
    exited: bool,
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
    let mut command = Command::new(path);
    program::bare(&mut command, &[]);
    command
        .args(&config.args)
        .envs(config.env.iter().map(|(name, value)| (name, value.expose())))
        .current_dir(&folder)
        .stdin(Stdio::piped());
    let mut started = Program::start(&mut command).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound if !folder.is_dir() => format!("the folder {} does not exist", folder.display()),
        io::ErrorKind::NotFound => format!("there is no program `{program}`"),
        _ => format!("`{program}` cannot be started: {e}"),
    })?;
    let child = &mut started.child;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
        return Err(format!("`{program}` has no standard input, output, or error"));
    };
    let (last, last_line) = watch::channel(String::new());
    #[expect(clippy::disallowed_methods, reason = "it ends with the program whose words it copies")]
    tokio::spawn(program::log(target.name.clone(), stderr, last));
    Ok((StdioTransport { pipes: AsyncRwTransport::new(stdout, stdin), program: started, exited: false }, Exit { last_line }))
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
                _ = self.program.child.wait() => self.exited = true,
            }
        }
        tokio::time::timeout(LAST_WORDS, self.pipes.receive()).await.ok()?
    }

    /// As the protocol asks: close its input, wait, SIGTERM, wait, SIGKILL. What it started goes with it.
    async fn close(&mut self) -> io::Result<()> {
        let closed = self.pipes.close().await;
        self.program.end().await;
        closed
    }
}

#[cfg(test)]
mod tests;
