//! Installations as they are found on machines, made of empty files.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A folder with these files in it, empty or with a text.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn config(root: &Path, home: &str) -> String {
    format!("home = {}\ninclude-system-site-packages = false\nversion = 3.11.7\n", root.join(home).display())
}

#[test]
fn without_an_environment_it_is_the_librarys() {
    let root = tree(&[("py/bin/python3.11", ""), ("py/lib/libpython3.11.so.1.0", ""), ("py/include/x.h", "")]);
    let base = root.path().join("py");
    let found = Installation::around(None, Some(&base.join("lib/libpython3.11.so.1.0")), "3.11").unwrap();
    assert_eq!(found.program, Some(base.join("bin/python3.11")));
    assert_eq!(found.folders(), [base.join("bin"), base.join("lib")]);
}

#[test]
fn a_library_may_be_in_a_folder_for_its_kind_of_machine() {
    let root = tree(&[("usr/bin/python3.11", ""), ("usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0", "")]);
    let base = root.path().join("usr");
    let found = Installation::around(None, Some(&base.join("lib/x86_64-linux-gnu/libpython3.11.so.1.0")), "3.11").unwrap();
    assert_eq!(found.program, Some(base.join("bin/python3.11")));
    assert_eq!(found.folders(), [base.join("bin"), base.join("lib"), base.join("lib/x86_64-linux-gnu")]);
}

#[test]
fn an_environment_adds_itself_and_what_it_was_made_of() {
    let root = tree(&[("py/bin/python3.11", ""), ("py/lib/os.py", ""), ("links/bin/none", ""), ("links/lib/none", "")]);
    let venv = root.path().join("venv");
    fs::create_dir_all(venv.join("bin")).unwrap();
    fs::write(venv.join("pyvenv.cfg"), config(root.path(), "links/bin")).unwrap();
    symlink(root.path().join("py/bin/python3.11"), root.path().join("links/bin/python3")).unwrap();
    symlink(root.path().join("links/bin/python3"), venv.join("bin/python")).unwrap();
    let found = Installation::around(Some(&venv), None, "3.11").unwrap();
    assert_eq!(found.program, Some(venv.join("bin/python")));
    // Temporary folders are behind a link on some systems, and one of the paths is the real one.
    let mut expected = vec![root.path().join("links/bin"), root.path().join("links/lib"), venv.clone()];
    let real = root.path().canonicalize().unwrap();
    expected.extend([real.join("py/bin"), real.join("py/lib")]);
    expected.sort();
    assert_eq!(found.folders(), expected);
}

#[test]
fn the_library_keeps_its_own_modules() {
    let root = tree(&[("py/bin/python3.11", ""), ("py/lib/libpython3.11.so.1.0", ""), ("other/bin/python3.11", "")]);
    let library = root.path().join("py/lib/libpython3.11.so.1.0");
    for (made_of, home) in [("py", None), ("other", Some(root.path().join("py")))] {
        let venv = root.path().join(format!("of {made_of}"));
        fs::create_dir_all(venv.join("bin")).unwrap();
        fs::write(venv.join("pyvenv.cfg"), config(root.path(), &format!("{made_of}/bin"))).unwrap();
        symlink(root.path().join(made_of).join("bin/python3.11"), venv.join("bin/python")).unwrap();
        let found = Installation::around(Some(&venv), Some(&library), "3.11").unwrap();
        assert_eq!((found.program, found.home), (Some(venv.join("bin/python")), home));
    }
}

#[test]
fn an_environment_of_another_version_is_refused() {
    let root = tree(&[("venv/bin/python", ""), ("venv/pyvenv.cfg", "home = /usr/bin\nversion_info = 3.12.1.final.0\n")]);
    let venv = root.path().join("venv");
    let message = Installation::around(Some(&venv), None, "3.11").unwrap_err();
    let expected = "is of Python 3.12.1.final.0, and this worker has Python 3.11: make it anew with python3.11";
    assert!(message.ends_with(expected), "{message}");
    assert!(Installation::around(Some(&venv), None, "3.12").is_ok());
}

#[test]
fn a_folder_without_python_is_no_environment() {
    let root = tree(&[("venv/pyvenv.cfg", "")]);
    let message = Installation::around(Some(&root.path().join("venv")), None, "3.11").unwrap_err();
    assert!(message.starts_with("there is no virtual environment in ") && message.ends_with("it has no bin/python"), "{message}");
}

#[test]
fn the_root_of_the_machine_is_never_a_base_to_read() {
    let root = tree(&[("venv/bin/python", ""), ("venv/pyvenv.cfg", "home = /bin\nversion = 3.11.7\n")]);
    let found = Installation::around(Some(&root.path().join("venv")), None, "3.11").unwrap();
    assert!(!found.folders().contains(&PathBuf::from("/")));
}

#[test]
fn this_process_knows_its_library() {
    let Some(library) = loaded_library() else { return };
    assert!(library.is_file(), "{}", library.display());
    let found = Installation::find(None).unwrap();
    assert!(found.folders().iter().any(|folder| library.starts_with(folder)));
}
