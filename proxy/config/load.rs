//! From files to documents: reads, replaces `${VAR}`, parses, and says of every fault where it stands.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::agent::AgentDoc;
use super::document::Document;
use super::fault::{Fault, Origin};
use super::variables::Lookup;
use super::{decode, tree, variables};

/// How deep `agents_dir` may be nested: a link to a folder above itself must not be followed for ever.
const MAX_FOLDERS: usize = 16;

/// An agent's document and where it was written.
#[derive(Debug, Clone)]
pub struct AgentEntry {
    /// The name clients use: the document's `name`, or the file's path below `agents_dir`.
    pub name: String,
    /// The document.
    pub doc: AgentDoc,
    /// Where it stands; a fault in key `k` of it is at `origin.fault(k, ...)`.
    pub origin: Origin,
}

/// A configuration that was read and understood; whether it makes sense is the snapshot's question.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The gateway's document; its `agents` are moved to the field below.
    pub document: Document,
    /// Every agent, of the document and of `agents_dir`, in that order; names are unique.
    pub agents: Vec<AgentEntry>,
    /// Where the document's keys stand.
    pub origin: Origin,
    /// The configuration's root: paths in it are relative to this folder.
    pub root: PathBuf,
    /// Every file that was read: what the watcher watches, beside `agents_dir`.
    pub files: Vec<PathBuf>,
    /// The folder of agents, below which new files are new agents. `None` when there is none.
    pub agents_dir: Option<PathBuf>,
}

#[expect(clippy::disallowed_methods, reason = "the configuration is what reads the environment")]
/// Reads the configuration at `path` with its agents. All faults are found, not just the first one, where that is possible.
pub fn load(path: &Path) -> Result<Loaded, Vec<Fault>> {
    load_with(path, &|name| std::env::var(name).ok())
}

/// The same with variables from somewhere else.
pub(super) fn load_with(path: &Path, lookup: Lookup) -> Result<Loaded, Vec<Fault>> {
    let mut faults = Vec::new();
    let root = root(path);
    let mut files = vec![path.to_owned()];
    let mut agents = Vec::new();
    let mut agents_dir = None;
    let document = read::<Document>(path, lookup, &mut faults).map(|(mut document, origin)| {
        for (i, doc) in std::mem::take(&mut document.agents).into_iter().enumerate() {
            let origin = origin.part(&format!("agents[{i}]"));
            match &doc.name {
                Some(name) => agents.push(AgentEntry { name: name.clone(), doc, origin }),
                None => faults.push(origin.fault("name", "is missing; only an agent in a file of its own may leave it out")),
            }
        }
        agents_dir = match &document.agents_dir {
            Some(dir) => Some(root.join(dir)),
            None => Some(root.join("agents")).filter(|dir| dir.is_dir()),
        };
        if let Some(dir) = &agents_dir {
            match agent_files(dir) {
                Ok(found) => {
                    agents.extend(found.iter().filter_map(|file| agent(dir, file, lookup, &mut faults)));
                    files.extend(found);
                }
                Err(error) => {
                    let message = format!("the folder `{}` cannot be read: {error}", dir.display());
                    faults.push(origin.fault("agents_dir", message));
                }
            }
        }
        (document, origin)
    });
    check_names(&agents, &mut faults);
    match document {
        Some((document, origin)) if faults.is_empty() => Ok(Loaded { document, agents, origin, root, files, agents_dir }),
        _ => {
            let order = |file: &Path| files.iter().position(|known| known == file);
            faults.sort_by_key(|fault| fault.place.as_ref().map(|place| (order(&place.file), place.line, place.column)));
            Err(faults)
        }
    }
}

/// The folder of the file, or its parent when that folder is called `config`. A relative path stays relative.
fn root(path: &Path) -> PathBuf {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if folder.file_name().is_some_and(|name| name == "config") {
        let parent = folder.parent().unwrap_or(folder);
        return if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() };
    }
    // The name of `.` or `a/..` is not in the path itself.
    let named = folder.file_name().is_some();
    let called_config = || fs::canonicalize(folder).is_ok_and(|folder| folder.file_name().is_some_and(|name| name == "config"));
    if !named && called_config() { folder.join("..") } else { folder.to_owned() }
}

/// Reads one file as a `T`.
fn read<T: DeserializeOwned>(path: &Path, lookup: Lookup, faults: &mut Vec<Fault>) -> Option<(T, Origin)> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            faults.push(Fault::whole(path, format_args!("cannot be read: {error}")));
            return None;
        }
    };
    let mut node = tree::parse(path, &bytes, faults)?;
    let origin = Origin::new(node.places(path));
    node.drop_extensions();
    variables::replace(&mut node, lookup, path, faults);
    Some((decode::decode(node, path, faults)?, origin))
}

/// The agent in `file`, named after its path below `dir`.
fn agent(dir: &Path, file: &Path, lookup: Lookup, faults: &mut Vec<Fault>) -> Option<AgentEntry> {
    let (doc, origin) = read::<AgentDoc>(file, lookup, faults)?;
    let below = file.strip_prefix(dir).unwrap_or(file).with_extension("");
    let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
    let Some(name) = parts.map(|parts| parts.join("/")) else {
        faults.push(Fault::whole(file, "an agent's file must have a name in UTF-8"));
        return None;
    };
    if doc.name.as_ref().is_some_and(|written| *written != name) {
        let message = format!("must be `{name}`, as the file is called, or be left out");
        faults.push(origin.fault("name", message));
    }
    Some(AgentEntry { name, doc, origin })
}

/// Every agent's file below `dir`, sorted. Names that begin with `.` or `_` are left out, and files of other kinds.
fn agent_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(dir.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let left_out =
                path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".") || name.as_encoded_bytes().starts_with(b"_"));
            if left_out {
                continue;
            }
            if path.is_dir() {
                if depth < MAX_FOLDERS {
                    folders.push((path, depth + 1));
                }
            } else if path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known)) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Names must be usable as a model's name, and each belongs to one agent.
fn check_names(agents: &[AgentEntry], faults: &mut Vec<Fault>) {
    let mut first: HashMap<&str, &AgentEntry> = HashMap::new();
    for agent in agents {
        if agent.name.is_empty() || agent.name.len() > 256 || agent.name.trim() != agent.name || agent.name.contains(char::is_control) {
            let message = "must have 1 to 256 characters, without blanks around it or control characters in it";
            faults.push(agent.origin.fault("name", message));
        }
        if let Some(first) = first.get(agent.name.as_str()) {
            let place = first.origin.fault("name", "").place;
            let at = place.map(|place| format!("{}:{}", place.file.display(), place.line)).unwrap_or_default();
            faults.push(agent.origin.fault("name", format!("another agent is called `{}`, too: {at}", agent.name)));
            continue;
        }
        first.insert(&agent.name, agent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn names(loaded: &Loaded) -> Vec<&str> {
        loaded.agents.iter().map(|agent| agent.name.as_str()).collect()
    }

    #[test]
    fn the_root_is_beside_config() {
        let roots =
            [("config/g.yaml", "."), ("g.yaml", "."), ("/a/config/g.yaml", "/a"), ("/a/b/g.yaml", "/a/b"), ("../config/g.yaml", "..")];
        for (path, want) in roots {
            assert_eq!(root(Path::new(path)), Path::new(want), "{path}");
        }
        let folder = folder(&[("config/g.yaml", ""), ("config/sub/x", "")]);
        let inside = folder.path().join("config/sub/../g.yaml");
        assert_eq!(fs::canonicalize(root(&inside)).unwrap(), fs::canonicalize(folder.path()).unwrap());
    }

    #[test]
    fn agents_are_called_after_their_paths() {
        let agents = [
            ("config/gateway.yaml", "agents: [{ name: inline }]"),
            ("agents/b.yaml", "{}"),
            ("agents/team/a.json", "{}"),
            ("agents/team/deep/c.yml", "name: team/deep/c"),
            ("agents/_base/x.yaml", "nonsense"),
            ("agents/.x.yaml", "nonsense"),
            ("agents/tool.py", "nonsense"),
        ];
        let folder = folder(&agents);
        let loaded = load_with(&folder.path().join("config/gateway.yaml"), &|_| None).unwrap();
        assert_eq!(names(&loaded), ["inline", "b", "team/a", "team/deep/c"]);
        assert_eq!(loaded.files.len(), 4);
        assert_eq!(loaded.root, folder.path());
        assert_eq!(loaded.agents_dir, Some(folder.path().join("agents")));
        let fault = loaded.agents[2].origin.fault("model", "x");
        assert_eq!(fault.place.map(|place| place.file), Some(folder.path().join("agents/team/a.json")));
    }

    #[test]
    fn a_folder_of_agents_may_be_absent_unless_it_is_named() {
        let folder = folder(&[("g.yaml", ""), ("h.yaml", "agents_dir: nowhere")]);
        assert_eq!(load_with(&folder.path().join("g.yaml"), &|_| None).unwrap().agents_dir, None);
        let faults = load_with(&folder.path().join("h.yaml"), &|_| None).unwrap_err();
        assert!(faults.len() == 1 && faults[0].key == "agents_dir" && faults[0].message.contains("nowhere"));
        let faults = load_with(&folder.path().join("i.yaml"), &|_| None).unwrap_err();
        assert!(faults[0].to_string().contains("i.yaml: cannot be read"));
    }

    #[test]
    fn anchors_may_hang_on_keys_of_their_own() {
        let text = "x-slow: &slow { first_byte_timeout: 10m }\nupstreams:\n  a: { <<: *slow, base_url: 'http://a/v1' }";
        let folder = folder(&[("g.yaml", text), ("g.json", r#"{"$schema": "./s.json", "upstreams": {}}"#)]);
        let loaded = load_with(&folder.path().join("g.yaml"), &|_| None).unwrap();
        assert_eq!(loaded.document.upstreams["a"].first_byte_timeout.as_secs(), 600);
        assert!(load_with(&folder.path().join("g.json"), &|_| None).is_ok());
    }
}
