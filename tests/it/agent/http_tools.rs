//! Tools that are a web request.

use serde_json::json;

use crate::support::scripted_model::Step;
use crate::support::{Gateway, ScriptedModel};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents:
  - name: Assistant
    model: scripted
    tools:
      - name: search
        provider: http
        method: GET
        url: "${WEB}/s?q={query}&n=3"
        headers: { x-token: web-secret }
        parameters: { type: object, properties: { query: { type: string } }, required: [query] }
        result: "$.items[*].title"
      - name: save
        provider: http
        method: POST
        url: "${WEB}/notes/{id}"
        parameters: { type: object, properties: { id: { type: string }, text: { type: string }, stars: { type: integer } }, required: [id] }
      - name: open
        provider: http
        method: GET
        url: "http://{host}/private"
        parameters: { type: object, properties: { host: { type: string } }, required: [host] }
"#;

/// A run in which the model calls one tool of the agent; what the model has read of it.
async fn after_call(web: &ScriptedModel, name: &'static str, arguments: &'static str) -> String {
    let model = ScriptedModel::start([Step::calls([("a", name, arguments)]), Step::says("I see.")]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url()), ("WEB", &web.origin())]).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "I see.");
    let second = model.request(2).await.json();
    second["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned()
}

/// Arguments stand in the address, properly escaped; a path picks the result out of the answer.
#[tokio::test]
async fn a_get_with_a_result() {
    let web = ScriptedModel::start([Step::at("GET", "/s?q=a%26b%20%C3%A9&n=3", |e| async move {
        e.json(200, &json!({ "items": [{ "title": "one", "x": 1 }, { "title": "two" }] })).await;
    })])
    .await;
    let read = after_call(&web, "search", r#"{"query": "a&b é"}"#).await;
    assert!(read.contains("one") && read.contains("two") && !read.contains("\"x\""), "{read}");
    assert_eq!(web.request(1).await.header("x-token"), Some("web-secret"));
}

/// A POST sends the arguments that the address does not use as JSON.
#[tokio::test]
async fn a_post_with_a_body() {
    let web =
        ScriptedModel::start([Step::at("POST", "/notes/7%2F8", |e| async move { e.json(200, &json!({ "saved": true })).await })]).await;
    let read = after_call(&web, "save", r#"{"id": "7/8", "text": "hi", "stars": 3}"#).await;
    assert!(read.contains("saved"), "{read}");
    let received = web.request(1).await;
    assert_eq!(received.json(), json!({ "text": "hi", "stars": 3 }));
    assert_eq!(received.header("content-type"), Some("application/json"));
}

/// An error of the web server is a result that the model reads.
#[tokio::test]
async fn an_error_is_read_by_the_model() {
    let web = ScriptedModel::start([Step::at("GET", "/s?q=x&n=3", |e| async move { e.respond(404, &[], b"no such thing").await })]).await;
    let read = after_call(&web, "search", r#"{"query": "x"}"#).await;
    assert!(read.contains("404") && read.contains("no such thing"), "{read}");
}

/// A host that comes from the model may not be private: nothing is sent there.
#[tokio::test]
async fn a_private_host_from_the_model_is_refused() {
    for host in
        [r#"{"host": "169.254.169.254"}"#, r#"{"host": "[::ffff:127.0.0.1]:1"}"#, r#"{"host": "localhost:1"}"#, r#"{"host": "0x7f.1:1"}"#]
    {
        let web = ScriptedModel::start([]).await;
        let read = after_call(&web, "open", host).await;
        assert!(!read.contains("connect") || read.contains("not allowed") || read.contains("private"), "{host}: {read}");
        assert_eq!(web.requests().len(), 0);
    }
}

/// A trusted server that redirects to a private address is not followed there.
#[tokio::test]
async fn a_redirect_to_a_private_host_is_refused() {
    let secret = ScriptedModel::start([]).await;
    let target = secret.origin().replace("localhost", "127.0.0.1");
    let web = ScriptedModel::start([Step::at("GET", "/s?q=x&n=3", |e| async move {
        e.respond(302, &[("location", &format!("{target}/secret"))], b"").await;
    })])
    .await;
    let read = after_call(&web, "search", r#"{"query": "x"}"#).await;
    assert_eq!(secret.requests().len(), 0, "{read}");
}
