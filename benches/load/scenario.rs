//! What is sent: the requests, and the gateway's configuration for them.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde_json::{Value, json};

use crate::Result;
use crate::process::Process;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Plain,
    Single,
    Stream,
    Agent,
}

impl Scenario {
    /// In the order in which they are run.
    pub const ALL: [Scenario; 4] = [Scenario::Plain, Scenario::Single, Scenario::Stream, Scenario::Agent];

    /// One line for the person who watches.
    pub fn about(self) -> &'static str {
        match self {
            Scenario::Plain => "a chat request of about 1 KB, answered in one piece",
            Scenario::Single => "the same, one at a time: the latency that a proxy adds",
            Scenario::Stream => "the same, answered by 100 chunks, each sent by itself",
            Scenario::Agent => "an agent's run, streamed: the model asks for one HTTP tool, then answers",
        }
    }

    /// Whether only the gateway can answer it.
    pub fn needs_gateway(self) -> bool {
        self == Scenario::Agent
    }

    /// Whether the answer is server-sent events, which must end with `[DONE]`.
    pub fn streams(self) -> bool {
        matches!(self, Scenario::Stream | Scenario::Agent)
    }

    /// The request as it goes over the wire to `addr`.
    pub fn request(self, upstream: &Upstream, addr: SocketAddr) -> Vec<u8> {
        let model = if self == Scenario::Agent { "bench-agent" } else { &upstream.model };
        // Long enough for a real question with some context.
        let question = "Please tell me what the moon is made of, and how we know. ".repeat(14);
        let mut body = json!({
            "model": model,
            "messages": [
                { "role": "system", "content": "You are a concise and helpful assistant." },
                { "role": "user", "content": question.trim() },
            ],
            "temperature": 0.7, "max_tokens": 64,
        });
        if self.streams() {
            body["stream"] = Value::Bool(true);
        }
        let body = body.to_string();
        // A real server behind a bare proxy must see its own name; the gateway writes its own Host.
        let host = if upstream.is_mock { addr.to_string() } else { upstream.host.clone() };
        let path = format!("{}/chat/completions", upstream.path);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\naccept: */*\r\nuser-agent: moongate-load\r\n\
             authorization: Bearer bench\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        (head + &body).into_bytes()
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scenario::Plain => "plain",
            Scenario::Single => "single",
            Scenario::Stream => "stream",
            Scenario::Agent => "agent",
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Scenario::ALL.into_iter().find(|scenario| scenario.to_string() == name);
        found.ok_or_else(|| format!("no such scenario: {}", Scenario::ALL.map(|scenario| scenario.to_string()).join(", ")))
    }
}

/// The server behind the proxies.
#[derive(Debug, Clone)]
pub struct Upstream {
    pub addr: SocketAddr,
    pub model: String,
    host: String,
    path: String,
    is_mock: bool,
}

impl Upstream {
    /// The bench's own mock.
    pub fn mock(addr: SocketAddr) -> Self {
        Upstream { addr, model: "mock-model".into(), host: addr.to_string(), path: "/v1".into(), is_mock: true }
    }

    /// Up to and with `/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}{}", self.host, self.path)
    }

    /// The user's own server at `url`.
    pub fn real(url: &str, model: &str) -> Result<Self> {
        let url = url::Url::parse(url)?;
        if url.scheme() != "http" || url.path().trim_end_matches('/') != "/v1" {
            return Err(format!("--target must be http://host:port/v1, not {url}").into());
        }
        let (host, port) = (url.host_str().ok_or("--target names no host")?, url.port_or_known_default().unwrap_or(80));
        let addr = (host.trim_matches(['[', ']']), port).to_socket_addrs()?.next().ok_or("--target's host has no address")?;
        Ok(Upstream { addr, model: model.into(), host: format!("{host}:{port}"), path: "/v1".into(), is_mock: false })
    }
}

/// A short question to one of the gateway's models.
pub fn chat(gateway: &Process, model: &str, streams: bool) -> Vec<u8> {
    let body = json!({ "model": model, "stream": streams, "messages": [{ "role": "user", "content": "hello" }] }).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        gateway.addr,
        body.len()
    );
    (head + &body).into_bytes()
}

/// The gateway's configuration: the upstream, and an agent with one HTTP tool.
pub fn config(upstream: &Upstream) -> Value {
    let tool = json!({
        "name": "lookup", "provider": "http", "method": "GET", "url": format!("http://{}/tool?q={{query}}", upstream.addr),
        "description": "Looks a fact up.",
        "parameters": { "type": "object", "properties": { "query": { "type": "string" } }, "required": ["query"] },
    });
    json!({
        "upstreams": { "bench": { "base_url": upstream.base_url() } },
        "agents": [{
            "name": "bench-agent", "kind": "declarative", "upstream": "bench", "model": upstream.model,
            "instructions": "You are a concise and helpful assistant.", "tools": [tool],
        }],
    })
}
