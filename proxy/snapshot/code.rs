//! Which Python code a configuration names, and where it lies.

use std::path::{Path, PathBuf};

use crate::config::{AgentKind, Loaded};
use crate::python::frames::AgentTarget;
use crate::python::{Plan, Settings};

/// What the workers import.
pub(super) fn plan(loaded: &Loaded) -> Plan {
    let coded = loaded.agents.iter().filter(|agent| agent.doc.kind == AgentKind::Sdk);
    let agents = coded.filter_map(|agent| Some(AgentTarget { name: agent.name.clone(), target: agent.doc.module.clone()? }));
    let mut tools: Vec<String> = functions(loaded).map(str::to_owned).collect();
    tools.sort();
    tools.dedup();
    let settings = Settings::new(loaded.document.python.as_ref(), &root(loaded), &packages(loaded));
    Plan { settings, agents: agents.collect(), tools }
}

/// The folders and files below the root that the named modules come from: `agents.researcher` is in the folder `agents`.
pub(super) fn packages(loaded: &Loaded) -> Vec<PathBuf> {
    let modules = loaded.agents.iter().filter_map(|agent| agent.doc.module.as_deref()).chain(functions(loaded));
    let root = root(loaded);
    let mut places: Vec<PathBuf> = modules
        .filter_map(|target| {
            let first = target.split([':', '.']).next()?;
            let places = [root.join(first), root.join(format!("{first}.py"))];
            places.into_iter().find(|place| place.exists())
        })
        .collect();
    places.sort();
    places.dedup();
    places
}

/// A worker takes absolute paths: its folder is another one than ours.
fn root(loaded: &Loaded) -> PathBuf {
    // The root of `config/gateway.yaml` is the empty path.
    std::path::absolute(Path::new(".").join(&loaded.root)).unwrap_or_else(|_| loaded.root.clone())
}

fn functions(loaded: &Loaded) -> impl Iterator<Item = &str> {
    loaded.agents.iter().flat_map(|agent| &agent.doc.tools).filter_map(|tool| tool.function.as_deref())
}
