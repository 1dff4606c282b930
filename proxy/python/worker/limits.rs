//! What a worker may use: memory, and no file of its memory when it crashes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bounds the memory that the process and each that it starts may write to. Past it Python raises `MemoryError`.
pub(super) fn set(memory_bytes: Option<u64>) -> Result<(), String> {
    lower(Resource::Core, 0).map_err(|e| format!("core files cannot be switched off: {e}"))?;
    let Some(bytes) = memory_bytes else { return Ok(()) };
    lower(Resource::Data, bytes).map_err(|e| format!("memory cannot be limited to {bytes} bytes: {e}"))
}

/// For good: what is lower already stays.
fn lower(resource: Resource, most: u64) -> rustix::io::Result<()> {
    let most = getrlimit(resource).maximum.map_or(most, |now| now.min(most));
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_only_goes_down() {
        lower(Resource::Core, 4096).unwrap();
        lower(Resource::Core, 8192).unwrap();
        let limit = getrlimit(Resource::Core);
        assert!(limit.maximum.unwrap() <= 4096);
        assert_eq!(limit.current, limit.maximum);
    }
}
