//! A model server that follows a script. A call that the script does not know fails the test, and so does a step that nobody used.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::exchange::{Exchange, Listening, Received, listen};

type Accepts = Box<dyn Fn(&Received) -> bool + Send>;
type Respond = Box<dyn FnMut(Exchange) -> BoxFuture<'static, ()> + Send>;

/// One expected request and its answer.
pub struct Step {
    what: String,
    accepts: Accepts,
    respond: Respond,
    again: bool,
}

impl Step {
    /// A request for chat completions, answered by `respond`.
    pub fn chat<F, R>(respond: R) -> Self
    where
        R: FnOnce(Exchange) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Step::at("POST", "/v1/chat/completions", respond)
    }

    /// A request to exactly this path, answered by `respond`.
    pub fn at<F, R>(method: &'static str, path: &'static str, respond: R) -> Self
    where
        R: FnOnce(Exchange) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut respond = Some(respond);
        Step {
            what: format!("{method} {path}"),
            accepts: Box::new(move |r| r.method() == method && r.path() == path),
            respond: Box::new(move |exchange| Box::pin(respond.take().expect("a step is used once")(exchange))),
            again: false,
        }
    }

    /// Any number of requests for chat completions, none too.
    pub fn every_chat<F, R>(mut respond: R) -> Self
    where
        R: FnMut(Exchange) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut step = Step::chat(|_| async {});
        step.respond = Box::new(move |exchange| Box::pin(respond(exchange)));
        step.again = true;
        step
    }

    /// The model says `text`: word by word when the request asks for a stream.
    pub fn says(text: &'static str) -> Self {
        Step::chat(move |exchange| reply(exchange, spoken(text), "stop"))
    }

    /// The model asks for these tools: `(id, name, arguments)`.
    pub fn calls<const N: usize>(calls: [(&'static str, &'static str, &'static str); N]) -> Self {
        Step::chat(move |exchange| reply(exchange, asked(&calls), "tool_calls"))
    }

    /// An answer in JSON.
    pub fn json(status: u16, body: Value) -> Self {
        Step::chat(move |exchange| async move { exchange.json(status, &body).await })
    }

    /// The step is for requests of which this holds, too.
    pub fn when(mut self, what: &str, holds: impl Fn(&Received) -> bool + Send + 'static) -> Self {
        let accepts = self.accepts;
        self.what = format!("{} where {what}", self.what);
        self.accepts = Box::new(move |r| accepts(r) && holds(r));
        self
    }

    /// The step is for requests whose last message is from the tool and holds this text.
    pub fn after_tool(self, text: &'static str) -> Self {
        self.when(&format!("the tool said {text:?}"), move |r| {
            let body = r.json();
            let last = body["messages"].as_array().and_then(|m| m.last()).cloned().unwrap_or_default();
            last["role"] == "tool" && last["content"].to_string().contains(text)
        })
    }
}

/// The deltas of a text, word by word.
pub fn spoken(text: &str) -> Vec<Value> {
    text.split_inclusive(' ').map(|word| json!({ "content": word })).collect()
}

/// The deltas of tool calls: first the name, then the arguments in two pieces.
pub fn asked(calls: &[(&str, &str, &str)]) -> Vec<Value> {
    let mut deltas = Vec::new();
    for (index, (id, name, arguments)) in calls.iter().enumerate() {
        deltas.push(json!({ "tool_calls": [{ "index": index, "id": id, "type": "function",
            "function": { "name": name, "arguments": "" } }] }));
        let (a, b) = arguments.split_at(arguments.len() / 2);
        for piece in [a, b] {
            deltas.push(json!({ "tool_calls": [{ "index": index, "function": { "arguments": piece } }] }));
        }
    }
    deltas
}

/// A chunk as OpenAI streams it.
pub fn chunk(delta: &Value, finish: Option<&str>) -> Value {
    json!({ "id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
        "choices": [{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }] })
}

/// What every scripted reply costs.
pub fn usage() -> Value {
    json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 })
}

/// Answers with these deltas: as a stream or as a whole, as the request asks.
pub async fn reply(mut exchange: Exchange, deltas: Vec<Value>, finish: &'static str) {
    let request = exchange.request.json();
    if request["stream"] != json!(true) {
        return exchange.json(200, &folded(&deltas, finish)).await;
    }
    exchange.start("text/event-stream").await;
    let mut chunks = vec![chunk(&json!({ "role": "assistant", "content": "" }), None)];
    chunks.extend(deltas.iter().map(|delta| chunk(delta, None)));
    chunks.push(chunk(&json!({}), Some(finish)));
    if request["stream_options"]["include_usage"] == json!(true) {
        let mut last = chunk(&json!({}), None);
        last["choices"] = json!([]);
        last["usage"] = usage();
        chunks.push(last);
    }
    for chunk in &chunks {
        if exchange.event(chunk).await.is_err() {
            return;
        }
    }
    let _ = exchange.send(b"data: [DONE]\n\n").await;
    exchange.end().await;
}

fn folded(deltas: &[Value], finish: &str) -> Value {
    let content: String = deltas.iter().filter_map(|d| d["content"].as_str()).collect();
    let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
    let mut calls: Vec<Value> = Vec::new();
    for piece in deltas.iter().filter_map(|d| d["tool_calls"].as_array()).flatten() {
        let index = piece["index"].as_u64().expect("a piece has an index") as usize;
        if index == calls.len() {
            calls.push(json!({ "id": piece["id"], "type": "function",
                "function": { "name": piece["function"]["name"], "arguments": "" } }));
        }
        let more = piece["function"]["arguments"].as_str().unwrap_or_default();
        let arguments = format!("{}{more}", calls[index]["function"]["arguments"].as_str().unwrap_or_default());
        calls[index]["function"]["arguments"] = arguments.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    json!({ "id": "chatcmpl-upstream", "object": "chat.completion", "created": 1, "model": "scripted", "usage": usage(),
        "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": finish }] })
}

/// The server. What the gateway itself asks for is always answered and is no step: its list of models, and LM Studio's own, which it lacks
/// unless it is given one.
pub struct ScriptedModel {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    _listening: Listening,
}

struct State {
    steps: Mutex<VecDeque<Step>>,
    models: Vec<&'static str>,
    native: Mutex<Option<Value>>,
    /// How often each of the two lists was asked for.
    listings: watch::Sender<[usize; 2]>,
    received: watch::Sender<Vec<Arc<Received>>>,
    faults: Mutex<Vec<String>>,
}

impl ScriptedModel {
    /// A server with this script: each request takes the first step left that accepts it.
    pub async fn start<const N: usize>(steps: [Step; N]) -> Self {
        ScriptedModel::build(None, &["scripted"], steps).await
    }

    /// As `start`, with a script of any length.
    pub async fn start_all(steps: Vec<Step>) -> Self {
        ScriptedModel::build(None, &["scripted"], steps).await
    }

    /// As `start`, with these models in its list.
    pub async fn listing<const N: usize>(models: &[&'static str], steps: [Step; N]) -> Self {
        ScriptedModel::build(None, models, steps).await
    }

    /// As `start`, over TLS.
    pub async fn over_tls<const N: usize>(tls: TlsAcceptor, steps: [Step; N]) -> Self {
        ScriptedModel::build(Some(tls), &["scripted"], steps).await
    }

    async fn build(tls: Option<TlsAcceptor>, models: &[&'static str], steps: impl Into<VecDeque<Step>>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::new(State {
            steps: Mutex::new(steps.into()),
            models: models.to_vec(),
            native: Mutex::default(),
            listings: watch::Sender::default(),
            received: watch::Sender::default(),
            faults: Mutex::default(),
        });
        let shared = state.clone();
        let (address, listening) = listen(tls, move |exchange| answer(shared.clone(), exchange)).await;
        ScriptedModel { address, scheme, state, _listening: listening }
    }

    /// The `base_url` for the gateway's configuration.
    pub fn url(&self) -> String {
        format!("{}/v1", self.origin())
    }

    /// The address without a path.
    pub fn origin(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    /// Waits until `n` requests have come in all; the last of them.
    pub async fn request(&self, n: usize) -> Arc<Received> {
        let mut received = self.state.received.subscribe();
        let all = super::within(10, &format!("request {n} at the model"), received.wait_for(|all| all.len() >= n)).await;
        all.expect("the server lives")[n - 1].clone()
    }

    /// All requests so far, without those for the list of models.
    pub fn requests(&self) -> Vec<Arc<Received>> {
        self.state.received.borrow().clone()
    }

    /// Gives it LM Studio's own list, of these models.
    pub fn list_natively(&self, models: Value) {
        *self.state.native.lock().expect("no panic under the lock") = Some(models);
    }

    /// Waits until its list of models was asked for so often; how often LM Studio's own was by then.
    pub async fn listed(&self, n: usize) -> usize {
        let mut listings = self.state.listings.subscribe();
        let listed = super::within(30, &format!("{n} questions for the models"), listings.wait_for(|[plain, _]| *plain >= n)).await;
        listed.expect("the server lives")[1]
    }

    fn complaints(&self) -> Vec<String> {
        let mut complaints = self.state.faults.lock().expect("no panic under the lock").clone();
        for step in self.state.steps.lock().expect("no panic under the lock").iter().filter(|step| !step.again) {
            complaints.push(format!("no request came for the step {}", step.what));
        }
        complaints
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        let complaints = self.complaints();
        if std::thread::panicking() {
            complaints.iter().for_each(|complaint| eprintln!("scripted model: {complaint}"));
        } else {
            assert!(complaints.is_empty(), "scripted model: {}", complaints.join("; "));
        }
    }
}

async fn answer(state: Arc<State>, exchange: Exchange) {
    let request = exchange.request.clone();
    let ours = request.header("user-agent").is_some_and(|agent| agent.starts_with("moongate/"));
    if request.method() == "GET" && request.path() == "/api/v0/models" && ours {
        state.listings.send_modify(|[_, native]| *native += 1);
        let listing = state.native.lock().expect("no panic under the lock").clone();
        return match listing {
            Some(models) => exchange.json(200, &json!({ "object": "list", "data": models })).await,
            None => exchange.json(404, &json!({ "error": "not found" })).await,
        };
    }
    if request.method() == "GET" && request.path() == "/v1/models" {
        state.listings.send_modify(|[plain, _]| *plain += 1);
        let data: Vec<Value> =
            state.models.iter().map(|id| json!({ "id": id, "object": "model", "created": 1, "owned_by": "test" })).collect();
        return exchange.json(200, &json!({ "object": "list", "data": data })).await;
    }
    state.received.send_modify(|all| all.push(request.clone()));
    let responding = {
        let mut steps = state.steps.lock().expect("no panic under the lock");
        match steps.iter().position(|step| (step.accepts)(&request)) {
            Some(i) if steps[i].again => Some((steps[i].respond)(exchange)),
            Some(i) => steps.remove(i).map(|mut step| (step.respond)(exchange)),
            None => None,
        }
    };
    let fault = match responding {
        Some(responding) => tokio::spawn(responding).await.err().map(|e| format!("a step failed: {e}")),
        None => {
            let body = String::from_utf8_lossy(&request.body);
            Some(format!("unexpected {} {} {}", request.method(), request.path(), body.get(..2000).unwrap_or(&body)))
        }
    };
    if let Some(fault) = fault {
        state.faults.lock().expect("no panic under the lock").push(fault);
    }
}
