//! How scripts wait for what is outside: side by side, not on their CPU time, cancelled with the client, and never where nobody could wait.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Barrier, oneshot};

use crate::support::fake_mcp::{Tool, ToolAnswer};
use crate::support::scripted_model::{reply, spoken};
use crate::support::{Answer, FakeMcp, Gateway, Request, ScriptedModel, Setup, Step, within};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
egress: { allow: [localhost] }
agents:
  - name: Asker
    model: scripted
    hooks: [scripts/h.lua]
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
"#;

/// A script whose `pre_prompt` is `body`, with the modules that reach out at hand. `tell(...)` answers the client with the values, as JSON.
pub fn script(body: &str) -> String {
    format!(
        r#"
local agent, http, json, llm, mcp = require "std.agent", require "std.http", require "std.json", require "std.llm", require "std.mcp"
local parallel, python, store, time = require "std.parallel", require "std.python", require "std.store", require "std.time"
local tools = require "std.tools"
return {{
  pre_prompt = function(prompt, run)
    local function tell(...)
      local told = {{ ... }}
      for i = 1, select('#', ...) do told[i] = if told[i] == nil then json.null else told[i] end
      return run:answer(json.encode(json.array(told)))
    end
    {body}
  end,
}}"#
    )
}

/// What the script told.
pub fn told(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    serde_json::from_str(&answer.content()).unwrap()
}

/// A web server, an MCP server, and the gateway whose script finds their addresses in the place of `WEB`. No model is there.
struct World {
    web: ScriptedModel,
    gateway: Gateway,
    _mcp: FakeMcp,
}

impl World {
    async fn start<const N: usize>(body: &str, tool: Tool, steps: [Step; N]) -> World {
        let (web, mcp) = (ScriptedModel::start(steps).await, FakeMcp::start([tool]).await);
        let setup = Setup::new(CONFIG).file("scripts/h.lua", &script(&body.replace("WEB", &web.origin())));
        let gateway = setup.env("LM", web.url()).env("MCP", mcp.url()).start().await;
        World { web, gateway, _mcp: mcp }
    }

    fn ask(&self) -> Request {
        self.gateway.chat("Asker", json!({}))
    }
}

/// A page that comes when all who wait at the barrier are there.
fn meets(path: &'static str, barrier: &Arc<Barrier>) -> Step {
    let barrier = barrier.clone();
    Step::at("GET", path, move |e| async move {
        barrier.wait().await;
        e.respond(200, &[], path.as_bytes()).await;
    })
}

/// A page that never comes; tells when its client has left.
fn endless(path: &'static str) -> (Step, oneshot::Receiver<()>) {
    let (tell, gone) = oneshot::channel();
    let step = Step::at("GET", path, |mut e| async move {
        e.client_gone().await;
        let _ = tell.send(());
    });
    (step, gone)
}

/// A page, a tool and a model that answer only once all three are asked; the results stand in the order of the functions.
#[tokio::test]
async fn parallel_is_side_by_side() {
    let barrier = Arc::new(Barrier::new(3));
    let met = barrier.clone();
    let model = Step::chat(|e| async move {
        met.wait().await;
        reply(e, spoken("from the model"), "stop").await;
    });
    let met = barrier.clone();
    let tool = Tool::new("current", json!({ "type": "object" }), move |_| {
        let met = met.clone();
        async move {
            met.wait().await;
            ToolAnswer::Text("from the tool".into())
        }
    });
    let body = r#"
      return tell(parallel.all(
        function() return (assert(llm.ask "well?")) end,
        function() return (assert(tools.call("get_weather", {}))) end,
        function() return assert(http.get "WEB/page").body end,
        function() return nil end))"#;
    let world = World::start(body, tool, [model, meets("/page", &barrier)]).await;
    assert_eq!(told(&world.ask().answer().await), [json!("from the model"), json!("from the tool"), json!("/page"), Value::Null]);
}

/// An error in one function ends the others and what they wait for, there and then: a page that comes once that is so, the hook still reads.
#[tokio::test]
async fn an_error_ends_what_stands_beside_it() {
    let barrier = Arc::new(Barrier::new(2));
    let met = barrier.clone();
    let (tell, gone) = oneshot::channel::<()>();
    let waits = Step::at("GET", "/waits", |mut e| async move {
        met.wait().await;
        e.client_gone().await;
        let _ = tell.send(());
    });
    let after = Step::at("GET", "/after", |e| async move {
        within(5, "the end of the other request", gone).await.unwrap();
        e.respond(200, &[], b"went on").await;
    });
    let body = r#"
      local ok, why = pcall(parallel.all,
        function() return http.get "WEB/waits" end,
        function() http.get "WEB/fails" error "it broke" end)
      return tell(ok, tostring(why), assert(http.get "WEB/after").body)"#;
    let world = World::start(body, Tool::weather(), [waits, meets("/fails", &barrier), after]).await;
    let answer = told(&world.ask().answer().await);
    assert_eq!((&answer[0], &answer[2]), (&json!(false), &json!("went on")));
    assert!(answer[1].as_str().unwrap().contains("it broke"), "{}", answer[1]);
}

/// Where nobody could wait, a script is told so, for each module that waits: in a coroutine of its own ...
#[tokio::test]
async fn a_coroutine_of_the_scripts_own_cannot_wait() {
    let body = r#"
      local said = {}
      for name, wait in {
        http = function() http.get "WEB/never" end,
        mcp = function() mcp.call("weather", "current", { city = "Paris" }) end,
        tools = function() tools.call("get_weather", { city = "Paris" }) end,
        llm = function() llm.ask "well?" end,
        agent = function() agent.run("Asker", "well?") end,
        store = function() store.get "key" end,
        python = function() python.call "a:b" end,
        parallel = function() parallel.all(function() end) end,
        time = function() time.sleep(1) end,
      } do
        local ok, why = coroutine.resume(coroutine.create(wait))
        said[name] = if ok then "did not fail" else tostring(why)
      end
      return tell(said)"#;
    let world = World::start(body, Tool::weather(), []).await;
    let said = told(&world.ask().answer().await)[0].clone();
    let said = said.as_object().unwrap();
    assert_eq!(said.len(), 9);
    for (module, why) in said {
        let why = why.as_str().unwrap();
        assert!(why.contains("coroutine of the script's own cannot") && why.contains(module), "{module}: {why}");
    }
}

/// ... and while it is loaded: that is the script's mistake, with its place.
#[tokio::test]
async fn a_script_cannot_wait_while_it_is_loaded() {
    let setup = Setup::new("upstreams: { demo: { kind: demo } }\nagents: [{ name: Asker, model: demo, hooks: [scripts/h.lua] }]\n");
    for wait in ["require('std.store').get 'key'", "require('std.http').get 'http://localhost/'", "require('std.time').sleep(0)"] {
        let source = format!("-- A script that waits.\n{wait}\nreturn {{ pre_prompt = function() end }}");
        std::fs::create_dir_all(setup.root().join("scripts")).unwrap();
        std::fs::write(setup.root().join("scripts/h.lua"), source).unwrap();
        let checked = setup.run(&["check"]).await;
        let said = checked.stdout + &checked.stderr;
        assert_eq!(checked.code, Some(1), "{said}");
        assert!(said.contains("scripts/h.lua:2") && said.contains("cannot while it is loaded; call it in a hook"), "{said}");
    }
}

/// Waiting is not CPU time: a page that comes after several times the hook's budget is read, and so is what follows it.
#[tokio::test]
async fn waiting_does_not_count() {
    let slow = |path| {
        Step::at("GET", path, |e| async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            e.respond(200, &[], b"late").await;
        })
    };
    let world =
        World::start(r#"return tell(http.get("WEB/a").body, http.get("WEB/b").body)"#, Tool::weather(), [slow("/a"), slow("/b")]).await;
    assert_eq!(told(&world.ask().answer().await), ["late", "late"]);
}

/// A client that leaves takes with it what its hooks wait for, one or many.
#[tokio::test]
async fn a_client_that_leaves_cancels_the_wait() {
    for streamed in [false, true] {
        let (alone, gone) = endless("/alone");
        let world = World::start(r#"http.get "WEB/alone""#, Tool::weather(), [alone]).await;
        let client = world.gateway.chat("Asker", json!({ "stream": streamed })).send().await;
        world.web.request(1).await;
        drop(client);
        within(5, "the end of the request", gone).await.unwrap();

        let ((a, a_gone), (b, b_gone)) = (endless("/a"), endless("/b"));
        let body = r#"parallel.all(function() parallel.all(function() http.get "WEB/a" end) end, function() http.get "WEB/b" end)"#;
        let world = World::start(body, Tool::weather(), [a, b]).await;
        let client = world.gateway.chat("Asker", json!({ "stream": streamed })).send().await;
        world.web.request(2).await;
        drop(client);
        within(5, "the end of the first request", a_gone).await.unwrap();
        within(5, "the end of the second request", b_gone).await.unwrap();
        assert_eq!(world.web.requests().len(), 2, "the model is not asked");
    }
}

/// A function that is not there, on a gateway with Python or without: scripts are told, and a name that is none is their mistake.
#[tokio::test]
async fn python_says_what_is_not_there() {
    let body = r#"return tell(select(2, python.call("agents.tools.calc:evaluate", { x = 1 })), select(2, pcall(python.call, "calc")))"#;
    let world = World::start(body, Tool::weather(), []).await;
    let said = told(&world.ask().answer().await);
    let why = said[0].as_str().unwrap();
    assert!(why.contains("built without Python") || why.contains("agents"), "{why}");
    assert!(said[1].as_str().unwrap().contains("the name is \"module:function\""), "{}", said[1]);
}
