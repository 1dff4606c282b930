//! `mcp_servers`: each transport has keys of its own.

use super::{Found, header_value, web_address};
use crate::config::document::{McpServer, McpTransport, Ordered, Secret};
use crate::config::fault::Origin;
use crate::config::load::Loaded;

pub(super) fn check(loaded: &Loaded, found: &mut Found) {
    for (name, server) in &loaded.document.mcp_servers {
        let origin = loaded.origin.part(&format!("mcp_servers.{name}"));
        match server.transport {
            McpTransport::Http | McpTransport::Sse => check_remote(server, &origin, found),
            McpTransport::Stdio => check_program(server, &origin, found),
        }
    }
}

fn check_remote(server: &McpServer, origin: &Origin, found: &mut Found) {
    match server.url.as_deref().map(web_address) {
        None => found.faults.push(origin.fault("url", "is missing")),
        Some(Err(message)) => found.faults.push(origin.fault("url", message)),
        Some(Ok(_)) => {}
    }
    check_headers(&server.headers, origin, found);
    let strange = [
        ("command", server.command.is_some()),
        ("args", !server.args.is_empty()),
        ("env", !server.env.is_empty()),
        ("cwd", server.cwd.is_some()),
        ("sandbox", server.sandbox.is_some()),
    ];
    for (key, written) in strange {
        found.need(!written, origin, key, "is for `transport: stdio`");
    }
}

fn check_program(server: &McpServer, origin: &Origin, found: &mut Found) {
    let command = server.command.as_deref().unwrap_or_default();
    found.need(!command.is_empty(), origin, "command", "is missing: the program to start");
    for (key, written) in [("url", server.url.is_some()), ("headers", !server.headers.is_empty())] {
        found.need(!written, origin, key, "is for `transport: http` and `sse`");
    }
    for (name, value) in &server.env {
        let good = !name.is_empty() && !name.contains(['=', '\0']) && !value.expose().contains('\0');
        found.need(good, origin, &format!("env.{name}"), "cannot be put into an environment");
    }
}

/// Headers that can be sent. A name may not hold a placeholder, its value may.
pub(super) fn check_headers(headers: &Ordered<Secret>, origin: &Origin, found: &mut Found) {
    for (name, value) in headers {
        let key = format!("headers.{name}");
        found.need(http::HeaderName::try_from(name.as_str()).is_ok(), origin, &key, "is not a header's name");
        let message = "cannot be sent in a header: it has a blank or line break around it, or a control character";
        found.need(header_value(value.expose()), origin, &key, message);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::finds;

    #[test]
    fn keys_fit_the_transport() {
        let server = |yaml: &str, want: &str| finds(&format!("mcp_servers: {{ m: {yaml} }}"), &format!("mcp_servers.m.{want}"));
        server("{ transport: http }", "url: is missing");
        server("{ transport: http, url: x }", "url: must be an address");
        server("{ transport: sse, url: 'http://h', command: x }", "command: is for `transport: stdio`");
        server("{ transport: stdio }", "command: is missing");
        server("{ transport: stdio, command: x, url: 'http://h' }", "url: is for `transport: http`");
        server("{ transport: http, url: 'http://h', headers: { 'a b': c } }", "headers.a b: is not a header's name");
        server("{ transport: http, url: 'http://h', headers: { a: \"c\\nd\" } }", "headers.a: cannot be sent");
        server("{ transport: stdio, command: x, env: { 'A=B': c } }", "env.A=B: cannot be put");
    }
}
