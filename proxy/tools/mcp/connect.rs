//! Connecting to an MCP server by whichever transport its configuration names.

use std::borrow::Cow;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue};
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt, NotificationContext, RunningService};
use rmcp::transport::IntoTransport;
use rmcp::{ClientHandler, RoleClient};
use tokio::sync::Notify;

use crate::config::document::{self, McpScope, McpTransport};

use super::{http, outcome, sse, stdio};

/// How long an attempt may take. A program may first have to be fetched (`npx`), a server is there or is not.
const ATTEMPT: Duration = Duration::from_secs(10);
const ATTEMPT_STDIO: Duration = Duration::from_secs(60);

/// A server to connect to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) config: document::McpServer,
    /// The folder that paths are relative to.
    pub(super) root: PathBuf,
}

/// A connection past its handshake.
pub(super) type Connection = RunningService<RoleClient, Client>;

/// What went wrong with an attempt, for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) message: String,
    /// The server did not answer in time: perhaps it does not know how newer clients begin.
    pub(super) silent: bool,
}

/// Our side of the protocol: no capabilities, one interest.
#[derive(Clone)]
pub(super) struct Client {
    /// The server's tools changed.
    pub(super) changed: Arc<Notify>,
    /// Something happened after which the connection should be looked at.
    pub(super) suspect: Arc<Notify>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let about = Implementation::new("moongate", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), about)
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

/// What this version cannot keep to in a server's configuration, whose form is checked already: keys relative to it,
/// and messages.
pub fn check(config: &document::McpServer) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    // What is promised but not kept would be a hole.
    if config.sandbox.is_some() {
        faults.push(("sandbox".into(), "programs cannot be sandboxed by this version".into()));
    }
    if config.scope == McpScope::Session {
        faults.push(("scope".into(), "this version has only shared connections".into()));
    }
    for (name, value) in &config.headers {
        if let Err(message) = header(name, value.expose()) {
            faults.push((format!("headers.{name}"), message));
        }
    }
    faults
}

/// One attempt, bounded in time. `legacy` begins as older clients do, for servers that ignore the newer way.
pub(super) async fn connect(target: &Target, client: Client, legacy: bool) -> Result<Connection, Failure> {
    if let Some((key, message)) = check(&target.config).into_iter().next() {
        return Err(Failure { message: format!("{key}: {message}"), silent: false });
    }
    let limit = if target.config.transport == McpTransport::Stdio { ATTEMPT_STDIO } else { ATTEMPT };
    let attempt = async {
        match target.config.transport {
            McpTransport::Http => {
                let transport = http::transport(&target.config, client.suspect.clone()).map_err(plain)?;
                handshake(client, transport, legacy).await
            }
            McpTransport::Sse => {
                let transport = sse::connect(&target.config).await.map_err(plain)?;
                handshake(client, transport, true).await
            }
            McpTransport::Stdio => {
                let (transport, exit) = stdio::spawn(target).map_err(plain)?;
                match handshake(client, transport, legacy).await {
                    Err(failure) => Err(Failure { message: exit.explain(failure.message).await, ..failure }),
                    connected => connected,
                }
            }
        }
    };
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result,
        Err(_) => Err(Failure { message: format!("no answer within {} s", limit.as_secs()), silent: true }),
    }
}

async fn handshake<T, E, A>(client: Client, transport: T, legacy: bool) -> Result<Connection, Failure>
where
    T: IntoTransport<RoleClient, E, A>,
    E: Error + Send + Sync + 'static,
{
    let mode = if legacy {
        ClientLifecycleMode::Initialize
    } else {
        ClientLifecycleMode::Auto { preferred_versions: vec![ProtocolVersion::V_2026_07_28], legacy_version: None }
    };
    client.serve_with_lifecycle(transport, mode).await.map_err(|error| Failure { message: words(&error), silent: false })
}

/// A header of the configuration. The protocol's own are refused.
pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    const OWN: [&str; 8] = [
        "accept",
        "content-type",
        "content-length",
        "host",
        "last-event-id",
        "mcp-protocol-version",
        "mcp-session-id",
        "transfer-encoding",
    ];
    let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is not a header's name"))?;
    if OWN.contains(&name.as_str()) {
        return Err(format!("`{name}` belongs to the protocol"));
    }
    let mut value = HeaderValue::from_str(value).map_err(|_| "not a header's value".to_owned())?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn plain(message: impl Into<Cow<'static, str>>) -> Failure {
    Failure { message: message.into().into_owned(), silent: false }
}

/// Why a handshake failed, without the library's words for its own parts.
fn words(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::ConnectionClosed(_) => "the server closed the connection during the handshake".into(),
        ClientInitializeError::TransportError { error, .. } => outcome::causes(error.error.as_ref()),
        ClientInitializeError::JsonRpcError(error) => format!("the server refused the handshake: {}", error.message),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => words(fallback),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(config: serde_json::Value) -> Vec<String> {
        let config = serde_json::from_value(config).unwrap();
        check(&config).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for (config, want) in [
            (json!({ "transport": "http", "url": "https://x.example/mcp", "headers": { "Authorization": "a" } }), vec![]),
            (json!({ "transport": "stdio", "command": "npx", "args": ["x"], "env": { "A": "b" }, "cwd": "." }), vec![]),
            (json!({ "transport": "stdio", "command": "a", "sandbox": {} }), vec!["sandbox"]),
            (json!({ "transport": "stdio", "command": "a", "scope": "session" }), vec!["scope"]),
            (json!({ "transport": "sse", "url": "http://x", "headers": { "a b": "c" } }), vec!["headers.a b"]),
            (json!({ "transport": "sse", "url": "http://x", "headers": { "x": "c\nd" } }), vec!["headers.x"]),
            (json!({ "transport": "http", "url": "http://x", "headers": { "Accept": "c" } }), vec!["headers.Accept"]),
        ] {
            assert_eq!(faults(config.clone()), want, "{config}");
        }
    }
}
