//! MCP over streamable HTTP: the library's client with our bounds, and with sessions that servers lose in their own ways.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError, StreamableHttpPostResponse,
};
use tokio::sync::Notify;

use crate::config::document;
use crate::tools::egress;

use super::connect::header;

/// Requests at once on one connection.
const MAX_CONCURRENT: usize = 256;
/// The largest event of a stream.
pub(super) const MAX_EVENT: usize = 16 << 20;
const MAX_REDIRECTS: usize = 5;

/// A transport that connects with its first message. `suspect` is told when the server seems gone.
pub(super) fn transport(config: &document::McpServer, suspect: Arc<Notify>) -> Result<StreamableHttpClientTransport<Http>, String> {
    let mut settings = StreamableHttpClientTransportConfig::with_uri(config.url.clone().unwrap_or_default())
        .custom_headers(headers(config)?)
        .max_concurrent_requests(MAX_CONCURRENT)
        .session_recovery_timeout(Duration::from_secs(5))
        .reinit_on_expired_session(true)
        .max_sse_event_size(MAX_EVENT);
    settings.channel_buffer_capacity = MAX_CONCURRENT;
    Ok(StreamableHttpClientTransport::with_client(Http { client: client()?, suspect }, settings))
}

/// The configured headers.
pub(super) fn headers(config: &document::McpServer) -> Result<HashMap<HeaderName, HeaderValue>, String> {
    config.headers.iter().map(|(name, value)| header(name, value.expose())).collect()
}

/// A client of one server: its redirects may not lead to another, which would receive the server's credentials.
pub(super) fn client() -> Result<reqwest::Client, String> {
    let policy = Policy::custom(|attempt| {
        let same = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
        if !same {
            attempt.error("the server redirects to another host")
        } else if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("the server redirects too often")
        } else {
            attempt.follow()
        }
    });
    egress::client().redirect(policy).build().map_err(|e| format!("no HTTP client could be made: {e}"))
}

/// The library's HTTP client, with every way of saying "I do not know this session" understood.
#[derive(Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    suspect: Arc<Notify>,
}

type Answer<T> = Result<T, StreamableHttpError<reqwest::Error>>;
type Headers = HashMap<HeaderName, HeaderValue>;

impl Http {
    /// Looks at every outcome: a server that cannot be reached, or that forgot the session, is for the supervisor too.
    fn look<T>(&self, answer: Answer<T>) -> Answer<T> {
        match &answer {
            Err(StreamableHttpError::Client(e)) if e.is_connect() => self.suspect.notify_one(),
            Err(StreamableHttpError::SessionExpired) => self.suspect.notify_one(),
            _ => {}
        }
        answer
    }
}

impl StreamableHttpClient for Http {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Answer<StreamableHttpPostResponse> {
        self.post_message_with_max_sse_event_size(uri, message, session_id, auth_header, custom_headers, MAX_EVENT).await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: Headers,
        max: usize,
    ) -> Answer<StreamableHttpPostResponse> {
        let in_session = session_id.is_some();
        let post = self.client.post_message_with_max_sse_event_size(uri, message, session_id, auth_header, custom_headers, max);
        let answer = match post.await {
            Ok(StreamableHttpPostResponse::Json(message, _)) if in_session && disowns(&message) => Err(StreamableHttpError::SessionExpired),
            Err(StreamableHttpError::UnexpectedServerResponse(text))
                if in_session && text.starts_with("HTTP 400") && says_no_session(&text) =>
            {
                Err(StreamableHttpError::SessionExpired)
            }
            other => other,
        };
        self.look(answer)
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Answer<()> {
        self.client.delete_session(uri, session_id, auth_header, custom_headers).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Answer<BoxStream<'static, Result<sse_stream::Sse, SseError>>> {
        let stream = self.client.get_stream(uri, session_id, last_event_id, auth_header, custom_headers).await;
        self.look(stream)
    }
}

/// Whether a JSON-RPC error means that the server does not know our session. The specification's answer is 404, which
/// the library sees by itself; others say so in words, always before anything was done.
fn disowns(message: &ServerJsonRpcMessage) -> bool {
    matches!(message, JsonRpcMessage::Error(error) if says_no_session(&error.error.message))
}

fn says_no_session(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let refused = text.contains("bad request") && (text.contains("session") || text.contains("not initialized"));
    refused || text.contains("session not found") || text.contains("no valid session")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_sessions_are_told_from_other_errors() {
        for text in [
            "Bad Request: No valid session ID provided",
            "Bad Request: Mcp-Session-Id header is required",
            "Bad Request: Server not initialized",
            "Session not found",
            "HTTP 400 Bad Request: Invalid session",
        ] {
            assert!(says_no_session(text), "{text}");
        }
        for text in ["Bad Request: unknown tool", "the browser session has ended", "Internal error", ""] {
            assert!(!says_no_session(text), "{text}");
        }
    }
}
