//! The logs: JSON, or for people on a terminal, on standard error; `RUST_LOG` chooses what is logged.
//!
//! Writing the record of a request costs more than making it, so records are gathered, and written together by a thread of their own.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::config::{self, LogForm};

/// How long a record may wait for others.
const LINGER: Duration = Duration::from_millis(20);

/// How much may wait, in bytes; beyond it, whoever logs writes, and so waits for the reader.
const MAX_WAITING: usize = 1 << 20;

static GATHERED: Gathered = Gathered { records: Mutex::new(Vec::new()), some: Condvar::new(), turn: Mutex::new(()) };

/// Starts logging in the form that the configuration asks for. Called once, before anything is logged.
pub fn start(file: &Path) {
    let asked = config::load(file).ok().and_then(|loaded| loaded.document.telemetry.logs);
    let terminal = io::stderr().is_terminal();
    let form = asked.unwrap_or(if terminal { LogForm::Pretty } else { LogForm::Json });
    // Pingora logs each connection it loses; what a request came to is in its own record.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,pingora=error,pingora_core=error,pingora_proxy=error,rmcp=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Record).with_target(false);
    match form {
        LogForm::Json => builder.json().flatten_event(true).init(),
        LogForm::Pretty => builder.with_ansi(terminal).init(),
    }
    // Without the thread, records are written when there are many, and at the end.
    let _ = std::thread::Builder::new().name("logs".into()).spawn(|| {
        loop {
            GATHERED.wait();
            flush();
        }
    });
}

/// Writes every record that waits. Called before the process ends.
pub fn flush() {
    // A standard error that is gone takes the records with it.
    let _ = GATHERED.write(&mut io::stderr());
}

struct Gathered {
    records: Mutex<Vec<u8>>,
    some: Condvar,
    /// Held over a write, so that records stay in order while others are gathered.
    turn: Mutex<()>,
}

impl Gathered {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a moment after there is a record.
    fn wait(&self) {
        drop(self.some.wait_while(self.lock(), |records| records.is_empty()));
        std::thread::park_timeout(LINGER);
    }

    /// Adds a record. `true` when so much waits that it has to be written now.
    fn add(&self, record: &[u8]) -> bool {
        let mut records = self.lock();
        if records.is_empty() {
            self.some.notify_one();
        }
        records.extend_from_slice(record);
        records.len() > MAX_WAITING
    }

    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let records = std::mem::take(&mut *self.lock());
        to.write_all(&records)
    }
}

/// Where the formatter writes one record, whole.
struct Record;

impl Write for Record {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        if GATHERED.add(record) {
            flush();
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_written_in_order_and_once() {
        let gathered = Gathered { records: Mutex::default(), some: Condvar::new(), turn: Mutex::default() };
        assert!(!gathered.add(b"one\n") && !gathered.add(b"two\n"));
        gathered.wait();
        let mut written = Vec::new();
        gathered.write(&mut written).unwrap();
        gathered.write(&mut written).unwrap();
        assert_eq!(written, b"one\ntwo\n");
        assert!(gathered.add(&vec![b'x'; MAX_WAITING + 1]));
    }
}
