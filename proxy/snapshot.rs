//! The checked, resolved, immutable form of a configuration. A request sees exactly one snapshot, and a run keeps its own to the end.

mod build;
mod code;
pub mod reload;
pub mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::access::Access;
use crate::agent::Directory;
use crate::agent::surroundings::Surroundings;
use crate::config::document::{Document, Ordered};
use crate::config::{Fault, Loaded};
use crate::python::Python;
use crate::route::Routes;
use crate::tools::mcp::McpServer;
use crate::upstream::Upstream;

/// Everything that a request needs, resolved.
pub struct Snapshot {
    /// The document that it was built from.
    pub document: Document,
    /// Who may use it.
    pub access: Access,
    /// Which model means what.
    pub routes: Arc<Routes>,
    /// The agents by name.
    pub agents: Arc<Directory>,
    /// What runs find around them.
    pub around: Arc<Surroundings>,
    /// The upstreams, the default one first.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The MCP servers by name.
    pub mcp_servers: Ordered<Arc<McpServer>>,
    /// The Python workers.
    pub python: Arc<Python>,
    /// What is doubtful in the configuration, and serves nevertheless.
    pub warnings: Vec<Fault>,
    /// The configuration's files and folders, for the watcher.
    watched: Watched,
}

/// What a change of which makes a new configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Watched {
    /// Folders whose files matter.
    folders: Vec<PathBuf>,
    /// Folders of which everything below matters.
    trees: Vec<PathBuf>,
}

impl Snapshot {
    /// Resolves a configuration. What `old` has and the new configuration describes alike is kept: upstreams with their pools, MCP connections.
    /// `Err` has every fault; nothing was connected then that stays so.
    pub fn build(loaded: &Loaded, old: Option<&Snapshot>, control: &tokio::runtime::Handle) -> Result<Snapshot, Vec<Fault>> {
        build::build(loaded, old, control)
    }

    /// What to watch: the configuration's files, and the code that it names, as far as it has been imported.
    fn watched(&self) -> Watched {
        let mut watched = self.watched.clone();
        watched.folders.extend(self.python.files().iter().filter_map(|file| file.parent().map(Path::to_owned)));
        watched.folders.sort();
        watched.folders.dedup();
        watched
    }

    /// Connects what is not connected yet. Called on the control runtime, which owns the connections.
    pub fn start(&self, control: &tokio::runtime::Handle) {
        self.mcp_servers.values().for_each(|server| server.start(control));
        if self.python.is_wanted() {
            self.python.start();
        }
    }

    /// Returns when every MCP server has been tried and all code imported, or `limit` is over, and every upstream was asked once.
    pub async fn wait_started(&self, limit: Duration) {
        let servers = self.mcp_servers.values().map(|server| server.wait_first_attempt(limit));
        let unasked = self.upstreams.iter().filter(|upstream| upstream.catalog.listing().state == crate::upstream::catalog::State::Unknown);
        let upstreams = unasked.map(|upstream| upstream.refresh_catalog());
        let (servers, upstreams) = (futures_util::future::join_all(servers), futures_util::future::join_all(upstreams));
        tokio::join!(servers, upstreams, self.python.wait_started(limit));
    }

    /// Closes what only this snapshot still uses. Called when the gateway stops.
    pub async fn stop(&self) {
        self.python.stop();
        futures_util::future::join_all(self.mcp_servers.values().map(|server| server.stop())).await;
    }
}
