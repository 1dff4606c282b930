//! What a request for a response becomes on its way: a chat for an agent's model, itself for a plain one.

use serde_json::{Value, json};

use super::{messages, paint, stage, text};
use crate::support::{Gateway, ScriptedModel, Step};

/// Each field by its name in a chat; unknown ones as they came.
#[tokio::test]
async fn fields_have_their_names_in_a_chat() {
    let stage = stage([Step::says("It is empty."), Step::says("{}")]).await;
    let schema = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let format = json!({ "type": "json_schema", "name": "thing", "strict": true, "schema": schema, "description": null });
    stage
        .respond(json!({
            "instructions": "Speak French.", "tools": [paint()], "tool_choice": { "type": "function", "name": "paint" },
            "parallel_tool_calls": false, "temperature": 0.2, "top_p": 0.9, "max_output_tokens": 77,
            "text": { "format": format, "verbosity": "low" }, "reasoning": { "effort": "low", "summary": "auto" },
            "metadata": { "a": "b" }, "user": "ada", "safety_identifier": "s", "store": true, "truncation": "auto",
            "include": ["reasoning.encrypted_content"], "previous_response_id": null, "background": false, "top_logprobs": 3, "ttl": 60,
        }))
        .await;
    let mut sent = stage.model.request(1).await.json();
    assert_eq!(messages(&sent), [("system".into(), json!("Be brief.\n\nSpeak French.")), ("user".into(), json!("hello"))]);
    let fields = sent.as_object_mut().unwrap();
    for ours in ["model", "messages", "stream", "stream_options"] {
        fields.remove(ours);
    }
    let tools = fields.remove("tools").unwrap();
    let function = json!({ "name": "paint", "description": "Paints.", "parameters": { "type": "object" }, "strict": false });
    assert_eq!(tools[1], json!({ "type": "function", "function": function }));
    assert_eq!(
        sent,
        json!({
            "parallel_tool_calls": false, "temperature": 0.2, "top_p": 0.9, "user": "ada",
            "safety_identifier": "s", "ttl": 60, "max_tokens": 77, "tool_choice": { "type": "function", "function": { "name": "paint" } },
            "reasoning_effort": "low", "verbosity": "low",
        })
    );
    // Beside tools the form stays away; what does not fit it is asked for again.
    let format = stage.model.request(2).await.json()["response_format"].clone();
    assert_eq!(format, json!({ "type": "json_schema", "json_schema": { "name": "thing", "strict": true, "schema": schema } }));
}

/// Items of every kind as the messages that a model reads.
#[tokio::test]
async fn items_become_messages() {
    let stage = stage([Step::says("ok")]).await;
    let input = json!([
        { "role": "developer", "content": "Be kind." },
        { "type": "message", "role": "user", "content": [
            { "type": "input_text", "text": "What is this?" },
            { "type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low" },
            { "type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA==" },
        ] },
        { "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x" },
        { "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
          "content": [{ "type": "output_text", "text": "Let me look.", "annotations": [] }] },
        { "type": "function_call", "id": "fc_1", "call_id": "a", "name": "look", "arguments": "{}", "status": "completed" },
        { "type": "function_call", "call_id": "b", "name": "look", "arguments": "{}" },
        { "type": "function_call_output", "call_id": "a", "output": "a cat" },
        { "type": "function_call_output", "call_id": "b", "output": [{ "type": "input_text", "text": "a dog" }] },
        { "type": "mcp_call", "id": "mcp_1", "server_label": "x", "name": "get_weather", "arguments": "{}", "output": "sunny" },
        { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "Thanks." }] },
    ]);
    stage.respond(json!({ "input": input })).await;
    let sent = stage.model.request(1).await.json();
    let call = |id: &str, name: &str| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": "{}" } });
    assert_eq!(
        sent["messages"],
        json!([
            { "role": "system", "content": "Be brief.\n\nBe kind." },
            { "role": "user", "content": [
                { "type": "text", "text": "What is this?" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==", "detail": "low" } },
                { "type": "file", "file": { "file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf" } },
            ] },
            { "role": "assistant", "content": "Let me look.", "tool_calls": [call("a", "look"), call("b", "look")] },
            { "role": "tool", "content": "a cat", "tool_call_id": "a" },
            { "role": "tool", "content": "a dog", "tool_call_id": "b" },
            { "role": "assistant", "content": "", "tool_calls": [call("mcp_1", "get_weather")] },
            { "role": "tool", "content": "sunny", "tool_call_id": "mcp_1" },
            { "role": "user", "content": "Thanks." },
        ])
    );
}

/// A plain model's request and answer pass untouched, whatever is in them.
#[tokio::test]
async fn plain_models_are_passed_through() {
    let answer = br#"{"id":"resp_theirs","object":"response","strange":[1,  2]}"#;
    let respond = move |e: crate::support::Exchange| async move { e.respond(200, &[("content-type", "application/json")], answer).await };
    let stage = stage([Step::at("POST", "/v1/responses", respond)]).await;
    let body = r#"{"model": "scripted",  "background":true, "input":[{"type":"anything"}],"conversation":"c"}"#;
    let got = stage.gateway.post("/v1/responses").body("application/json", body).answer().await;
    assert_eq!((got.status(), got.body.as_ref()), (200, &answer[..]));
    assert_eq!(stage.model.request(1).await.body, body.as_bytes());
}

/// An alias without hooks is a plain model: its requests pass as they are under the model's own name, and fall over to its other models.
#[tokio::test]
async fn plain_aliases_are_passed_through() {
    let config = r#"
upstreams: { lm: { base_url: "${LM}" }, dead: { base_url: "http://127.0.0.1:9/v1" } }
models: { fast: { upstream: dead, model: x, fallback: ["lm/scripted"] } }
"#;
    let theirs = |e: crate::support::Exchange| async move { e.json(200, &json!({ "id": "resp_theirs" })).await };
    let model = ScriptedModel::start([Step::at("POST", "/v1/responses", theirs)]).await;
    let gateway = Gateway::start(config, [("LM", &model.url())]).await;
    let asked = gateway.post("/v1/responses").json(&json!({ "model": "fast", "input": [{ "type": "anything" }], "background": true }));
    assert_eq!(asked.answer().await.json()["id"], "resp_theirs");
    let sent = model.request(1).await.json();
    assert_eq!(sent, json!({ "model": "scripted", "input": [{ "type": "anything" }], "background": true }));
}

/// A web page cannot ask an agent without the browser's leave.
#[tokio::test]
async fn agents_are_asked_in_json() {
    let stage = stage([]).await;
    let asked = stage.gateway.post("/v1/responses").body("text/plain", r#"{"model":"Assistant","input":"hi"}"#).answer().await;
    asked.assert_error(415, "unsupported_content_type");
}

/// Titles that Open WebUI asks for over a connection of this type are the plain model's, as those of chats.
#[tokio::test]
async fn background_tasks_go_to_the_plain_model() {
    let config = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents: [{ name: Assistant, model: scripted }]
auth: { keys: [{ id: webui, key: key-webui, client: openwebui }] }
"#;
    let title = |e: crate::support::Exchange| async move { e.json(200, &json!({ "id": "resp_title" })).await };
    let model = ScriptedModel::start([Step::at("POST", "/v1/responses", title), Step::says("hi")]).await;
    let gateway = Gateway::start(config, [("LM", &model.url())]).await;
    let ask = |text: &str| {
        let part = json!([{ "type": "input_text", "text": text }]);
        let body = json!({ "model": "Assistant", "stream": false, "input": [{ "type": "message", "role": "user", "content": part }] });
        gateway.post("/v1/responses").key("key-webui").json(&body).answer()
    };
    assert_eq!(ask("### Task:\nA title.\n<chat_history>\nhi\n</chat_history>").await.json()["id"], "resp_title");
    assert_eq!(model.request(1).await.json()["model"], "scripted");
    let response: Value = ask("hi").await.json();
    assert_eq!(text(&response), "hi");
}
