//! The same bugs in a hook of an alias under `models`, and in a run that is streamed: neither is a way round.

use serde_json::json;

use super::{Bug, SCRIPT, forecaster, harmless};
use crate::support::{ScriptedModel, Setup, Step};

/// What an alias fires, with the code of its failure.
const BUGS: [(Bug, &str); 7] = [
    (("on_request", "error('secret detail')", "4: secret detail"), "hook_error"),
    (("pre_prompt", "error('secret detail')", "4: secret detail"), "hook_error"),
    (("pre_prompt", "require('std.text').trim(nil)", "4: attempt to index nil with 'match'"), "hook_error"),
    (("pre_prompt", "return run:answer({ tool_calls = { { id = 'a' } } })", "2: run:answer(message): a hook's answer"), "hook_error"),
    (("pre_prompt", "it.messages = 7", "2: prompt.messages must be a list"), "hook_error"),
    (("pre_prompt", "while true do end", "4: the hook used up its CPU budget"), "hook_timeout"),
    (("pre_prompt", "string.rep('x', 2^30)", "2: not enough memory"), "hook_memory"),
];

/// Before the first byte has left, a streamed run fails with the same status and body as a whole one.
#[tokio::test]
async fn of_aliases_and_streams() {
    let model = ScriptedModel::start([Step::every_chat(forecaster)]).await;
    let mut config = String::from("upstreams: { lm: { base_url: \"${LM}\" } }\nmodels:\n");
    let mut setup = Setup::empty();
    for (n, ((point, bug, _), _)) in BUGS.iter().enumerate() {
        setup = setup.file(&format!("scripts/bug{n}.lua"), &SCRIPT.replace("POINT", point).replace("BUG", bug));
        config.push_str(&format!("  bug{n}: {{ upstream: lm, model: scripted, hooks: [scripts/bug{n}.lua] }}\n"));
    }
    let gateway = setup.file("config/gateway.yaml", &config).env("LM", model.url()).start().await;
    for (n, ((_, bug, logged), code)) in BUGS.iter().enumerate() {
        for stream in [false, true] {
            let ask = || gateway.chat(&format!("bug{n}"), json!({ "stream": stream }));
            let answer = ask().header("x-bug", "1").answer().await;
            assert_eq!(answer.assert_error(500, *code), harmless(code), "{bug}, stream: {stream}");
            let well = if stream { ask().stream().await.text() } else { ask().answer().await.content() };
            assert_eq!(well, "all is well", "after {bug}, stream: {stream}");
        }
        gateway.logged(&format!("scripts/bug{n}.lua:{logged}")).await;
    }
}
