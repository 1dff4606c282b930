//! How workers are started: the program, the environment, the limits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::document;
use crate::config::document::Sandbox;
use crate::sandbox;

/// The worker's program. It stands beside the gateway's own.
const PROGRAM: &str = "moongate-python";
/// The virtual environment of a project, unless the configuration names one.
const VENV: &str = ".venv";

/// How workers are started. Workers of equal settings are alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The program, or why there is none.
    pub(super) program: Result<PathBuf, String>,
    /// The folder that modules are imported from.
    pub(super) root: PathBuf,
    /// How many.
    pub(super) workers: usize,
    /// What they see of our environment beside the harmless part.
    pub(super) env: Vec<String>,
    /// How much memory each may take, in bytes.
    pub(super) memory_limit: u64,
    /// How long one call of a function may take.
    pub(super) call_timeout: Duration,
    venv: Option<PathBuf>,
    sandbox: Option<Sandbox>,
    tracing: bool,
}

impl Settings {
    /// What the configuration says. `packages` are the folders and files that its modules are imported from.
    pub fn new(document: Option<&document::Python>, root: &Path, packages: &[PathBuf]) -> Settings {
        let document = document.cloned().unwrap_or_default();
        let venv = match &document.venv {
            Some(venv) => Some(root.join(venv)),
            None => Some(root.join(VENV)).filter(|venv| venv.is_dir()),
        };
        let missing = venv.as_ref().filter(|venv| !venv.join("bin/python").exists());
        let program = match missing {
            Some(venv) => Err(format!(
                "there is no virtual environment at {}: `python3 -m venv {0}` makes one, `{0}/bin/pip install openai-agents` fills it",
                venv.display()
            )),
            None => locate(),
        };
        // Rather no worker than one that could do what the configuration forbids.
        let program = match &document.sandbox {
            Some(_) => sandbox::supported().and(program),
            None => program,
        };
        let sandbox = document.sandbox.map(|sandbox| {
            let absolute = |paths: Vec<String>| paths.iter().map(|path| root.join(path).to_string_lossy().into_owned()).collect();
            let mut read: Vec<String> = absolute(sandbox.read);
            read.extend(packages.iter().map(|path| path.to_string_lossy().into_owned()));
            Sandbox { read, write: absolute(sandbox.write), network: sandbox.network }
        });
        Settings {
            program,
            root: root.to_owned(),
            workers: document.workers.unwrap_or_else(default_workers),
            env: document.env,
            memory_limit: document.memory_limit,
            call_timeout: document.call_timeout,
            venv,
            sandbox,
            tracing: document.tracing,
        }
    }

    /// The worker's `--settings`.
    pub(super) fn for_worker(&self) -> Value {
        json!({
            "root": self.root, "venv": self.venv, "memory_bytes": self.memory_limit, "sandbox": self.sandbox, "tracing": self.tracing,
        })
    }
}

/// One for two cores: the other half is the gateway's and the tools'.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

fn locate() -> Result<PathBuf, String> {
    let ours = std::env::current_exe().map_err(|error| format!("where moongate stands is not known: {error}"))?;
    // After an upgrade in place the system calls the file deleted; its folder is still the right one.
    let program = ours.with_file_name(PROGRAM);
    if program.is_file() {
        return Ok(program);
    }
    Err("this moongate was built without Python (`cargo build --features python` builds `moongate-python` beside it)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::Network;

    #[test]
    fn a_sandbox_is_made_of_absolute_paths_and_holds_the_modules() {
        let sandbox = Sandbox { read: vec!["data".into(), "/srv".into()], write: vec!["out".into()], network: Network::None };
        let document = document::Python { sandbox: Some(sandbox), ..document::Python::default() };
        let settings = Settings::new(Some(&document), Path::new("/root-of-it"), &["/root-of-it/agents".into()]);
        let told = settings.for_worker();
        assert_eq!(told["sandbox"]["read"], json!(["/root-of-it/data", "/srv", "/root-of-it/agents"]));
        assert_eq!(told["sandbox"]["write"], json!(["/root-of-it/out"]));
        assert_eq!((&told["sandbox"]["network"], &told["venv"]), (&json!("none"), &Value::Null));
    }

    #[test]
    fn a_missing_environment_is_named() {
        let document = document::Python { venv: Some("nowhere".into()), ..document::Python::default() };
        let why = Settings::new(Some(&document), Path::new("/r"), &[]).program.unwrap_err();
        assert!(why.contains("/r/nowhere") && why.contains("openai-agents"), "{why}");
    }
}
