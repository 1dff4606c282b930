//! MCP over HTTP with server-sent events, as the protocol of 2024-11-05 has it: messages come on one long stream, whose
//! first event names the address that ours are posted to.

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::streamable_http_client::{SseError, StreamableHttpClient};
use sse_stream::Sse;
use url::Url;

use crate::config::document;

use super::http::{MAX_EVENT, client, headers};
use super::outcome;

/// How long a message may take to be accepted. Its answer comes on the stream.
const POST: Duration = Duration::from_secs(30);
/// How much of a refusal is shown.
const MAX_EXCERPT: usize = 200;

/// An open stream and the address that belongs to it. Reconnecting is the supervisor's business.
pub(super) struct SseTransport {
    events: BoxStream<'static, Result<Sse, SseError>>,
    client: reqwest::Client,
    post: Url,
    headers: HeaderMap,
}

/// Why a message was not accepted.
#[derive(Debug)]
pub(super) struct SseFault(String);

/// Opens the stream and waits for the address to post to.
pub(super) async fn connect(config: &document::McpServer) -> Result<SseTransport, String> {
    let url = config.url.as_deref().unwrap_or_default();
    let base = Url::parse(url).map_err(|e| format!("`{url}` is not an address: {e}"))?;
    let client = client()?;
    let headers = headers(config)?;
    let stream = client.get_stream_with_max_sse_event_size(url.into(), None, None, None, headers.clone(), MAX_EVENT);
    let mut events = stream.await.map_err(|e| outcome::causes(&e))?;
    let post = loop {
        let event = match events.next().await {
            Some(Ok(event)) => event,
            Some(Err(e)) => return Err(format!("the event stream broke: {}", outcome::causes(&e))),
            None => return Err("the event stream ended before it named an endpoint".into()),
        };
        if event.event.as_deref() == Some("endpoint") {
            break endpoint(&base, event.data.as_deref().unwrap_or_default())?;
        }
    };
    Ok(SseTransport { events, client, post, headers: headers.into_iter().collect() })
}

/// The address to post to. Our headers go there, so it must be the server that we asked.
fn endpoint(base: &Url, text: &str) -> Result<Url, String> {
    let post = base.join(text.trim()).map_err(|e| format!("the server's endpoint is not an address: {e}"))?;
    if post.origin() != base.origin() {
        return Err("the server's endpoint is on another host".into());
    }
    Ok(post)
}

impl Transport<RoleClient> for SseTransport {
    type Error = SseFault;

    fn send(&mut self, item: ClientJsonRpcMessage) -> impl Future<Output = Result<(), SseFault>> + Send + 'static {
        let request = self.client.post(self.post.clone()).headers(self.headers.clone()).timeout(POST);
        async move {
            let body = serde_json::to_vec(&item).map_err(|e| SseFault(e.to_string()))?;
            let request = request.header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json").body(body);
            let response = request.send().await.map_err(|e| SseFault(outcome::causes(&e.without_url())))?;
            if response.status().is_success() {
                return Ok(());
            }
            let status = response.status();
            let text = match response.bytes_stream().next().await {
                Some(Ok(chunk)) => String::from_utf8_lossy(&chunk).chars().take(MAX_EXCERPT).collect(),
                _ => String::new(),
            };
            Err(SseFault(format!("HTTP {status}: {text}")))
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let event = match self.events.next().await? {
                Ok(event) => event,
                Err(e) => {
                    tracing::warn!(error = outcome::causes(&e), "an MCP server's event stream broke");
                    return None;
                }
            };
            let data = event.data.unwrap_or_default();
            if data.trim().is_empty() || !matches!(event.event.as_deref(), None | Some("message")) {
                continue;
            }
            match serde_json::from_str(&data) {
                Ok(message) => return Some(message),
                Err(e) => tracing::warn!(error = %e, "an MCP server sent something that is not a message"),
            }
        }
    }

    async fn close(&mut self) -> Result<(), SseFault> {
        self.events = futures_util::stream::empty().boxed();
        Ok(())
    }
}

impl fmt::Display for SseFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SseFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_stays_on_the_server() {
        let base = Url::parse("http://localhost:3001/mcp/sse").unwrap();
        for (text, want) in [
            ("/message?sessionId=1", Some("http://localhost:3001/message?sessionId=1")),
            ("message?s=1", Some("http://localhost:3001/mcp/message?s=1")),
            ("http://localhost:3001/m", Some("http://localhost:3001/m")),
            ("http://localhost:3002/m", None),
            ("https://localhost:3001/m", None),
            ("//evil.example/m", None),
            ("http://[", None),
        ] {
            assert_eq!(endpoint(&base, text).ok().map(String::from).as_deref(), want, "{text}");
        }
    }
}
