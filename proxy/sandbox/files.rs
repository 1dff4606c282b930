//! Which files a sandboxed program reaches: Landlock.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, Scope,
};

/// The oldest Landlock that holds all of reading, writing, moving and cutting files: Linux 6.2.
const REQUIRED: ABI = ABI::V3;
/// The newest whose rights are used where the kernel has them: device controls, and sockets in folders.
const WANTED: ABI = ABI::V9;

/// What any program needs to start, to resolve names, to trust certificates and to know the time.
const ALWAYS_READ: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/ca-trust",
    "/etc/crypto-policies",
    "/etc/resolv.conf",
    // Where that leads to is replaced whenever the network changes: a rule for the one file would be lost.
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/mime.types",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/version",
    "/proc/filesystems",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/kernel/mm/transparent_hugepage",
];
const ALWAYS_WRITE: &str = "/dev/null";

/// Why the kernel has not the Landlock that is needed.
pub(super) fn supported() -> Result<(), String> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    match ruleset.handle_access(AccessFs::from_all(REQUIRED)).and_then(Ruleset::create) {
        Ok(_) => Ok(()),
        Err(e) => Err(format!(
            "this kernel cannot hold files of a sandbox: it needs Landlock as Linux 6.2 has it, switched on at boot (`landlock` in /sys/kernel/security/lsm): {e}"
        )),
    }
}

/// Whether the kernel can tell the sockets in folders apart, so that connecting to one is a right like reading a file.
pub(super) fn holds_sockets() -> bool {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::ResolveUnix).is_ok()
}

/// From here on the calling thread reaches these paths alone, beside what any program needs.
pub(super) fn restrict<P: AsRef<Path>>(read: &[P], write: &[P]) -> Result<(), String> {
    let failed = |e| format!("the kernel does not take the sandbox's rules on files: {e}");
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(REQUIRED))
        .map_err(failed)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))
        .map_err(failed)?
        .scope(Scope::from_all(WANTED))
        .map_err(failed)?
        .create()
        .map_err(failed)?;
    let reading = AccessFs::from_read(WANTED);
    for path in ALWAYS_READ {
        // Not every system has all of them.
        if let Ok(found) = PathFd::new(path) {
            ruleset = beneath(ruleset, path.as_ref(), found, reading)?;
        }
    }
    for path in read {
        ruleset = beneath(ruleset, path.as_ref(), open(path.as_ref(), "read")?, reading)?;
    }
    // A device made by a user who may is the device: for root, the whole disk.
    let writing = AccessFs::from_all(WANTED) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    for path in write {
        ruleset = beneath(ruleset, path.as_ref(), open(path.as_ref(), "write")?, writing)?;
    }
    if let Ok(found) = PathFd::new(ALWAYS_WRITE) {
        ruleset = beneath(ruleset, ALWAYS_WRITE.as_ref(), found, AccessFs::WriteFile | AccessFs::Truncate)?;
    }
    ruleset.restrict_self().map(drop).map_err(failed)
}

fn open(path: &Path, list: &str) -> Result<PathFd, String> {
    path.metadata().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => format!("the sandbox's `{list}` names {}, which does not exist", path.display()),
        _ => format!("the sandbox's `{list}` names {}, which cannot be reached: {e}", path.display()),
    })?;
    PathFd::new(path).map_err(|e| format!("the sandbox's `{list}` names {}, which cannot be reached: {e}", path.display()))
}

fn beneath(ruleset: RulesetCreated, path: &Path, found: PathFd, access: BitFlags<AccessFs>) -> Result<RulesetCreated, String> {
    // Rights on a folder's entries mean nothing for a file, and the kernel says no to them.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(WANTED) };
    let rule = PathBeneath::new(found, access);
    ruleset.add_rule(rule).map_err(|e| format!("the sandbox cannot have a rule for {}: {e}", path.display()))
}
