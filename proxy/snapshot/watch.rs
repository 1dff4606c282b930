//! Reloads when a file of the configuration changes, and asks the upstreams for their models from time to time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Watched;
use super::reload::Snapshots;

/// How long until something that failed is tried again.
const SELDOM: Duration = Duration::from_secs(10);

/// How often it is looked whether an upstream is due.
const TICK: Duration = Duration::from_secs(1);

/// An editor's save is several changes: they are one when they come this close together.
const SETTLE: Duration = Duration::from_millis(100);

/// Follows the configuration's files for ever. Called on the control runtime.
pub async fn follow_files(snapshots: Arc<Snapshots>) {
    let mut replaced = snapshots.changed.subscribe();
    let touched = Arc::new(Notify::new());
    let mut noticed = None;
    let mut blind = false;
    let mut _armed = None;
    loop {
        // Armed anew after each reload: a folder may have been replaced by another of its name. The old watcher stays until the new one stands.
        let watched = snapshots.current().watched();
        let (watcher, complete) = watch(&watched, touched.clone());
        _armed = watcher;
        match (complete, blind) {
            (false, false) => tracing::warn!("a folder of the configuration cannot be watched; it is tried again"),
            (true, true) => touched.notify_one(),
            _ => {}
        }
        blind = !complete;
        // What was saved after the files were read and before the watcher was there.
        let newest = newest_change(&watched);
        if newest > Some(snapshots.read_at()) && newest != noticed {
            noticed = newest;
            touched.notify_one();
        }
        tokio::select! {
            () = touched.notified() => {
                tokio::time::sleep(SETTLE).await;
                // The other changes of the same save: the files are read only now.
                let _ = touched.notified().now_or_never();
                // A refusal is logged, and kept for `/reload`.
                let _ = snapshots.reload().await;
                replaced.mark_unchanged();
            }
            _ = replaced.changed() => {}
            () = tokio::time::sleep(SELDOM), if blind => {}
        }
    }
}

/// When the latest change to what is watched was made. A folder's own time tells of what is in it: below a tree that matters, beside a file not.
fn newest_change(watched: &Watched) -> Option<SystemTime> {
    fn newest(folder: &Path, depth: usize) -> Option<SystemTime> {
        let entries = std::fs::read_dir(folder).ok()?.flatten().filter(|entry| matters(&entry.path()));
        let times = entries.filter_map(|entry| {
            let about = entry.metadata().ok()?;
            let changed = if depth > 0 || !about.is_dir() { about.modified().ok() } else { None };
            let below = if depth > 0 && about.is_dir() { newest(&entry.path(), depth - 1) } else { None };
            changed.max(below)
        });
        times.max()
    }
    let own = |tree: &PathBuf| std::fs::metadata(tree).ok()?.modified().ok();
    let folders = watched.folders.iter().map(|folder| newest(folder, 0));
    folders.chain(watched.trees.iter().map(|tree| newest(tree, 8).max(own(tree)))).max().flatten()
}

/// Watches what can be watched. `false` when that is not all.
fn watch(watched: &Watched, touched: Arc<Notify>) -> (Option<notify::RecommendedWatcher>, bool) {
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let read_only = event.as_ref().is_ok_and(|event| {
            let quiet = matches!(event.kind, EventKind::Access(_)) || !event.paths.iter().any(|path| matters(path));
            quiet && !event.need_rescan()
        });
        if !read_only {
            touched.notify_one();
        }
    });
    let Ok(mut watcher) = watcher else { return (None, false) };
    let mut complete = true;
    for folder in &watched.folders {
        complete &= watcher.watch(folder, RecursiveMode::NonRecursive).is_ok();
    }
    for tree in &watched.trees {
        complete &= watcher.watch(tree, RecursiveMode::Recursive).is_ok();
    }
    (Some(watcher), complete)
}

/// Documents and scripts, and the link by which a mounted volume is replaced; not the swap files of editors.
fn matters(path: &Path) -> bool {
    if path.file_name().is_some_and(|name| name == "..data") {
        return true;
    }
    let extension = path.extension().and_then(|extension| extension.to_str());
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.') || name == "__pycache__");
    !hidden && extension.is_none_or(|extension| matches!(extension, "yaml" | "yml" | "json" | "lua" | "py"))
}

/// Asks every upstream for its models at its `health.interval`, for ever. Called on the control runtime.
pub async fn follow_upstreams(snapshots: Arc<Snapshots>) {
    let mut loads = JoinSet::new();
    loop {
        // No snapshot is held meanwhile: its connections are to end with it.
        tokio::time::sleep(TICK).await;
        let snapshot = snapshots.current();
        futures_util::future::join_all(snapshot.upstreams.iter().map(|upstream| upstream.refresh_when_due())).await;
        for upstream in snapshot.upstreams.iter().filter(|upstream| upstream.is_preload_due()) {
            let upstream = upstream.clone();
            loads.spawn(async move { upstream.preload().await });
        }
        while loads.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_scripts_matter() {
        for name in ["gateway.yaml", "a.yml", "a.json", "h.lua", "a.py", "team", "..data"] {
            assert!(matters(Path::new(name)), "{name}");
        }
        for name in [".gateway.yaml.swp", "a.pyc", "__pycache__", "notes.md", ".git"] {
            assert!(!matters(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn the_latest_change_is_found_below_trees_and_not_below_folders() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("team")).unwrap();
        let (near, far) = (root.path().join("a.yaml"), root.path().join("team/b.yaml"));
        for (file, age) in [(&near, 100), (&far, 10)] {
            std::fs::write(file, "").unwrap();
            let time = SystemTime::now() - Duration::from_secs(age);
            std::fs::File::open(file).unwrap().set_modified(time).unwrap();
        }
        std::fs::File::open(root.path().join("team")).unwrap().set_modified(SystemTime::now() - Duration::from_secs(200)).unwrap();
        let changed = |file: &Path| Some(std::fs::metadata(file).unwrap().modified().unwrap());
        let folder = root.path().to_owned();
        assert_eq!(newest_change(&Watched { folders: vec![folder.clone()], trees: vec![] }), changed(&near));
        std::fs::File::open(root.path()).unwrap().set_modified(SystemTime::now() - Duration::from_secs(200)).unwrap();
        assert_eq!(newest_change(&Watched { folders: vec![], trees: vec![folder] }), changed(&far));
    }
}
