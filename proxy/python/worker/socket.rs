//! The gateway's socket: it comes as standard input, and must not stay where programs and `input()` would read it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FileType;

/// Above what programs close or hand on by number.
const HIGH: i32 = 100;

/// Moves the socket out of standard input, where `/dev/null` takes its place. Programs that are started do not get it.
pub(super) fn take() -> Result<OwnedFd, String> {
    let stdin = io::stdin();
    let kind = rustix::fs::fstat(&stdin).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if kind != Ok(FileType::Socket) {
        return Err("standard input is not the gateway's socket: the gateway starts this program".to_owned());
    }
    moved(stdin.as_fd()).map_err(|e| format!("the gateway's socket cannot be moved: {e}"))
}

fn moved(stdin: impl AsFd) -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(stdin, HIGH)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}
