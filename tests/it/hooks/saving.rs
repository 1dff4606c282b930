//! A saved script is live within a second: in the next run, never in one that has begun, and not at all if it is broken.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::oneshot;

use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::{asked, reply, spoken};
use crate::support::{Exchange, FakeMcp, Gateway, ScriptedModel, Setup, Step, within};

/// An agent with a tool, and an alias.
const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
models:
  fast: { upstream: lm, model: scripted, hooks: [aliases/h.lua] }
agents:
  - name: Assistant
    model: scripted
    hooks: [scripts/h.lua]
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
"#;

/// The hooks of both. With `parrot` the reply is `WORD 1MARK`: the script's word, how many model calls its instance has seen, and the
/// mark of its sibling, which it does not require before the end of the run.
const SCRIPT: &str = r#"local script, n = {}, 0
function script.pre_prompt(prompt)
  n = n + 1
  prompt.messages[1].content = "WORD " .. n
end
function script.post_response(reply)
  reply.content = reply.content .. require "lib"
end
return script
"#;

/// Model, and the folder of its script.
const BOTH: [(&str, &str); 2] = [("Assistant", "scripts"), ("fast", "aliases")];

/// How soon a script is live that was saved.
const SOON: Duration = Duration::from_secs(1);

fn script(word: &str) -> String {
    SCRIPT.replace("WORD", word)
}

fn lib(mark: &str) -> String {
    format!("return '{mark}'\n")
}

/// A model that says what it was told first.
async fn parrot(exchange: Exchange) {
    let request = exchange.request.json();
    reply(exchange, spoken(request["messages"][0]["content"].as_str().unwrap_or("nothing")), "stop").await;
}

struct Stage {
    gateway: Gateway,
    model: ScriptedModel,
    _mcp: FakeMcp,
}

impl Stage {
    /// Both models have this script beside this `lib.lua`.
    async fn new<const N: usize>(script: &str, lib: &str, steps: [Step; N]) -> Self {
        let mcp = FakeMcp::start([Tool::weather()]).await;
        let model = ScriptedModel::start(steps).await;
        let setup = BOTH.iter().fold(Setup::new(CONFIG), |setup, (_, folder)| {
            setup.file(&format!("{folder}/h.lua"), script).file(&format!("{folder}/lib.lua"), lib)
        });
        let gateway = setup.env("LM", model.url()).env("MCP", mcp.url()).start().await;
        Stage { gateway, model, _mcp: mcp }
    }

    async fn says(&self, model: &str) -> String {
        self.gateway.chat(model, json!({})).answer().await.content()
    }

    /// Asks until the model says this.
    async fn comes_to_say(&self, model: &str, expected: &str) {
        let says = async { while self.says(model).await != expected {} };
        within(20, &format!("{expected:?} from {model}"), says).await;
    }

    /// Saves with each of these texts in turn, until one is live as soon as it should be: a busy machine may miss it once.
    async fn is_soon_live(&self, model: &str, save: impl Fn(&str), said: impl Fn(&str) -> String, texts: [&str; 2]) {
        let mut took = Duration::MAX;
        for text in texts {
            let saved = Instant::now();
            save(text);
            self.comes_to_say(model, &said(text)).await;
            took = saved.elapsed();
            if took <= SOON {
                return;
            }
        }
        panic!("live after {took:?}");
    }
}

/// The script of an agent or alias, written in place or put there by a rename, and the file that it requires.
#[tokio::test]
async fn live_in_the_next_run() {
    let stage = Stage::new(&script("one"), &lib("!"), [Step::every_chat(parrot)]).await;
    for (model, folder) in BOTH {
        assert_eq!(stage.says(model).await, "one 1!");
        let (path, beside) = (format!("{folder}/h.lua"), format!("{folder}/h.lua~"));
        let write = |word: &str| stage.gateway.write(&path, &script(word));
        stage.is_soon_live(model, write, |word| format!("{word} 1!"), ["two", "three"]).await;
        let rename = |word: &str| {
            stage.gateway.write(&beside, &script(word));
            std::fs::rename(stage.gateway.path(&beside), stage.gateway.path(&path)).unwrap();
        };
        stage.is_soon_live(model, rename, |word| format!("{word} 1!"), ["four", "five"]).await;
        stage.gateway.write(&path, &script("six"));
        stage.comes_to_say(model, "six 1!").await;
        let sibling = |mark: &str| stage.gateway.write(&format!("{folder}/lib.lua"), &lib(mark));
        stage.is_soon_live(model, sibling, |mark| format!("six 1{mark}"), ["?", "."]).await;
    }
}

/// A run that waits for its model while script and sibling are saved uses the old ones to its end: the same instance, whose count goes on.
/// A run that begins meanwhile has new ones.
#[tokio::test]
async fn never_in_a_run_in_flight() {
    for ((model, folder), expected) in BOTH.into_iter().zip(["one 2!", "one 1!"]) {
        let (open, gate) = oneshot::channel::<()>();
        let held = Step::chat(move |exchange| async move {
            gate.await.unwrap();
            match exchange.request.json()["tools"].is_array() {
                true => reply(exchange, asked(&[("a", "get_weather", r#"{"city":"Paris"}"#)]), "tool_calls").await,
                false => parrot(exchange).await,
            }
        });
        let stage = Stage::new(&script("one"), &lib("!"), [held, Step::every_chat(parrot)]).await;
        let running = tokio::spawn(stage.gateway.chat(model, json!({})).answer());
        stage.model.request(1).await;
        stage.gateway.write(&format!("{folder}/h.lua"), &script("two"));
        stage.gateway.write(&format!("{folder}/lib.lua"), &lib("?"));
        stage.gateway.logged("configuration reloaded").await;
        stage.comes_to_say(model, "two 1?").await;
        assert!(!running.is_finished());
        open.send(()).unwrap();
        let answer = within(10, "the end of the run", running).await.unwrap();
        assert_eq!(answer.content(), expected, "{model}");
        assert_eq!(stage.says(model).await, "two 1?");
    }
}

/// A broken save is refused with its file and line, and the old script serves on until it is repaired.
#[tokio::test]
async fn not_if_it_is_broken() {
    let script = |word: &str| format!("local _ = require 'lib'\n{}", script(word));
    let stage = Stage::new(&script("one"), &lib("!"), [Step::every_chat(parrot)]).await;
    for (model, folder) in BOTH {
        let (path, sibling) = (format!("{folder}/h.lua"), format!("{folder}/lib.lua"));
        let broken = [
            (&path, script("broken").replace("return script", "return ]"), format!("{path}:10:1: Expected")),
            (&path, script("broken").replace("post_response", "post_respons"), format!("{path}:7:1: `post_respons` is not a hook")),
            (&path, script("broken").replace("'lib'", "'gone'"), format!("{path}:1:1: there is no `gone.lua`")),
            (&sibling, "\nreturn ]".to_owned(), format!("{sibling}:2:1: Expected")),
        ];
        let mut said = "one 1!".to_owned();
        for (n, (file, text, fault)) in broken.into_iter().enumerate() {
            stage.gateway.write(file, &text);
            stage.gateway.logged(&format!("the old one serves on: {fault}")).await;
            assert_eq!(stage.says(model).await, said, "after {fault}");
            stage.gateway.write(&sibling, &lib("!"));
            stage.gateway.write(&path, &script(&format!("repaired{n}")));
            said = format!("repaired{n} 1!");
            stage.comes_to_say(model, &said).await;
        }
    }
}

/// Nothing that a script keeps outlives its run, with or without a save between the runs.
#[tokio::test]
async fn each_run_starts_anew() {
    let counting = |word: &str| {
        format!(
            "local n, lib = 0, require 'lib'
             seen = 0
             return {{ pre_prompt = function(prompt, run)
               n, seen, lib.n, run.state.n = n + 1, seen + 1, lib.n + 1, (run.state.n or 0) + 1
               return run:answer('{word} ' .. n .. seen .. lib.n .. run.state.n)
             end }}"
        )
    };
    let stage = Stage::new(&counting("one"), "return { n = 0 }", []).await;
    for (word, (model, folder)) in ["two", "three"].into_iter().zip(BOTH) {
        for _ in 0..3 {
            assert_eq!(stage.says(model).await, "one 1111");
        }
        stage.gateway.write(&format!("{folder}/h.lua"), &counting(word));
        stage.comes_to_say(model, &format!("{word} 1111")).await;
        assert_eq!(stage.says(model).await, format!("{word} 1111"));
    }
}
