//! `server`, `telemetry` and `egress`.

use std::net::{IpAddr, SocketAddr};

use super::{Found, web_address};
use crate::config::load::Loaded;

pub(super) fn check(loaded: &Loaded, found: &mut Found) {
    let (document, origin) = (&loaded.document, &loaded.origin);
    let listen = &document.server.listen;
    found.need(is_listen(listen), origin, "server.listen", "must be an address and a port, such as `127.0.0.1:8080`");
    for (i, allowed) in document.server.cors.allow_origins.iter().enumerate() {
        let message = "must be `*` or an origin such as `http://localhost:3000`, without a path";
        found.need(is_origin(allowed), origin, &format!("server.cors.allow_origins[{i}]"), message);
    }
    let limit = document.server.limits.max_body_bytes;
    found.need(limit > 0, origin, "server.limits.max_body_bytes", "must be at least 1");
    let open = listen.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback());
    if open && document.auth.keys.is_empty() {
        let message = "other machines can reach this address, and there are no keys under `auth`: whoever reaches it may use it";
        found.warnings.push(origin.fault("server.listen", message));
    }
    if let Some(endpoint) = &document.telemetry.otlp_endpoint
        && let Err(message) = web_address(endpoint)
    {
        found.faults.push(origin.fault("telemetry.otlp_endpoint", message));
    }
    for (i, allowed) in document.egress.allow.iter().enumerate() {
        let message = "must be a network such as `10.0.0.0/8`, an address, or a host's name";
        found.need(is_network(allowed), origin, &format!("egress.allow[{i}]"), message);
    }
}

fn is_listen(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok())
}

fn is_origin(text: &str) -> bool {
    text == "*" || url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}

fn is_network(text: &str) -> bool {
    match text.split_once('/') {
        Some((address, bits)) => match (address.parse::<IpAddr>(), bits.parse::<u8>()) {
            (Ok(IpAddr::V4(_)), Ok(bits)) => bits <= 32,
            (Ok(IpAddr::V6(_)), Ok(bits)) => bits <= 128,
            _ => false,
        },
        None => text.parse::<IpAddr>().is_ok() || is_host(text.strip_prefix("*.").unwrap_or(text)),
    }
}

fn is_host(text: &str) -> bool {
    let label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    // All digits is an address that was mistyped.
    text.split('.').all(label) && text.contains(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::super::tests::finds;
    use super::*;

    #[test]
    fn addresses_origins_and_networks() {
        for text in ["127.0.0.1:8080", "[::1]:80", "localhost:8080", "0.0.0.0:0"] {
            assert!(is_listen(text), "{text}");
        }
        for text in ["127.0.0.1", "8080", ":8080", "localhost:99999", "300.1.1.1:80", "http://localhost:80"] {
            assert!(!is_listen(text), "{text}");
        }
        for text in ["*", "http://localhost:3000", "https://a.example"] {
            assert!(is_origin(text), "{text}");
        }
        for text in ["localhost:3000", "http://localhost:3000/", "https://a.example/x", "null", "http://A.example"] {
            assert!(!is_origin(text), "{text}");
        }
        for text in ["10.0.0.0/8", "::1", "fd00::/8", "intranet.example", "*.intranet.example", "db"] {
            assert!(is_network(text), "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0/8", "", "a..b", "http://x", "a b"] {
            assert!(!is_network(text), "{text}");
        }
    }

    #[test]
    fn each_rule_names_its_key() {
        finds("server: { listen: '8080' }", "server.listen: must be an address");
        finds("server: { listen: '0.0.0.0:1' }", "server.listen: other machines");
        finds("server: { cors: { allow_origins: [localhost] } }", "server.cors.allow_origins[0]: must be `*`");
        finds("server: { limits: { max_body_bytes: 0 } }", "server.limits.max_body_bytes: must be at least 1");
        finds("egress: { allow: ['10.0.0.0/99'] }", "egress.allow[0]: must be a network");
    }
}
