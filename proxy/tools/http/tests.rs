//! HTTP tools against a small server: templates, results, sizes, failures.

use serde_json::json;

use super::*;
use crate::tools::testing::{Fake, Reply};

fn doc(value: Value) -> ToolDoc {
    let mut fields = json!({ "name": "t", "provider": "http" });
    fields.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
    serde_json::from_value(fields).unwrap()
}

fn tool(value: Value) -> HttpTool {
    let egress = Egress::new(&Default::default()).unwrap();
    HttpTool::new(&doc(value), &egress).unwrap_or_else(|faults| panic!("{faults:?}"))
}

async fn call(tool: &HttpTool, arguments: Value) -> ToolResult {
    tool.call(arguments.as_object().unwrap()).await
}

#[tokio::test]
async fn arguments_find_their_places() {
    let fake = Fake::start(|_| Reply::json(json!({ "items": [{ "title": "a" }] }))).await;
    let url = fake.url("/s/{kind}?q={query}");
    let get = tool(json!({ "url": url, "headers": { "x-user": "u-{user}" }, "result": "$.items[*].title" }));
    let result = call(&get, json!({ "kind": "a/b", "query": "x&y", "user": "é", "page": 2, "tags": ["a", "b"] })).await;
    assert_eq!(result, ToolResult::ok("a"));
    let seen = fake.seen().pop().unwrap();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/s/a%2Fb?q=x%26y&page=2&tags=a&tags=b"));
    assert_eq!(seen.header("x-user"), Some("u-é"));

    let post = tool(json!({ "url": url, "method": "post" }));
    call(&post, json!({ "kind": "a", "query": "b", "page": 2, "none": null })).await;
    let seen = fake.seen().pop().unwrap();
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.body.as_str()), ("POST", "/s/a?q=b", r#"{"page":2}"#));
    assert_eq!(seen.header("content-type"), Some("application/json"));

    let body = tool(json!({ "url": fake.url("/"), "method": "PUT", "body": { "deep": ["{n}"] } }));
    call(&body, json!({ "n": 5 })).await;
    assert_eq!(fake.seen().pop().unwrap().body, r#"{"deep":[5]}"#);
}

#[tokio::test]
async fn a_header_cannot_be_broken_out_of() {
    let fake = Fake::start(|_| Reply::text(200, "")).await;
    let tool = tool(json!({ "url": fake.url("/"), "headers": { "x-user": "{user}" } }));
    let result = call(&tool, json!({ "user": "a\r\nx-admin: 1" })).await;
    assert!(result.is_error && result.content.contains("line breaks"), "{result:?}");
    assert!(fake.seen().is_empty());
    // Not given, not sent.
    assert!(!call(&tool, json!({})).await.is_error);
    assert_eq!(fake.seen().pop().unwrap().header("x-user"), None);
}

#[tokio::test]
async fn failures_are_results() {
    let fake = Fake::start(|request| match request.target.as_str() {
        "/close" => Reply::Close,
        _ => Reply::text(404, "no such city"),
    })
    .await;
    let result = call(&tool(json!({ "url": fake.url("/x") })), json!({})).await;
    assert_eq!(result, ToolResult::error("HTTP 404 Not Found: no such city"));
    let result = call(&tool(json!({ "url": fake.url("/close") })), json!({})).await;
    assert!(result.is_error && !result.content.contains("127.0.0.1"), "{result:?}");
    let result = call(&tool(json!({ "url": "http://127.0.0.1:1/" })), json!({})).await;
    assert!(result.is_error && result.content.starts_with("no connection to the server"), "{result:?}");
}

#[tokio::test]
async fn a_models_address_may_not_be_private() {
    let fake = Fake::start(|_| Reply::text(200, "secret")).await;
    let fetch = tool(json!({ "url": "{url}" }));
    let host = tool(json!({ "url": format!("http://{{host}}:{}/", fake.address.port()) }));
    for (tool, arguments) in [
        (&fetch, json!({ "url": fake.url("/") })),
        (&fetch, json!({ "url": format!("http://0x7f.1:{}/", fake.address.port()) })),
        (&fetch, json!({ "url": format!("http://[::ffff:127.0.0.1]:{}/", fake.address.port()) })),
        (&fetch, json!({ "url": format!("http://localhost:{}/", fake.address.port()) })),
        (&host, json!({ "host": "127.0.0.1" })),
        (&host, json!({ "host": "localhost" })),
    ] {
        let result = call(tool, arguments.clone()).await;
        assert!(result.is_error && result.content.contains("may not be reached"), "{arguments}: {result:?}");
    }
    assert!(fake.seen().is_empty());
}

#[test]
fn faults_have_their_keys() {
    let egress = Egress::new(&Default::default()).unwrap();
    for (value, keys) in [
        (json!({}), vec!["url"]),
        (json!({ "url": "https://x.example/#{a}" }), vec!["url"]),
        (json!({ "url": "https://x.example/", "method": "TRACE" }), vec!["method"]),
        (json!({ "url": "https://x.example/", "result": "$.[" }), vec!["result"]),
        (json!({ "url": "https://x.example/", "body": {} , "method": "GET" }), vec!["body"]),
        (
            json!({ "url": "https://x.example/", "headers": { "host": "a", "a b": "c", "x": "a\nb" } }),
            vec!["headers.host", "headers.a b", "headers.x"],
        ),
        (
            json!({ "url": "https://x.example/{typo}", "body": "{other}", "method": "POST",
            "parameters": { "properties": { "name": {} } } }),
            vec!["url", "body"],
        ),
    ] {
        let faults = HttpTool::new(&doc(value.clone()), &egress).err().unwrap_or_default();
        assert_eq!(faults.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), keys, "{value}: {faults:?}");
    }
}

#[test]
fn parameters_can_be_left_to_the_template() {
    let tool = tool(json!({ "url": "https://x.example/{id}?q={q}", "method": "POST", "body": "{text}" }));
    let want = json!({
        "type": "object",
        "properties": { "id": { "type": "string" }, "q": { "type": "string" }, "text": { "type": "string" } },
        "required": ["id"],
    });
    assert_eq!(tool.default_parameters(), want);
}
