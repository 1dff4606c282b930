//! A server's own account of what failed, in whatever form it gives it.

use http::StatusCode;
use serde_json::Value;

use crate::chat::Object;
use crate::error::{Error, Kind};

/// How much of a server's words is passed on, in bytes.
const MAX_WORDS: usize = 4 << 10;

/// What an `error` says, be it an object or a string. An error of the client's request keeps its status.
pub fn of_error(error: &Value) -> Error {
    let message = format!("The upstream reported an error: {}", words(error).unwrap_or("no message"));
    let (status, kind) = (status(error), error.get("type").and_then(Value::as_str).unwrap_or_default());
    match status {
        Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => refused_credentials(),
        Some(StatusCode::TOO_MANY_REQUESTS) => Error::new(Kind::UpstreamRateLimited, "The upstream is limiting requests."),
        Some(status) if status.is_client_error() => Error::new(Kind::UpstreamRejected, message).with_status(status.as_u16()),
        None if kind == "authentication_error" => refused_credentials(),
        None if kind == "invalid_request_error" => Error::new(Kind::UpstreamRejected, message),
        _ => Error::new(Kind::UpstreamError, message),
    }
}

/// What the body of a refusal says, if it says anything.
pub fn of_body(body: &[u8]) -> Option<Error> {
    let body = serde_json::from_slice::<Value>(body).ok()?;
    let error = body.get("error").unwrap_or(&body);
    words(error).map(|_| of_error(error))
}

/// Our credentials are the gateway's affair: the client does not read what the server says of them.
pub fn refused_credentials() -> Error {
    Error::new(Kind::UpstreamAuth, "The upstream did not accept the gateway's credentials.")
}

/// The failure that an object is: it has an `error`, or is called one.
pub(super) fn of_object(object: &Object) -> Option<Error> {
    let error = object.get("error").filter(|error| !matches!(error, Value::Null | Value::Bool(false)) && error.as_str() != Some(""));
    match error {
        Some(error) => Some(of_error(error)),
        None if object.get("object").and_then(Value::as_str) == Some("error") => Some(of_error(&Value::Object(object.clone()))),
        None => None,
    }
}

/// The failure that an event with the name `error` tells of.
pub(super) fn of_event(data: &str) -> Error {
    match serde_json::from_str::<Value>(data) {
        Ok(Value::Object(object)) => of_object(&object).unwrap_or_else(|| of_error(&Value::Object(object))),
        Ok(value) => of_error(&value),
        Err(_) => of_error(&Value::from(data)),
    }
}

fn words(error: &Value) -> Option<&str> {
    let words = error.as_str().or_else(|| ["message", "detail", "error"].iter().find_map(|name| error.get(*name)?.as_str()))?;
    Some(&words[..words.floor_char_boundary(MAX_WORDS)])
}

/// A status among its fields.
fn status(error: &Value) -> Option<StatusCode> {
    let number = ["status", "code"].iter().find_map(|name| match error.get(*name)? {
        Value::String(digits) => digits.parse().ok(),
        number => number.as_u64(),
    })?;
    StatusCode::from_u16(u16::try_from(number).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_of_any_form() {
        let of = |error: Value| of_error(&error);
        assert_eq!(of(json!("overflow")).message, "The upstream reported an error: overflow");
        assert_eq!(of(json!({ "message": "overflow", "code": 7 })).kind, Kind::UpstreamError);
        assert_eq!(of(json!({ "message": "x", "code": "500" })).kind, Kind::UpstreamError);
        assert_eq!(of(json!({ "message": "x", "status": 422 })).http_status(), 422);
        assert_eq!(of(json!({ "message": "x", "type": "invalid_request_error", "code": null })).http_status(), 400);
        assert_eq!(of(json!({ "message": "secret", "code": 401 })).message, refused_credentials().message);
        assert_eq!(of(json!([])).message, "The upstream reported an error: no message");
        assert_eq!(of(json!("x".repeat(1 << 20))).message.len(), MAX_WORDS + 32);
    }

    #[test]
    fn objects_and_events_that_are_errors() {
        let object = |value: Value| of_object(value.as_object().unwrap()).map(|error| error.message);
        assert!(of_body(br#"{"detail":"m"}"#).unwrap().message.ends_with(": m"));
        assert!(of_body(b"{}").is_none() && of_body(b"<html>").is_none());
        assert_eq!(object(json!({ "error": null })), None);
        assert_eq!(object(json!({ "error": false, "choices": [] })), None);
        assert!(object(json!({ "object": "error", "message": "m" })).unwrap().ends_with(": m"));
        for data in ["m", "\"m\"", r#"{"message":"m"}"#, r#"{"error":"m"}"#, r#"{"error":{"message":"m"}}"#] {
            assert!(of_event(data).message.ends_with(": m"), "{data}");
        }
    }
}
