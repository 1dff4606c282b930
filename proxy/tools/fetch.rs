//! The HTTP requests of scripts: bounded in time and size, and to nowhere that the egress rule forbids.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use url::Url;

use super::egress::{Egress, Outgoing, Trust};
use super::http::answer;
use crate::chat::Object;

/// Headers that the client sets itself, from what is really sent.
const OURS: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "upgrade"];

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TIMEOUT: f64 = 120.0;
const MAX_BYTES: u64 = 1 << 20;
const MAX_MAX_BYTES: u64 = 4 << 20;

/// Carries out `{ method, url, query, headers, body | json | form, timeout, max_bytes }`; any status is an answer:
/// `{ status, headers, body, url }`. `Err` is a sentence for the script's author, without the secrets of the address.
pub async fn fetch(egress: &Egress, request: Object) -> Result<Value, String> {
    let timeout = match request.get("timeout") {
        None => TIMEOUT,
        Some(timeout) => {
            let seconds = timeout.as_f64().filter(|seconds| *seconds > 0.0 && *seconds <= MAX_TIMEOUT);
            Duration::from_secs_f64(seconds.ok_or_else(|| format!("`timeout` is a number of seconds up to {MAX_TIMEOUT}"))?)
        }
    };
    let max_bytes = match request.get("max_bytes") {
        None => MAX_BYTES,
        Some(max) => {
            let max = max.as_u64().filter(|max| (1..=MAX_MAX_BYTES).contains(max));
            max.ok_or_else(|| format!("`max_bytes` is a whole number from 1 to {MAX_MAX_BYTES}"))?
        }
    };
    let outgoing = outgoing(&request)?;
    let exchange = async {
        let response = egress.send(outgoing).await.map_err(|refusal| refusal.to_string())?;
        let (status, headers) = (response.status().as_u16(), read_headers(response.headers()));
        let mut url = response.url().clone();
        // What stands before the host is a credential.
        let _ = (url.set_username(""), url.set_password(None));
        let (text, complete) = answer::read_text(response, max_bytes as usize).await?;
        if !complete {
            return Err(format!("the answer is longer than `max_bytes` ({max_bytes})"));
        }
        Ok(json!({ "status": status, "headers": headers, "body": text, "url": url.as_str() }))
    };
    let exchanged = tokio::time::timeout(timeout, exchange).await;
    exchanged.unwrap_or_else(|_| Err(format!("the server did not answer within {} s", timeout.as_secs_f64())))
}

fn outgoing(request: &Object) -> Result<Outgoing, String> {
    let url = request.get("url").and_then(Value::as_str).unwrap_or_default();
    let mut url = Url::parse(url).map_err(|e| format!("`url` is not an address: {e}"))?;
    if let Some(query) = request.get("query") {
        let pairs = pairs(query, "query")?;
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
    }
    let mut headers = HeaderMap::new();
    let (body, content_type) = match (request.get("body"), request.get("json"), request.get("form")) {
        (None, None, None) => (None, None),
        (Some(Value::String(text)), None, None) => (Some(text.clone()), None),
        (None, Some(value), None) => (Some(value.to_string()), Some("application/json")),
        (None, None, Some(form)) => {
            let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs(form, "form")?).finish();
            (Some(form), Some("application/x-www-form-urlencoded"))
        }
        (Some(_), None, None) => return Err("`body` is text; a table goes into `json`".into()),
        _ => return Err("give one of `body`, `json`, `form`".into()),
    };
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in pairs(request.get("headers").unwrap_or(&Value::Null), "headers")? {
        let parsed = HeaderName::try_from(&name).ok().zip(HeaderValue::try_from(&value).ok());
        let (name, value) = parsed.ok_or_else(|| format!("the header `{name}` has characters that a header cannot have"))?;
        if OURS.contains(&name.as_str()) {
            return Err(format!("the header `{name}` is not a script's to set"));
        }
        headers.insert(name, value);
    }
    let method = match request.get("method") {
        None if body.is_some() => Method::POST,
        None => Method::GET,
        Some(method) => method.as_str().and_then(|method| Method::try_from(method).ok()).ok_or("`method` is no HTTP method")?,
    };
    Ok(Outgoing { method, url, headers, body: body.map(Into::into), trust: Trust::Nobody })
}

/// The fields of a table of texts, numbers and booleans.
fn pairs(table: &Value, name: &str) -> Result<Vec<(String, String)>, String> {
    let Value::Object(fields) = table else {
        return if table.is_null() || table.as_array().is_some_and(Vec::is_empty) {
            Ok(Vec::new())
        } else {
            Err(format!("`{name}` is a table"))
        };
    };
    let pairs = fields.iter().map(|(key, value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        Value::Number(_) | Value::Bool(_) => Ok((key.clone(), value.to_string())),
        _ => Err(format!("`{name}.{key}` is a text, a number or a boolean")),
    });
    pairs.collect()
}

fn read_headers(headers: &HeaderMap) -> Object {
    let names = headers.keys().map(|name| {
        let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (name.as_str().to_owned(), Value::String(values.join(", ")))
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(request: Value) -> String {
        outgoing(request.as_object().unwrap()).unwrap_err()
    }

    #[test]
    fn a_request_is_put_together() {
        let request =
            json!({ "url": "https://a.example/x?a=1", "query": { "b": "x y", "n": 2 }, "json": { "k": [] }, "headers": { "X-A": "1" } });
        let outgoing = outgoing(request.as_object().unwrap()).unwrap();
        assert_eq!((outgoing.method, outgoing.url.as_str()), (Method::POST, "https://a.example/x?a=1&b=x+y&n=2"));
        assert_eq!((outgoing.body.unwrap(), &outgoing.headers["x-a"]), (r#"{"k":[]}"#.into(), &HeaderValue::from_static("1")));
        assert!(outgoing.trust == Trust::Nobody);
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        assert!(refused(json!({ "url": "nowhere" })).starts_with("`url` is not an address"));
        assert!(refused(json!({ "url": "http://a/", "headers": { "x": "a\r\nb: c" } })).contains("`x` has characters"));
        assert!(refused(json!({ "url": "http://a/", "headers": { "Host": "b" } })).contains("not a script's"));
        assert!(refused(json!({ "url": "http://a/", "body": "x", "json": 1 })).starts_with("give one of"));
        assert!(refused(json!({ "url": "http://a/", "body": {} })).contains("`json`"));
        assert!(refused(json!({ "url": "http://a/", "query": { "a": {} } })).contains("`query.a`"));
        assert!(refused(json!({ "url": "http://a/", "method": "G T" })).contains("`method`"));
    }
}
