//! Whether a runaway script holds up the others: one client asks for plain answers, beside hooks that never end, and beside
//! a process of its own that burns as much.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::Result;
use crate::driver::Load;
use crate::process::{Process, end_with_parent};
use crate::scenario::{Scenario, Upstream, chat, config};

/// How long each slice runs.
const SLICE: Duration = Duration::from_secs(2);

/// A hook's budget of CPU, as it is by default.
const BUDGET: Duration = Duration::from_millis(50);

/// A hook that never ends; its run goes on without it.
const SPIN: &str = "return { pre_prompt = function() while true do pcall(function() end) end end }";

/// Burns a core until the parent ends.
pub fn burn() -> Result<()> {
    end_with_parent();
    let mut number = 1_u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// What a client that asks for plain answers felt, in one kind of company.
#[derive(Default)]
struct Felt {
    latencies: Vec<Duration>,
    cpu: Duration,
}

impl Felt {
    fn at(&self, share: f64) -> f64 {
        let at = ((self.latencies.len() as f64 * share) as usize).min(self.latencies.len() - 1);
        self.latencies[at].as_secs_f64() * 1e3
    }
}

/// Runs `pairs` rounds of both companies in turns, and prints what the client felt.
pub fn run(executable: &std::path::Path, pairs: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mock = Process::mock()?;
    let upstream = Upstream::mock(mock.addr);
    let mut document = config(&upstream);
    let agent = json!({
        "name": "spinning", "model": upstream.model, "upstream": "bench",
        "hooks": [{ "script": "spin.lua", "on_error": "skip", "timeout": format!("{}ms", BUDGET.as_millis()) }],
    });
    document["agents"].as_array_mut().ok_or("no agents")?.push(agent);
    let gateway = Process::gateway(executable, &document, &[("spin.lua", SPIN)])?;
    let (mut beside_hooks, mut beside_burner) = (Felt::default(), Felt::default());
    for _ in 0..pairs {
        runtime.block_on(slice(&gateway, &upstream, true, &mut beside_hooks))?;
        let burner = Process::burner()?;
        let before = burner.cpu()?;
        runtime.block_on(slice(&gateway, &upstream, false, &mut beside_burner))?;
        beside_burner.cpu += burner.cpu()?.saturating_sub(before);
    }
    for felt in [&mut beside_hooks, &mut beside_burner] {
        felt.latencies.sort_unstable();
    }
    print(&beside_hooks, &beside_burner)
}

/// One slice: the client asks for plain answers, one at a time; with `spinning`, another asks for runs whose hook never ends.
async fn slice(gateway: &Process, upstream: &Upstream, spinning: bool, felt: &mut Felt) -> Result<()> {
    let plain = Load { addr: gateway.addr, request: Scenario::Single.request(upstream, gateway.addr), streams: false, connections: 1 };
    let spin = Load { addr: gateway.addr, request: chat(gateway, "spinning"), streams: false, connections: 1 };
    let (mut asking, mut disturbing) = (plain.connect().await?, spin.connect().await?);
    asking.run(Duration::from_millis(200)).await?;
    let (before, began) = (gateway.cpu()?, Instant::now());
    let outcome = if spinning {
        let (outcome, runs) = tokio::join!(asking.run(SLICE), disturbing.run(SLICE));
        if runs?.latencies.len() < 5 {
            return Err("the hooks that never end hardly ran".into());
        }
        outcome?
    } else {
        asking.run(SLICE).await?
    };
    if spinning {
        felt.cpu += gateway.cpu()?.saturating_sub(before).min(began.elapsed());
    }
    felt.latencies.extend(outcome.latencies);
    Ok(())
}

fn print(hooks: &Felt, burner: &Felt) -> Result<()> {
    println!("{:>24} {:>9} {:>9} {:>9} {:>9} {:>9}", "beside", "requests", "p50 ms", "p99 ms", "max ms", "CPU s");
    for (name, felt) in [("hooks that never end", hooks), ("a process that burns", burner)] {
        let (n, cpu) = (felt.latencies.len(), felt.cpu.as_secs_f64());
        println!("{name:>24} {n:>9} {:>9.3} {:>9.3} {:>9.3} {cpu:>9.1}", felt.at(0.5), felt.at(0.99), felt.at(1.0));
    }
    let (median, tail) = (hooks.at(0.5) / burner.at(0.5), hooks.at(0.99) / burner.at(0.99));
    let bound = (BUDGET + Duration::from_millis(150)).as_secs_f64() * 1e3;
    println!(
        "median {median:.2} times the control's (at most 1.3), p99 {tail:.2} times (at most 2), longest {:.0} ms (at most {bound:.0})",
        hooks.at(1.0)
    );
    match median <= 1.3 && tail <= 2.0 && hooks.at(1.0) <= bound {
        true => Ok(()),
        false => Err("a runaway script holds up the others".into()),
    }
}
