//! Replaces the snapshot: reads everything, checks everything, builds a whole new one, and swaps it in one step, or changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::Snapshot;
use crate::config::{self, Fault};
use crate::metrics::METRICS;

/// How long `/readyz` waits for MCP servers at the start, and how long a reload waits for new ones: a program may first be downloaded.
const AT_START: Duration = Duration::from_secs(10);
const AT_RELOAD: Duration = Duration::from_secs(65);

/// The snapshot that serves, and how it is replaced.
pub struct Snapshots {
    current: ArcSwap<Snapshot>,
    file: PathBuf,
    control: Handle,
    /// One reload at a time; the next one reads the files anew.
    reloading: Mutex<()>,
    started: AtomicBool,
    /// When the files were read last.
    read_at: ArcSwap<SystemTime>,
    refusal: ArcSwapOption<Refusal>,
    pub(super) changed: tokio::sync::watch::Sender<()>,
}

/// Why the configuration on disk is not the one that serves.
#[derive(Debug)]
pub struct Refusal {
    /// What is wrong with it.
    pub faults: Vec<Fault>,
}

impl Snapshots {
    /// Reads the configuration for the first time. `Err` has its faults: then there is nothing to serve.
    pub fn load(file: &Path, control: &Handle) -> Result<Arc<Snapshots>, Vec<Fault>> {
        let read_at = ArcSwap::from_pointee(SystemTime::now());
        let loaded = config::load(file)?;
        let snapshot = Snapshot::build(&loaded, None, control)?;
        METRICS.config_current.set(1);
        Ok(Arc::new(Snapshots {
            current: ArcSwap::from_pointee(snapshot),
            file: file.to_owned(),
            control: control.clone(),
            reloading: Mutex::default(),
            started: AtomicBool::new(false),
            read_at,
            refusal: ArcSwapOption::empty(),
            changed: tokio::sync::watch::Sender::new(()),
        }))
    }

    /// The snapshot of this moment. Whoever holds it is not touched by a reload.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Connects what the snapshot needs. Called once, on the control runtime.
    pub async fn start(&self) {
        let snapshot = self.current();
        snapshot.start(&self.control);
        snapshot.wait_started(AT_START).await;
        self.started.store(true, Ordering::Release);
        // The watcher looks again: it is known now which files hold code.
        self.changed.send_replace(());
    }

    /// Whether every upstream and MCP server of the first snapshot has been tried once.
    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// When the files were read last.
    pub(super) fn read_at(&self) -> SystemTime {
        **self.read_at.load()
    }

    /// Why the configuration on disk is not the one that serves; `None` while it is.
    pub fn refusal(&self) -> Option<Arc<Refusal>> {
        self.refusal.load_full()
    }

    /// Reads the files again and swaps the snapshot, all or nothing. Called on the control runtime, where dropped connections end.
    pub async fn reload(&self) -> Result<Arc<Snapshot>, Arc<Refusal>> {
        let _one = self.reloading.lock().await;
        let outcome = self.replace().await;
        METRICS.reload(outcome.is_ok());
        match outcome {
            Ok(snapshot) => {
                self.refusal.store(None);
                tracing::info!(agents = snapshot.agents.len(), "configuration reloaded");
                self.changed.send_replace(());
                Ok(snapshot)
            }
            Err(faults) => {
                for fault in &faults {
                    tracing::error!("configuration refused, the old one serves on: {fault}");
                }
                let refusal = Arc::new(Refusal { faults });
                self.refusal.store(Some(refusal.clone()));
                Err(refusal)
            }
        }
    }

    async fn replace(&self) -> Result<Arc<Snapshot>, Vec<Fault>> {
        self.read_at.store(Arc::new(SystemTime::now()));
        let file = self.file.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&file)).await;
        let loaded = loaded.map_err(|e| vec![Fault { place: None, key: String::new(), message: e.to_string() }])??;
        let old = self.current();
        let new = Snapshot::build(&loaded, Some(&old), &self.control)?;
        new.start(&self.control);
        new.wait_started(AT_RELOAD).await;
        let broken: Vec<Fault> = loaded
            .agents
            .iter()
            .filter_map(|entry| {
                let worked = old.agents.get(&entry.name).is_some_and(|agent| agent.degraded().is_empty());
                let reasons = new.agents.get(&entry.name).map(|agent| agent.degraded()).unwrap_or_default();
                let reason = || format!("the agent `{}` works now and would not: {}", entry.name, reasons.join("; "));
                (worked && !reasons.is_empty()).then(|| entry.origin.fault("", reason()))
            })
            .collect();
        if !broken.is_empty() {
            return Err(broken);
        }
        if new.document.server.listen != old.document.server.listen || new.document.telemetry.logs != old.document.telemetry.logs {
            tracing::warn!("a changed `server.listen` or `telemetry.logs` holds from the next start on");
        }
        let new = Arc::new(new);
        self.current.store(new.clone());
        Ok(new)
    }
}
