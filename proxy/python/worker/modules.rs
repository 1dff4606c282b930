//! The worker's Python half, built into the binary.

macro_rules! modules {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("moongate_worker/", $name, ".py")))),*] };
}

/// Each module of the package `moongate_worker` with its text, after those that it imports.
pub(super) const MODULES: [(&str, &str); 21] = modules![
    "__init__",
    "failures",
    "frames",
    "request",
    "threads",
    "calls",
    "asks",
    "sdk",
    "client",
    "context",
    "values",
    "load",
    "tools",
    "messages",
    "graph",
    "run_config",
    "agent_run",
    "home",
    "nested",
    "object_run",
    "main",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_module_is_there_after_those_it_imports() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy/python/worker/moongate_worker");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = files.filter_map(|name| name.strip_suffix(".py").map(str::to_owned)).collect();
        let mut names: Vec<&str> = MODULES.iter().map(|(name, _)| *name).collect();
        for (i, (name, text)) in MODULES.iter().enumerate() {
            // What is indented is imported later, when it is called.
            let imported = text.lines().filter_map(|line| line.strip_prefix("from moongate_worker.")?.split(' ').next());
            for import in imported {
                assert!(names[..i].contains(&import), "{name} comes before {import}, which it imports");
            }
        }
        files.sort();
        names.sort_unstable();
        assert_eq!(files, names);
    }
}
