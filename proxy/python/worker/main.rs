//! `moongate-python`: a process that runs the project's Python for the gateway, at the other end of a socket pair.
//!
//! What cannot be left to Python stands here: what the process may use and touch, that it goes when its gateway goes, and which
//! Python it is. The rest is Python too, built in: `moongate_worker`.

use std::process::ExitCode;

mod installation;
mod interpreter;
mod limits;
mod modules;
mod settings;
mod socket;
mod watchdog;

use installation::Installation;
use settings::Settings;

fn main() -> ExitCode {
    match work() {
        Ok(()) => watchdog::leave(),
        Err(message) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

/// Serves the gateway until it hangs up.
fn work() -> Result<(), String> {
    let settings = Settings::from_arguments(std::env::args_os().skip(1))?;
    let gateway = socket::take()?;
    limits::set(settings.memory_bytes)?;
    let installation = Installation::find(settings.venv.as_deref())?;
    // The sandbox holds for the thread that enters it and for those started later: there is one until here.
    if let Some(mut rules) = settings.sandbox {
        rules.read.extend(installation.folders());
        rules.apply()?;
    }
    watchdog::watch(&gateway)?;
    interpreter::start(&installation)?;
    interpreter::serve(gateway, &settings.text)
}

/// The gateway shows the last line of a worker that ended.
#[expect(clippy::print_stderr, reason = "standard error is how a worker speaks to its gateway's log")]
fn complain(message: &str) {
    let line: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    eprintln!("moongate-python: {}", line.join(" "));
}
