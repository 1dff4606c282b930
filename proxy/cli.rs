//! What each command prints, and its exit code.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::Runtime;

use crate::config::{self, Fault};
use crate::server::{self, Options, StartError};
use crate::snapshot::Snapshot;
use crate::{demo, init, testing, tls};

/// Serves until it is told to stop.
pub fn serve(options: &Options) -> ExitCode {
    match server::serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Config(faults)) => refuse(&faults),
        Err(StartError::System(error)) => fail(error),
    }
}

/// Reads, checks and builds a configuration without serving it. Warnings go to standard error, faults too; 1 when there are faults.
pub fn check(file: &Path) -> ExitCode {
    tls::install_provider();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    let built = {
        let _inside = runtime.enter();
        config::load(file).and_then(|loaded| Snapshot::build(&loaded, None, runtime.handle()))
    };
    match built {
        Ok(snapshot) => {
            for warning in &snapshot.warnings {
                complain(&format!("warning: {warning}"));
            }
            if let Err(code) = check_code(&snapshot, &runtime) {
                return code;
            }
            let (agents, upstreams, servers) = (snapshot.agents.len(), snapshot.upstreams.len(), snapshot.mcp_servers.len());
            print(&format!("{}: ok ({agents} agents, {upstreams} upstreams, {servers} MCP servers)\n", file.display()))
        }
        Err(faults) => refuse(&faults),
    }
}

/// Imports the Python code that the configuration names. Without Python that is a warning; code that cannot be imported is a fault.
fn check_code(snapshot: &Snapshot, runtime: &Runtime) -> Result<(), ExitCode> {
    if !snapshot.python.is_wanted() {
        return Ok(());
    }
    match runtime.block_on(snapshot.python.try_imports()) {
        Ok(faults) if faults.is_empty() => Ok(()),
        Ok(faults) => {
            faults.iter().for_each(|fault| complain(fault));
            Err(ExitCode::FAILURE)
        }
        Err(why) => {
            complain(&format!("warning: Python agents and tools cannot run here: {why}"));
            Ok(())
        }
    }
}

/// Prints the JSON Schema of the configuration.
pub fn schema() -> ExitCode {
    print(&format!("{:#}\n", config::json_schema()))
}

/// Writes the starter.
pub fn init(dir: &Path) -> ExitCode {
    match init::init(dir) {
        Ok(files) => {
            let files: String = files.iter().map(|file| format!("{}\n", file.display())).collect();
            print(&format!("{files}\nStart it: cd {} && moongate serve\n", dir.display()))
        }
        Err(error) => fail(error),
    }
}

/// Runs the tests of scripts; 1 when one failed or there was none.
pub fn test(options: &testing::Options) -> ExitCode {
    match testing::run(options, &mut std::io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error),
    }
}

/// Serves the demo's tools to the MCP client at the other end of standard input and output.
pub fn demo_tools() -> ExitCode {
    demo::tools::serve_stdio().map_or_else(fail, |()| ExitCode::SUCCESS)
}

fn refuse(faults: &[Fault]) -> ExitCode {
    for fault in faults {
        complain(&format!("{fault}"));
    }
    ExitCode::FAILURE
}

fn fail(error: impl Display) -> ExitCode {
    complain(&format!("moongate: {error}"));
    ExitCode::FAILURE
}

/// A reader that has gone away is nobody's failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
