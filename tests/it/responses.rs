//! `POST /v1/responses` for agents: items and events as OpenAI's clients parse them, conversations that go on by their id.

mod faults;
mod kept;
mod requests;
mod streamed;
mod tools;
mod whole;

use serde_json::{Value, json};

use crate::support::events::{Frame, Streamed};
use crate::support::fake_mcp::Tool;
use crate::support::{FakeMcp, Gateway, Request, ScriptedModel, Step};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
agents:
  - name: Assistant
    model: scripted
    instructions: Be brief.
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
"#;

struct Stage {
    gateway: Gateway,
    model: ScriptedModel,
    mcp: FakeMcp,
}

async fn stage<const N: usize>(steps: [Step; N]) -> Stage {
    stage_of(CONFIG, Tool::weather(), steps).await
}

async fn stage_of<const N: usize>(config: &str, tool: Tool, steps: [Step; N]) -> Stage {
    let mcp = FakeMcp::start([tool]).await;
    let model = ScriptedModel::start(steps).await;
    let gateway = Gateway::start(config, [("LM", &model.url()), ("MCP", &mcp.url())]).await;
    mcp.until("the gateway knows the tools", |seen| seen.requests.iter().any(|r| r.json()["method"] == "tools/list")).await;
    Stage { gateway, model, mcp }
}

impl Stage {
    /// Says "hello" to the agent, with these fields besides.
    fn ask(&self, more: Value) -> Request {
        let mut body = json!({ "model": "Assistant", "input": "hello" });
        for (name, value) in more.as_object().expect("fields") {
            body[name] = value.clone();
        }
        self.gateway.post("/v1/responses").json(&body)
    }

    /// The whole response to that.
    async fn respond(&self, more: Value) -> Value {
        let answer = self.ask(more).answer().await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()
    }

    /// The events of the response to that.
    async fn events(&self, mut more: Value) -> Vec<Value> {
        more["stream"] = true.into();
        events(&self.ask(more).stream().await)
    }
}

fn weather() -> Step {
    Step::calls([("w", "get_weather", r#"{"city":"Paris"}"#)])
}

/// A tool of the client's, in the flat form that responses have.
fn paint() -> Value {
    json!({ "type": "function", "name": "paint", "description": "Paints.", "parameters": { "type": "object" }, "strict": false })
}

/// The messages of a request to the model, as `(role, content)`.
fn messages(request: &Value) -> Vec<(String, Value)> {
    let messages = request["messages"].as_array().expect("messages").iter();
    messages.map(|message| (message["role"].as_str().expect("a role").to_owned(), message["content"].clone())).collect()
}

/// The types of a response's items.
fn types(response: &Value) -> Vec<&str> {
    response["output"].as_array().expect("output").iter().map(|item| item["type"].as_str().expect("a type")).collect()
}

/// All text of a response.
fn text(response: &Value) -> String {
    let items = response["output"].as_array().expect("output").iter().filter(|item| item["type"] == "message");
    items.flat_map(|item| item["content"].as_array().expect("content")).filter_map(|part| part["text"].as_str()).collect()
}

/// The events of a stream that ended as it should. Fails unless each is named by its type and numbered, and nothing else was sent.
fn events(streamed: &Streamed) -> Vec<Value> {
    assert!(streamed.clean, "the stream has an end: {streamed:?}");
    assert_eq!(streamed.head.header("content-type"), Some("text/event-stream"));
    let frames = streamed.frames.iter().filter(|frame| !matches!(frame, Frame::Comment(_)));
    let events = frames.enumerate().map(|(i, frame)| {
        let Frame::Other(frame) = frame else { panic!("an event without a name: {frame:?}") };
        let (name, data) = frame.split_once('\n').expect("a name and data");
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(name.strip_prefix("event: "), event["type"].as_str(), "{frame}");
        assert_eq!(event["sequence_number"], i, "{frame}");
        event
    });
    events.collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

/// The last event's response. Fails unless the events before it told every item of it, piece by piece.
fn told(events: &[Value]) -> Value {
    let mut items: Vec<Value> = Vec::new();
    for event in events {
        let at = event["output_index"].as_u64().unwrap_or_default() as usize;
        match event["type"].as_str().expect("a type") {
            "response.output_item.added" => {
                assert_eq!(at, items.len(), "items come in their order: {event}");
                assert_eq!(event["item"]["status"], "in_progress", "{event}");
                items.push(event["item"].clone());
            }
            "response.output_item.done" => {
                for key in ["id", "type"] {
                    assert_eq!(items[at][key], event["item"][key], "an item stays itself: {event}");
                }
                assert_ne!(event["item"]["status"], "in_progress", "{event}");
                items[at] = event["item"].clone();
            }
            name if name.ends_with(".delta") => assert_eq!(event["item_id"], items[at]["id"], "{event}"),
            _ => {}
        }
    }
    let last = events.last().expect("events")["response"].clone();
    assert_eq!(last["output"], Value::from(items), "the events told the output");
    assert_eq!((&last["id"], &last["created_at"]), (&events[0]["response"]["id"], &events[0]["response"]["created_at"]));
    last
}
