//! What workers imported: which agents run, which functions can be called, and whether their files are still the same.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::SystemTime;

use super::frames::{Loaded, Signature, ToolReport};

/// The imported modules, as the last worker that imported them reports.
#[derive(Debug, Default)]
pub struct Modules {
    agents: HashMap<String, Option<String>>,
    tools: HashMap<String, Result<Signature, String>>,
    files: Vec<(PathBuf, Stamp)>,
    read_at: Option<SystemTime>,
}

/// A file's time and length; `None` when it is not there.
type Stamp = Option<(SystemTime, u64)>;

impl Modules {
    /// `read_at` is when the import began.
    pub(super) fn new(loaded: Loaded, read_at: SystemTime) -> Modules {
        let agents = loaded.agents.into_iter().map(|(name, failure)| (name, failure.map(|failure| failure.to_string())));
        let tools = loaded.tools.into_iter().map(|(function, report)| match report {
            ToolReport::Signature(signature) => (function, Ok(signature)),
            ToolReport::Failed { failure } => (function, Err(failure.to_string())),
        });
        let files = loaded.files.into_iter().map(|file| (file.clone(), stamp(&file)));
        Modules { agents: agents.collect(), tools: tools.collect(), files: files.collect(), read_at: Some(read_at) }
    }

    /// Why this agent cannot run.
    pub(super) fn fault_of_agent(&self, name: &str) -> Option<&str> {
        self.agents.get(name)?.as_deref()
    }

    /// What the model is told of a function; `Err` says why it cannot be called.
    pub fn signature(&self, function: &str) -> Result<&Signature, &str> {
        self.tools.get(function).map_or(Err("it was not loaded"), |found| found.as_ref().map_err(String::as_str))
    }

    /// Everything that could not be imported: the agent or function, and why.
    pub(super) fn faults(&self) -> Vec<String> {
        let agents = self.agents.iter().filter_map(|(name, why)| Some(format!("the agent `{name}`: {}", why.as_ref()?)));
        let tools = self.tools.iter().filter_map(|(function, found)| Some(format!("`{function}`: {}", found.as_ref().err()?)));
        let mut faults: Vec<String> = agents.chain(tools).collect();
        faults.sort();
        faults
    }

    /// The imported files.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().map(|(file, _)| file)
    }

    /// Everything could be imported, and no file has changed since.
    pub(super) fn is_current(&self) -> bool {
        let good = self.agents.values().all(Option::is_none) && self.tools.values().all(Result::is_ok);
        good && self.files.iter().all(|(file, seen)| {
            let now = stamp(file);
            now == *seen && now.is_some_and(|(changed, _)| Some(changed) < self.read_at)
        })
    }
}

fn stamp(file: &PathBuf) -> Stamp {
    let about = std::fs::metadata(file).ok()?;
    Some((about.modified().ok()?, about.len()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn modules(files: &[&PathBuf], agents: &[(&str, Option<&str>)]) -> Modules {
        let failure = |why: &str| super::super::frames::Failure { message: why.into(), file: None, line: None };
        let loaded = Loaded {
            agents: agents.iter().map(|(name, why)| ((*name).to_owned(), why.map(failure))).collect(),
            tools: HashMap::new(),
            files: files.iter().map(|file| (*file).clone()).collect(),
        };
        Modules::new(loaded, SystemTime::now())
    }

    #[test]
    fn a_changed_or_missing_file_and_a_failure_are_not_current() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.py");
        std::fs::write(&file, "").unwrap();
        let age = |seconds| {
            let time = SystemTime::now() - Duration::from_secs(seconds);
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        };
        age(20);
        let found = modules(&[&file], &[("a", None)]);
        assert!(found.is_current());
        age(10);
        assert!(!found.is_current(), "another time");
        assert!(!modules(&[&file], &[("a", Some("broken"))]).is_current());
        assert_eq!(modules(&[], &[("a", Some("broken"))]).fault_of_agent("a"), Some("broken"));
        std::fs::remove_file(&file).unwrap();
        assert!(!modules(&[&file], &[]).is_current());
    }
}
