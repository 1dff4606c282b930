//! moongate's own pages: what there is, how it is, and the reload. Everything else passes to the upstreams.

pub mod models;
mod sessions;

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::downstream::Answer;
use crate::error::{Error, Kind, Result};
use crate::flight::Flight;
use crate::metrics::METRICS;
use crate::snapshot::Snapshot;
use crate::snapshot::reload::{Refusal, Snapshots};
use crate::upstream::Upstream;
use crate::upstream::breaker;
use crate::upstream::catalog::{State, id};

/// A page of moongate's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// The process lives.
    Healthz,
    /// The process takes requests.
    Readyz,
    /// Prometheus' text.
    Metrics,
    /// Every agent.
    Agents,
    /// One agent.
    Agent(String),
    /// Every upstream.
    Upstreams,
    /// Every MCP server.
    McpServers,
    /// The sessions that are remembered.
    Sessions,
    /// One session.
    Session(String),
    /// Reads the configuration again.
    Reload,
}

impl Page {
    /// The page at this path.
    pub fn find(path: &str) -> Option<Page> {
        Some(match path.strip_suffix('/').unwrap_or(path) {
            "/healthz" => Page::Healthz,
            "/readyz" => Page::Readyz,
            "/metrics" => Page::Metrics,
            "/agents" => Page::Agents,
            "/upstreams" => Page::Upstreams,
            "/mcp/servers" => Page::McpServers,
            "/reload" => Page::Reload,
            "/sessions" => Page::Sessions,
            path => {
                let decoded = |name: &str| percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned();
                match path.strip_prefix("/sessions/") {
                    Some(id) => Page::Session(decoded(id)),
                    None => Page::Agent(decoded(path.strip_prefix("/agents/")?)),
                }
            }
        })
    }

    fn methods(&self) -> &'static [Method] {
        match self {
            Page::Reload => &[Method::POST],
            Page::Session(_) => &[Method::GET, Method::HEAD, Method::DELETE],
            _ => &[Method::GET, Method::HEAD],
        }
    }

    /// Whether anybody may see it.
    pub fn is_public(&self) -> bool {
        matches!(self, Page::Healthz | Page::Readyz)
    }
}

/// What the pages show.
pub struct Admin {
    snapshots: Arc<Snapshots>,
    flight: Arc<Flight>,
    control: tokio::runtime::Handle,
}

impl Admin {
    /// `control` is the runtime on which reloads happen.
    pub fn new(snapshots: Arc<Snapshots>, flight: Arc<Flight>, control: tokio::runtime::Handle) -> Admin {
        Admin { snapshots, flight, control }
    }

    /// Answers a request for a page, if this visitor may see it.
    pub async fn open(&self, page: Page, visitor: Visitor<'_>, snapshot: &Snapshot) -> Result<Answer> {
        let methods = page.methods();
        if !methods.contains(visitor.method) {
            let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            let error = Error::new(Kind::MethodNotAllowed, format!("This page is answered to {allowed} only."));
            return Ok(Answer::error(&error).header("allow", &allowed));
        }
        if let Page::Sessions | Page::Session(_) = page {
            return sessions::open(&page, &visitor, snapshot).await;
        }
        if !page.is_public() {
            visitor.authorize(snapshot)?;
        }
        Ok(match page {
            Page::Sessions | Page::Session(_) => return Err(Error::new(Kind::NotFound, "There is no such page.")),
            Page::Healthz => Answer::json(&json!({ "status": "ok" })),
            Page::Readyz => self.readiness(),
            Page::Metrics => {
                let asked = snapshot.upstreams.iter().filter_map(|upstream| Some((upstream.name.as_str(), upstream.is_up()?)));
                METRICS.upstreams_up(asked);
                Answer::new(StatusCode::OK, "text/plain; version=0.0.4", METRICS.render())
            }
            Page::Agents => {
                let mut agents: Vec<_> = snapshot.agents.values().collect();
                agents.sort_by(|a, b| a.name.cmp(&b.name));
                Answer::json(&json!({ "agents": agents.into_iter().map(|agent| describe_agent(agent)).collect::<Vec<_>>() }))
            }
            Page::Agent(name) => match snapshot.agents.get(&name) {
                Some(agent) => Answer::json(&describe_agent(agent)),
                None => return Err(Error::new(Kind::NotFound, format!("There is no agent '{name}'."))),
            },
            Page::Upstreams => Answer::json(
                &json!({ "upstreams": snapshot.upstreams.iter().map(|upstream| describe_upstream(upstream)).collect::<Vec<_>>() }),
            ),
            Page::McpServers => {
                Answer::json(&json!({ "servers": snapshot.mcp_servers.values().map(|server| server.status()).collect::<Vec<_>>() }))
            }
            Page::Reload => self.reload().await?,
        })
    }

    /// 200 while requests are taken; 503 before everything was tried once, and while the gateway stops.
    fn readiness(&self) -> Answer {
        let (ready, why) = match (self.flight.is_stopping(), self.snapshots.is_started()) {
            (true, _) => (false, "stopping"),
            (false, false) => (false, "starting"),
            (false, true) => (true, "ready"),
        };
        // Everybody may ask: what is wrong is told to admins, by `/reload`, and to the log.
        let config = if self.snapshots.refusal().is_some() { "refused" } else { "current" };
        let body = json!({ "status": why, "config": config });
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Answer::new(status, "application/json", body.to_string())
    }

    /// The reload goes on even if the caller leaves.
    async fn reload(&self) -> Result<Answer> {
        let snapshots = self.snapshots.clone();
        let outcome = self.control.spawn(async move { snapshots.reload().await }).await;
        match outcome.map_err(|e| Error::new(Kind::Internal, "The reload failed.").source(e))? {
            Ok(snapshot) => {
                let warnings: Vec<_> = snapshot.warnings.iter().map(ToString::to_string).collect();
                Ok(Answer::json(&json!({ "status": "reloaded", "agents": snapshot.agents.len(), "warnings": warnings })))
            }
            Err(refusal) => {
                let error = Error::new(Kind::ReloadFailed, "The configuration is refused; the old one serves on.");
                let mut body = error.body();
                body["faults"] = faults(&refusal);
                let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
                Ok(Answer::new(status, "application/json", body.to_string()))
            }
        }
    }
}

/// Who asks for a page.
pub struct Visitor<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// What stands behind the path's `?`.
    pub query: &'a str,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The connection comes from this machine.
    pub loopback: bool,
}

impl Visitor<'_> {
    /// With keys: an admin's. Without: somebody on this machine, and not a web page, a proxy or a rebound name that only looks so.
    fn authorize(&self, snapshot: &Snapshot) -> Result<()> {
        if snapshot.access.has_keys() {
            return match snapshot.access.check(self.headers)?.is_admin() {
                true => Ok(()),
                false => Err(Error::new(Kind::Rejected, "This key may not use the management endpoints.")),
            };
        }
        let forwarded = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];
        let direct = self.loopback && !forwarded.iter().any(|name| self.headers.contains_key(*name));
        let text = |name| self.headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or_default());
        let host = text(http::header::HOST).is_some_and(|host| is_this_machine(&format!("http://{host}")));
        let origin = text(http::header::ORIGIN).is_none_or(is_this_machine);
        if direct && host && origin {
            return Ok(());
        }
        Err(Error::new(Kind::Rejected, "Without keys, the management endpoints answer to this machine only."))
    }
}

fn is_this_machine(url: &str) -> bool {
    let host = url.parse::<Uri>().ok().and_then(|url| url.host().map(|host| host.trim_matches(['[', ']']).to_owned()));
    host.is_some_and(|host| host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

fn faults(refusal: &Refusal) -> Value {
    refusal.faults.iter().map(ToString::to_string).collect()
}

fn describe_agent(agent: &Agent) -> Value {
    let degraded = agent.degraded();
    json!({
        "name": agent.name,
        "kind": agent.definition.name(),
        "description": agent.description,
        "upstream": agent.upstream.name,
        "model": agent.model,
        "tools": agent.tools.offer().tools().iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(),
        "hooks": agent.scripts,
        "status": if degraded.is_empty() { "ready" } else { "degraded" },
        "reasons": degraded,
    })
}

fn describe_upstream(upstream: &Upstream) -> Value {
    let listing = upstream.catalog.listing();
    let (state, reason) = match &listing.state {
        State::Unknown => ("unknown", None),
        State::Up => ("up", None),
        State::Down(why) => ("down", Some(why.as_str())),
    };
    json!({
        "name": upstream.name,
        "base_url": upstream.base_url(),
        "state": state,
        "reason": reason,
        "breaker": match upstream.breaker.state() {
            breaker::State::Closed => "closed",
            breaker::State::Open => "open",
            breaker::State::HalfOpen => "half_open",
        },
        "models": listing.models.iter().filter_map(id).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_found_by_their_path() {
        assert_eq!(Page::find("/agents"), Some(Page::Agents));
        assert_eq!(Page::find("/agents/team%2Fwriter"), Some(Page::Agent("team/writer".into())));
        assert_eq!(Page::find("/agents/team/writer"), Some(Page::Agent("team/writer".into())));
        assert_eq!(Page::find("/mcp/servers/"), Some(Page::McpServers));
        assert_eq!(Page::find("/v1/models"), None);
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for url in ["http://localhost:8080", "http://127.0.0.1", "http://127.9.9.9:1", "http://[::1]:8080"] {
            assert!(is_this_machine(url), "{url}");
        }
        for url in ["http://evil.test", "http://localhost.evil.test", "null", "http://10.0.0.1"] {
            assert!(!is_this_machine(url), "{url}");
        }
    }
}
