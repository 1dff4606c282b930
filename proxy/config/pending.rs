//! Keys that are accepted and do nothing yet. A key that is written gets a warning; a row goes when its key works.

use super::document::McpScope;
use super::fault::Fault;
use super::load::Loaded;

/// Keys of the gateway's document. `*` is any name, `[*]` any item.
const DOCUMENT: [&str; 5] = ["limits", "runs", "scripts", "server.tls", "telemetry.otlp_endpoint"];

const MESSAGE: &str = "is accepted and has no effect yet";

/// Warns of everything that is written and does nothing.
pub(super) fn check(loaded: &Loaded, warnings: &mut Vec<Fault>) {
    let origin = &loaded.origin;
    let written = origin.written().filter(|key| DOCUMENT.iter().any(|pattern| matches(pattern, key)));
    warnings.extend(written.map(|key| origin.fault(key, MESSAGE)));
    for (name, server) in &loaded.document.mcp_servers {
        if server.sandbox.is_some() {
            let message = "is not offered yet: the server is not started, rather than started without it";
            warnings.push(origin.fault(&format!("mcp_servers.{name}.sandbox"), message));
        }
        if server.scope == McpScope::Session {
            warnings.push(origin.fault(
                &format!("mcp_servers.{name}.scope"),
                "`session` is not offered yet: the server is not started, rather than shared by strangers",
            ));
        }
    }
}

/// Whether `key` is what `pattern` means.
fn matches(pattern: &str, key: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == key;
    };
    let inner = key.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    inner.is_some_and(|inner| !inner.is_empty() && (!before.ends_with('[') || inner.chars().all(|c| c.is_ascii_digit())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_one_name_or_one_item() {
        assert!(matches("upstreams.*.queue", "upstreams.a.queue"));
        assert!(matches("upstreams.*.queue", "upstreams.gpt-4.1.queue"));
        assert!(matches("auth.keys[*].limits", "auth.keys[10].limits"));
        assert!(!matches("upstreams.*.queue", "upstreams.a.queue.max"));
        assert!(!matches("auth.keys[*].limits", "auth.keys[0].x[1].limits"));
        assert!(!matches("runs", "runs.store"));
    }

    /// A renamed key would silently lose its warning.
    #[test]
    fn every_row_is_a_key_of_the_schema() {
        let keys = crate::config::schema::keys(&crate::config::json_schema());
        for row in DOCUMENT {
            assert!(keys.iter().any(|key| key == row), "{row} is not in {keys:#?}");
        }
    }
}
