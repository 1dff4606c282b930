//! What a started program may touch, held by the kernel: Landlock for files, seccomp for the network and other programs.
//!
//! A process sandboxes itself and cannot come back; what it starts is in the same sandbox. Nothing here is done as far as it
//! goes: a kernel that cannot hold the rules is an error, and the program does not start.
//!
//! # What holds, whatever the rules say
//! - *Readable:* programs and libraries (`/usr`, `/bin`, `/sbin`, `/lib*`, `/nix/store`), certificates, how names are resolved,
//!   the time zone, `/dev/null`, `/dev/zero`, `/dev/random` and `/dev/urandom`, the process's own `/proc/self`, and what the
//!   machine is (`/proc/cpuinfo`, `/proc/meminfo` and their like). Of `/etc` nothing else: no accounts, no keys.
//! - *Writable:* `/dev/null`. No temporary folder: one that is wanted is listed. Device files cannot be made anywhere.
//! - *Refused:* looking into other processes, and signals to those outside of the sandbox (Linux 6.12 and later); their
//!   resource limits; memory, queues and semaphores that programs share by number; namespaces, mounts, kernel modules, BPF, the
//!   kernel's keys, `io_uring`, which would pass by the filter; programs of 32 bits.
//!
//! # What does not
//! - Names and sizes of files stay visible everywhere (`stat` is not held by Landlock), their contents and folders' lists do not.
//! - Modes, owners, times and attributes of files can be changed wherever the user may change them. Only rules without `write`
//!   hold them all.
//! - The process can slow others of its user down: priorities and processors are not held.
//! - A path is the file that is there when the rules are applied. One that is replaced later is out of reach: list its folder.
//! - `/proc/self` is the process's own, not that of programs which it starts.

use std::path::PathBuf;

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod files;

/// What a started program may touch beside what every program needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Folders and files that it may read, and run programs from.
    pub read: Vec<PathBuf>,
    /// Folders and files that it may read, write, make and remove.
    pub write: Vec<PathBuf>,
    /// Whether it may use the network. Sockets of other programs on this machine are no network: they stay out of reach, but
    /// for those below `write` on a kernel that can tell (Linux 7.1).
    pub network: bool,
}

/// Why this system cannot hold a sandbox, in words for who runs it.
#[cfg(target_os = "linux")]
pub fn supported() -> Result<(), String> {
    files::supported()?;
    calls::supported()
}

/// Why this system cannot hold a sandbox, in words for who runs it.
#[cfg(not(target_os = "linux"))]
pub fn supported() -> Result<(), String> {
    Err("a sandbox needs Linux: its kernel holds the rules (Landlock and seccomp)".to_owned())
}

impl Rules {
    /// Puts the calling thread, and all that it starts, under these rules for good. The process must have no other thread:
    /// that one would stay free. `Err` names the path that does not exist, or what the kernel lacks.
    #[cfg(target_os = "linux")]
    pub fn apply(&self) -> Result<(), String> {
        supported()?;
        // Both are made before either holds, so that a fault leaves the process as it was. Files first: the rest needs no file.
        let filters = calls::filters(self.network, self.write.is_empty())?;
        files::restrict(&self.read, &self.write)?;
        filters.install()
    }

    /// Says that this system has no sandbox.
    #[cfg(not(target_os = "linux"))]
    pub fn apply(&self) -> Result<(), String> {
        supported()
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
