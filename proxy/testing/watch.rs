//! Waits for a file to be saved.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// An editor's save is several changes: they are one when they come this close together.
const SETTLE: Duration = Duration::from_millis(100);

/// The changes to scripts and documents below some folders.
pub(super) struct Changes {
    touched: Arc<Notify>,
    _watcher: notify::RecommendedWatcher,
}

impl Changes {
    pub(super) fn below(folders: &[PathBuf]) -> std::io::Result<Changes> {
        let touched = Arc::new(Notify::new());
        let notices = touched.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let matters =
                |path: &PathBuf| path.extension().is_some_and(|ending| ["lua", "yaml", "yml", "json"].iter().any(|e| ending == *e));
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(matters)) {
                notices.notify_one();
            }
        })
        .map_err(std::io::Error::other)?;
        for folder in folders {
            watcher.watch(folder, RecursiveMode::Recursive).map_err(std::io::Error::other)?;
        }
        Ok(Changes { touched, _watcher: watcher })
    }

    /// Returns when something was saved.
    pub(super) async fn next(&mut self) {
        self.touched.notified().await;
        tokio::time::sleep(SETTLE).await;
        // What came in the meantime is part of the same save: the tests read all of it.
        let _ = tokio::time::timeout(Duration::ZERO, self.touched.notified()).await;
    }
}
