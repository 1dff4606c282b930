//! The url of an HTTP tool: a template whose host, path and query take values that cannot leave their place.

use std::collections::BTreeSet;

use serde_json::Value;
use url::Url;

use super::template::{Template, encode, present, words};
use crate::chat::Object;
use crate::tools::egress::Trust;

/// A url with `{name}` in it, taken apart so that each value is written as its place demands.
#[derive(Debug)]
pub(super) enum Address {
    /// The whole url is one argument.
    Argument(Template),
    /// `https://host/path?query` with arguments inside.
    Parts(Parts),
}

#[derive(Debug)]
pub(super) struct Parts {
    /// `https` or `http`.
    scheme: String,
    /// `user:password@`, as written.
    user: String,
    host: Template,
    /// `:8080`, as written.
    port: String,
    /// The path without its first slash, split at the slashes.
    segments: Vec<Template>,
    /// The query, split at the ampersands, then at the equals sign.
    pairs: Vec<(Template, Option<Template>)>,
}

impl Address {
    /// `Err` says what is wrong with the template.
    pub(super) fn parse(text: &str) -> Result<Address, String> {
        let text = text.trim();
        let whole = Template::parse(text);
        if whole.only().is_some() {
            return Ok(Address::Argument(whole));
        }
        let (scheme, rest) = text.split_once("://").ok_or("an address must begin with http:// or https://")?;
        if !matches!(scheme, "http" | "https") {
            return Err(format!("an address must begin with http:// or https://, not {scheme}://"));
        }
        if rest.contains('#') {
            return Err("a fragment (#...) is never sent".into());
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
        let (user, place) = authority.rsplit_once('@').map_or(("", authority), |(user, place)| (user, place));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (place, ""),
        };
        if host.is_empty() {
            return Err("an address needs a host".into());
        }
        if !Template::parse(user).names().is_empty() || !Template::parse(port).names().is_empty() {
            return Err("an argument cannot stand before the host or be the port".into());
        }
        let parts = Parts {
            scheme: scheme.to_owned(),
            user: if user.is_empty() { String::new() } else { format!("{user}@") },
            host: Template::parse(host),
            port: if port.is_empty() { String::new() } else { format!(":{port}") },
            segments: path.split('/').map(Template::parse).collect(),
            pairs: query.map(|query| query.split('&').filter(|pair| !pair.is_empty()).map(parse_pair).collect()).unwrap_or_default(),
        };
        parts.try_out()?;
        Ok(Address::Parts(parts))
    }

    /// The names of the arguments in it.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        match self {
            Address::Argument(whole) => whole.names(),
            Address::Parts(parts) => parts.templates().flat_map(Template::names).collect(),
        }
    }

    /// The names without which there is no address: all but the query's.
    pub(super) fn required(&self) -> BTreeSet<&str> {
        match self {
            Address::Argument(whole) => whole.names(),
            Address::Parts(parts) => parts.segments.iter().chain([&parts.host]).flat_map(Template::names).collect(),
        }
    }

    /// The url for these arguments, and whose word its host is. `Err` is a sentence for the model.
    pub(super) fn fill(&self, arguments: &Object) -> Result<(Url, Trust), String> {
        match self {
            Address::Argument(whole) => {
                let name = whole.only().unwrap_or_default();
                let text = present(arguments, name).and_then(Value::as_str).ok_or_else(|| missing(name))?;
                let url = Url::parse(text).map_err(|e| format!("`{name}` is not an address: {e}"))?;
                if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
                    return Err(format!("`{name}` must be an http:// or https:// address"));
                }
                if !url.username().is_empty() || url.password().is_some() {
                    return Err(format!("`{name}` must not contain a user or a password"));
                }
                Ok((url, Trust::Nobody))
            }
            Address::Parts(parts) => parts.fill(arguments),
        }
    }
}

impl Parts {
    fn templates(&self) -> impl Iterator<Item = &Template> {
        let pairs = self.pairs.iter().flat_map(|(key, value)| [Some(key), value.as_ref()]).flatten();
        [&self.host].into_iter().chain(&self.segments).chain(pairs)
    }

    /// Fills every argument with `x`, to find at load what could never be an address.
    fn try_out(&self) -> Result<(), String> {
        let arguments: Object = self.templates().flat_map(Template::names).map(|name| (name.to_owned(), Value::from("x"))).collect();
        self.fill(&arguments).map(|_| ())
    }

    fn fill(&self, arguments: &Object) -> Result<(Url, Trust), String> {
        let mut text = format!("{}://{}{}{}", self.scheme, self.user, self.fill_host(arguments)?, self.port);
        for segment in &self.segments {
            text.push('/');
            text.push_str(&fill_segment(segment, arguments)?);
        }
        let query = self.fill_query(arguments);
        if !query.is_empty() {
            text.push('?');
            text.push_str(&query);
        }
        let url = Url::parse(&text).map_err(|e| format!("this is not an address: {e}"))?;
        // A path with `..` in it comes out shorter than it went in, however the dots were spelled.
        if url.path_segments().map(Iterator::count) != Some(self.segments.len()) {
            return Err("the path must not contain `.` or `..`".into());
        }
        let trust = if self.host.literal().is_some() { Trust::Operator } else { Trust::Nobody };
        Ok((url, trust))
    }

    fn fill_host(&self, arguments: &Object) -> Result<String, String> {
        if let Some(host) = self.host.literal() {
            return Ok(host.to_owned());
        }
        for name in self.host.names() {
            let value = present(arguments, name).map(words).ok_or_else(|| missing(name))?;
            let fits = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
            if value.is_empty() || !fits {
                return Err(format!("`{name}` must be a host's name: letters, digits, `-` and `.`"));
            }
        }
        self.host.fill(arguments, str::to_owned).ok_or_else(|| "the host is missing".to_owned())
    }

    fn fill_query(&self, arguments: &Object) -> String {
        let mut pairs = Vec::new();
        for (key, value) in &self.pairs {
            let Some(key) = key.fill(arguments, encode) else { continue };
            let Some(value) = value else {
                pairs.push(key);
                continue;
            };
            // A list that stands alone becomes one pair for each item.
            if let Some(Value::Array(items)) = value.only().and_then(|name| present(arguments, name)) {
                pairs.extend(items.iter().map(|item| format!("{key}={}", encode(&words(item)))));
            } else if let Some(value) = value.fill(arguments, encode) {
                pairs.push(format!("{key}={value}"));
            }
        }
        pairs.join("&")
    }
}

fn parse_pair(pair: &str) -> (Template, Option<Template>) {
    match pair.split_once('=') {
        Some((key, value)) => (Template::parse(key), Some(Template::parse(value))),
        None => (Template::parse(pair), None),
    }
}

fn fill_segment(segment: &Template, arguments: &Object) -> Result<String, String> {
    if let Some(text) = segment.literal() {
        return Ok(text.to_owned());
    }
    for name in segment.names() {
        let value = present(arguments, name).map(words).ok_or_else(|| missing(name))?;
        if value.is_empty() {
            return Err(format!("`{name}` must not be empty"));
        }
    }
    let text = segment.fill(arguments, encode).unwrap_or_default();
    if matches!(text.as_str(), "." | "..") {
        return Err("the path must not contain `.` or `..`".into());
    }
    Ok(text)
}

fn missing(name: &str) -> String {
    format!("the argument `{name}` is missing")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(template: &str, arguments: Value) -> Result<(String, Trust), String> {
        let (url, trust) = Address::parse(template)?.fill(arguments.as_object().unwrap())?;
        Ok((url.to_string(), trust))
    }

    #[test]
    fn values_are_written_as_their_place_demands() {
        for (template, arguments, want) in [
            ("https://api.example/s?q={q}", json!({"q": "a b&c=d#e"}), "https://api.example/s?q=a%20b%26c%3Dd%23e"),
            ("https://api.example/{id}", json!({"id": "a/b"}), "https://api.example/a%2Fb"),
            ("https://api.example/{id}", json!({"id": "../admin"}), "https://api.example/..%2Fadmin"),
            ("https://api.example/{id}", json!({"id": "%2e%2e"}), "https://api.example/%252e%252e"),
            ("https://api.example/{id}", json!({"id": "a?b#c"}), "https://api.example/a%3Fb%23c"),
            ("https://api.example/{id}.json", json!({"id": 7}), "https://api.example/7.json"),
            ("https://api.example/v1/x?a={a}&b={b}&c=1", json!({"b": 2}), "https://api.example/v1/x?b=2&c=1"),
            ("https://api.example/x?t={t}", json!({"t": ["a", "b&"]}), "https://api.example/x?t=a&t=b%26"),
            ("https://api.example/x?t={t}", json!({"t": []}), "https://api.example/x"),
            ("https://api.example/x?t=[{t}]", json!({"t": [1, 2]}), "https://api.example/x?t=[1%2C2]"),
            ("https://api.example", json!({}), "https://api.example/"),
            ("https://u:p@api.example:8443/x", json!({}), "https://u:p@api.example:8443/x"),
            ("http://[::1]:80/{x}", json!({"x": "\r\n"}), "http://[::1]/%0D%0A"),
            ("http://127.0.0.1:9/{x}", json!({"x": "é"}), "http://127.0.0.1:9/%C3%A9"),
        ] {
            assert_eq!(fill(template, arguments), Ok((want.to_owned(), Trust::Operator)), "{template}");
        }
    }

    #[test]
    fn a_value_cannot_leave_its_place() {
        for (template, arguments) in [
            ("https://api.example/{id}", json!({"id": ".."})),
            ("https://api.example/{id}", json!({"id": "."})),
            ("https://api.example/{id}", json!({"id": ""})),
            ("https://api.example/{id}", json!({})),
            ("https://api.example/a/{x}{y}/b", json!({"x": ".", "y": "."})),
            ("https://api.example/a/%2e{x}/b", json!({"x": "."})),
            ("https://{host}/x", json!({"host": "evil.example/"})),
            ("https://{host}/x", json!({"host": "user@evil.example"})),
            ("https://{host}/x", json!({"host": "evil.example:22"})),
            ("https://{host}/x", json!({"host": ""})),
            ("https://{shop}.example/x", json!({"shop": "evil.example#"})),
            ("{url}", json!({"url": "file:///etc/passwd"})),
            ("{url}", json!({"url": "gopher://x/"})),
            ("{url}", json!({"url": "http://user:pw@example.com/"})),
            ("{url}", json!({"url": "/relative"})),
            ("{url}", json!({"url": 5})),
        ] {
            assert!(fill(template, arguments.clone()).is_err(), "{template} {arguments}");
        }
    }

    #[test]
    fn hosts_from_arguments_are_nobodys_word() {
        let hosts = [
            ("{url}", json!({"url": "https://example.com/a?b"})),
            ("https://{host}/x", json!({"host": "example.com"})),
            ("https://{shop}.example.com/x", json!({"shop": "a"})),
        ];
        for (template, arguments) in hosts {
            assert_eq!(fill(template, arguments).map(|(_, trust)| trust), Ok(Trust::Nobody), "{template}");
        }
    }

    #[test]
    fn what_cannot_be_an_address_is_found_at_load() {
        for template in [
            "api.example/x",
            "ftp://api.example",
            "{scheme}://api.example",
            "https://",
            "https:///x",
            "https://a b/",
            "https://api.example:{port}/",
            "https://{user}@api.example/",
            "https://api.example/x#{y}",
            "https://api.example/../x",
            "https://api.example:99999/",
        ] {
            assert!(Address::parse(template).is_err(), "{template}");
        }
    }
}
