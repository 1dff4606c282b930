//! Who sees what of whom, and who waits for a VM.

use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::hooks::Point;

const COUNTER: &str = "
    n = (n or 0) + 1
    local m = 0
    return {
      pre_prompt = function(prompt, run)
        m = m + 1
        run.state.n = (run.state.n or 0) + 1
        shared = (shared or 0) + 1
        prompt.seen = ('%d %d %d %d'):format(n, m, run.state.n, shared)
      end,
    }";

async fn seen(run: &HookRun) -> String {
    let mut prompt = prompt();
    run.pre_prompt(&mut prompt).await.unwrap();
    prompt.rest["seen"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_run_keeps_its_state_and_the_next_one_has_none_of_it() {
    let hooks = hooks(COUNTER);
    let run = hooks.begin(view(), nowhere());
    assert_eq!(seen(&run).await, "1 1 1 1");
    assert_eq!(seen(&run).await, "1 2 2 2");
    drop(run);
    assert_eq!(hooks.pool.n_idle(), 1);
    assert_eq!(seen(&hooks.begin(view(), nowhere())).await, "1 1 1 1", "on the same VM");
    assert_eq!(hooks.pool.n_idle(), 1);
}

#[tokio::test]
async fn two_entries_of_one_script_share_the_runs_state_and_nothing_else() {
    let scripts = Scripts::new(&[("x.lua", COUNTER)]);
    let hooks = scripts.load(&[entry("x.lua"), entry("x.lua")]);
    assert_eq!(seen(&hooks.begin(view(), nowhere())).await, "1 1 2 1");
}

#[tokio::test]
async fn a_script_requires_the_files_beside_it_as_they_were_at_load() {
    let scripts = Scripts::new(&[
        ("x.lua", "local y = require 'y' return { pre_prompt = function(p) y.n = y.n + 1 p.seen = y.n .. require('late').word end }"),
        ("y.lua", "assert(require 'std.json') return { n = 0 }"),
        ("late.lua", "return { word = 'old' }"),
        ("broken.lua", "return {"),
    ]);
    let hooks = scripts.load(&[entry("x.lua")]);
    std::fs::write(scripts.0.join("scripts/late.lua"), "return { word = 'new' }").unwrap();
    for _ in 0..2 {
        assert_eq!(seen(&hooks.begin(view(), nowhere())).await, "1old");
    }
}

#[tokio::test]
async fn no_vm_is_taken_for_a_point_that_no_script_defines() {
    let hooks = hooks("return { pre_prompt = function() end }");
    let run = hooks.begin(view(), nowhere());
    assert_eq!(run.on_tool_call(&mut call(), ANY).await.unwrap(), Verdict::Continue);
    assert!(!hooks.has(Point::OnToolCall) && run.vm.try_lock().unwrap().permit.is_none());
}

#[tokio::test]
async fn concurrent_calls_of_one_run_take_turns() {
    let run = begin(
        "return { on_tool_call = function(call, run) local n = run.state.n or 0 for i = 1, 1e5 do math.sin(i) end run.state.n = n + 1 return run:answer(run.state.n) end }",
    );
    let verdicts = join_all((0..4).map(|_| async { run.on_tool_call(&mut call(), ANY).await.unwrap() })).await;
    assert_eq!(verdicts, (1..=4).map(|n| Verdict::Answer(json!(n))).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn runs_beyond_the_bound_wait_in_order_and_deeper_ones_do_not_wait_for_them() {
    let hooks = hooks("return { pre_prompt = function() end }");
    let holding: Vec<HookRun> = (0..4).map(|_| hooks.begin(view(), nowhere())).collect();
    for run in &holding {
        run.pre_prompt(&mut prompt()).await.unwrap();
    }
    let next = hooks.begin(view(), nowhere());
    let mut asked = prompt();
    let mut waiting = std::pin::pin!(next.pre_prompt(&mut asked));
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut waiting).await.is_err(), "the bound is four");
    for depth in [1, 2, 7, 8, 100] {
        let nested = hooks.begin(RunView { depth, ..view() }, nowhere());
        tokio::time::timeout(Duration::from_secs(60), nested.pre_prompt(&mut prompt())).await.expect("a nested run does not wait").unwrap();
    }
    drop(holding);
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_dropped_half_way_costs_only_its_vm() {
    let hooks = Scripts::new(&[("x.lua", "return { pre_prompt = function(p) if p.temperature == 0.5 then while true do end end end }")])
        .load(&[options("x.lua", |options| options.timeout = Duration::from_secs(600))]);
    let run = hooks.begin(view(), nowhere());
    let mut dropped = prompt();
    assert!(tokio::time::timeout(Duration::from_millis(5), run.pre_prompt(&mut dropped)).await.is_err());
    let mut calm = prompt();
    calm.rest.insert("temperature".into(), 1.into());
    run.pre_prompt(&mut calm).await.unwrap();
    drop(run);
    assert_eq!(hooks.pool.n_idle(), 1);
}

#[tokio::test]
async fn a_vm_that_went_over_a_cap_is_thrown_away() {
    let hooks = hooks("return { pre_prompt = function(p) return string.rep('x', 2^30) end }");
    assert!(hooks.begin(view(), nowhere()).pre_prompt(&mut prompt()).await.is_err());
    assert_eq!(hooks.pool.n_idle(), 0);
}

#[tokio::test]
async fn a_table_that_outlives_its_call_says_so() {
    let run = begin(
        "return { pre_prompt = function(p, run) if run.state.old then return run:answer(tostring(run.state.old.messages)) end run.state.old = p end }",
    );
    run.pre_prompt(&mut prompt()).await.unwrap();
    let error = run.pre_prompt(&mut prompt()).await.unwrap_err();
    assert!(error.chain().contains("a hook call that has ended"), "{}", error.chain());
}

/// Hooks may be used from any thread.
#[test]
fn runs_move_between_threads() {
    fn check<T: Send + Sync>(_: &T) {}
    fn check_future<T: Send>(_: &T) {}
    let run = begin("return { pre_prompt = function() end }");
    check(&run);
    let mut prompt = prompt();
    check_future(&run.pre_prompt(&mut prompt));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_on_many_threads_see_only_themselves() {
    let hooks = hooks(
        "local mine
         return { on_tool_call = function(call, run)
           mine = mine or run.id
           run.state.n = (run.state.n or 0) + 1
           for i = 1, 2e4 do math.sin(i) end
           return run:answer(('%s %s %d'):format(mine, run.id, run.state.n))
         end }",
    );
    let mut runs = tokio::task::JoinSet::new();
    for id in 0..64 {
        let run = hooks.begin(RunView { id: format!("run-{id}"), ..view() }, nowhere());
        runs.spawn(async move {
            for n in 1..=3 {
                let verdict = run.on_tool_call(&mut call(), ANY).await.unwrap();
                assert_eq!(verdict, Verdict::Answer(json!(format!("run-{id} run-{id} {n}"))));
            }
        });
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
    assert!((1..=4).contains(&hooks.pool.n_idle()));
}
