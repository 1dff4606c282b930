//! The VMs of the process: how many there may be at once, and the idle ones.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::vm::Vm;

/// How many runs of one depth may hold a VM at once; the others wait in the order they came.
const VMS: usize = 256;

/// How deep runs of agents that call agents are counted apart.
const DEPTHS: usize = 8;

/// How many idle VMs are kept for the next run.
const IDLE_MAX: usize = 32;

static POOL: LazyLock<Arc<Pool>> = LazyLock::new(|| Arc::new(Pool::new(VMS)));

/// VMs for runs. A run that waits for the runs that it started holds its VM, so each depth has permits of its own:
/// whoever waits, waits for deeper ones only, and the deepest wait for nobody.
pub(super) struct Pool {
    depths: Vec<Arc<Semaphore>>,
    idle: Mutex<Vec<Vm>>,
}

/// The right to have one VM.
pub(super) struct Permit {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pool {
    /// The pool of the process.
    pub(super) fn global() -> Arc<Pool> {
        Arc::clone(&POOL)
    }

    pub(super) fn new(vms: usize) -> Self {
        Pool { depths: (0..DEPTHS).map(|_| Arc::new(Semaphore::new(vms))).collect(), idle: Mutex::new(Vec::new()) }
    }

    /// Waits until a run at `depth` (0: a client's own) may have a VM. Runs deeper than any sane configuration do not wait.
    pub(super) async fn permit(&self, depth: usize) -> Permit {
        match self.depths.get(depth) {
            // The semaphore is never closed.
            Some(permits) => Permit { _permit: Arc::clone(permits).acquire_owned().await.ok() },
            None => Permit { _permit: None },
        }
    }

    /// An idle VM, or a new one.
    pub(super) fn take(&self) -> mlua::Result<Vm> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(Vm::new, Ok)
    }

    /// Keeps a VM for the next run, unless it is too full or there are enough.
    pub(super) fn give_back(&self, vm: Vm) {
        if vm.is_clean() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.push(vm);
            }
        }
    }

    /// How many VMs are idle.
    #[cfg(test)]
    pub(super) fn n_idle(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
