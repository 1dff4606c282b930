//! An MCP server over streamable HTTP whose tools are closures of the test.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::exchange::{Exchange, Listening, Received, listen};

/// What a tool answers.
pub enum ToolAnswer {
    /// Text.
    Text(String),
    /// Any content, as the protocol has it.
    Content(Value),
    /// A result that says it is an error.
    Failed(String),
    /// An error of JSON-RPC.
    Refused(i64, String),
    /// No JSON-RPC at all: this HTTP status.
    Status(u16),
}

type Call = Arc<dyn Fn(Value) -> BoxFuture<'static, ToolAnswer> + Send + Sync>;

/// A tool of the server.
#[derive(Clone)]
pub struct Tool {
    definition: Value,
    call: Call,
}

impl Tool {
    /// A tool with this name and JSON Schema.
    pub fn new<F, C>(name: &str, schema: Value, call: C) -> Self
    where
        C: Fn(Value) -> F + Send + Sync + 'static,
        F: Future<Output = ToolAnswer> + Send + 'static,
    {
        let definition = json!({ "name": name, "description": format!("The tool {name}."), "inputSchema": schema });
        Tool { definition, call: Arc::new(move |arguments| Box::pin(call(arguments))) }
    }

    /// The tool `current` that says "sunny" once the gate is opened; it can be called once.
    pub fn gated(gate: oneshot::Receiver<()>) -> Self {
        let gate = Mutex::new(Some(gate));
        Tool::new("current", json!({ "type": "object" }), move |_| {
            let gate = gate.lock().unwrap().take();
            async move {
                gate.unwrap().await.unwrap();
                ToolAnswer::Text("sunny".into())
            }
        })
    }

    /// A tool that takes a city and says that it is sunny there.
    pub fn weather() -> Self {
        let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
        Tool::new("current", schema, |arguments| async move {
            ToolAnswer::Text(format!("sunny in {}", arguments["city"].as_str().unwrap_or("nowhere")))
        })
    }
}

/// The server. It speaks the 2025-11-25 protocol with a session, and answers `server/discover` as an old server does.
pub struct FakeMcp {
    address: SocketAddr,
    state: Arc<State>,
    _listening: Listening,
}

struct State {
    tools: Mutex<HashMap<String, Tool>>,
    sessions: Mutex<Vec<String>>,
    seen: watch::Sender<Seen>,
}

/// What the server has seen so far.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Each request, with its HTTP head.
    pub requests: Vec<Arc<Received>>,
    /// Tool calls as `(name, arguments)`, in the order they came.
    pub calls: Vec<(String, Value)>,
    /// How many calls were cancelled: by a notice, or by a closed connection.
    pub n_cancelled: usize,
    /// How many sessions were begun.
    pub n_sessions: usize,
}

impl State {
    fn definitions(&self) -> Vec<Value> {
        let tools = self.tools.lock().expect("no panic under the lock");
        let mut definitions: Vec<Value> = tools.values().map(|tool| tool.definition.clone()).collect();
        definitions.sort_by_key(|tool| tool["name"].to_string());
        definitions
    }
}

impl FakeMcp {
    /// A server with these tools.
    pub async fn start<const N: usize>(tools: [Tool; N]) -> Self {
        let name = |tool: &Tool| tool.definition["name"].as_str().unwrap_or_default().to_owned();
        let state = Arc::new(State {
            tools: Mutex::new(tools.into_iter().map(|tool| (name(&tool), tool)).collect()),
            sessions: Mutex::default(),
            seen: watch::Sender::default(),
        });
        let shared = state.clone();
        let (address, listening) = listen(None, move |exchange| answer(shared.clone(), exchange)).await;
        FakeMcp { address, state, _listening: listening }
    }

    /// The address for the gateway's configuration.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.address.port())
    }

    /// What came so far.
    pub fn seen(&self) -> Seen {
        self.state.seen.borrow().clone()
    }

    /// Waits until this holds of what came.
    pub async fn until(&self, what: &str, holds: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.state.seen.subscribe();
        let seen = super::within(10, what, seen.wait_for(holds)).await;
        seen.expect("the server lives").clone()
    }

    /// Forgets every session, as a server does that was started anew: requests of an old one get 404.
    pub fn forget_sessions(&self) {
        self.state.sessions.lock().expect("no panic under the lock").clear();
    }
}

async fn answer(state: Arc<State>, exchange: Exchange) {
    let request = exchange.request.clone();
    state.seen.send_modify(|seen| seen.requests.push(request.clone()));
    if request.method() != "POST" {
        let status = if request.method() == "DELETE" { 200 } else { 405 };
        return exchange.respond(status, &[("allow", "POST, DELETE")], b"").await;
    }
    let message = request.json();
    let id = message["id"].clone();
    let method = message["method"].as_str().unwrap_or_default().to_owned();
    match method.as_str() {
        "server/discover" => return exchange.json(200, &refusal(&id, -32601, "Method not found")).await,
        "initialize" => return initialize(&state, exchange, &message).await,
        _ => {}
    }
    let session = request.header("mcp-session-id").unwrap_or_default().to_owned();
    if !state.sessions.lock().expect("no panic under the lock").contains(&session) {
        return exchange.json(404, &refusal(&id, -32001, "Session not found")).await;
    }
    match method.as_str() {
        "tools/list" => {
            let answer = result(&id, json!({ "tools": state.definitions() }));
            exchange.json(200, &answer).await;
        }
        "tools/call" => call(&state, exchange, &id, &message["params"]).await,
        "notifications/cancelled" => {
            state.seen.send_modify(|seen| seen.n_cancelled += 1);
            exchange.respond(202, &[], b"").await;
        }
        _ if id.is_null() => exchange.respond(202, &[], b"").await,
        "ping" => exchange.json(200, &result(&id, json!({}))).await,
        _ => exchange.json(200, &refusal(&id, -32601, "Method not found")).await,
    }
}

async fn initialize(state: &State, exchange: Exchange, message: &Value) {
    state.seen.send_modify(|seen| seen.n_sessions += 1);
    let session = format!("session-{}", state.seen.borrow().n_sessions);
    state.sessions.lock().expect("no panic under the lock").push(session.clone());
    let answer = result(
        &message["id"],
        json!({
            "protocolVersion": "2025-11-25",
            "capabilities": { "tools": { "listChanged": true } },
            "serverInfo": { "name": "fake", "version": "1" },
        }),
    );
    let headers = [("content-type", "application/json"), ("mcp-session-id", session.as_str())];
    exchange.respond(200, &headers, answer.to_string().as_bytes()).await;
}

async fn call(state: &State, mut exchange: Exchange, id: &Value, params: &Value) {
    let name = params["name"].as_str().unwrap_or_default().to_owned();
    let arguments = params["arguments"].clone();
    state.seen.send_modify(|seen| seen.calls.push((name.clone(), arguments.clone())));
    let tool = state.tools.lock().expect("no panic under the lock").get(&name).cloned();
    let Some(tool) = tool else {
        return exchange.json(200, &refusal(id, -32602, &format!("Unknown tool: {name}"))).await;
    };
    let answer = tokio::select! {
        answer = (tool.call)(arguments) => answer,
        _ = exchange.client_gone() => {
            state.seen.send_modify(|seen| seen.n_cancelled += 1);
            return;
        }
    };
    let text = |text: String, is_error: bool| result(id, json!({ "content": [{ "type": "text", "text": text }], "isError": is_error }));
    match answer {
        ToolAnswer::Text(said) => exchange.json(200, &text(said, false)).await,
        ToolAnswer::Content(content) => exchange.json(200, &result(id, json!({ "content": content }))).await,
        ToolAnswer::Failed(said) => exchange.json(200, &text(said, true)).await,
        ToolAnswer::Refused(code, said) => exchange.json(200, &refusal(id, code, &said)).await,
        ToolAnswer::Status(status) => exchange.respond(status, &[("content-type", "text/plain")], b"broken").await,
    }
}

fn result(id: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

fn refusal(id: &Value, code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}
