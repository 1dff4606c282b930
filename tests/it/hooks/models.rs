//! `std.llm` and `std.agent`: a script asks models and agents, on the run's account and with the rights of the client's key.

use serde_json::{Value, json};

use super::world::{script, told};
use crate::support::{Gateway, ScriptedModel, Setup, Step};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
models: { fast: { upstream: lm, model: small } }
agents:
  - { name: Asker, model: scripted, hooks: [scripts/h.lua] }
  - { name: Writer, model: writer, instructions: Write. }
  - { name: Secret, model: secret, allow: [all] }
  - { name: Fails, model: scripted, hooks: [scripts/fails.lua] }
auth:
  keys:
    - { id: all, key: key-of-all }
    - { id: some, key: key-of-some, models: [Asker, Writer, Secret] }
    - { id: few, key: key-of-few, models: [Asker] }
"#;

const FAILS: &str = "return { pre_prompt = function() error 'a detail' end }";

async fn gateway(source: &str, model: &ScriptedModel) -> Gateway {
    let setup = Setup::new(CONFIG).file("scripts/h.lua", source).file("scripts/fails.lua", FAILS);
    setup.env("LM", model.url()).start().await
}

/// What a script tells a client with this key, where these steps are the models.
async fn tells<const N: usize>(key: &str, body: &str, steps: [Step; N]) -> (ScriptedModel, Vec<Value>) {
    let model = ScriptedModel::start(steps).await;
    let gateway = gateway(&script(body), &model).await;
    let told = told(&gateway.chat("Asker", json!({})).key(key).answer().await);
    (model, told)
}

/// A question without a model goes to the run's own; an alias and a model of an upstream go by the names that clients use.
#[tokio::test]
async fn models_are_asked_by_their_names() {
    let body = r#"
      local named = assert(llm.chat { model = "fast", messages = { { role = "user", content = "b?" } }, max_tokens = 7, stream = false, n = 3 })
      return tell(assert(llm.ask("a?", { system = "Short.", temperature = 0.5 })), named.content, named.finish, named.usage.total_tokens,
        assert(llm.ask("c?", { model = "lm/tiny" })))"#;
    let (model, told) = tells("key-of-few", body, [Step::says("b"), Step::says("a"), Step::says("c")]).await;
    assert_eq!(told, [json!("a"), json!("b"), json!("stop"), json!(15), json!("c")]);
    let sent: Vec<Value> = model.requests().iter().map(|request| request.json()).collect();
    assert_eq!((&sent[0]["model"], &sent[1]["model"], &sent[2]["model"]), (&json!("small"), &json!("scripted"), &json!("tiny")));
    assert_eq!((&sent[0]["max_tokens"], sent[0].get("n")), (&json!(7), None), "what a script asks for has one choice");
    let asked = json!([{ "role": "system", "content": "Short." }, { "role": "user", "content": "a?" }]);
    assert_eq!((&sent[1]["messages"], &sent[1]["temperature"], sent[1].get("system")), (&asked, &json!(0.5), None));
}

/// What a script asks counts in the run's usage, which it sees at once, and the client at the end; the run's hooks do not fire for it.
#[tokio::test]
async fn a_question_is_on_the_runs_account() {
    let source = r#"
    local llm = require "std.llm"
    return {
      pre_prompt = function(prompt, run)
        local before = run.usage.total_tokens
        local hint = assert(llm.ask "a hint?")
        prompt.messages[1].content = ("%s: %d, then %d"):format(hint, before, run.usage.total_tokens)
      end,
      on_chunk = function(chunk) chunk.text = chunk.text:upper() end,
      post_response = function(reply, run) reply.content = reply.content .. " " .. reply.usage.total_tokens .. " " .. run.usage.total_tokens end,
    }"#;
    let model = ScriptedModel::start([Step::says("the hint"), Step::says("done")]).await;
    let answer = gateway(source, &model).await.chat("Asker", json!({})).key("key-of-few").answer().await;
    assert_eq!(answer.content(), "DONE 30 30");
    assert_eq!(answer.json()["usage"]["total_tokens"], 30);
    assert_eq!(model.request(2).await.json()["messages"][0]["content"], "the hint: 0, then 15");
}

/// The calls that a model asks for are the script's to carry out.
#[tokio::test]
async fn calls_of_a_question_come_back() {
    let body = r#"
      local paint = { type = "function", ["function"] = { name = "paint", parameters = { type = "object" } } }
      local asked = assert(llm.chat { messages = { { role = "user", content = "paint" } }, tools = { paint } })
      return tell(asked.content, asked.finish, asked.tool_calls[1]["function"])"#;
    let (model, told) = tells("key-of-few", body, [Step::calls([("a", "paint", r#"{"colour":"red"}"#)])]).await;
    assert_eq!(told, [json!(""), json!("tool_calls"), json!({ "name": "paint", "arguments": "{\"colour\":\"red\"}" })]);
    assert_eq!(model.request(1).await.json()["tools"][0]["function"]["name"], "paint");
}

/// A model that fails is nil and a sentence, and the run goes on.
#[tokio::test]
async fn a_model_that_fails_is_told() {
    let down = || Step::json(500, json!({ "error": { "message": "out of memory" } }));
    let body = r#"
      local text, why = llm.ask "a?"
      local reply, why_reply = llm.chat { model = "fast", messages = { { role = "user", content = "b?" } } }
      local none, why_none = llm.chat { messages = {} }
      return tell(text, why, reply, why_reply, none, why_none)"#;
    let (_model, told) = tells("key-of-few", body, [down(), down()]).await;
    for pair in told.chunks(2) {
        assert!(pair[0].is_null() && pair[1].as_str().is_some_and(|why| !why.is_empty()), "{told:?}");
    }
    assert!(told[1].as_str().unwrap().contains("out of memory"), "{}", told[1]);
}

/// An agent reads the input, or the whole conversation, under its own instructions; its reply and its cost come back.
#[tokio::test]
async fn agents_are_run() {
    let body = r#"
      local poem = assert(agent.run("Writer", "a poem"))
      local more = assert(agent.run("Writer", { { role = "user", content = "a" }, { role = "assistant", content = "b" }, { role = "user", content = "c" } }))
      return tell(poem.content, poem.finish, poem.usage.total_tokens, more.content, run.usage.total_tokens)"#;
    let (model, told) = tells("key-of-all", body, [Step::says("Roses are red."), Step::says("Violets.")]).await;
    assert_eq!(told, [json!("Roses are red."), json!("stop"), json!(15), json!("Violets."), json!(30)]);
    let (first, second) = (model.request(1).await.json(), model.request(2).await.json());
    assert_eq!(first["model"], "writer");
    assert_eq!(first["messages"], json!([{ "role": "system", "content": "Write." }, { "role": "user", "content": "a poem" }]));
    assert_eq!((second["messages"].as_array().unwrap().len(), &second["messages"][3]["content"]), (4, &json!("c")));
}

/// An agent that the client's key may not use, is not to be had through a script either: not by `std.agent`, not as a model's name.
#[tokio::test]
async fn the_rights_are_the_keys() {
    let body = r#"
      local function why(f, ...) local reply, why = f(...) return if reply then "ran" else why end
      return tell(why(agent.run, "Writer", "x"), why(agent.run, "Secret", "x"), why(llm.ask, "x", { model = "Secret" }), why(agent.run, "Nobody", "x"))"#;
    let (_model, told) = tells("key-of-all", body, ["a", "b", "c"].map(Step::says)).await;
    assert_eq!(told[..3], ["ran", "ran", "ran"]);
    let nobody = told[3].as_str().unwrap().replace("Nobody", "Secret");
    let (_model, told) = tells("key-of-some", body, [Step::says("a")]).await;
    assert_eq!((&told[0], &told[1]), (&json!("ran"), &json!(nobody)), "it reads like an agent that is not there");
    assert_ne!(told[2], "ran");
    let (_model, told) = tells("key-of-few", body, []).await;
    assert!(told.iter().all(|why| why != "ran"), "{told:?}");
}

/// An agent that fails is nil and a sentence, without what only its own log should say.
#[tokio::test]
async fn an_agent_that_fails_is_told() {
    let (_model, told) = tells("key-of-all", r#"return tell(agent.run("Fails", "x"))"#, []).await;
    assert_eq!(told[0], Value::Null);
    let why = told[1].as_str().unwrap();
    assert!(why.starts_with("the agent `Fails` failed: ") && !why.contains("a detail"), "{why}");
}

/// Agents run agents four deep: a script that calls its own agent without end reads that there is one.
#[tokio::test]
async fn depth_has_an_end() {
    let body = r#"
      local reply, why = agent.run("Asker", "deeper")
      return run:answer("(" .. (if reply then reply.content else why) .. ")")"#;
    let model = ScriptedModel::start([]).await;
    let answer = gateway(&script(body), &model).await.chat("Asker", json!({})).key("key-of-few").answer().await;
    assert_eq!(answer.content(), "(((((the agent `Asker` failed: agents may use agents 4 deep, no deeper)))))");
}
