//! The workers of one configuration, kept at their number: each imports its modules, and one that is lost is replaced.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Plan;
use super::modules::Modules;
use super::nursery::Nursery;
use super::worker::{Line, Worker};
use crate::backoff::Backoff;
use crate::metrics::METRICS;

/// How things stand. Changed by the supervisors only.
#[derive(Default, Clone)]
pub(super) struct State {
    /// Attempts to have a worker that have ended, well or badly.
    pub(super) attempts: u64,
    /// The workers that stand.
    pub(super) lines: Vec<Arc<Line>>,
    /// What was imported last.
    pub(super) modules: Option<Arc<Modules>>,
    /// Why the last attempt failed.
    pub(super) error: Option<String>,
}

/// What the supervisors of a fleet share.
#[derive(Clone)]
pub(super) struct Fleet {
    pub(super) plan: Arc<Plan>,
    pub(super) state: watch::Sender<State>,
    pub(super) nursery: Arc<Nursery>,
    pub(super) cancel: CancellationToken,
    pub(super) control: Handle,
}

impl Fleet {
    /// Keeps the fleet until it is cancelled. The first worker goes ahead: what it imports is what the fleet offers.
    pub(super) async fn keep(self) {
        let first = self.clone();
        let mut ready = self.state.subscribe();
        let rest = async {
            let _ = ready.wait_for(|state| state.modules.is_some()).await;
            futures_util::future::join_all((1..self.plan.settings.workers).map(|_| self.keep_one())).await;
        };
        tokio::select! {
            () = self.cancel.cancelled() => {}
            _ = async { tokio::join!(first.keep_one(), rest) } => {}
        }
        self.state.send_modify(|state| {
            METRICS.python_workers.sub(state.lines.len() as i64);
            state.lines.clear();
        });
    }

    /// One worker after another, for ever.
    async fn keep_one(&self) {
        // The first replacement comes at once.
        let mut backoff = Backoff::new(Duration::ZERO);
        loop {
            let since = Instant::now();
            match self.begin().await {
                Ok(worker) => {
                    let line = worker.line.clone();
                    let how = worker.work().await;
                    self.leave(&line);
                    METRICS.python_worker_ended();
                    tracing::warn!("a Python worker {how}");
                }
                Err(why) => {
                    tracing::warn!("no Python worker: {why}");
                    self.state.send_modify(|state| {
                        state.attempts += 1;
                        state.error = Some(why);
                    });
                }
            }
            tokio::time::sleep(backoff.wait(since.elapsed())).await;
        }
    }

    /// A worker with its modules imported, that calls may go to.
    async fn begin(&self) -> Result<Worker, String> {
        let mut worker = self.nursery.take(&self.plan.settings).await?;
        let read_at = SystemTime::now();
        let began = Instant::now();
        let loaded = worker.load(&self.plan.agents, &self.plan.tools).await?;
        let modules = Arc::new(Modules::new(loaded, read_at));
        tracing::info!(
            pid = worker.pid(),
            python = worker.about.python,
            import_ms = began.elapsed().as_millis() as u64,
            "Python worker ready"
        );
        if self.state.borrow().modules.is_none() {
            modules.faults().iter().for_each(|fault| tracing::warn!("{fault}"));
        }
        self.state.send_modify(|state| {
            state.attempts += 1;
            state.error = None;
            state.modules = Some(modules);
            state.lines.push(worker.line.clone());
        });
        METRICS.python_workers.inc();
        self.nursery.raise(&self.plan.settings, &self.control);
        Ok(worker)
    }

    fn leave(&self, line: &Arc<Line>) {
        METRICS.python_workers.dec();
        self.state.send_modify(|state| state.lines.retain(|other| !Arc::ptr_eq(line, other)));
    }
}
