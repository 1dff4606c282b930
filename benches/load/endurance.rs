//! Whether memory stays flat: ten thousand runs of agents with hooks, and what the gateway's process holds after every thousand.

use serde_json::{Value, json};

use crate::Result;
use crate::driver::Load;
use crate::process::Process;
use crate::scenario::{Upstream, chat, config};

/// How many agents take turns.
const AGENTS: usize = 4;

/// How many connections ask.
const CONNECTIONS: usize = 10;

/// After how many runs the memory is read.
const STEP: usize = 1000;

/// A hook at every point that a run without tools has; it keeps something of the run, and something beyond it.
const SCRIPT: &str = r#"
local store = require "std.store"
local hooks = { config = { words = 50 } }
local seen = {}
function hooks.pre_prompt(prompt, run)
  assert(next(seen) == nil and next(run.state) == nil, "a run sees another's state")
  for n = 1, run.config.words do seen[n] = ("word"):rep(n) end
  run.state.prompt = table.concat(seen, " ")
  table.insert(prompt.messages, { role = "system", content = run.state.prompt })
  store.incr("runs")
end
function hooks.on_chunk(chunk)
  chunk.text = chunk.text:upper()
end
function hooks.post_response(reply, run)
  assert(#run.state.prompt > 0)
  reply.content = reply.content .. "!"
end
return hooks
"#;

/// Runs `n` agents' runs and prints the memory on the way. Fails when the second half needs more than the first.
pub fn run(executable: &std::path::Path, n: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mock = Process::mock()?;
    let upstream = Upstream::mock(mock.addr);
    let mut document = config(&upstream);
    let agents = (0..AGENTS).map(|i| json!({ "name": format!("a{i}"), "model": upstream.model, "upstream": "bench", "hooks": ["h.lua"] }));
    document["agents"] = Value::Array(agents.collect());
    let gateway = Process::gateway(executable, &document, &[("h.lua", SCRIPT)])?;
    let mut held = Vec::new();
    println!("{:>8} {:>9}", "runs", "MiB");
    for done in (0..n).step_by(STEP) {
        for i in 0..AGENTS {
            let load =
                Load { addr: gateway.addr, request: chat(&gateway, &format!("a{i}"), false), streams: false, connections: CONNECTIONS };
            runtime.block_on(async { load.connect().await?.run_times(STEP / AGENTS / CONNECTIONS).await })?;
        }
        let mib = gateway.memory()? as f64 / f64::from(1 << 20);
        println!("{:>8} {mib:>9.1}", done + STEP);
        held.push(mib);
    }
    let most = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let (early, late) = held.split_at(held.len() / 2);
    println!("at most {:.1} MiB in the first half, {:.1} in the second", most(early), most(late));
    if most(late) > most(early) * 1.05 { Err("memory grows".into()) } else { Ok(()) }
}
