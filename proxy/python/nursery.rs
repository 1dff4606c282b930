//! The spare: a worker that stands ready before it is wanted, with the SDK already imported, which takes seconds.

use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::settings::Settings;
use super::worker::Worker;

/// At most one spare. It outlives reloads: a changed module is imported by the spare, not by a process that starts only then.
#[derive(Default)]
pub(super) struct Nursery {
    spare: Mutex<Option<Spare>>,
}

struct Spare {
    settings: Settings,
    worker: AbortOnDropHandle<Result<Worker, String>>,
}

impl Nursery {
    /// The spare, when it has these settings; else a new worker. `Err` says why there is none.
    pub(super) async fn take(&self, settings: &Settings) -> Result<Worker, String> {
        let spare = self.lock().take();
        if let Some(spare) = spare.filter(|spare| spare.settings == *settings)
            && let Ok(Ok(mut worker)) = spare.worker.await
            && worker.is_alive()
        {
            return Ok(worker);
        }
        Worker::start(settings).await
    }

    /// Begins to raise a spare, unless there is one.
    pub(super) fn raise(&self, settings: &Settings, control: &Handle) {
        let mut spare = self.lock();
        if spare.as_ref().is_some_and(|spare| spare.settings == *settings) {
            return;
        }
        let wanted = settings.clone();
        let worker = control.spawn(async move { Worker::start(&wanted).await });
        *spare = Some(Spare { settings: settings.clone(), worker: AbortOnDropHandle::new(worker) });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Spare>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
