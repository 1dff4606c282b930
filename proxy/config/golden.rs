//! Broken configurations and what is said of them: each file (or folder with a `gateway.yaml`) of
//! tests/it/golden/config is a test, and the file of its name that ends in `.expected` says what must be found.

use std::fs;
use std::path::{Path, PathBuf};

use super::load::load_with;
use super::validate::validate;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/config");

/// One line a finding, as `moongate check` prints them.
fn findings(path: &Path) -> String {
    let no_variables = |_: &str| None;
    let (faults, warnings) = match load_with(path, &no_variables) {
        Err(faults) => (faults, Vec::new()),
        Ok(loaded) => validate(&loaded),
    };
    let faults = faults.iter().map(|fault| format!("{fault}\n"));
    let warnings = warnings.iter().map(|warning| format!("warning: {warning}\n"));
    let text: String = faults.chain(warnings).collect();
    text.replace(&format!("{FOLDER}/"), "")
}

fn cases() -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries
        .filter(|path| path.extension().is_none_or(|extension| extension != "expected"))
        .map(|path| {
            let expected = PathBuf::from(format!("{}.expected", path.display()));
            (if path.is_dir() { path.join("gateway.yaml") } else { path }, expected)
        })
        .collect();
    cases.sort();
    cases
}

#[test]
fn each_broken_configuration_gets_its_findings() {
    let mut wrong = String::new();
    for (path, expected) in cases() {
        let found = findings(&path);
        if std::env::var_os("MOONGATE_WRITE").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        let want = fs::read_to_string(&expected).unwrap_or_default();
        if found != want || found.is_empty() {
            wrong.push_str(&format!("{}\n found:\n{found} expected:\n{want}\n", path.display()));
        }
    }
    let command = "MOONGATE_WRITE=1 cargo test --release --lib config::golden";
    assert!(wrong.is_empty(), "{wrong}\nIf what is found is right, write it down with\n  {command}");
    assert!(cases().len() >= 20, "the cases are gone");
}

#[test]
fn no_finding_quotes_a_secret() {
    for (path, _) in cases() {
        let found = findings(&path);
        assert!(!found.contains("secret-") && !found.contains("12345") && !found.contains("67890"), "{found}");
    }
}
