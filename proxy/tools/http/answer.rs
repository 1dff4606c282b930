//! What an HTTP tool's answer becomes for the model: text, bounded, and picked out by a JSONPath where one is configured.

use bytes::BytesMut;
use encoding_rs::{Encoding, UTF_8};
use futures_util::StreamExt;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use reqwest::Response;
use serde_json::Value;

use crate::chat::ToolResult;

/// How much of an answer is read.
const MAX_BYTES: usize = 1 << 20;
/// How much of a failure the model reads.
const MAX_EXCERPT: usize = 2000;

/// A compiled JSONPath.
#[derive(Debug)]
pub(super) struct Picker {
    text: String,
    path: JpQuery,
}

impl Picker {
    /// `Err` says what is wrong with the path.
    pub(super) fn parse(text: &str) -> Result<Picker, String> {
        let path = parse_json_path(text).map_err(|e| format!("`{text}` is not a JSONPath: {e}"))?;
        Ok(Picker { text: text.to_owned(), path })
    }

    /// What the path finds: one text bare, one value as JSON, several as a JSON list.
    fn pick(&self, value: &Value) -> Result<String, String> {
        let nothing = || format!("the answer has nothing at {}", self.text);
        let found = js_path_process(&self.path, value).map_err(|e| format!("{}: {e}", nothing()))?;
        let found: Vec<&Value> = found.into_iter().map(|found| found.val()).collect();
        match found.as_slice() {
            [] => Err(nothing()),
            [Value::String(text)] => Ok(text.clone()),
            [one] => Ok(one.to_string()),
            many => Ok(Value::Array(many.iter().map(|&value| value.clone()).collect()).to_string()),
        }
    }
}

/// Reads an answer. A status other than 2xx is an error with an excerpt of the body.
pub(super) async fn read(response: Response, picker: Option<&Picker>) -> ToolResult {
    let status = response.status();
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = Kind::of(content_type);
    let limit = if status.is_success() { MAX_BYTES } else { MAX_EXCERPT * 4 };
    let (bytes, complete) = match read_bounded(response, limit).await {
        Ok(read) => read,
        Err(e) => return ToolResult::error(format!("the answer broke off: {e}")),
    };
    if !status.is_success() {
        return ToolResult::error(failure(status, &kind.text(&bytes)));
    }
    let Some(picker) = picker else {
        let mut text = kind.text(&bytes);
        if !complete {
            text.push_str("\n[cut off after 1 MiB]");
        }
        return ToolResult::ok(text);
    };
    if !complete {
        return ToolResult::error(format!("the answer is longer than 1 MiB, so {} cannot be read from it", picker.text));
    }
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(value) => picker.pick(&value).map_or_else(ToolResult::error, ToolResult::ok),
        Err(_) => {
            ToolResult::error(format!("the answer is not JSON, so {} cannot be read from it: {}", picker.text, excerpt(&kind.text(&bytes))))
        }
    }
}

/// An answer's text, decoded as its type says, and whether it was complete within `limit` bytes.
pub(in crate::tools) async fn read_text(response: Response, limit: usize) -> Result<(String, bool), String> {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = Kind::of(content_type);
    let (bytes, complete) = read_bounded(response, limit).await.map_err(|e| format!("the answer broke off: {e}"))?;
    Ok((kind.text(&bytes), complete))
}

/// What a content type says about the bytes.
enum Kind {
    Text(&'static Encoding),
    /// Not text; its type.
    Binary(String),
}

impl Kind {
    fn of(content_type: &str) -> Kind {
        let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let essence = essence.trim().to_ascii_lowercase();
        let binary = ["image/", "audio/", "video/", "font/"].iter().any(|family| essence.starts_with(family))
            || matches!(essence.as_str(), "application/octet-stream" | "application/pdf" | "application/zip" | "application/gzip");
        if binary && essence != "image/svg+xml" {
            return Kind::Binary(essence);
        }
        let charset = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
        });
        Kind::Text(charset.and_then(|label| Encoding::for_label(label.as_bytes())).unwrap_or(UTF_8))
    }

    fn text(&self, bytes: &[u8]) -> String {
        match self {
            Kind::Text(encoding) => encoding.decode(bytes).0.into_owned(),
            Kind::Binary(essence) => format!("({essence}, {} bytes, not text)", bytes.len()),
        }
    }
}

/// At most `limit` bytes, and whether that was all.
async fn read_bounded(response: Response, limit: usize) -> Result<(BytesMut, bool), reqwest::Error> {
    let mut bytes = BytesMut::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(reqwest::Error::without_url)?;
        let room = limit - bytes.len();
        if chunk.len() > room {
            bytes.extend_from_slice(&chunk[..room]);
            return Ok((bytes, false));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, true))
}

fn failure(status: StatusCode, body: &str) -> String {
    let reason = status.canonical_reason().unwrap_or_default();
    let line = format!("HTTP {} {reason}", status.as_u16());
    let line = line.trim_end();
    match body.trim() {
        "" => line.to_owned(),
        body => format!("{line}: {}", excerpt(body)),
    }
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_EXCERPT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn response(status: u16, content_type: &str, body: impl Into<reqwest::Body>) -> Response {
        http::Response::builder().status(status).header(CONTENT_TYPE, content_type).body(body.into()).unwrap().into()
    }

    #[tokio::test]
    async fn a_path_picks_the_result() {
        let body = json!({ "items": [{ "title": "a" }, { "title": "b" }], "n": 1, "name": "x" }).to_string();
        for (path, want) in [
            ("$.items[*].title", Ok(r#"["a","b"]"#)),
            ("$.name", Ok("x")),
            ("$.n", Ok("1")),
            ("$.items[0]", Ok(r#"{"title":"a"}"#)),
            ("$.nothing", Err("the answer has nothing at $.nothing")),
        ] {
            let picker = Picker::parse(path).unwrap();
            let result = read(response(200, "application/json", body.clone()), Some(&picker)).await;
            assert_eq!(
                (result.content.as_str(), result.is_error),
                match want {
                    Ok(text) => (text, false),
                    Err(text) => (text, true),
                }
            );
        }
        assert!(Picker::parse("$.[").unwrap_err().starts_with("`$.[` is not a JSONPath"));
    }

    #[tokio::test]
    async fn an_answer_that_is_not_json_cannot_be_picked_from() {
        let picker = Picker::parse("$.a").unwrap();
        let result = read(response(200, "text/html", "<html>"), Some(&picker)).await;
        assert_eq!(result, ToolResult::error("the answer is not JSON, so $.a cannot be read from it: <html>"));
    }

    #[tokio::test]
    async fn failures_carry_status_and_excerpt() {
        let result = read(response(404, "text/plain", "no such city"), None).await;
        assert_eq!(result, ToolResult::error("HTTP 404 Not Found: no such city"));
        let result = read(response(500, "text/plain", "x".repeat(100_000)), None).await;
        assert!(result.is_error && result.content.len() < 2100);
        let result = read(response(503, "text/plain", ""), None).await;
        assert_eq!(result, ToolResult::error("HTTP 503 Service Unavailable"));
    }

    #[tokio::test]
    async fn long_answers_are_cut_off() {
        let result = read(response(200, "text/plain", "x".repeat(MAX_BYTES + 1)), None).await;
        assert!(!result.is_error);
        assert_eq!(result.content.len(), MAX_BYTES + "\n[cut off after 1 MiB]".len());
        let result = read(response(200, "text/plain", "x".repeat(MAX_BYTES)), None).await;
        assert_eq!(result.content.len(), MAX_BYTES);
    }

    #[tokio::test]
    async fn content_types_are_heeded() {
        let result = read(response(200, "text/plain; charset=ISO-8859-1", vec![b'h', 0xe9]), None).await;
        assert_eq!(result.content, "hé");
        let result = read(response(200, "image/png", vec![0u8; 10]), None).await;
        assert_eq!(result.content, "(image/png, 10 bytes, not text)");
    }
}
