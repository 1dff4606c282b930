//! A worker whose gateway is gone goes at once, whatever Python does.

use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, getpgid, getpgrp, getpid, getppid, kill_process_group, setpgid};

/// A thread that makes no calls deeper than `poll` needs little; the limit on memory counts it.
const STACK: usize = 64 * 1024;

/// The other end closed, or will write no more. Data that was not read yet does not matter.
#[cfg(target_os = "linux")]
const GONE: PollFlags = PollFlags::RDHUP.union(PollFlags::HUP).union(PollFlags::ERR);
#[cfg(not(target_os = "linux"))]
const GONE: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

/// From here on the process ends when the other end of the socket does.
pub(super) fn watch(gateway: &OwnedFd) -> Result<(), String> {
    // Its own descriptor: Python closes the other one.
    let socket = gateway.as_fd().try_clone_to_owned().map_err(|e| format!("the gateway's socket cannot be watched: {e}"))?;
    let thread = std::thread::Builder::new().name("watchdog".to_owned()).stack_size(STACK);
    let started = thread.spawn(move || {
        wait(&socket);
        leave();
    });
    started.map(drop).map_err(|e| format!("the thread that watches the gateway's socket cannot be started: {e}"))
}

fn wait(socket: &OwnedFd) {
    loop {
        let mut watched = [PollFd::new(socket, GONE)];
        match poll(&mut watched, None) {
            Ok(_) if watched.iter().all(|watched| watched.revents().is_empty()) => {}
            Err(Errno::INTR | Errno::AGAIN | Errno::NOMEM) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Ends the process with success and nothing else: no exit handler of a library may hold it up, or crash beside threads that run.
#[expect(unsafe_code, reason = "the standard library has no exit without exit handlers")]
pub(super) fn leave() -> ! {
    end_programs();
    // SAFETY: it takes no pointer, and does not return.
    unsafe { libc::_exit(0) }
}

/// Ends what this process started, when the gateway gave it a group of its own.
fn end_programs() {
    let group = getpgrp();
    if group != getpid() {
        return;
    }
    // Out of the group first, to end well; when the gateway is gone, so is its group, and nobody looks at how this one ends.
    let _ = getpgid(getppid()).and_then(|gateways| setpgid(None, Some(gateways)));
    let _ = kill_process_group(group, Signal::KILL);
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn waits_for_the_end_and_not_for_data() {
        let (mut gateway, worker) = UnixStream::pair().unwrap();
        let (told, gone) = mpsc::channel();
        let worker = OwnedFd::from(worker);
        std::thread::spawn(move || {
            wait(&worker);
            told.send(()).unwrap();
        });
        gateway.write_all(b"data").unwrap();
        assert_eq!(gone.recv_timeout(Duration::from_millis(100)), Err(mpsc::RecvTimeoutError::Timeout));
        drop(gateway);
        gone.recv_timeout(Duration::from_secs(5)).unwrap();
    }
}
