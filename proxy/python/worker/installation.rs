//! Where the worker's Python is, found without running it: what a sandbox has to let it read is needed before it starts.

use std::path::{Path, PathBuf};

/// An interpreter, with or without a virtual environment.
#[derive(Debug, PartialEq)]
pub(super) struct Installation {
    /// The program that Python takes itself for: it finds its library and the environment's packages from there.
    pub(super) program: Option<PathBuf>,
    /// Where the library was installed, when the environment is of another installation: the modules of one do not fit the other,
    /// installed packages fit both.
    pub(super) home: Option<PathBuf>,
    /// The virtual environment.
    venv: Option<PathBuf>,
    /// The folder of the library that this process runs.
    library: Option<PathBuf>,
    /// The folders that Python was installed into, of the environment and of the library.
    bases: Vec<PathBuf>,
}

/// What of a base Python reads. The base itself may be a whole home folder.
const PARTS: [&str; 5] = ["bin", "lib", "lib64", "ssl", "share/zoneinfo"];

impl Installation {
    /// Looks at the environment, when there is one, and at the library that is loaded.
    pub(super) fn find(venv: Option<&Path>) -> Result<Self, String> {
        Self::around(venv, loaded_library().as_deref(), &super::interpreter::version())
    }

    /// `version` is the library's, as `3.11`.
    fn around(venv: Option<&Path>, library: Option<&Path>, version: &str) -> Result<Self, String> {
        let folder = library.and_then(Path::parent);
        // A library is in `lib`, or in a folder of that for the machine's kind.
        let program_of = |base: &Path| Some(base.join(format!("bin/python{version}"))).filter(|program| program.is_file());
        let library_base = folder.and_then(|folder| folder.ancestors().find(|base| program_of(base).is_some()));
        let mut bases: Vec<PathBuf> = library_base.map(Path::to_owned).into_iter().collect();
        let mut home = None;
        let program = match venv {
            None => library_base.and_then(program_of),
            Some(venv) => {
                let program = venv.join("bin/python");
                if !program.is_file() {
                    return Err(format!("there is no virtual environment in {}: it has no bin/python", venv.display()));
                }
                let config = std::fs::read_to_string(venv.join("pyvenv.cfg")).unwrap_or_default();
                if let Some(its) = value(&config, "version").or_else(|| value(&config, "version_info"))
                    && its.split('.').take(2).ne(version.split('.'))
                {
                    return Err(format!(
                        "the virtual environment {} is of Python {its}, and this worker has Python {version}: make it anew with python{version}",
                        venv.display()
                    ));
                }
                let named = value(&config, "home").and_then(|bin| Path::new(bin).parent()).map(Path::to_owned);
                // Links may lead elsewhere, and Python goes after them.
                let real = program.canonicalize().ok().and_then(|program| Some(program.parent()?.parent()?.to_owned()));
                let made_of: Vec<PathBuf> = named.into_iter().chain(real).collect();
                let same = |one: &Path, other: &Path| one.canonicalize().ok() == other.canonicalize().ok();
                home = library_base.filter(|library| !made_of.iter().any(|base| same(base, library))).map(Path::to_owned);
                bases.extend(made_of);
                Some(program)
            }
        };
        bases.sort();
        bases.dedup();
        Ok(Self { program, home, venv: venv.map(Path::to_owned), library: folder.map(Path::to_owned), bases })
    }

    /// Every folder that is needed to start Python and to import what is installed.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let parts = self.bases.iter().flat_map(|base| PARTS.map(|part| base.join(part)));
        let mut folders: Vec<PathBuf> =
            parts.chain(self.venv.clone()).chain(self.library.clone()).filter(|folder| folder.is_dir()).collect();
        folders.sort();
        folders.dedup();
        folders
    }
}

/// A value of `pyvenv.cfg`: lines of `key = value`, keys in any case.
fn value<'a>(config: &'a str, key: &str) -> Option<&'a str> {
    let pairs = config.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim())).find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
}

/// The file of libpython in this process. Elsewhere than on Linux there is no sandbox that would ask for it.
fn loaded_library() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut paths = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    paths.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libpython"))).map(Path::to_owned)
}

#[cfg(test)]
mod tests;
