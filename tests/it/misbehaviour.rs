//! A bad server behind an agent: whatever it sends is mended or told as an error. Nothing ends in silence, and the next request is served.

mod aliases;
mod answers;
mod errors;
mod outbound;
mod switches;
mod tools;

use serde_json::{Value, json};

use crate::support::events::Streamed;
use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::{reply, spoken};
use crate::support::{Answer, Exchange, FakeMcp, Gateway, ScriptedModel, Step, within};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}", idle_timeout: 1s, REPAIR } }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
agents:
  - name: Assistant
    model: scripted
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
"#;

/// One way to misbehave, and what the client gets.
struct Case {
    /// What the client says to have it.
    name: &'static str,
    answer: Bad,
    outcome: Outcome,
}

/// An answer of the bad server's.
struct Bad {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    ending: Ending,
}

/// How it ends.
#[derive(Clone, Copy)]
enum Ending {
    /// As it should.
    Proper,
    /// The connection is reset.
    Reset,
    /// Nothing more comes, and the connection stays.
    Silence,
}

/// What the client gets.
enum Outcome {
    /// An answer: this text and thought, and `stop`.
    Says { text: &'static str, thought: &'static str },
    /// An answer that ends for this reason.
    Ends { text: &'static str, finish: &'static str },
    /// An answer of these tokens in all, as its usage says.
    Costs { text: &'static str, tokens: u64 },
    /// An error. In a stream it is an event when this much text has left, else a status as for everybody.
    Fails { status: u16, code: Option<&'static str>, said: &'static str },
}

fn says(text: &'static str) -> Outcome {
    Outcome::Says { text, thought: "" }
}

fn fails(status: u16, code: &'static str) -> Outcome {
    Outcome::Fails { status, code: Some(code), said: "" }
}

fn breaks(code: &'static str, said: &'static str) -> Outcome {
    let status = if code == "upstream_timeout" { 504 } else { 502 };
    Outcome::Fails { status, code: Some(code), said }
}

/// A stream of these events, with nothing added.
fn events(events: &[Value]) -> Bad {
    let body = events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>();
    raw("text/event-stream", body)
}

/// A stream of these deltas that ends as it should.
fn deltas(deltas: &[Value], finish: &str) -> Bad {
    let mut all: Vec<Value> = deltas.iter().map(|delta| chunk(delta.clone(), None)).collect();
    all.push(chunk(json!({}), Some(finish)));
    let mut bad = events(&all);
    bad.body.extend_from_slice(b"data: [DONE]\n\n");
    bad
}

fn chunk(delta: Value, finish: Option<&str>) -> Value {
    json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] })
}

/// A body of any kind.
fn raw(content_type: &'static str, body: impl Into<Vec<u8>>) -> Bad {
    Bad { status: 200, content_type, body: body.into(), ending: Ending::Proper }
}

impl Bad {
    fn status(self, status: u16) -> Bad {
        Bad { status, ..self }
    }

    fn ending(self, ending: Ending) -> Bad {
        Bad { ending, ..self }
    }

    /// Sends it, each event a chunk of its own.
    async fn serve(&self, mut e: Exchange) {
        let head =
            format!("HTTP/1.1 {} Scripted\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\n", self.status, self.content_type);
        let _ = e.raw(head.as_bytes()).await;
        let mut rest = &self.body[..];
        while !rest.is_empty() {
            let end = rest.windows(2).position(|two| two == b"\n\n").map_or(rest.len(), |at| at + 2);
            if e.send(&rest[..end]).await.is_err() {
                return;
            }
            rest = &rest[end..];
        }
        match self.ending {
            Ending::Proper => e.end().await,
            Ending::Reset => e.reset(),
            Ending::Silence => {
                e.client_gone().await;
            }
        }
    }
}

/// The server of these cases: what the last message says is how it misbehaves. After a tool it says what it has read, to others "Good."
async fn server(cases: &'static [Case]) -> ScriptedModel {
    let step = Step::every_chat(move |e| async move {
        let request = e.request.json();
        let messages = request["messages"].as_array().expect("messages");
        let last = messages.last().expect("a message");
        if last["role"] == "tool" {
            let said = read(messages);
            return reply(e, spoken(&said), "stop").await;
        }
        match cases.iter().find(|case| last["content"] == case.name) {
            Some(case) => case.answer.serve(e).await,
            None => reply(e, spoken("Good."), "stop").await,
        }
    });
    ScriptedModel::start([step]).await
}

/// The results of the last turn. Fails unless each of its calls has an id of its own, and one result.
fn read(messages: &[Value]) -> String {
    let asked = messages.iter().rposition(|message| message["tool_calls"].is_array()).expect("a turn with calls");
    let calls: Vec<&str> =
        messages[asked]["tool_calls"].as_array().expect("calls").iter().map(|call| call["id"].as_str().expect("an id")).collect();
    let ids: Vec<&str> = messages[asked + 1..].iter().map(|result| result["tool_call_id"].as_str().expect("an id")).collect();
    assert_eq!(calls, ids, "each call has its result");
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!((unique.len(), unique.contains(&"")), (ids.len(), false), "each id is one call's: {ids:?}");
    messages[asked + 1..].iter().map(|result| result["content"].as_str().expect("text")).collect::<Vec<_>>().join("; ")
}

async fn gateway(repair: &str, model: &ScriptedModel, mcp: &FakeMcp) -> Gateway {
    let config = CONFIG.replace(", REPAIR", repair);
    let gateway = Gateway::start(&config, [("LM", &model.url()), ("MCP", &mcp.url())]).await;
    mcp.until("the gateway knows the tools", |seen| seen.requests.iter().any(|r| r.json()["method"] == "tools/list")).await;
    gateway
}

/// Every case, streamed and not, and a good request after each. `repair` is the upstream's, as it stands in the configuration.
async fn misbehave(repair: &str, cases: Vec<Case>) {
    let cases: &'static [Case] = cases.leak();
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = server(cases).await;
    let gateway = gateway(repair, &model, &mcp).await;
    let mut wrong = Vec::new();
    for case in cases {
        let said = json!([{ "role": "user", "content": case.name }]);
        let whole = gateway.chat("Assistant", json!({ "messages": said })).answer();
        let whole = within(10, case.name, whole).await;
        wrong.extend(case.outcome.of_answer(&whole).err().map(|why| format!("{}, whole: {why}: {}", case.name, whole.text())));
        let streamed = json!({ "messages": said, "stream": true, "stream_options": { "include_usage": true } });
        let streamed = within(10, case.name, gateway.chat("Assistant", streamed).open()).await;
        let outcome = if streamed.head.start[1] == "200" {
            let streamed = within(10, case.name, Streamed::read(streamed)).await;
            case.outcome.of_stream(&streamed).map_err(|why| format!("{why}: {:?}", streamed.frames))
        } else {
            let answer = within(10, case.name, streamed.answer()).await.expect("a whole answer");
            match &case.outcome {
                Outcome::Fails { said: "", .. } => case.outcome.of_answer(&answer),
                _ => Err("a status in place of a stream".into()),
            }
            .map_err(|why| format!("{why}: {}", answer.text()))
        };
        wrong.extend(outcome.err().map(|why| format!("{}, streamed: {why}", case.name)));
        assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "Good.", "after {}", case.name);
    }
    assert!(wrong.is_empty(), "{} of {} outcomes:\n{}", wrong.len(), cases.len() * 2, wrong.join("\n"));
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what} is {got:?}, not {want:?}")) }
}

/// Fails unless it is OpenAI's form of this error.
fn is_error(error: &Value, code: Option<&str>) -> Result<(), String> {
    for key in ["message", "type", "param", "code"] {
        same(key, error.get(key).is_some(), true)?;
    }
    same("the message's presence", error["message"].as_str().is_some_and(|message| !message.is_empty()), true)?;
    same("the code", error["code"].as_str(), code)
}

impl Outcome {
    fn of_answer(&self, answer: &Answer) -> Result<(), String> {
        let body = answer.json();
        let choice = &body["choices"][0];
        let message = &choice["message"];
        let content = |text: &str| {
            same("the status", answer.status(), 200)?;
            same("the text", message["content"].as_str(), Some(text))?;
            same("calls", message.get("tool_calls"), None)
        };
        match self {
            Outcome::Says { text, thought } => {
                content(text)?;
                same("the thought", message["reasoning_content"].as_str().unwrap_or_default(), thought)?;
                same("the end", choice["finish_reason"].as_str(), Some("stop"))
            }
            Outcome::Ends { text, finish } => {
                content(text)?;
                same("the end", choice["finish_reason"].as_str(), Some(*finish))
            }
            Outcome::Costs { text, tokens } => {
                content(text)?;
                same("the tokens", body["usage"]["total_tokens"].as_u64(), Some(*tokens))
            }
            Outcome::Fails { status, code, .. } => {
                same("the status", answer.status(), *status)?;
                is_error(&body["error"], *code)
            }
        }
    }

    fn of_stream(&self, stream: &Streamed) -> Result<(), String> {
        let chunks = stream.chunks();
        let thought = || chunks.iter().filter_map(|c| c["choices"][0]["delta"]["reasoning_content"].as_str()).collect::<String>();
        let whole = |text: &str, finish: &str| {
            same("the text", stream.text().as_str(), text)?;
            same("calls", stream.tool_calls().len(), 0)?;
            same("an error", stream.error(), None)?;
            same("[DONE]", stream.done(), true)?;
            same("the end", stream.finish().as_str(), finish)
        };
        match self {
            Outcome::Says { text, thought: wanted } => {
                whole(text, "stop")?;
                stream.assert_well_formed("Assistant");
                same("the thought", thought().as_str(), wanted)
            }
            Outcome::Ends { text, finish } => whole(text, finish),
            Outcome::Costs { text, tokens } => {
                whole(text, "stop")?;
                same("the tokens", chunks.last().and_then(|last| last["usage"]["total_tokens"].as_u64()), Some(*tokens))
            }
            Outcome::Fails { code, said, .. } => {
                same("a status before the first word", said.is_empty(), false)?;
                same("the text", stream.text().as_str(), *said)?;
                same("[DONE]", stream.data().contains(&"[DONE]"), false)?;
                is_error(&stream.error().ok_or("no error event")?, *code)
            }
        }
    }
}
