//! A program that the gateway starts: a process group of its own, a bare environment, and its words in our log.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// What a program sees of the gateway's own environment: enough to run, to speak, and to trust certificates. No secrets.
pub const INHERITED: [&str; 10] =
    ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"];
/// How long a program may take to end by itself, and then after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// The longest line that is logged, and how many lines in a minute.
const MAX_LINE: u64 = 2000;
const MAX_LINES: u32 = 120;

/// The program with everything it started. Dropping it kills them all at once, inside or outside a runtime.
pub struct Program {
    /// Its first process.
    pub child: Child,
    group: Option<Pid>,
}

/// The command, made bare: only the harmless part of our environment and `more` of it, pipes for its output, a group of its own.
pub fn bare(command: &mut Command, more: &[String]) {
    let inherited = INHERITED.iter().copied().chain(more.iter().map(String::as_str));
    let inherited = inherited.filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(inherited).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
}

impl Program {
    /// Starts what `bare` prepared.
    pub fn start(command: &mut Command) -> std::io::Result<Program> {
        let child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Program { child, group })
    }

    /// Signals all of its processes.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // ESRCH: they are all gone.
            let _ = killpg(group, signal);
        }
    }

    /// Waits for its end, then asks for it, then forces it; what it started goes with it. Its input was closed before.
    pub async fn end(&mut self) {
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::SIGTERM);
            if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
                self.signal(Signal::SIGKILL);
                let _ = self.child.wait().await;
            }
        }
        self.signal(Signal::SIGKILL);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// How it ended, in words: `ended with code 1`, `was killed by SIGKILL`.
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(number)) => {
            let name = Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned());
            format!("was killed by {name}")
        }
        (None, None) => "ended".to_owned(),
    }
}

/// Copies what the program writes into the log, line by line, until it ends. Long lines and floods are cut. `last` holds its last line.
pub async fn log(program: String, output: impl AsyncRead + Unpin, last: watch::Sender<String>) {
    let mut reader = BufReader::new(output);
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
            std::cmp::Ordering::Less => tracing::info!(target: "moongate::program", program, "{text}"),
            std::cmp::Ordering::Equal => {
                tracing::warn!(target: "moongate::program", program, "more lines this minute are left out");
            }
            std::cmp::Ordering::Greater => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn an_end_is_put_into_words() {
        assert_eq!(describe(ExitStatus::from_raw(0x0100)), "ended with code 1");
        assert_eq!(describe(ExitStatus::from_raw(9)), "was killed by SIGKILL");
    }

    #[tokio::test]
    async fn the_last_line_is_kept_and_long_ones_are_cut() {
        let (last, seen) = watch::channel(String::new());
        let text = format!("first\n{}\n\n", "x".repeat(5000));
        log("p".into(), text.as_bytes(), last).await;
        assert_eq!(*seen.borrow(), "x".repeat(200));
    }
}
