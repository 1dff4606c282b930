//! What a call's outcome becomes for the model: text, whatever the server sent.

use std::error::Error;

use rmcp::model::{CallToolResult, ContentBlock, ErrorData, ResourceContents};
use rmcp::service::ServiceError;
use rmcp::transport::streamable_http_client::StreamableHttpError;
use serde_json::Value;

use crate::chat::ToolResult;
use crate::tools::egress;

/// The longest result that is kept, in bytes: a server's answer may be 16 MiB, and a run holds all of its results.
const MAX_BYTES: usize = 4 << 20;

/// A result of the server: its text parts joined, the others described; the structured content where there is no text.
pub(super) fn result(result: CallToolResult) -> ToolResult {
    let mut content = result.content.iter().map(words).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    if content.is_empty()
        && let Some(structured) = result.structured_content.filter(|value| !value.is_null())
    {
        content = match structured {
            Value::String(text) => text,
            other => other.to_string(),
        };
    }
    let is_error = result.is_error == Some(true);
    if content.is_empty() && is_error {
        content = "the tool failed and did not say why".into();
    }
    truncate(&mut content);
    ToolResult { content, is_error }
}

/// A JSON-RPC error of the server, in its own words.
pub(super) fn error(error: &ErrorData) -> ToolResult {
    let mut content = match error.message.trim() {
        "" => format!("the server answered with error {}", error.code.0),
        message => message.to_owned(),
    };
    truncate(&mut content);
    ToolResult::error(content)
}

/// Why a connection is no more. Never shows an address: it may carry a secret of the configuration.
pub(super) fn broken(error: &ServiceError) -> String {
    match error {
        ServiceError::TransportSend(error) => causes(error.error.as_ref()),
        ServiceError::TransportClosed => "the server closed the connection".into(),
        other => causes(other),
    }
}

/// An error followed by its causes, without addresses.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let http = error.downcast_ref::<reqwest::Error>().or(match error.downcast_ref() {
        Some(StreamableHttpError::Client(error)) => Some(error),
        _ => None,
    });
    if let Some(error) = http {
        return egress::words(error);
    }
    let mut text = error.to_string();
    if let Some(cause) = error.source() {
        let cause = causes(cause);
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn truncate(content: &mut String) {
    if content.len() > MAX_BYTES {
        let mut end = MAX_BYTES;
        while !content.is_char_boundary(end) {
            end -= 1;
        }
        content.truncate(end);
        content.push_str("\n[cut off after 4 MiB]");
    }
}

/// A part of a result as text. Pictures and sounds are named, not shown: most models take only text from tools.
fn words(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => media("image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => media("audio", &audio.mime_type, &audio.data),
        ContentBlock::Resource(resource) => match &resource.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("[resource {uri}]\n{text}"),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                media(&format!("resource {uri}"), mime_type.as_deref().unwrap_or("unknown type"), blob)
            }
            other => serde_json::to_string(other).unwrap_or_default(),
        },
        ContentBlock::ResourceLink(link) => match &link.description {
            Some(about) => format!("[resource {}: {}: {about}]", link.uri, link.name),
            None => format!("[resource {}: {}]", link.uri, link.name),
        },
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

fn media(what: &str, mime_type: &str, base64: &str) -> String {
    format!("[{what}: {mime_type}, {} bytes]", base64.trim_end_matches('=').len() * 3 / 4)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> ToolResult {
        result(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn text_is_joined_and_the_rest_described() {
        let got = read(json!({ "content": [
            { "type": "text", "text": "one" },
            { "type": "image", "mimeType": "image/png", "data": "AAAA" },
            { "type": "resource", "resource": { "uri": "file:///a", "text": "two" } },
            { "type": "resource_link", "uri": "file:///b", "name": "b" },
        ]}));
        let want = "one\n[image: image/png, 3 bytes]\n[resource file:///a]\ntwo\n[resource file:///b: b]";
        assert_eq!(got, ToolResult::ok(want));
    }

    #[test]
    fn structured_content_stands_in_for_text() {
        let got = read(json!({ "content": [], "structuredContent": { "a": 1 } }));
        assert_eq!(got, ToolResult::ok(r#"{"a":1}"#));
        let got = read(json!({ "content": [{ "type": "text", "text": "x" }], "structuredContent": { "a": 1 } }));
        assert_eq!(got, ToolResult::ok("x"));
    }

    #[test]
    fn errors_keep_the_servers_words() {
        let got = read(json!({ "content": [{ "type": "text", "text": "no such city" }], "isError": true }));
        assert_eq!(got, ToolResult::error("no such city"));
        assert_eq!(error(&ErrorData::invalid_params("city is missing", None)), ToolResult::error("city is missing"));
        assert!(read(json!({ "content": [], "isError": true })).content.contains("did not say why"));
    }

    #[test]
    fn huge_results_are_cut_off() {
        let got = read(json!({ "content": [{ "type": "text", "text": "é".repeat(MAX_BYTES) }] }));
        assert!(got.content.len() < MAX_BYTES + 100 && got.content.ends_with("[cut off after 4 MiB]"));
    }
}
