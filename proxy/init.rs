//! `moongate init`: a working starter, the same files that the repository itself ships.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::hooks;

/// Each file of the starter, but for the library of scripts: where it goes and what it holds.
const FILES: [(&str, &str); 22] = [
    ("config/gateway.yaml", include_str!("../config/gateway.yaml")),
    ("agents/assistant.yaml", include_str!("../agents/assistant.yaml")),
    ("agents/hello.yaml", include_str!("../agents/hello.yaml")),
    ("agents/team/writer.yaml", include_str!("../agents/team/writer.yaml")),
    ("scripts/answer_cache.lua", include_str!("../scripts/answer_cache.lua")),
    ("scripts/answer_cache_test.lua", include_str!("../scripts/answer_cache_test.lua")),
    ("scripts/audit_log.lua", include_str!("../scripts/audit_log.lua")),
    ("scripts/audit_log_test.lua", include_str!("../scripts/audit_log_test.lua")),
    ("scripts/language_guard.lua", include_str!("../scripts/language_guard.lua")),
    ("scripts/language_guard_test.lua", include_str!("../scripts/language_guard_test.lua")),
    ("scripts/model_router.lua", include_str!("../scripts/model_router.lua")),
    ("scripts/model_router_test.lua", include_str!("../scripts/model_router_test.lua")),
    ("scripts/prompt_budget.lua", include_str!("../scripts/prompt_budget.lua")),
    ("scripts/prompt_budget_test.lua", include_str!("../scripts/prompt_budget_test.lua")),
    ("scripts/redact.lua", include_str!("../scripts/redact.lua")),
    ("scripts/redact_test.lua", include_str!("../scripts/redact_test.lua")),
    ("scripts/retrieval.lua", include_str!("../scripts/retrieval.lua")),
    ("scripts/retrieval_test.lua", include_str!("../scripts/retrieval_test.lua")),
    ("scripts/tool_approval.lua", include_str!("../scripts/tool_approval.lua")),
    ("scripts/tool_approval_test.lua", include_str!("../scripts/tool_approval_test.lua")),
    // For editors: the types of what scripts get and may require. The gateway has its own.
    ("scripts/.luarc.json", include_str!("../scripts/.luarc.json")),
    ("lua-stdlib/_meta/hooks.lua", include_str!("../lua-stdlib/_meta/hooks.lua")),
];

/// All files of the starter.
fn files() -> impl Iterator<Item = (String, &'static str)> {
    let library = hooks::library().map(|(module, text)| (format!("lua-stdlib/{}.lua", module.replace('.', "/")), text));
    FILES.into_iter().map(|(path, text)| (path.to_owned(), text)).chain(library)
}

/// Writes the starter into `folder`, which is created where it is missing. Returns the files written.
/// `Err` is a sentence for the user. When one of the files is there already, nothing is written at all.
pub fn init(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let taken: Vec<String> = files()
        .map(|(path, _)| folder.join(path))
        // A broken link is in the way, too.
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    if !taken.is_empty() {
        return Err(format!("{} there already; nothing was written", are(&taken)));
    }
    let mut written = Vec::new();
    for (path, text) in files() {
        let path = folder.join(path);
        write_new(&path, text).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

/// Never overwrites: a file that appeared a moment ago is an error.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

fn are(paths: &[String]) -> String {
    match paths {
        [one] => format!("{one} is"),
        many => format!("{} are", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, validate};

    #[test]
    fn the_starter_is_complete_and_makes_sense() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new/project");
        let written = init(&target).unwrap();
        assert_eq!(written.len(), files().count());
        let loaded = load(&target.join("config/gateway.yaml")).unwrap();
        assert_eq!(loaded.agents.len(), 3);
        assert_eq!(validate(&loaded), (Vec::new(), Vec::new()));
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("agents")).unwrap();
        fs::write(folder.path().join("agents/assistant.yaml"), "mine").unwrap();
        let error = init(folder.path()).unwrap_err();
        assert!(error.contains("agents/assistant.yaml is there already"), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join("agents/assistant.yaml")).unwrap(), "mine");
        assert!(!folder.path().join("config").exists(), "not even the files that would fit");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = init(&folder.path().join("file")).unwrap_err();
        assert!(error.contains("file/config/gateway.yaml cannot be written"), "{error}");
    }

    /// Agents that need Python packages, which an empty folder has not: the starter must pass `check` anywhere.
    const NEED_PACKAGES: [&str; 2] = ["agents/researcher.yaml", "agents/triage.yaml"];

    /// A new agent or script of the repository belongs to the starter: it may be named by another file of it.
    #[test]
    fn no_agent_or_script_is_left_out() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut folders = vec![root.join("agents"), root.join("scripts"), root.join("lua-stdlib")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| ["yaml", "lua", "json"].iter().any(|known| extension == *known)) {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                    let is_known = files().any(|(known, _)| known == name) || NEED_PACKAGES.contains(&name);
                    assert!(is_known, "init.rs does not have {name}");
                }
            }
        }
    }
}
