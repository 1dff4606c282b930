//! What passes from run to run: `std.store`, for all agents and beyond a reload; and nothing else, though a script tries.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::world::{script, told};
use crate::support::{Gateway, Setup};

const CONFIG: &str = r#"
upstreams: { demo: { kind: demo } }
agents:
  - { name: One, model: demo, hooks: [scripts/one.lua] }
  - { name: Two, model: demo, hooks: [scripts/two.lua] }
"#;

async fn gateway(one: &str, two: &str) -> Gateway {
    Setup::new(CONFIG).file("scripts/one.lua", one).file("scripts/two.lua", two).start().await
}

async fn tells(gateway: &Gateway, agent: &str) -> Vec<Value> {
    told(&gateway.chat(agent, json!({})).answer().await)
}

/// What one agent keeps, another reads in a later run, and still after a reload.
#[tokio::test]
async fn the_store_is_everybodys() {
    let keeps = script(r#"return tell(store.set("note", { text = "é", list = json.array {}, n = 1.5, deep = { { false } } }))"#);
    let reads = script(r#"return tell(store.get "note", store.get "nothing", store.ttl "note" == math.huge)"#);
    let gateway = gateway(&keeps, &reads).await;
    assert_eq!(tells(&gateway, "Two").await, [Value::Null, Value::Null, json!(false)]);
    assert_eq!(tells(&gateway, "One").await, [json!(true)]);
    let note = json!({ "text": "é", "list": [], "n": 1.5, "deep": [[false]] });
    assert_eq!(tells(&gateway, "Two").await, [note.clone(), Value::Null, json!(true)]);

    gateway.write("config/gateway.yaml", &CONFIG.replace("One", "Three"));
    gateway.write("scripts/two.lua", &reads.replace("nothing", "new"));
    assert_eq!(gateway.reload().await.status(), 200);
    gateway.chat("One", json!({})).answer().await;
    assert_eq!(tells(&gateway, "Two").await, [note, Value::Null, json!(true)], "what was kept before the reload");
    assert_eq!(tells(&gateway, "Three").await, [json!(true)], "the reload took place");
}

/// Every step is one: runs at the same time each get a number of their own, and one of them the place.
#[tokio::test]
async fn steps_are_whole() {
    let counts = script(
        r#"
      local n
      for _ = 1, 50 do n = assert(store.incr "n") end
      return tell(n, store.cas("place", nil, run.id), store.get "place" == run.id)"#,
    );
    let gateway = gateway(&counts, &counts).await;
    let all = join_all((0..8).map(|i| tells(&gateway, if i % 2 == 0 { "One" } else { "Two" }))).await;
    let mut last: Vec<u64> = all.iter().map(|told| told[0].as_f64().unwrap() as u64).collect();
    last.sort_unstable();
    last.dedup();
    assert_eq!((last.len(), last[7]), (8, 400), "{last:?}");
    let winners: Vec<_> = all.iter().filter(|told| told[1] == json!(true)).collect();
    assert_eq!(winners.len(), 1);
    assert!(all.iter().all(|told| told[1] == told[2]), "whoever was told that it has the place, has it: {all:?}");
}

/// What the operations say, of values and numbers, and of what cannot be kept.
#[tokio::test]
async fn operations_say_what_they_did() {
    let works = script(
        r#"
      return tell(
        store.incr("n", 5), store.incr("n", -7.5), store.get "n", store.ttl "n" == math.huge,
        store.cas("t", nil, { a = 1 }), store.cas("t", { a = 2 }, "new"), store.cas("t", { a = 1 }, "new"), store.get "t",
        store.cas("t", "new", nil), store.get "t",
        store.set("n", nil), store.get "n")"#,
    );
    let fails = script(
        r#"
      store.set("text", "x")
      local function why(done, why) assert(done == nil) return why end
      return tell(
        why(store.incr "text"), why(store.set("", 1)), why(store.set("large", ("x"):rep(2 ^ 20))), why(store.set("k", 1, { ttl = 0 })),
        tostring(select(2, pcall(store.set, "f", print))), tostring(select(2, pcall(store.get, 7))),
        store.get "large", store.get "k", store.get "f")"#,
    );
    let gateway = gateway(&works, &fails).await;
    let said = tells(&gateway, "One").await;
    assert_eq!(said[..4].iter().map(Value::as_f64).collect::<Vec<_>>(), [Some(5.0), Some(-2.5), Some(-2.5), None]);
    let (yes, no) = (json!(true), json!(false));
    assert_eq!(said[3..8], [yes.clone(), yes.clone(), no, yes.clone(), json!("new")]);
    assert_eq!(said[8..], [yes.clone(), Value::Null, yes, Value::Null]);
    let said = tells(&gateway, "Two").await;
    for (why, expected) in said.iter().zip(["no number", "1 to 512 bytes", "at most", "above 0", "function", "must be a string"]) {
        assert!(why.as_str().unwrap().contains(expected), "{why} has not {expected:?}");
    }
    assert_eq!(said[6..], [Value::Null, Value::Null, Value::Null]);
}

/// What has a time to live goes when it is over; a number keeps the one that it began with.
#[tokio::test]
async fn what_is_kept_for_a_time_goes() {
    let body = r#"
      store.set("long", 1, { ttl = 60 })
      store.set("short", 1, { ttl = 0.05 })
      assert(store.incr("n", 1, { ttl = 0.05 }) == 1 and store.incr("n", 1, { ttl = 60 }) == 2)
      while store.get "short" or store.get "n" do time.sleep(0.005) end
      local left = store.ttl "long"
      return tell(left > 0 and left <= 60, store.ttl "short", store.incr "n", store.get "long")"#;
    let gateway = gateway(&script(body), &script("")).await;
    assert_eq!(tells(&gateway, "One").await, [json!(true), Value::Null, json!(1), json!(1)]);
}

/// A script that leaves word for its next run wherever it can: in its globals and variables, in `run.state`, in the tables of a file that
/// it requires, in those of the standard library and of strings, in what a hook was given. No run finds any of it, of whatever agent.
#[tokio::test]
async fn runs_share_nothing_else() {
    let tries = r#"
local beside, json = require "beside", require "std.json"
local upvalue, kept = 0, nil
local function leave(where, table, found)
  local ok, word = pcall(function() local word = table.word table.word = "left" return word end)
  if ok and word ~= nil then found[#found + 1] = where end
end
return {
  pre_prompt = function(prompt, run)
    local found = {}
    if upvalue ~= 0 then found[#found + 1] = "an upvalue" end
    upvalue = 1
    if kept then found[#found + 1] = "an argument" end
    kept = prompt
    if word ~= nil then found[#found + 1] = "a global" end
    leave("_G", _G, found)
    word = "left"
    leave("run.state", run.state, found)
    leave("run", run, found)
    leave("run.config", run.config, found)
    leave("a file beside", beside, found)
    leave("its table", beside.inner, found)
    leave("std.json", json, found)
    leave("string", string, found)
    leave("table", table, found)
    leave("math", math, found)
    for _, name in { "http", "store", "text", "log", "cache", "test" } do
      local there, module = pcall(require, "std." .. name)
      if there then leave("std." .. name, module, found) end
    end
    for where, value in { text = "", null = json.null, list = json.array {}, verdict = run:answer "x", headers = run.headers, print = print } do
      local of = getmetatable(value)
      if type(of) == "table" then leave("the metatable of " .. where, of, found) end
      if type(value) == "table" then pcall(rawset, value, "word", "left") end
    end
    pcall(setmetatable, "", { __index = { word = "left" } })
    if ("").word ~= nil then found[#found + 1] = "strings" end
    if json.array({}).word ~= nil or run.headers.word ~= nil then found[#found + 1] = "a new table" end
    return run:answer(if #found == 0 then "nothing" else table.concat(found, ", "))
  end,
}"#;
    let setup = Setup::new(CONFIG).file("scripts/one.lua", tries).file("scripts/two.lua", tries);
    let gateway = setup.file("scripts/beside.lua", "return { inner = {} }").start().await;
    for agent in ["One", "One", "Two", "One", "Two"] {
        assert_eq!(gateway.chat(agent, json!({})).answer().await.content(), "nothing");
    }
    let at_once = (0..8).map(|_| gateway.chat("One", json!({})).answer());
    for answer in join_all(at_once).await {
        assert_eq!(answer.content(), "nothing");
    }
}

/// A run within a run has a state of its own, though both are of the same agent.
#[tokio::test]
async fn a_run_within_a_run_has_its_own_state() {
    let nests = script(
        r#"
      run.state.n = (run.state.n or 0) + 1
      word = (word or 0) + 1
      local inner = if #prompt.messages > 1 then "inner" else agent.run("One", { { role = "user", content = "a" }, { role = "user", content = "b" } }).content
      return tell(run.state.n, word, inner)"#,
    );
    let gateway = gateway(&nests, &nests).await;
    let told = tells(&gateway, "One").await;
    assert_eq!((told[0].as_f64(), told[1].as_f64()), (Some(1.0), Some(1.0)));
    assert_eq!(serde_json::from_str::<Value>(told[2].as_str().unwrap()).unwrap(), json!([1, 1, "inner"]));
}
