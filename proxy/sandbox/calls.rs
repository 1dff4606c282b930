//! Which system calls a sandboxed program may make: seccomp. Refusals are errors that the program sees, not its end.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

use super::files;

/// What no started program has business with.
const REFUSED: &[libc::c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_perf_event_open,
    // What acts where no filter and no rule on files sees it.
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // Keys that the kernel keeps for the user.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Where files are.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    OPEN_TREE_ATTR,
    // A namespace makes its maker the master of some of the kernel.
    libc::SYS_unshare,
    libc::SYS_setns,
    // What programs share by number or by a name that is no file's.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// `TIOCSTI` and `TIOCLINUX`, whose type is another one with each C library.
const TYPING: [u64; 2] = [0x5412, 0x541c];

/// What changes a file's mode, owner, times and attributes. Landlock does not hold it.
const ATTRIBUTES: &[libc::c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    FILE_SETATTR,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
];

/// Calls younger than libc's names for them. Their numbers are the same on every machine.
const FCHMODAT2: libc::c_long = 452;
const SETXATTRAT: libc::c_long = 463;
const REMOVEXATTRAT: libc::c_long = 466;
const OPEN_TREE_ATTR: libc::c_long = 467;
const FILE_SETATTR: libc::c_long = 469;

/// Calls that may be made or not, by their number: an empty list of rules is any such call.
type Refused = BTreeMap<i64, Vec<SeccompRule>>;

/// Filters, ready to be installed.
pub(super) struct Filters(Vec<BpfProgram>);

/// Why the kernel has no seccomp, or there is no filter for this machine.
pub(super) fn supported() -> Result<(), String> {
    let target: Result<TargetArch, _> = std::env::consts::ARCH.try_into();
    target
        .map_err(|_| format!("a sandbox cannot be had on {}: its filter of system calls is for x86-64 and ARM", std::env::consts::ARCH))?;
    rustix::thread::secure_computing_mode()
        .map(drop)
        .map_err(|e| format!("this kernel cannot hold the network of a sandbox: it has no seccomp ({e})"))
}

/// What is refused with and without the network, and where nothing may be written.
pub(super) fn filters(network: bool, read_only: bool) -> Result<Filters, String> {
    let sockets = if network { other_programs_sockets() } else { all_sockets() };
    let compile = |refused: Result<Refused, seccompiler::BackendError>, error: i32| {
        let action = SeccompAction::Errno(error.unsigned_abs());
        let target = std::env::consts::ARCH.try_into()?;
        BpfProgram::try_from(SeccompFilter::new(refused?, SeccompAction::Allow, action, target)?)
    };
    let programs = [
        compile(refused(read_only), libc::EPERM),
        compile(sockets, libc::EACCES),
        // Its flags are out of a filter's reach. A libc that does not find it uses `clone`.
        compile(Ok(BTreeMap::from([(libc::SYS_clone3, Vec::new())])), libc::ENOSYS),
    ];
    let programs: Result<Vec<_>, _> = programs.into_iter().map(|program| program.map(without_x32)).collect();
    programs.map(Filters).map_err(|e| format!("the sandbox's filter of system calls cannot be made: {e}"))
}

impl Filters {
    /// From here on they hold for the calling thread.
    pub(super) fn install(&self) -> Result<(), String> {
        let mut programs = self.0.iter();
        let installed = programs.try_for_each(|program| seccompiler::apply_filter(program));
        installed.map_err(|e| format!("the kernel does not take the sandbox's filter of system calls: {e}"))
    }
}

fn refused(read_only: bool) -> Result<Refused, seccompiler::BackendError> {
    let attributes = if read_only { ATTRIBUTES } else { &[] };
    let mut refused: Refused = REFUSED.iter().chain(attributes).map(|call| (*call, Vec::new())).collect();
    // A process in a namespace of users, as `unshare` would make it.
    let new_users = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    refused.insert(libc::SYS_clone, vec![when(&[(0, MaskedEq(new_users), new_users)])?]);
    // The limits of another process: with them it could be ended.
    refused.insert(libc::SYS_prlimit64, vec![when(&[(0, Ne, 0)])?]);
    // Typing into a terminal.
    let typing = TYPING.map(|control| when(&[(1, Eq, control)]));
    refused.insert(libc::SYS_ioctl, typing.into_iter().collect::<Result<_, _>>()?);
    Ok(refused)
}

/// No socket but a pair whose ends reach each other. A pair of datagram sockets can be turned to any socket of the machine.
fn all_sockets() -> Result<Refused, seccompiler::BackendError> {
    let kind = |kind: i32| (1, MaskedEq(0xf), u64::from(kind.unsigned_abs()));
    let pairs =
        vec![when(&[(0, Ne, u64::from(libc::AF_UNIX.unsigned_abs()))])?, when(&[kind(libc::SOCK_DGRAM)])?, when(&[kind(libc::SOCK_RAW)])?];
    Ok(BTreeMap::from([(libc::SYS_socket, Vec::new()), (libc::SYS_socketpair, pairs)]))
}

/// The network is IP, and asking the kernel about it. A container engine's socket, say, is a way out of the sandbox.
fn other_programs_sockets() -> Result<Refused, seccompiler::BackendError> {
    let mut families = vec![libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    if files::holds_sockets() {
        families.push(libc::AF_UNIX);
        let families: Vec<_> = families.iter().map(|family| (0, Ne, u64::from(family.unsigned_abs()))).collect();
        return Ok(BTreeMap::from([(libc::SYS_socket, vec![when(&families)?])]));
    }
    let families: Vec<_> = families.iter().map(|family| (0, Ne, u64::from(family.unsigned_abs()))).collect();
    let mut refused = all_sockets()?;
    refused.insert(libc::SYS_socket, vec![when(&families)?]);
    Ok(refused)
}

/// A call whose arguments are all so: each is (which, how, value).
fn when(arguments: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = arguments.iter().cloned().map(|(i, how, value)| SeccompCondition::new(i, SeccompCmpArgLen::Dword, how, value));
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// On x86-64 each call has a second number, that of the x32 ABI, which no filter by number would catch: there are none of those.
fn without_x32(program: BpfProgram) -> BpfProgram {
    if !cfg!(target_arch = "x86_64") {
        return program;
    }
    const X32: u32 = 0x4000_0000;
    let step = |code: u32, jf: u8, k: u32| sock_filter { code: code as u16, jt: 0, jf, k };
    let number = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0);
    let is_x32 = step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32);
    let refuse = step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs());
    [number, is_x32, refuse].into_iter().chain(program).collect()
}
