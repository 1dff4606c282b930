//! Responses that are kept: conversations that go on by an id, and their end.

use serde_json::{Value, json};

use super::{messages, stage, text, told, weather};
use crate::support::{Gateway, ScriptedModel, Step};

/// A conversation goes on by its last response's id, over tools and streams; the instructions of an earlier request are not carried along.
#[tokio::test]
async fn a_conversation_goes_on() {
    let stage = stage([weather(), Step::says("Sunny."), Step::says("Two."), Step::says("Three."), Step::says("Two again.")]).await;
    let first = stage.respond(json!({ "input": "one", "instructions": "Rhyme." })).await;
    let second = stage.events(json!({ "input": "two", "previous_response_id": first["id"] })).await;
    let second = told(&second);
    assert_eq!(second["previous_response_id"], first["id"]);
    let third = stage.respond(json!({ "input": "three", "previous_response_id": second["id"] })).await;
    assert_eq!(text(&third), "Three.");
    let sent = messages(&stage.model.request(4).await.json());
    let said = |role: &str, text: &str| (role.to_owned(), json!(text));
    assert_eq!(
        sent,
        [
            said("system", "Be brief."),
            said("user", "one"),
            said("assistant", ""),
            said("tool", "sunny in Paris"),
            said("assistant", "Sunny."),
            said("user", "two"),
            said("assistant", "Two."),
            said("user", "three"),
        ]
    );
    // Another way on from the first response.
    stage.respond(json!({ "input": "two", "previous_response_id": first["id"] })).await;
    assert_eq!(messages(&stage.model.request(5).await.json()).len(), 6);
}

/// An item stands for itself by its id.
#[tokio::test]
async fn an_item_is_referred_to() {
    let stage = stage([Step::says("One."), Step::says("Two.")]).await;
    let first = stage.respond(json!({})).await;
    let id = &first["output"][0]["id"];
    for reference in [json!({ "type": "item_reference", "id": id }), json!({ "id": id })] {
        let input = json!([{ "role": "user", "content": "hello" }, reference, { "role": "user", "content": "more" }]);
        let unknown = json!([{ "type": "item_reference", "id": "msg_unknown" }]);
        let refused = stage.ask(json!({ "input": unknown })).answer().await.assert_error(404, "not_found");
        assert_eq!(refused["param"], "input[0].id");
        if reference["type"].is_null() {
            continue;
        }
        stage.respond(json!({ "input": input })).await;
        let said: Vec<Value> = messages(&stage.model.request(2).await.json()).into_iter().map(|(_, content)| content).collect();
        assert_eq!(said, ["Be brief.", "hello", "One.", "more"]);
    }
}

/// It is given back by its id, and gone when it is deleted; what is not ours is the upstream's.
#[tokio::test]
async fn a_response_is_given_back_and_deleted() {
    let theirs = |e: crate::support::Exchange| async move { e.json(418, &json!({ "upstream": true })).await };
    let stage = stage([
        Step::says("One."),
        Step::at("GET", "/v1/responses/resp_theirs", theirs),
        Step::at("DELETE", "/v1/responses/resp_theirs", theirs),
        Step::says("Not kept."),
    ])
    .await;
    let response = stage.respond(json!({})).await;
    let path = format!("/v1/responses/{}", response["id"].as_str().unwrap());
    assert_eq!(stage.gateway.get(&path).answer().await.json(), response);
    stage.gateway.get(&format!("{path}?stream=true")).answer().await.assert_error(400, "unsupported_value");
    let delete = |path: &str| crate::support::Request::new(stage.gateway.address, "DELETE", path).answer();
    assert_eq!(delete(&path).await.json(), json!({ "id": response["id"], "object": "response", "deleted": true }));
    let gone = stage.ask(json!({ "previous_response_id": response["id"] })).answer().await;
    assert_eq!(gone.assert_error(404, "not_found")["param"], "previous_response_id");

    assert_eq!(stage.gateway.get("/v1/responses/resp_theirs").answer().await.status(), 418);
    assert_eq!(delete("/v1/responses/resp_theirs").await.status(), 418);

    let unkept = stage.respond(json!({ "store": false })).await;
    assert_eq!(unkept["store"], false);
    stage.ask(json!({ "previous_response_id": unkept["id"] })).answer().await.assert_error(404, "not_found");
}

/// Each key has its own: another's is as unknown as one that never was.
#[tokio::test]
async fn keys_do_not_share() {
    let config = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents: [{ name: Assistant, model: scripted }]
auth: { keys: [{ id: a, key: key-a }, { id: b, key: key-b }, { id: c, key: key-c, models: [Assistant] }] }
"#;
    let model = ScriptedModel::start([Step::says("One."), Step::says("Two.")]).await;
    let gateway = Gateway::start(config, [("LM", &model.url())]).await;
    let ask = |key: &str, more: Value| {
        let mut body = json!({ "model": "Assistant", "input": "hello" });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        gateway.post("/v1/responses").key(key).json(&body).answer()
    };
    let first = ask("key-a", json!({})).await.json();
    let on = json!({ "previous_response_id": first["id"] });
    let (theirs, never) = (ask("key-b", on.clone()).await, ask("key-b", json!({ "previous_response_id": "resp_never" })).await);
    let (theirs, never) = (theirs.assert_error(404, "not_found"), never.assert_error(404, "not_found"));
    assert_eq!(theirs["message"].as_str().unwrap().replace(first["id"].as_str().unwrap(), "resp_never"), never["message"]);
    let reference = json!({ "input": [{ "type": "item_reference", "id": first["output"][0]["id"] }] });
    ask("key-b", reference).await.assert_error(404, "not_found");
    // A key that may use its models only is not led to the upstream.
    let path = format!("/v1/responses/{}", first["id"].as_str().unwrap());
    gateway.get(&path).key("key-c").answer().await.assert_error(403, "request_rejected");
    assert_eq!(gateway.get(&path).key("key-a").answer().await.json()["id"], first["id"]);
    assert_eq!(text(&ask("key-a", on).await.json()), "Two.");
}
