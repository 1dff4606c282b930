//! Sessions: what the gateway remembers between requests, for whom, and what of it comes back where.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::{chunk, reply, spoken};
use crate::support::{FakeMcp, Gateway, Request, ScriptedModel, Step, within};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
agents:
  - name: server
    model: scripted
    instructions: Be brief.
    session: { history: server }
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
  - name: client
    model: scripted
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
sessions: { max_turns: 50, headers: [x-conversation, x-session-id] }
auth:
  keys:
    - { id: a, key: key-a, client: openwebui }
    - { id: b, key: key-b }
    - { id: admin, key: key-admin, admin: true }
"#;

struct Stage {
    gateway: Gateway,
    model: ScriptedModel,
    _mcp: FakeMcp,
}

async fn stage<const N: usize>(steps: [Step; N]) -> Stage {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start(steps).await;
    let mut gateway = Gateway::start(CONFIG, [("LM", &model.url()), ("MCP", &mcp.url())]).await;
    gateway.admin_key = Some("key-admin");
    Stage { gateway, model, _mcp: mcp }
}

impl Stage {
    /// A chat that says these things in turns, the user first.
    fn say(&self, agent: &str, texts: &[&str]) -> Request {
        self.gateway.chat(agent, json!({ "messages": conversation(texts) })).key("key-b")
    }

    /// What the model got with its `n`th request: `role:text` of each message.
    async fn heard(&self, n: usize) -> Vec<String> {
        texts(&self.model.request(n).await.json()["messages"])
    }

    async fn turns(&self, id: &str, key: &str) -> Value {
        self.gateway.get(&format!("/sessions/{id}")).key(key).answer().await.json()["turns"].clone()
    }
}

fn conversation(texts: &[&str]) -> Value {
    let roles = ["user", "assistant"].into_iter().cycle();
    roles.zip(texts).map(|(role, text)| json!({ "role": role, "content": text })).collect()
}

fn texts(messages: &Value) -> Vec<String> {
    let text = |message: &Value| format!("{}:{}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap_or_default());
    messages.as_array().unwrap().iter().map(text).collect()
}

fn asks_weather() -> Step {
    Step::calls([("c1", "get_weather", r#"{"city":"Paris"}"#)])
}

/// The client sends what is new, and the model gets everything: what was said, and what tools said.
#[tokio::test]
async fn the_gateway_keeps_the_history() {
    let stage = stage([asks_weather(), Step::says("Sunny."), Step::says("Still."), Step::says("Other.")]).await;
    let say = |text: &str| stage.say("server", &[text]).header("x-session-id", "s1");
    assert_eq!(say("Paris?").answer().await.content(), "Sunny.");
    let streamed = stage.gateway.chat("server", json!({ "stream": true, "messages": conversation(&["And now?"]) }));
    assert_eq!(streamed.key("key-b").header("x-session-id", "s1").stream().await.text(), "Still.");
    let wanted = ["system:Be brief.", "user:Paris?", "assistant:", "tool:sunny in Paris", "assistant:Sunny.", "user:And now?"];
    assert_eq!(stage.heard(3).await, wanted);
    let elsewhere = stage.say("server", &["Hello?"]).header("x-session-id", "s2").answer().await;
    assert_eq!((elsewhere.content(), stage.heard(4).await.len()), ("Other.".into(), 2));
    let turns = stage.turns("s1", "key-b").await;
    assert_eq!((texts(&turns[1]["input"]), texts(&turns[1]["said"])), (vec!["user:And now?".into()], vec!["assistant:Still.".into()]));
}

/// A client that sends its whole history is not heard twice.
#[tokio::test]
async fn a_history_that_comes_along_is_known() {
    let stage = stage([Step::says("one"), Step::says("two")]).await;
    let say = |texts: &[&str]| stage.say("server", texts).header("x-session-id", "s");
    say(&["a"]).answer().await;
    assert_eq!(say(&["a", "one", "b"]).answer().await.content(), "two");
    assert_eq!(stage.heard(2).await, ["system:Be brief.", "user:a", "assistant:one", "user:b"]);
}

/// The client keeps the history, and gets its tools back into it: in this branch, and in no other.
#[tokio::test]
async fn tools_come_back_into_the_clients_history() {
    let stage = stage([asks_weather(), Step::says("Sunny."), Step::says("b"), Step::says("c"), Step::says("d")]).await;
    let say = |texts: &[&str]| {
        let chat = stage.gateway.chat("client", json!({ "stream": true, "messages": conversation(texts) }));
        chat.key("key-a").header("x-openwebui-chat-id", "chat-1")
    };
    let shown = say(&["Paris?"]).stream().await.text();
    assert!(shown.contains("<details type=\"tool_calls\"") && shown.ends_with("Sunny."), "{shown}");
    say(&["Paris?", &shown, "And tomorrow?"]).stream().await;
    let wanted = ["user:Paris?", "assistant:", "tool:sunny in Paris", "assistant:Sunny.", "user:And tomorrow?"];
    assert_eq!(stage.heard(3).await, wanted);
    let regenerated = say(&["Paris?", &shown, "And the day after?"]).stream().await;
    assert_eq!((regenerated.text().as_str(), stage.heard(4).await.len()), ("c", 5), "another way on from the same turn");
    say(&["Rome?", "Sunny.", "And tomorrow?"]).stream().await;
    assert_eq!(stage.heard(5).await, ["user:Rome?", "assistant:Sunny.", "user:And tomorrow?"], "a branch that never asked for Paris");
    assert_eq!(stage.turns("chat-1", "key-a").await.as_array().unwrap().len(), 1, "the rest the client sends itself");
}

/// A failed run adds nothing; one whose client left, what was said so far.
#[tokio::test]
async fn what_ends_early() {
    let (tell, mut left) = mpsc::unbounded_channel();
    let held = Step::chat(move |mut e| async move {
        e.start("text/event-stream").await;
        e.event(&chunk(&json!({ "content": "half a" }), None)).await.unwrap();
        tell.send(e.client_gone().await).unwrap();
    });
    let stage = stage([Step::json(400, json!({ "error": { "message": "no" } })), held, Step::says("c")]).await;
    let say = |text: &str, stream: bool| {
        let chat = stage.gateway.chat("server", json!({ "messages": conversation(&[text]), "stream": stream }));
        chat.key("key-b").header("x-session-id", "s")
    };
    assert_eq!(say("a", false).answer().await.status(), 400);
    let mut live = say("b", true).open().await;
    while !String::from_utf8_lossy(&live.piece().await.unwrap().unwrap()).contains("half a") {}
    drop(live);
    within(10, "the cancelled model call", left.recv()).await.unwrap();
    stage.gateway.counts("moongate_runs_total{agent=\"server\",outcome=\"client_cancelled\"}", 1).await;
    say("c", false).answer().await;
    assert_eq!(stage.heard(3).await, ["system:Be brief.", "user:b", "assistant:half a", "user:c"]);
    let turns = stage.turns("s", "key-b").await;
    assert_eq!([&turns[0]["cancelled"], &turns[1]["cancelled"]], [&json!(true), &Value::Null]);
}

/// A session is its key's: for others it is as if it were not there. Admins see all.
#[tokio::test]
async fn a_session_is_its_keys_own() {
    let stage = stage([Step::says("mine"), Step::says("yours")]).await;
    let say = |key: &str| stage.gateway.chat("server", json!({})).key(key).header("x-session-id", "same/id");
    assert_eq!(say("key-a").answer().await.content(), "mine");
    assert_eq!(say("key-b").answer().await.content(), "yours");
    assert_eq!(stage.heard(2).await, ["system:Be brief.", "user:hello"]);
    let page = |method: &'static str, path: &str, key: &str| Request::new(stage.gateway.address, method, path).key(key);
    let list = page("GET", "/sessions", "key-a").answer().await.json();
    assert_eq!(
        (list["sessions"].as_array().unwrap().len(), &list["sessions"][0]["key"], &list["has_more"]),
        (1, &json!("a"), &json!(false))
    );
    let all = page("GET", "/sessions?limit=1", "key-admin").answer().await.json();
    assert_eq!((&all["sessions"][0]["key"], &all["has_more"]), (&json!("b"), &json!(true)));
    page("GET", "/sessions?key=a", "key-b").answer().await.assert_error(403, "request_rejected");
    page("GET", "/sessions?limit=many", "key-b").answer().await.assert_error(400, "invalid_value");
    page("GET", "/sessions", "wrong").answer().await.assert_error(401, "invalid_api_key");
    let (there, not_there) =
        (page("GET", "/sessions/same%2Fid", "key-admin").answer().await, page("GET", "/sessions/none", "key-admin").answer().await);
    assert_eq!(there.text().replace("same/id", "X"), not_there.text().replace("none", "X"));
    assert_eq!(page("GET", "/sessions/same%2Fid?key=a", "key-admin").answer().await.status(), 200);
    assert_eq!(page("DELETE", "/sessions/same%2Fid", "key-a").answer().await.status(), 204);
    page("DELETE", "/sessions/same%2Fid", "key-a").answer().await.assert_error(404, "not_found");
    assert_eq!(stage.turns("same%2Fid", "key-b").await.as_array().unwrap().len(), 1);
    page("POST", "/sessions", "key-a").header("content-length", "0").answer().await.assert_error(405, "method_not_allowed");
}

/// Ids may come in several places, and not be just anything.
#[tokio::test]
async fn ids_are_checked() {
    let stage = stage([Step::says("a"), Step::says("b"), Step::says("c")]).await;
    let say = |more: Value| stage.gateway.chat("server", more).key("key-b");
    say(json!({})).header("x-session-id", "second").header("x-conversation", "first").answer().await;
    say(json!({ "metadata": { "session_id": "third" } })).answer().await;
    say(json!({})).answer().await;
    let list = stage.gateway.get("/sessions").key("key-b").answer().await.json();
    let ids: Vec<&str> = list["sessions"].as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["third", "first"]);
    let long = "x".repeat(1 << 20);
    for id in [long.as_str(), "a\nb", "a\u{0}b"] {
        let refused = say(json!({ "metadata": { "session_id": id } })).answer().await;
        assert_eq!(refused.assert_error(400, "invalid_value")["param"], "metadata.session_id");
    }
    let refused = say(json!({})).header("x-conversation", &"y".repeat(513)).answer().await;
    assert_eq!(refused.assert_error(400, "invalid_value")["param"], "x-conversation");
}

/// A conversation's title is no part of it.
#[tokio::test]
async fn background_tasks_leave_no_trace() {
    let stage = stage([Step::says("a"), Step::says("Title")]).await;
    stage.say("server", &["hi"]).header("x-session-id", "s").answer().await;
    let title = "### Task:\nMake a title.\n### Chat History:\n<chat_history>\nUSER: hi\n</chat_history>";
    stage.say("server", &[title]).header("x-session-id", "s").answer().await;
    assert_eq!(stage.heard(2).await, ["system:Be brief.".to_owned(), format!("user:{title}")]);
    assert_eq!(stage.turns("s", "key-b").await.as_array().unwrap().len(), 1);
}

/// Many conversations at once, turn by turn, and two turns at once in one: every history is complete and in order.
/// `MOONGATE_SESSIONS` conversations of `MOONGATE_TURNS` turns; 40 of 8 unless that is set.
#[tokio::test]
async fn many_conversations_at_once() {
    let number = |name: &str, default: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (n_sessions, n_turns) = (number("MOONGATE_SESSIONS", 40), number("MOONGATE_TURNS", 8));
    let echo = Step::every_chat(|e| async move {
        let messages = e.request.json()["messages"].as_array().unwrap().clone();
        let said = messages.last().unwrap()["content"].as_str().unwrap().to_owned();
        reply(e, spoken(&format!("{} before {said}", messages.len() - 2)), "stop").await;
    });
    let stage = Arc::new(stage([echo]).await);
    let began = std::time::Instant::now();
    let talks = (0..n_sessions).map(|session| {
        let stage = stage.clone();
        tokio::spawn(async move {
            for turn in 0..n_turns {
                let text = format!("{session}.{turn}");
                let answer = stage.say("server", &[&text]).header("x-session-id", &format!("s{session}")).answer().await;
                assert_eq!(answer.content(), format!("{} before {text}", 2 * turn));
            }
        })
    });
    join_all(talks).await.into_iter().for_each(|talk| talk.unwrap());
    for session in 0..n_sessions {
        let turns = stage.turns(&format!("s{session}"), "key-b").await;
        let said: Vec<String> =
            turns.as_array().unwrap().iter().map(|turn| turn["input"][0]["content"].as_str().unwrap().to_owned()).collect();
        let wanted: Vec<String> = (0..n_turns).map(|turn| format!("{session}.{turn}")).collect();
        assert_eq!(said, wanted[n_turns.saturating_sub(50)..]);
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("{n_sessions} sessions of {n_turns} turns: {seconds:.1} s, {:.0} turns/s", (n_sessions * n_turns) as f64 / seconds);
    let twice = (0..10).map(|n| stage.say("server", &[&format!("at once {n}")]).header("x-session-id", "both").answer());
    join_all(twice).await;
    assert_eq!(stage.turns("both", "key-b").await.as_array().unwrap().len(), 10, "none is lost");
}
