//! The embedded interpreter: as `python` of the virtual environment would be, without its hands on signals.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyModule;

use super::installation::Installation;
use super::modules::MODULES;

/// The version of the library, as `3.11`.
#[expect(unsafe_code, reason = "it is asked before there is an interpreter")]
pub(super) fn version() -> String {
    // SAFETY: it may be called at any time, and answers with a text that is never freed.
    let version = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) }.to_string_lossy();
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Starts the interpreter in this thread, which becomes Python's main thread.
pub(super) fn start(installation: &Installation) -> Result<(), String> {
    let program = installation.program.as_deref();
    initialize(program, installation.home.as_deref()).map_err(|message| match program {
        Some(program) => format!("Python does not start as {}: {message}", program.display()),
        None => format!("Python does not start: {message}"),
    })?;
    Python::attach(settle).map_err(|e| format!("Python does not start: {e}"))
}

/// What the configuration cannot say.
fn settle(py: Python<'_>) -> PyResult<()> {
    // Ctrl-C is the gateway's; SIGTERM keeps its default.
    let signal = py.import("signal")?;
    signal.call_method1("signal", (signal.getattr("SIGINT")?, signal.getattr("SIG_IGN")?))?;
    // Whole lines, when they are written: `print` is for the gateway's log.
    let line_buffering = pyo3::types::PyDict::new(py);
    line_buffering.set_item("line_buffering", true)?;
    py.import("sys")?.getattr("stdout")?.call_method("reconfigure", (), Some(&line_buffering))?;
    Ok(())
}

/// Loads the worker's modules and serves the gateway until it hangs up.
pub(super) fn serve(gateway: OwnedFd, settings: &str) -> Result<(), String> {
    Python::attach(|py| {
        let served = load(py).and_then(|main| {
            let settings = py.import("json")?.call_method1("loads", (settings,))?;
            main.call_method1("serve", (gateway.into_raw_fd(), settings))
        });
        served.map(drop).map_err(|e| {
            // Whole, for the log; the line below is for who reads one.
            e.print(py);
            format!("the worker failed: {e}")
        })
    })
}

/// Makes the package out of its texts. The last module is what serves.
fn load(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let mut package: Option<Bound<'_, PyModule>> = None;
    let mut last = None;
    for (name, text) in MODULES {
        let full = if package.is_none() { "moongate_worker".to_owned() } else { format!("moongate_worker.{name}") };
        let module =
            PyModule::from_code(py, &CString::new(text)?, &CString::new(format!("moongate_worker/{name}.py"))?, &CString::new(full)?)?;
        match &package {
            None => {
                module.setattr("__path__", pyo3::types::PyList::empty(py))?;
                package = Some(module.clone());
            }
            Some(package) => package.setattr(name, &module)?,
        }
        last = Some(module);
    }
    last.ok_or_else(|| pyo3::exceptions::PyImportError::new_err("the worker has no modules"))
}

#[expect(unsafe_code, reason = "pyo3 has no safe way to start an interpreter as the one of a virtual environment")]
fn initialize(program: Option<&Path>, home: Option<&Path>) -> Result<(), String> {
    let text = |path: Option<&Path>| path.map(|path| CString::new(path.as_os_str().as_bytes())).transpose().map_err(|e| e.to_string());
    let (program, home) = (text(program)?, text(home)?);
    // SAFETY: this thread is the only one that has to do with Python, and there is no interpreter yet. Both structures are filled
    // whole by their `Init` functions before they are read; all texts are copied while they are valid; `config` is cleared once,
    // after its last use.
    unsafe {
        let mut before = MaybeUninit::<ffi::PyPreConfig>::zeroed();
        ffi::PyPreConfig_InitPythonConfig(before.as_mut_ptr());
        let mut before = before.assume_init();
        before.parse_argv = 0;
        before.utf8_mode = 1;
        check(ffi::Py_PreInitialize(&raw const before))?;

        let mut config = MaybeUninit::<ffi::PyConfig>::zeroed();
        ffi::PyConfig_InitPythonConfig(config.as_mut_ptr());
        let mut config = config.assume_init();
        config.parse_argv = 0;
        config.install_signal_handlers = 0;
        let mut placed = Ok(());
        for (place, path) in [(&raw mut config.program_name, &program), (&raw mut config.home, &home)] {
            if let Some(path) = path {
                placed = placed.and(check(ffi::PyConfig_SetBytesString(&raw mut config, place, path.as_ptr())));
            }
        }
        let started = placed.and_then(|()| check(ffi::Py_InitializeFromConfig(&raw const config)));
        ffi::PyConfig_Clear(&raw mut config);
        started
    }
}

#[expect(unsafe_code, reason = "a status holds its message as a pointer")]
fn check(status: ffi::PyStatus) -> Result<(), String> {
    let message: *const c_char = status.err_msg;
    // SAFETY: the status comes from Python, whose messages are texts that are never freed, or null.
    unsafe {
        if ffi::PyStatus_Exception(status) == 0 {
            return Ok(());
        }
        if message.is_null() {
            return Err("it does not say why".to_owned());
        }
        Err(CStr::from_ptr(message).to_string_lossy().into_owned())
    }
}
