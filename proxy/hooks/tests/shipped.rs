//! The scripts that come with the gateway.

use super::*;

fn shipped(name: &str, config: Value) -> Arc<Hooks> {
    let entry = options(name, |options| options.config = object(config));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    Arc::new(Hooks::load(&[entry], root).unwrap_or_else(|faults| panic!("{faults:?}")))
}

#[tokio::test]
async fn redact_lets_no_address_reach_the_model() {
    let run = shipped("redact.lua", json!({})).begin(view(), nowhere());
    let mut prompt = prompt();
    prompt.messages = vec![
        Message::text("system", "write to help@example.com"),
        Message::text("user", "I am ada.lovelace+x@mail.example.co.uk, not @ada or 3 @ 4, and <bob@x.org>."),
        Message(object(
            json!({ "role": "user", "content": [{ "type": "text", "text": "a@b.de" }, { "type": "image_url", "image_url": { "url": "https://x@y.com/" } }] }),
        )),
        Message(object(json!({ "role": "assistant", "content": null, "tool_calls": [] }))),
        Message(object(json!({ "role": "tool", "tool_call_id": "1", "content": "from: c@d.org" }))),
    ];
    let before = prompt.clone();
    assert_eq!(run.pre_prompt(&mut prompt).await.unwrap(), Verdict::Continue);
    assert_eq!(prompt.messages[0], before.messages[0], "instructions are the operator's own");
    assert_eq!(prompt.messages[1].0["content"], "I am [email], not @ada or 3 @ 4, and <[email]>.");
    assert_eq!(prompt.messages[2].0["content"][0]["text"], "[email]");
    assert_eq!(prompt.messages[2].0["content"][1], before.messages[2].0["content"][1]);
    assert_eq!(prompt.messages[3], before.messages[3]);
    assert_eq!(prompt.messages[4].0["content"], "from: [email]");
}

#[tokio::test]
async fn tool_guard_refuses_what_is_over_the_limit_and_tells_the_model_why() {
    let limits = json!({ "limits": { "refund": { "amount": 100 } } });
    let run = shipped("tool_guard.lua", limits.clone()).begin(view(), nowhere());
    let mut large = call();
    let Verdict::Reject(message) = run.on_tool_call(&mut large).await.unwrap() else { panic!("not refused") };
    assert_eq!(message, "`refund` with amount 250 is over the limit of 100; a person has to approve it");
    for harmless in [json!({ "amount": 100 }), json!({ "amount": "much" }), json!({})] {
        let mut small = CallView { name: "refund".into(), arguments: object(harmless) };
        assert_eq!(run.on_tool_call(&mut small).await.unwrap(), Verdict::Continue);
    }
    let mut other = CallView { name: "search".into(), ..call() };
    assert_eq!(run.on_tool_call(&mut other).await.unwrap(), Verdict::Continue);

    let run = shipped("tool_guard.lua", json!({ "max_calls": 2 })).begin(view(), nowhere());
    assert_eq!(run.on_tool_call(&mut call()).await.unwrap(), Verdict::Continue);
    assert_eq!(run.on_tool_call(&mut call()).await.unwrap(), Verdict::Continue);
    assert!(matches!(run.on_tool_call(&mut call()).await.unwrap(), Verdict::Reject(_)));
}
