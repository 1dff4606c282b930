//! The life of one server's connection: connect, list the tools, keep watch, and begin again when it is lost.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rmcp::RoleClient;
use rmcp::model::{ErrorCode, ProtocolVersion, SubscriptionFilter};
use rmcp::service::{ClientCacheConfig, Peer, ServiceError, Subscription};
use rmcp::transport::streamable_http_client::HttpStatusError;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use crate::backoff::{self, Backoff};
use crate::config::document::McpTransport;

use super::catalog::Catalog;
use super::connect::{Client, Connection, Failure, Target, connect};
use super::{About, PATIENCE, Phase, Shared, outcome};

/// How long listing the tools may take.
const LISTING: Duration = Duration::from_secs(10);
/// How long a server may take to accept a subscription.
const SUBSCRIBING: Duration = Duration::from_secs(5);
/// Over HTTP nobody says that a server went away: it is asked this often.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How long changes are gathered before the tools are listed again.
const SETTLE: Duration = Duration::from_millis(100);
/// How long an orderly end may take.
const CLOSING: Duration = Duration::from_secs(8);

/// Runs until the server's last holder is gone. Owns the connection, so that it ends inside this runtime.
pub(super) async fn supervise(target: Target, shared: Arc<Shared>) {
    repeat(&target, &shared).await;
    shared.state.send_modify(|state| {
        state.phase = Phase::Stopped;
        state.catalog = None;
    });
}

/// Returns when the server is no longer wanted.
async fn repeat(target: &Target, shared: &Shared) {
    let mut backoff = Backoff::new(backoff::FIRST);
    let mut legacy = false;
    loop {
        let client = Client { changed: Arc::new(Notify::new()), suspect: Arc::new(Notify::new()) };
        let begun = tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            begun = begin(target, shared, client.clone(), legacy) => begun,
        };
        let wait = match begun {
            Ok(connection) => {
                let since = Instant::now();
                let Some(why) = hold(target, shared, client, connection).await else { return };
                let wait = jitter(backoff.wait(since.elapsed()));
                lost(target, shared, why, wait);
                wait
            }
            Err(failure) => {
                // Silent to the newer way of beginning: the older one is next, and the other way round.
                legacy = failure.silent && !legacy;
                let wait = jitter(backoff.wait(Duration::ZERO));
                failed(target, shared, failure.message, wait);
                wait
            }
        };
        tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One attempt: a connection whose tools are known.
async fn begin(target: &Target, shared: &Shared, client: Client, legacy: bool) -> Result<Connection, Failure> {
    let connection = connect(target, client, legacy).await?;
    let peer = connection.peer().clone();
    peer.set_response_cache_config(ClientCacheConfig::disabled()).await;
    let catalog = match tokio::time::timeout(LISTING, fetch(&peer)).await {
        Ok(Ok(catalog)) => catalog,
        Ok(Err(e)) => {
            let message = format!("the server does not list its tools: {}", outcome::broken(&e));
            return Err(Failure { message, silent: false });
        }
        Err(_) => {
            let message = format!("the server does not list its tools within {} s", LISTING.as_secs());
            return Err(Failure { message, silent: false });
        }
    };
    tracing::info!(server = target.name, tools = catalog.tools().len(), "MCP server connected");
    publish(target, shared, catalog);
    shared.state.send_modify(|state| {
        state.about = about(&peer);
        state.phase = Phase::Ready(peer);
        state.last_error = None;
        state.attempts += 1;
    });
    Ok(connection)
}

/// Keeps a connection until it is lost, and returns why; `None` when it is no longer wanted.
async fn hold(target: &Target, shared: &Shared, client: Client, connection: Connection) -> Option<String> {
    let peer = connection.peer().clone();
    let closer = connection.cancellation_token();
    let mut ended = std::pin::pin!(connection.waiting());
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut subscription = listen(&peer).await;
    let why = loop {
        let event = tokio::select! {
            biased;
            () = shared.cancel.cancelled() => break None,
            _ = &mut ended => return Some("the server closed the connection".into()),
            () = client.changed.notified() => Event::Changed,
            news = news(&mut subscription) => if news { Event::Changed } else { Event::Unsubscribed },
            () = client.suspect.notified() => Event::Suspect,
            () = shared.suspect.notified() => Event::Suspect,
            _ = heartbeat.tick() => Event::Heartbeat,
        };
        match event {
            Event::Changed => tokio::time::sleep(SETTLE).await,
            Event::Unsubscribed => subscription = None,
            Event::Heartbeat if target.config.transport != McpTransport::Http => continue,
            Event::Heartbeat if subscription.is_none() => subscription = listen(&peer).await,
            Event::Heartbeat | Event::Suspect => {}
        }
        let refreshed = tokio::select! {
            biased;
            () = shared.cancel.cancelled() => break None,
            refreshed = tokio::time::timeout(LISTING, fetch(&peer)) => refreshed,
        };
        match refreshed {
            Ok(Ok(catalog)) => publish(target, shared, catalog),
            Ok(Err(e)) if gone(&e) => break Some(outcome::broken(&e)),
            // Busy or confused is not gone: calls in flight keep their connection.
            Ok(Err(e)) => tracing::warn!(server = target.name, error = outcome::broken(&e), "no new list of tools"),
            Err(_) => tracing::warn!(server = target.name, "no new list of tools in time"),
        }
    };
    drop(subscription);
    closer.cancel();
    let _ = tokio::time::timeout(CLOSING, ended).await;
    why
}

/// What made the supervisor look up.
enum Event {
    Changed,
    Unsubscribed,
    Suspect,
    Heartbeat,
}

async fn fetch(peer: &Peer<RoleClient>) -> Result<Catalog, ServiceError> {
    match Catalog::fetch(peer).await {
        // A server without tools need not know the question.
        Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => Ok(Catalog::default()),
        other => other,
    }
}

/// Asks a server of the newer protocol to tell of changes; older ones tell without being asked.
async fn listen(peer: &Peer<RoleClient>) -> Option<Subscription> {
    let info = peer.peer_info()?;
    let tells = info.capabilities.tools.as_ref()?.list_changed == Some(true);
    if !tells || info.protocol_version < ProtocolVersion::V_2026_07_28 {
        return None;
    }
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    tokio::time::timeout(SUBSCRIBING, peer.listen(filter)).await.ok()?.ok()
}

/// Whether the subscription had news (or ended). Without a subscription there is never any.
async fn news(subscription: &mut Option<Subscription>) -> bool {
    match subscription {
        Some(subscription) => matches!(subscription.next().await, Ok(Some(_))),
        None => std::future::pending().await,
    }
}

/// Whether an error means that the connection is no more.
fn gone(error: &ServiceError) -> bool {
    let ServiceError::TransportSend(error) = error else { return matches!(error, ServiceError::TransportClosed) };
    let mut cause: Option<&(dyn Error + 'static)> = Some(error.error.as_ref());
    while let Some(e) = cause {
        if e.downcast_ref::<HttpStatusError>().is_some_and(|e| e.status == 429) {
            return false;
        }
        cause = e.source();
    }
    true
}

/// Shows a new list of tools; an equal one changes nothing, so that what was built from the old one stays valid.
fn publish(target: &Target, shared: &Shared, catalog: Catalog) {
    shared.state.send_if_modified(|state| {
        if state.catalog.as_deref() == Some(&catalog) {
            return false;
        }
        for warning in &catalog.warnings {
            tracing::warn!(server = target.name, "{warning}");
        }
        state.catalog = Some(Arc::new(catalog));
        true
    });
}

fn about(peer: &Peer<RoleClient>) -> About {
    let Some(info) = peer.peer_info() else { return About::default() };
    About {
        protocol: Some(info.protocol_version.to_string()),
        server: info.server_info.as_ref().map(|server| server.name.clone()),
        version: info.server_info.as_ref().map(|server| server.version.clone()),
    }
}

/// A connection ended. The tools stay offered over a short gap; a server that keeps falling over is as good as down.
fn lost(target: &Target, shared: &Shared, why: String, wait: Duration) {
    tracing::warn!(server = target.name, why, "MCP server lost");
    shared.state.send_modify(|state| {
        if wait <= PATIENCE {
            state.phase = Phase::Connecting;
        } else {
            state.phase = Phase::Failed(SystemTime::now() + wait);
            state.catalog = None;
        }
        state.restarts += 1;
        state.last_error = Some(why);
    });
}

fn failed(target: &Target, shared: &Shared, why: String, wait: Duration) {
    tracing::warn!(server = target.name, why, wait_ms = wait.as_millis(), "MCP server not connected");
    shared.state.send_modify(|state| {
        state.phase = Phase::Failed(SystemTime::now() + wait);
        state.catalog = None;
        state.last_error = Some(why);
        state.attempts += 1;
    });
}

/// Between half of the delay and all of it, so that many gateways do not knock at the same moment.
fn jitter(delay: Duration) -> Duration {
    delay.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread() {
        for _ in 0..1000 {
            let wait = jitter(Duration::from_millis(1000));
            assert!((500..=1000).contains(&wait.as_millis()), "{wait:?}");
        }
    }
}
