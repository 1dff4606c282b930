//! A key with `client: openwebui`: tools show as Open WebUI shows its own, titles and tags do not run the agent, its own tools stay out.

use serde_json::{Value, json};

use crate::support::events::Reader;
use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::{reply, spoken};
use crate::support::{FakeMcp, Gateway, Request, ScriptedModel, Setup, Step, within};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
agents:
  - name: Assistant
    model: scripted
    instructions: Be brief.
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
  - { name: Open, model: scripted, client_tools: offer, progress: none }
auth:
  keys:
    - { id: webui, key: key-webui, client: openwebui }
    - { id: tasks, key: key-tasks, client: openwebui, background_tasks: agent, client_tools: offer }
    - { id: sdk, key: key-sdk }
"#;

/// A card as the reply's text has it.
const CARD: &str = "\n<details type=\"tool_calls\" done=\"true\" id=\"a\" name=\"get_weather\" \
    arguments=\"{&quot;city&quot;:&quot;Paris&quot;}\">\n<summary>Tool Executed</summary>\nsunny in Paris\n</details>\n";

struct Stage {
    gateway: Gateway,
    model: ScriptedModel,
    _mcp: FakeMcp,
}

async fn stage<const N: usize>(steps: [Step; N]) -> Stage {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start(steps).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url()), ("MCP", &mcp.url())]).await;
    Stage { gateway, model, _mcp: mcp }
}

impl Stage {
    fn ask(&self, key: &str, more: Value) -> Request {
        self.gateway.chat("Assistant", more).key(key)
    }
}

fn weather() -> Step {
    Step::calls([("a", "get_weather", r#"{"city":"Paris"}"#)])
}

/// Status events while the tool works, its card in the text; and the card is gone from what the model reads in the next turn.
#[tokio::test]
async fn tools_show_as_cards() {
    let stage = stage([weather(), Step::says("It is sunny."), Step::says("Yes.")]).await;
    let streamed = stage.ask("key-webui", json!({ "stream": true, "stream_options": { "include_usage": true } })).stream().await;
    streamed.assert_well_formed("Assistant");
    assert_eq!(streamed.text(), format!("{CARD}It is sunny."));
    let events: Vec<Value> = streamed.chunks().iter().filter_map(|chunk| chunk.get("event").cloned()).collect();
    let status = |description: &str, done: bool| json!({ "type": "status", "data": { "description": description, "done": done } });
    assert_eq!(events, [status("Calling get_weather", false), status("Called get_weather", true)]);
    let history = json!([
        { "role": "user", "content": "hello" },
        { "role": "assistant", "content": streamed.text() },
        { "role": "user", "content": "sure?" },
    ]);
    assert_eq!(stage.ask("key-webui", json!({ "messages": history })).answer().await.content(), "Yes.");
    assert_eq!(stage.model.request(3).await.json()["messages"][2]["content"], "It is sunny.");
}

/// Clients that did not ask for it are sent nothing of it; a request, an agent and a key may each say how it is to be.
#[tokio::test]
async fn others_are_shown_what_they_ask_for() {
    let stage = stage([weather(), Step::says("a"), weather(), Step::says("b"), weather(), Step::says("c"), Step::says("d")]).await;
    let plain = stage.ask("key-sdk", json!({ "stream": true })).stream().await;
    assert_eq!(plain.text(), "a");
    assert!(plain.chunks().iter().all(|chunk| chunk.get("event").is_none() && chunk["choices"] != json!([])));
    let thinks = stage.ask("key-sdk", json!({ "stream": true })).header("x-moongate-progress", "reasoning").stream().await;
    thinks.assert_well_formed("Assistant");
    let thought: String =
        thinks.chunks().iter().filter_map(|c| c["choices"][0]["delta"]["reasoning_content"].as_str().map(str::to_owned)).collect();
    assert_eq!(thought, "Calling get_weather with {\"city\":\"Paris\"}\nget_weather answered: sunny in Paris\n");
    assert_eq!(thinks.text(), "b");
    let whole = stage.ask("key-webui", json!({})).answer().await;
    assert_eq!(whole.content(), "c", "a whole answer is the answer alone");
    let refused = stage.ask("key-sdk", json!({})).header("x-moongate-progress", "loud").answer().await;
    assert_eq!(refused.assert_error(400, "invalid_value")["param"], "x-moongate-progress");
    assert_eq!(stage.gateway.chat("Open", json!({ "stream": true })).key("key-webui").stream().await.text(), "d");
}

/// A title is made by the plain model: no instructions, no tools. For other keys it is a chat like any other.
#[tokio::test]
async fn titles_do_not_run_the_agent() {
    let title = "### Task:\nGenerate a concise title.\n### Chat History:\n<chat_history>\nUSER: hello\n</chat_history>";
    let messages = json!([{ "role": "user", "content": title }]);
    let body = || json!({ "messages": messages, "stream": false, "max_tokens": 1000 });
    let answers = || Step::json(200, json!({ "choices": [{ "message": { "role": "assistant", "content": "{\"title\": \"Hi\"}" } }] }));
    let stage = stage([answers(), answers(), Step::says("an agent"), Step::says("an agent")]).await;
    for request in [stage.ask("key-webui", body()), stage.ask("key-webui", json!({})).header("x-openwebui-task", "tags_generation")] {
        assert_eq!(request.answer().await.content(), r#"{"title": "Hi"}"#);
    }
    let first = stage.model.request(1).await.json();
    assert_eq!(first, json!({ "model": "scripted", "messages": messages, "stream": false, "max_tokens": 1000 }));
    for (n, request) in [(3, stage.ask("key-sdk", body()).header("x-openwebui-task", "title")), (4, stage.ask("key-tasks", body()))] {
        assert_eq!(request.answer().await.content(), "an agent");
        assert_eq!(stage.model.request(n).await.json()["messages"][0]["content"], "Be brief.");
    }
}

/// Open WebUI's own tools are left out, unless the agent or the key says otherwise.
#[tokio::test]
async fn its_own_tools_stay_out() {
    let tools = json!([{ "type": "function", "function": { "name": "search_notes", "parameters": { "type": "object" } } }]);
    let stage = stage([Step::says("a"), Step::says("b"), Step::says("c")]).await;
    let asked = [
        (stage.ask("key-webui", json!({ "tools": tools })), vec!["get_weather"]),
        (stage.ask("key-tasks", json!({ "tools": tools })), vec!["get_weather", "search_notes"]),
        (stage.gateway.chat("Open", json!({ "tools": tools })).key("key-webui"), vec!["search_notes"]),
    ];
    for (n, (request, expected)) in asked.into_iter().enumerate() {
        assert_eq!(request.answer().await.status(), 200);
        let body = stage.model.request(n + 1).await.json();
        let names: Vec<&Value> = body["tools"].as_array().unwrap().iter().map(|tool| &tool["function"]["name"]).collect();
        assert_eq!(names, expected);
    }
}

/// A server that takes one at a time: who waits for it is shown so.
#[tokio::test]
async fn a_wait_for_the_server_is_shown() {
    let (release, held) = tokio::sync::oneshot::channel::<()>();
    let first = Step::chat(|e| async move {
        held.await.unwrap();
        reply(e, spoken("first"), "stop").await;
    });
    let model = ScriptedModel::start([first, Step::says("second")]).await;
    let config = r#"
upstreams: { lm: { base_url: "${LM}", max_concurrent: 1 } }
agents: [{ name: Assistant, model: scripted }]
"#;
    let gateway = Gateway::start(config, [("LM", &model.url())]).await;
    let plain = tokio::spawn(gateway.chat("scripted", json!({})).answer());
    model.request(1).await;
    let asked = gateway.chat("Assistant", json!({ "stream": true })).header("x-moongate-progress", "openwebui");
    let mut reader = Reader::new(asked.open().await);
    let mut events = Vec::new();
    while events.is_empty() {
        events.extend(within(5, "the wait", reader.json()).await.unwrap().get("event").cloned());
    }
    release.send(()).unwrap();
    let mut text = String::new();
    while let Some(chunk) = within(5, "the answer", reader.json()).await {
        events.extend(chunk.get("event").cloned());
        text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    let status = |description: &str, done: bool| json!({ "type": "status", "data": { "description": description, "done": done } });
    assert_eq!(events, [status("Waiting for lm", false), status("lm answers", true)]);
    assert_eq!((text.as_str(), plain.await.unwrap().content().as_str()), ("second", "first"));
}

/// Who is asking, as a script sees it: renamed headers, signed tokens, and nobody where the key is not trusted to say so.
#[tokio::test]
async fn its_users_are_known() {
    let config = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents: [{ name: Assistant, model: scripted, hooks: [scripts/who.lua] }]
auth:
  keys:
    - { id: webui, key: key-webui, client: openwebui, identity: { user_header: x-user, chat_header: x-chat } }
    - { id: signed, key: key-signed, client: openwebui, identity: { jwt_secret: sesame } }
    - { id: sdk, key: key-sdk }
"#;
    let script = r#"return { pre_prompt = function(prompt, run)
      return run:answer((run.user or "nobody") .. " in " .. (run.session or "no chat"))
    end }"#;
    let model = ScriptedModel::start([Step::says("plain")]).await;
    let gateway = Setup::new(config).file("scripts/who.lua", script).env("LM", model.url()).start().await;
    let ask = |key: &str, more: Value| gateway.chat("Assistant", more).key(key);
    let renamed = ask("key-webui", json!({ "user": "the body" })).header("x-user", "Ada%20L").header("x-chat", "c1");
    assert_eq!(renamed.answer().await.content(), "Ada L in c1");
    gateway.logged("Ada L").await;
    let spoofed = ask("key-sdk", json!({})).header("x-openwebui-user-id", "root").header("x-user", "root");
    assert_eq!(spoofed.answer().await.content(), "nobody in no chat");
    assert_eq!(ask("key-sdk", json!({ "user": "own" })).answer().await.content(), "own in no chat");
    let good = token("ada", 60);
    let signed = ask("key-signed", json!({})).header("x-openwebui-user-jwt", &good).header("x-openwebui-chat-id", "c2");
    assert_eq!(signed.answer().await.content(), "ada in c2");
    assert_eq!(ask("key-signed", json!({})).header("x-openwebui-user-id", "root").answer().await.content(), "nobody in no chat");
    for bad in [token("ada", -120), good.replace('.', "-"), format!("{good}x")] {
        let refused = ask("key-signed", json!({})).header("x-openwebui-user-jwt", &bad).answer().await;
        assert_eq!(refused.assert_error(401, "invalid_user")["param"], "x-openwebui-user-jwt");
    }
    let passed = gateway.chat("scripted", json!({})).key("key-signed").header("x-openwebui-user-jwt", &good).answer().await;
    assert_eq!(passed.content(), "plain");
    assert!(!model.request(1).await.mentions(&good) && !gateway.log().contains(&good), "the token stays here");
}

/// A user's token as Open WebUI signs it, which holds for so many seconds.
fn token(user: &str, seconds: i64) -> String {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
    use hmac::{Hmac, KeyInit, Mac};
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let claims = json!({ "sub": user, "iss": "open-webui", "iat": now, "exp": now + seconds, "email": "ada@example.org" });
    let signed = format!("{}.{}", BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#), BASE64.encode(claims.to_string()));
    let mac = Hmac::<sha2::Sha256>::new_from_slice(b"sesame").unwrap().chain_update(&signed);
    format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
}
