//! Requests of runs, in the words that the server knows.

use serde_json::{Value, json};

use super::gateway;
use crate::support::fake_mcp::Tool;
use crate::support::{FakeMcp, ScriptedModel, Step};

/// What the server receives of a request with these fields.
async fn received(repair: &str, fields: Value) -> Value {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::says("Good.")]).await;
    let gateway = gateway(repair, &model, &mcp).await;
    assert_eq!(gateway.chat("Assistant", fields).answer().await.content(), "Good.");
    model.request(1).await.json()
}

fn roles(request: &Value) -> Vec<String> {
    request["messages"].as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap().to_owned()).collect()
}

/// `developer` is `system` to a server that may not know it, unless it is to be sent as it is.
#[tokio::test]
async fn the_role_of_instructions() {
    let messages = || json!({ "messages": [{ "role": "developer", "content": "x" }, { "role": "user", "content": "hi" }] });
    assert_eq!(roles(&received("", messages()).await), ["system", "user"]);
    assert_eq!(roles(&received(", repair: { developer_role: keep }", messages()).await), ["developer", "user"]);
    let system = json!({ "messages": [{ "role": "system", "content": "x" }, { "role": "user", "content": "hi" }] });
    assert_eq!(roles(&received(", repair: { developer_role: developer }", system).await), ["developer", "user"]);
}

/// The limit of tokens leaves under the name that the server knows; two of them become one.
#[tokio::test]
async fn the_name_of_the_limit() {
    let names = |request: &Value| -> Vec<String> {
        request
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| name.contains("tokens"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    };
    let new = || json!({ "max_completion_tokens": 7 });
    let old = || json!({ "max_tokens": 7 });
    assert_eq!(names(&received("", new()).await), ["max_tokens=7"]);
    assert_eq!(names(&received("", old()).await), ["max_tokens=7"]);
    assert_eq!(names(&received("", json!({ "max_completion_tokens": 7, "max_tokens": 9 })).await), ["max_tokens=7"]);
    assert_eq!(names(&received(", repair: { max_tokens: max_completion_tokens }", old()).await), ["max_completion_tokens=7"]);
    assert_eq!(names(&received(", repair: { max_tokens: keep }", new()).await), ["max_completion_tokens=7"]);
}
