//! MCP servers over each transport against a scripted one: lists, calls, losses, reconnects.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::tools::testing::{Fake, Reply, Request};

impl McpServer {
    /// A server that was never connected, with these tools.
    pub(crate) fn listing(name: &str, tools: &[(&str, Value)]) -> Arc<McpServer> {
        let config = serde_json::from_value(json!({ "transport": "http", "url": "http://127.0.0.1:1/" })).unwrap();
        let server = McpServer::new(name, &config, Path::new("/"));
        server.list(tools);
        server
    }

    /// Replaces the tools of such a server.
    pub(crate) fn list(&self, tools: &[(&str, Value)]) {
        let catalog = Catalog::of(tools);
        self.shared.state.send_modify(|state| state.catalog = Some(Arc::new(catalog)));
    }

    /// Takes such a server down.
    pub(crate) fn fail(&self, why: &str) {
        self.shared.state.send_modify(|state| {
            state.phase = Phase::Failed(SystemTime::now() + Duration::from_secs(60));
            state.catalog = None;
            state.last_error = Some(why.into());
        });
    }

    pub(super) async fn until(&self, wanted: impl Fn(&State) -> bool) {
        let mut state = self.shared.state.subscribe();
        tokio::time::timeout(Duration::from_secs(20), state.wait_for(|state| wanted(state))).await.unwrap().unwrap();
    }
}

/// What an MCP server of 2025-11-25 answers; `None` to a notification.
fn answer(message: &Value, tools: &[&str]) -> Option<Value> {
    let id = message.get("id")?;
    let result = match message["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": "2025-11-25", "capabilities": { "tools": { "listChanged": true } },
            "serverInfo": { "name": "fake", "version": "1" },
        }),
        "tools/list" => {
            let tools: Vec<Value> = tools.iter().map(|name| json!({ "name": name, "inputSchema": { "type": "object" } })).collect();
            json!({ "tools": tools })
        }
        "tools/call" => json!({ "content": [{ "type": "text", "text": message["params"]["arguments"].to_string() }] }),
        method => {
            let error = json!({ "code": -32601, "message": format!("no method {method}") });
            return Some(json!({ "jsonrpc": "2.0", "id": id, "error": error }));
        }
    };
    Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

fn message(request: &Request) -> Value {
    serde_json::from_str(&request.body).unwrap_or_default()
}

fn method(request: &Request) -> String {
    message(request)["method"].as_str().unwrap_or_default().to_owned()
}

/// A streamable HTTP server without streams. `special` may answer first.
fn plain_http(special: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> impl Fn(&Request) -> Reply {
    move |request| {
        if let Some(reply) = special(request) {
            return reply;
        }
        match (request.method.as_str(), answer(&message(request), &["echo"])) {
            ("POST", Some(answer)) => {
                let mut headers = vec![("content-type", "application/json".to_owned())];
                if method(request) == "initialize" {
                    headers.push(("mcp-session-id", "s1".into()));
                }
                Reply::Full(200, headers, answer.to_string())
            }
            ("POST", None) => Reply::text(202, ""),
            _ => Reply::text(405, ""),
        }
    }
}

fn connect_to(transport: &str, url: &str) -> Arc<McpServer> {
    let config = json!({ "transport": transport, "url": url, "headers": { "x-key": "secret" } });
    let server = McpServer::new("fake", &serde_json::from_value(config).unwrap(), Path::new("/"));
    server.start(&tokio::runtime::Handle::current());
    server
}

fn arguments(value: Value) -> Object {
    value.as_object().cloned().unwrap()
}

/// A server of the 2024-11-05 transport: answers leave on the last stream that was opened.
#[derive(Clone)]
struct SseFake {
    stream: Arc<Mutex<Option<mpsc::Sender<String>>>>,
    tools: Arc<Mutex<Vec<&'static str>>>,
    /// Methods that are accepted and never answered.
    mute: Arc<Mutex<Option<&'static str>>>,
}

impl SseFake {
    async fn start() -> (SseFake, Fake) {
        let sse = SseFake { stream: Arc::default(), tools: Arc::new(Mutex::new(vec!["echo"])), mute: Arc::default() };
        let handler = sse.clone();
        (sse, Fake::start(move |request| handler.reply(request)).await)
    }

    fn reply(&self, request: &Request) -> Reply {
        if request.method == "GET" {
            let (events, rest) = mpsc::channel(16);
            events.try_send("event: endpoint\ndata: /message?s=1\n\n".into()).unwrap();
            *self.stream.lock().unwrap() = Some(events);
            return Reply::Events(rest);
        }
        if *self.mute.lock().unwrap() != Some(method(request).as_str())
            && let Some(answer) = answer(&message(request), &self.tools.lock().unwrap())
        {
            self.send(&answer);
        }
        Reply::text(202, "Accepted")
    }

    fn send(&self, message: &Value) {
        let stream = self.stream.lock().unwrap();
        let _ = stream.as_ref().unwrap().try_send(format!("event: message\ndata: {message}\n\n"));
    }

    fn hang_up(&self) {
        *self.stream.lock().unwrap() = None;
    }
}

#[tokio::test]
async fn the_old_transport_lists_and_calls() {
    let (_, fake) = SseFake::start().await;
    let server = connect_to("sse", &fake.url("/sse"));
    server.wait_first_attempt(Duration::from_secs(10)).await;
    let status = server.status();
    assert_eq!((status.state, status.about.protocol.as_deref()), ("ready", Some("2025-11-25")));
    assert_eq!(status.tools[0]["name"], "echo");
    assert_eq!(server.call("echo", arguments(json!({ "a": 1 }))).await, ToolResult::ok(r#"{"a":1}"#));
    assert!(fake.seen().iter().all(|request| request.header("x-key") == Some("secret")));
    assert!(fake.seen().iter().skip(1).all(|request| request.target == "/message?s=1"));
}

#[tokio::test]
async fn changed_tools_are_listed_again() {
    let (sse, fake) = SseFake::start().await;
    let server = connect_to("sse", &fake.url("/sse"));
    server.wait_first_attempt(Duration::from_secs(10)).await;
    let before = server.catalog().unwrap();
    sse.send(&json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }));
    sse.tools.lock().unwrap().push("second");
    server.until(|state| state.catalog.as_ref().is_some_and(|catalog| catalog.find("second").is_some())).await;
    assert!(before.find("second").is_none(), "a run keeps the list that it began with");
}

#[tokio::test]
async fn a_lost_connection_is_restored() {
    let (sse, fake) = SseFake::start().await;
    let server = connect_to("sse", &fake.url("/sse"));
    server.wait_first_attempt(Duration::from_secs(10)).await;
    sse.hang_up();
    server.until(|state| state.restarts == 1).await;
    assert!(server.catalog().is_ok(), "a short gap does not take the tools away");
    // The call waits for the connection that is being made.
    assert_eq!(server.call("echo", Object::new()).await, ToolResult::ok("{}"));
    assert_eq!(server.status().state, "ready");
}

#[tokio::test]
async fn calls_in_flight_fail_once_and_are_never_repeated() {
    let (sse, fake) = SseFake::start().await;
    let server = connect_to("sse", &fake.url("/sse"));
    server.wait_first_attempt(Duration::from_secs(10)).await;
    *sse.mute.lock().unwrap() = Some("tools/call");
    let call = server.call("echo", Object::new());
    let cut = async {
        fake.wait_for(|request| method(request) == "tools/call").await;
        sse.hang_up();
    };
    let (result, ()) = tokio::join!(call, cut);
    assert!(result.is_error && result.content.contains("broke during the call"), "{result:?}");
    server.until(|state| state.restarts == 1 && matches!(state.phase, Phase::Ready(_))).await;
    assert_eq!(fake.seen().iter().filter(|request| method(request) == "tools/call").count(), 1);
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_at_the_server() {
    let (sse, fake) = SseFake::start().await;
    let server = connect_to("sse", &fake.url("/sse"));
    server.wait_first_attempt(Duration::from_secs(10)).await;
    *sse.mute.lock().unwrap() = Some("tools/call");
    let called = tokio::select! {
        _ = server.call("echo", Object::new()) => panic!("nobody answers"),
        called = fake.wait_for(|request| method(request) == "tools/call") => called,
    };
    let cancelled = fake.wait_for(|request| method(request) == "notifications/cancelled").await;
    assert_eq!(message(&cancelled)["params"]["requestId"], message(&called)["id"]);
}

#[tokio::test]
async fn over_http_a_dropped_call_closes_its_request() {
    let left = Arc::new(Notify::new());
    let gone = left.clone();
    let silent = move |request: &Request| (method(request) == "tools/call").then(|| Reply::Silence(left.clone()));
    let fake = Fake::start(plain_http(silent)).await;
    let server = connect_to("http", &fake.url("/mcp"));
    server.wait_first_attempt(Duration::from_secs(10)).await;
    tokio::select! {
        _ = server.call("echo", Object::new()) => panic!("nobody answers"),
        _ = fake.wait_for(|request| method(request) == "tools/call") => {}
    }
    tokio::time::timeout(Duration::from_secs(10), gone.notified()).await.unwrap();
    fake.wait_for(|request| method(request) == "notifications/cancelled").await;
}

#[tokio::test]
async fn a_lost_session_is_begun_anew_and_the_call_retried_once() {
    for lost in ["404", "400"] {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let fake = Fake::start(plain_http(move |request| {
            if method(request) != "tools/call" || count.fetch_add(1, Ordering::SeqCst) > 0 {
                return None;
            }
            let error = json!({ "code": -32000, "message": "Bad Request: No valid session ID provided" });
            let body = json!({ "jsonrpc": "2.0", "id": message(request)["id"], "error": error }).to_string();
            Some(Reply::Full(lost.parse().unwrap(), vec![("content-type", "application/json".into())], body))
        }))
        .await;
        let server = connect_to("http", &fake.url("/mcp"));
        server.wait_first_attempt(Duration::from_secs(10)).await;
        assert_eq!(server.call("echo", Object::new()).await, ToolResult::ok("{}"), "{lost}");
        assert_eq!(calls.load(Ordering::SeqCst), 2, "{lost}");
        assert_eq!(fake.seen().iter().filter(|request| method(request) == "initialize").count(), 2, "{lost}");
    }
}

#[tokio::test]
async fn a_session_lost_for_good_is_a_tool_error() {
    let fake = Fake::start(plain_http(|request| (method(request) == "tools/call").then(|| Reply::text(404, "who are you?")))).await;
    let server = connect_to("http", &fake.url("/mcp"));
    server.wait_first_attempt(Duration::from_secs(10)).await;
    let result = server.call("echo", Object::new()).await;
    assert!(result.is_error, "{result:?}");
    assert_eq!(fake.seen().iter().filter(|request| method(request) == "tools/call").count(), 2);
}

#[tokio::test]
async fn the_servers_own_errors_reach_the_model() {
    let fake = Fake::start(plain_http(|request| {
        let error = json!({ "code": -32602, "message": "city is unknown" });
        let id = message(request)["id"].clone();
        (method(request) == "tools/call").then(|| Reply::json(json!({ "jsonrpc": "2.0", "id": id, "error": error })))
    }))
    .await;
    let server = connect_to("http", &fake.url("/mcp"));
    server.wait_first_attempt(Duration::from_secs(10)).await;
    assert_eq!(server.call("echo", Object::new()).await, ToolResult::error("city is unknown"));
    assert_eq!(server.status().state, "ready");
}

#[tokio::test]
async fn many_calls_run_at_once() {
    const CALLS: usize = 40;
    let held: Mutex<Vec<(mpsc::Sender<String>, Value)>> = Mutex::default();
    let fake = Fake::start(plain_http(move |request| {
        (method(request) == "tools/call").then(|| {
            let (events, rest) = mpsc::channel(1);
            let mut held = held.lock().unwrap();
            held.push((events, answer(&message(request), &[]).unwrap()));
            // Nobody is answered before all have come: a lower bound would wait for ever.
            if held.len() == CALLS {
                held.drain(..).for_each(|(events, body)| events.try_send(format!("data: {body}\n\n")).unwrap());
            }
            Reply::Events(rest)
        })
    }))
    .await;
    let server = connect_to("http", &fake.url("/mcp"));
    server.wait_first_attempt(Duration::from_secs(10)).await;
    let calls = (0..CALLS).map(|i| server.call("echo", arguments(json!({ "i": i }))));
    let results = tokio::time::timeout(Duration::from_secs(20), futures_util::future::join_all(calls)).await.unwrap();
    for (i, result) in results.iter().enumerate() {
        assert_eq!(*result, ToolResult::ok(format!(r#"{{"i":{i}}}"#)));
    }
}

#[tokio::test]
async fn a_server_that_is_away_says_so_and_comes_back() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = connect_to("http", &format!("http://{closed}/mcp?token=hidden"));
    server.wait_first_attempt(Duration::from_secs(10)).await;
    let status = server.status();
    assert!(!status.last_error.clone().unwrap().contains("hidden"), "{status:?}");
    assert_eq!(status.state, "failed");
    assert!(status.next_attempt_ms.is_some() && status.last_error.is_some(), "{status:?}");
    assert!(server.catalog().unwrap_err().starts_with("MCP server `fake` is not connected: "));
    let _fake = Fake::start_at(&closed.to_string(), plain_http(|_| None)).await;
    server.until(|state| matches!(state.phase, Phase::Ready(_))).await;
    assert_eq!(server.call("echo", Object::new()).await, ToolResult::ok("{}"));
}

#[tokio::test]
async fn a_redirect_does_not_carry_credentials_away() {
    let other = Fake::start(plain_http(|_| None)).await;
    let to = other.url("/mcp");
    let fake = Fake::start(move |_| Reply::redirect(307, &to)).await;
    let server = connect_to("http", &fake.url("/mcp"));
    server.wait_first_attempt(Duration::from_secs(10)).await;
    assert_eq!(server.status().state, "failed");
    assert!(other.seen().is_empty());
}

#[test]
fn the_last_holder_may_go_outside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(async {
        let (_, fake) = SseFake::start().await;
        let server = connect_to("sse", &fake.url("/sse"));
        server.wait_first_attempt(Duration::from_secs(10)).await;
        server
    });
    let mut state = server.shared.state.subscribe();
    drop(server);
    runtime.block_on(async {
        let stopped = state.wait_for(|state| matches!(state.phase, Phase::Stopped));
        // The channel's closing is the end, too: the supervisor held the sender's last reference.
        let _ = tokio::time::timeout(Duration::from_secs(20), stopped).await.unwrap();
    });
}
