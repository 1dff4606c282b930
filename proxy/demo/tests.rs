//! The demo server as a client sees it, over HTTP.

use super::*;

/// A server and a client to it.
struct Talk {
    demo: Demo,
    client: reqwest::Client,
}

impl Talk {
    fn start() -> Self {
        // The client is built for TLS, which needs a provider even where no TLS is spoken.
        crate::tls::install_provider();
        Talk { demo: Demo::start(&Handle::current()).expect("a port"), client: reqwest::Client::new() }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.demo.base_url())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.client.post(self.url(path)).json(body).send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    /// The `data` of every event of a stream.
    async fn stream(&self, path: &str, body: &Value) -> Vec<String> {
        let response = self.client.post(self.url(path)).json(body).send().await.expect("an answer");
        assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
        let text = response.text().await.expect("text");
        let events = text.strip_suffix("\n\n").expect("an end").split("\n\n");
        events.map(|event| event.split_once("data: ").expect("data").1.to_owned()).collect()
    }
}

fn request(text: &str) -> Value {
    json!({ "model": "demo-fast", "messages": [{ "role": "user", "content": text }] })
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
    body
}

fn tools() -> Value {
    json!({ "tools": [
        { "type": "function", "function": { "name": "get_weather", "parameters": {
            "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] } } },
        { "type": "function", "function": { "name": "get_time" } },
    ] })
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let talk = Talk::start();
    let list: Value = talk.client.get(talk.url("/models")).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(list["object"], "list");
    for model in list["data"].as_array().expect("a list") {
        let url = talk.url(&format!("/models/{}", model["id"].as_str().expect("an id")));
        let one: Value = talk.client.get(url).send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(&one, model);
    }
    assert_eq!(list["data"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn a_whole_answer_has_every_field() {
    let talk = Talk::start();
    let (status, answer) = talk.post("/chat/completions", &request("Hello there")).await;
    assert_eq!((status, &answer["object"], &answer["model"]), (200, &json!("chat.completion"), &json!("demo-fast")));
    let choice = &answer["choices"][0];
    assert!(choice["message"]["content"].as_str().expect("text").contains("Hello there"));
    assert_eq!((&choice["finish_reason"], choice.get("logprobs")), (&json!("stop"), Some(&Value::Null)));
    assert_eq!(choice["message"].get("refusal"), Some(&Value::Null));
    assert_eq!(answer["usage"]["prompt_tokens"], 2);
    let (_, again) = talk.post("/chat/completions", &request("Hello there")).await;
    assert_eq!(answer["choices"], again["choices"]);
    assert_ne!(answer["id"], again["id"]);
}

#[tokio::test]
async fn a_stream_has_the_chunks_in_their_order() {
    let talk = Talk::start();
    let body = with(request("count to 3"), json!({ "stream": true, "stream_options": { "include_usage": true }, "n": 2 }));
    let events = talk.stream("/chat/completions", &body).await;
    let (done, chunks) = events.split_last().expect("events");
    assert_eq!(done, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).expect("JSON")).collect();
    let (usage, chunks) = chunks.split_last().expect("chunks");
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(6)));
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null() && chunk["id"] == usage["id"] && chunk["created"] == usage["created"]));
    let second: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == 1).collect();
    let deltas: Vec<&Value> = second.iter().map(|choice| &choice["delta"]).collect();
    let text = |text: &str| json!({ "content": text });
    assert_eq!(deltas, [&json!({ "role": "assistant", "content": "" }), &text("1 "), &text("2 "), &text("3"), &json!({})]);
    let finishes: Vec<&Value> = second.iter().map(|choice| &choice["finish_reason"]).collect();
    assert_eq!(finishes, [&Value::Null, &Value::Null, &Value::Null, &Value::Null, &json!("stop")]);
    let plain = talk.stream("/chat/completions", &with(request("count to 3"), json!({ "stream": true }))).await;
    assert!(plain.iter().all(|event| !event.contains("usage") && !event.contains("\"choices\":[]")));
}

#[tokio::test]
async fn tool_calls_stream_piece_by_piece_and_their_results_are_read() {
    let talk = Talk::start();
    let body = with(request("the weather in Paris and the time"), tools());
    let events = talk.stream("/chat/completions", &with(body.clone(), json!({ "stream": true }))).await;
    let mut calls = vec![(String::new(), String::new(), String::new()); 2];
    for event in events.iter().filter(|event| *event != "[DONE]") {
        let chunk: Value = serde_json::from_str(event).expect("JSON");
        for call in chunk["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let (id, name, arguments) = &mut calls[call["index"].as_u64().expect("an index") as usize];
            id.push_str(call["id"].as_str().unwrap_or_default());
            name.push_str(call["function"]["name"].as_str().unwrap_or_default());
            arguments.push_str(call["function"]["arguments"].as_str().expect("arguments"));
        }
    }
    assert_eq!((calls[0].1.as_str(), calls[0].2.as_str()), ("get_weather", r#"{"city":"Paris"}"#));
    assert_eq!((calls[1].1.as_str(), calls[1].2.as_str()), ("get_time", "{}"));
    assert!(events[events.len() - 2].contains(r#""finish_reason":"tool_calls""#));

    let (_, answer) = talk.post("/chat/completions", &body).await;
    let mut next = body;
    let asking = answer["choices"][0]["message"].clone();
    let ids: Vec<String> =
        asking["tool_calls"].as_array().expect("calls").iter().map(|call| call["id"].as_str().expect("an id").to_owned()).collect();
    let messages = next["messages"].as_array_mut().expect("a list");
    messages.push(asking);
    messages.push(json!({ "role": "tool", "tool_call_id": ids[0], "content": "rain" }));
    let (status, error) = talk.post("/chat/completions", &next).await;
    assert_eq!(status, 400, "{error}");
    assert!(error["error"]["message"].as_str().expect("a message").contains(&ids[1]));
    next["messages"].as_array_mut().expect("a list").push(json!({ "role": "tool", "tool_call_id": ids[1], "content": "noon" }));
    let (_, answer) = talk.post("/chat/completions", &next).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "get_weather says: rain\n\nget_time says: noon");
}

#[tokio::test]
async fn the_reasoner_thinks_first_and_schemas_are_met() {
    let talk = Talk::start();
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let format = json!({ "model": "demo-reasoner", "response_format": { "type": "json_schema", "json_schema": { "name": "place", "schema": schema } } });
    let (_, answer) = talk.post("/chat/completions", &with(request("live in Rome"), format)).await;
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], r#"{"city":"Rome"}"#);
    assert!(message["reasoning_content"].as_str().is_some_and(|text| !text.is_empty()));
    assert!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64() > Some(0));
}

#[tokio::test]
async fn responses_are_whole_or_events() {
    let talk = Talk::start();
    let body = json!({ "model": "demo-fast", "input": [{ "role": "user", "content": [{ "type": "input_text", "text": "count to 2" }] }] });
    let (status, answer) = talk.post("/responses", &body).await;
    assert_eq!((status, &answer["status"], &answer["output"][0]["content"][0]["text"]), (200, &json!("completed"), &json!("1 2")));
    let events = talk.stream("/responses", &with(body, json!({ "stream": true }))).await;
    let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).expect("JSON")).collect();
    assert!(events.iter().enumerate().all(|(i, event)| event["sequence_number"] == i));
    assert_eq!((&events[0]["type"], &events.last().expect("an end")["type"]), (&json!("response.created"), &json!("response.completed")));
    let text: String =
        events.iter().filter(|event| event["type"] == "response.output_text.delta").filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(text, "1 2");
}

#[tokio::test]
async fn embeddings_are_near_for_near_texts() {
    let talk = Talk::start();
    let input = json!(["the cat sat on the mat", "the cat sat on a mat", "quarterly tax report"]);
    let (_, answer) = talk.post("/embeddings", &json!({ "model": "demo", "input": input })).await;
    let vector =
        |i: usize| -> Vec<f64> { answer["data"][i]["embedding"].as_array().expect("a vector").iter().filter_map(Value::as_f64).collect() };
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    assert!((near(&vector(0), &vector(0)) - 1.0).abs() < 1e-4);
    assert!(near(&vector(0), &vector(1)) > near(&vector(0), &vector(2)) + 0.3);
    let (_, packed) =
        talk.post("/embeddings", &json!({ "model": "demo", "input": "cat", "encoding_format": "base64", "dimensions": 3 })).await;
    assert_eq!(packed["data"][0]["embedding"].as_str().map(str::len), Some(16));
}

#[tokio::test]
async fn bad_input_gets_an_error_in_openais_form() {
    let talk = Talk::start();
    let role = json!({ "messages": [{ "role": "wizard", "content": "" }] });
    let choice = json!({ "tool_choice": { "type": "function", "function": { "name": "fly" } } });
    let cases = [
        ("/chat/completions", with(request("x"), json!({ "model": "gpt-9" })), 404, "model", "model_not_found"),
        ("/chat/completions", json!({ "model": "demo" }), 400, "messages", "missing_required_parameter"),
        ("/chat/completions", json!({ "messages": [] }), 400, "model", "missing_required_parameter"),
        ("/chat/completions", with(request("x"), role), 400, "messages[0]", "invalid_value"),
        ("/chat/completions", with(request("x"), json!({ "stream": 1 })), 400, "stream", "invalid_type"),
        ("/chat/completions", with(request("x"), json!({ "max_tokens": 0 })), 400, "max_tokens", "invalid_value"),
        ("/chat/completions", with(request("x"), choice), 400, "tool_choice", "invalid_value"),
        ("/responses", json!({ "model": "demo" }), 400, "input", "missing_required_parameter"),
        ("/embeddings", json!({ "model": "demo", "input": [] }), 400, "input", "invalid_value"),
    ];
    for (path, body, status, param, code) in cases {
        let (got, answer) = talk.post(path, &body).await;
        assert_eq!((got, &answer["error"]["param"], &answer["error"]["code"]), (status, &json!(param), &json!(code)), "{body}");
        assert!(answer["error"]["type"].is_string() && answer["error"]["message"].is_string());
    }
    assert_eq!(talk.post("/audio/speech", &json!({})).await.0, 404);
    assert_eq!(talk.client.get(talk.url("/embeddings")).send().await.expect("an answer").status(), 405);
    let broken = talk.client.post(talk.url("/chat/completions")).body("{").send().await.expect("an answer");
    assert_eq!(broken.status(), 400);
}

#[tokio::test]
async fn words_leave_one_by_one() {
    let talk = Talk::start();
    let body = with(request("count to 10"), json!({ "model": "demo", "stream": true }));
    let began = std::time::Instant::now();
    assert_eq!(talk.stream("/chat/completions", &body).await.len(), 13);
    assert!(began.elapsed() >= Duration::from_millis(12 * 15), "there was no pause between the words");
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let talk = Talk::start();
    let body = with(request("count to 10000"), json!({ "model": "demo", "stream": true }));
    let mut response = talk.client.post(talk.url("/chat/completions")).json(&body).send().await.expect("an answer");
    let Talk { demo, client } = talk;
    let url = format!("{}/models", demo.base_url());
    drop(demo);
    while let Ok(chunk) = response.chunk().await {
        assert!(chunk.is_some(), "the stream ended as if it were complete");
    }
    assert!(client.get(url).send().await.is_err());
}
