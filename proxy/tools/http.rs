//! HTTP tools: a request written as a template in the configuration, filled with a call's arguments.

mod address;
pub(super) mod answer;
mod body;
mod template;

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::chat::{Object, ToolResult};
use crate::config::ToolDoc;

use self::address::Address;
use self::answer::Picker;
use self::body::Body;
use self::template::{Template, encode, words};
use super::egress::{Egress, Outgoing};

/// Headers that belong to the connection or the framing, which the client writes itself.
const OWN_HEADERS: [&str; 8] = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive"];

/// One HTTP tool, ready to be called.
pub struct HttpTool {
    method: Method,
    address: Address,
    headers: Vec<(HeaderName, Template)>,
    body: Option<Body>,
    /// Arguments that the address and the headers use: the others are the default body or query.
    used: BTreeSet<String>,
    picker: Option<Picker>,
    egress: Egress,
}

impl HttpTool {
    /// Reads the document of an HTTP tool. `Err` has each fault with its key, relative to the tool.
    pub fn new(doc: &ToolDoc, egress: &Egress) -> Result<HttpTool, Vec<(String, String)>> {
        let mut faults = Vec::new();
        let method = method(doc).unwrap_or_else(|message| fault(&mut faults, "method", message, Method::GET));
        let address = match doc.url.as_deref().ok_or("an HTTP tool needs a `url`".to_owned()).and_then(Address::parse) {
            Ok(address) => Some(address),
            Err(message) => fault(&mut faults, "url", message, None),
        };
        let mut headers = Vec::new();
        for (name, value) in &doc.headers {
            match header_template(name, value.expose()) {
                Ok(header) => headers.push(header),
                Err(message) => faults.push((format!("headers.{name}"), message)),
            }
        }
        if doc.body.is_some() && matches!(method, Method::GET | Method::HEAD) {
            faults.push(("body".into(), format!("a {method} request has no body")));
        }
        let content_type = headers.iter().find(|(name, _)| name == header::CONTENT_TYPE);
        let content_type = content_type.and_then(|(_, value)| value.literal());
        let body = doc.body.as_ref().map(|body| Body::parse(body, content_type));
        let picker = match doc.result.as_deref().map(Picker::parse).transpose() {
            Ok(picker) => picker,
            Err(message) => fault(&mut faults, "result", message, None),
        };
        check_names(doc, address.as_ref(), &headers, body.as_ref(), &mut faults);
        let Some(address) = address.filter(|_| faults.is_empty()) else { return Err(faults) };
        let used = address.names().into_iter().chain(headers.iter().flat_map(|(_, value)| value.names()));
        let used = used.map(str::to_owned).collect();
        Ok(HttpTool { method, address, headers, body, used, picker, egress: egress.clone() })
    }

    /// The schema of the arguments when the document has none: a string for each `{name}`.
    pub fn default_parameters(&self) -> Value {
        let mut names: BTreeSet<&str> = self.used.iter().map(String::as_str).collect();
        names.extend(self.body.iter().flat_map(Body::names));
        let properties: Object = names.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect();
        json!({ "type": "object", "properties": properties, "required": self.address.required() })
    }

    /// Sends the request. A failure is a result that the model reads. Dropping the future closes the connection.
    pub async fn call(&self, arguments: &Object) -> ToolResult {
        let outgoing = match self.request(arguments) {
            Ok(outgoing) => outgoing,
            Err(message) => return ToolResult::error(message),
        };
        match self.egress.send(outgoing).await {
            Ok(response) => answer::read(response, self.picker.as_ref()).await,
            Err(refusal) => ToolResult::error(refusal.to_string()),
        }
    }

    fn request(&self, arguments: &Object) -> Result<Outgoing, String> {
        let (mut url, trust) = self.address.fill(arguments)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/*;q=0.9, */*;q=0.1"));
        for (name, template) in &self.headers {
            // A header whose argument was not given is not sent.
            let Some(text) = template.fill(arguments, str::to_owned) else { continue };
            headers.insert(name.clone(), header_value(name, &text)?);
        }
        let rest = arguments.iter().filter(|(name, value)| !self.used.contains(*name) && !value.is_null());
        let body = if let Some(body) = &self.body {
            Some(body.fill(arguments)?)
        } else if takes_body(&self.method) {
            let rest: Object = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
            Some((Bytes::from(Value::Object(rest).to_string()), "application/json"))
        } else {
            add_query(&mut url, rest);
            None
        };
        let body = body.map(|(bytes, content_type)| {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
            bytes
        });
        Ok(Outgoing { method: self.method.clone(), url, headers, body, trust })
    }
}

fn fault<T>(faults: &mut Vec<(String, String)>, key: &str, message: String, instead: T) -> T {
    faults.push((key.to_owned(), message));
    instead
}

/// `GET` where nothing is said, or `POST` where there is a body.
fn method(doc: &ToolDoc) -> Result<Method, String> {
    let Some(text) = doc.method.as_deref() else {
        return Ok(if doc.body.is_some() { Method::POST } else { Method::GET });
    };
    match text.to_ascii_uppercase().as_str() {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        "DELETE" => Ok(Method::DELETE),
        _ => Err(format!("`{text}` is not one of GET, HEAD, POST, PUT, PATCH, DELETE")),
    }
}

fn takes_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn add_query<'a>(url: &mut url::Url, rest: impl Iterator<Item = (&'a String, &'a Value)>) {
    let mut query = url.query().unwrap_or_default().to_owned();
    for (name, value) in rest {
        let items: Vec<String> = match value {
            Value::Array(items) => items.iter().map(words).collect(),
            other => vec![words(other)],
        };
        for item in items {
            let amp = if query.is_empty() { "" } else { "&" };
            query.push_str(&format!("{amp}{}={}", encode(name), encode(&item)));
        }
    }
    url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
}

fn header_template(name: &str, value: &str) -> Result<(HeaderName, Template), String> {
    let header: HeaderName = name.parse().map_err(|_| format!("`{name}` is not a header's name"))?;
    if OWN_HEADERS.contains(&header.as_str()) {
        return Err(format!("`{name}` is written by the gateway itself"));
    }
    let template = Template::parse(value);
    match template.literal() {
        Some(text) => header_value(&header, text).map(|_| (header, template)),
        None => Ok((header, template)),
    }
}

/// A header's value. Line breaks and other control characters are refused: they could begin another header.
fn header_value(name: &HeaderName, text: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::from_bytes(text.as_bytes()).ok().filter(|_| !text.contains(char::is_control));
    value.ok_or_else(|| format!("the header `{name}` must not contain line breaks or other control characters"))
}

/// Finds `{name}`s that the parameters do not have: a typo would otherwise drop the argument without a word.
fn check_names(
    doc: &ToolDoc,
    address: Option<&Address>,
    headers: &[(HeaderName, Template)],
    body: Option<&Body>,
    faults: &mut Vec<(String, String)>,
) {
    let properties = doc.parameters.as_ref().and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    let Some(properties) = properties else { return };
    let mut check = |key: String, names: BTreeSet<&str>| {
        for name in names.into_iter().filter(|name| !properties.contains_key(*name)) {
            faults.push((key.clone(), format!("`{{{name}}}` is not one of the parameters")));
        }
    };
    if let Some(address) = address {
        check("url".into(), address.names());
    }
    for (name, value) in headers {
        check(format!("headers.{name}"), value.names());
    }
    if let Some(body) = body {
        check("body".into(), body.names());
    }
}

#[cfg(test)]
mod tests;
