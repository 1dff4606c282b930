//! `moongate test`: finds the tests of scripts, runs them, says what failed and where.

mod rehearsal;
mod report;
mod watch;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::{Builder, Handle};

use crate::hooks::testing::{Report, run_file};
use crate::tls;
use rehearsal::Rehearsals;

/// What tests end with.
const ENDING: &str = "_test.lua";

/// Folders in which nobody keeps tests of his own.
const PASSED_OVER: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// What to test, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Files and folders; none means the current folder.
    pub paths: Vec<PathBuf>,
    /// The configuration whose agents whole runs rehearse.
    pub config: PathBuf,
    /// Runs the tests again whenever a file changes, for ever.
    pub watch: bool,
}

/// Runs the tests and writes what came of them to `out`. `Ok(false)` when one failed, or there was none; `Err` when a path is not there.
pub fn run(options: &Options, out: &mut dyn Write) -> std::io::Result<bool> {
    tls::install_provider();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let changes = if options.watch { Some(watch::Changes::below(&roots(options))?) } else { None };
        let mut passed = round(options, out).await?;
        if let Some(mut changes) = changes {
            loop {
                writeln!(out, "\nwaiting for a change ...")?;
                changes.next().await;
                passed = round(options, out).await?;
                tracing::debug!(passed, "the tests ran again");
            }
        }
        Ok(passed)
    })
}

async fn round(options: &Options, out: &mut dyn Write) -> std::io::Result<bool> {
    let files = find(&options.paths)?;
    if files.is_empty() {
        writeln!(out, "no files called *{ENDING} here: a test of x.lua is x{ENDING} beside it")?;
        return Ok(false);
    }
    let stage = Arc::new(Rehearsals::new(&options.config, Handle::current()));
    let begun = std::time::Instant::now();
    let mut reports: Vec<Report> = Vec::with_capacity(files.len());
    for file in files {
        let report = run_file(Path::new(""), &file, stage.clone()).await;
        report::write_file(out, &report)?;
        reports.push(report);
    }
    report::write_sum(out, &reports, begun.elapsed())?;
    Ok(reports.iter().all(report::is_good) && reports.iter().any(|report| !report.cases.is_empty()))
}

fn roots(options: &Options) -> Vec<PathBuf> {
    let folder = |path: &Path| if path.is_dir() { path.to_owned() } else { path.parent().map(Path::to_owned).unwrap_or_default() };
    let folders = options.paths.iter().map(|path| folder(path)).chain([folder(&options.config)]);
    let folders = folders.map(|folder| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder });
    let mut folders: BTreeSet<PathBuf> = folders.filter(|folder| folder.is_dir()).collect();
    if options.paths.is_empty() {
        folders.insert(".".into());
    }
    folders.into_iter().collect()
}

/// The tests that are, or are below, `paths`, each once and in order.
fn find(paths: &[PathBuf]) -> std::io::Result<Vec<PathBuf>> {
    let here = [PathBuf::from(".")];
    let mut found = BTreeSet::new();
    for path in if paths.is_empty() { &here } else { paths } {
        let about = std::fs::metadata(path).map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        if about.is_dir() {
            below(path, &mut found)?;
        } else {
            found.insert(plain(&test_of(path)));
        }
    }
    Ok(found.into_iter().collect())
}

/// The test beside a script that was named in its place.
fn test_of(path: &Path) -> PathBuf {
    let beside = path.file_stem().map(|stem| path.with_file_name(format!("{}{ENDING}", stem.to_string_lossy())));
    beside.filter(|test| test.is_file()).unwrap_or_else(|| path.to_owned())
}

fn below(folder: &Path, found: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if !name.starts_with('.') && !PASSED_OVER.contains(&&*name) {
                below(&path, found)?;
            }
        } else if name.ends_with(ENDING) {
            found.insert(plain(&path));
        }
    }
    Ok(())
}

/// Without the `./` that people do not write.
fn plain(path: &Path) -> PathBuf {
    path.strip_prefix(".").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_below_folders_and_not_where_others_keep_theirs() {
        let root = tempfile::tempdir().unwrap();
        for file in ["a_test.lua", "a.lua", "team/b_test.lua", "target/c_test.lua", ".git/d_test.lua"] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = find(&[root.path().to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a_test.lua", "team/b_test.lua"]);
        assert_eq!(find(&[root.path().join("a.lua")]).unwrap(), [root.path().join("a_test.lua")], "a script stands for its test");
        assert!(find(&[root.path().join("nowhere")]).unwrap_err().to_string().contains("nowhere"));
    }
}
