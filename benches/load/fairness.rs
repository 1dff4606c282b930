//! Whether runaway code holds up the others: one client asks for plain answers, beside hooks or Python tools that never end, and
//! beside a process of its own that burns as much.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::Result;
use crate::driver::Load;
use crate::process::{Process, end_with_parent, environment};
use crate::scenario::{Scenario, Upstream, chat, config};

/// How long each slice runs.
const SLICE: Duration = Duration::from_secs(2);

/// A hook's budget of CPU, as it is by default.
const BUDGET: Duration = Duration::from_millis(50);

/// A hook that never ends; its run goes on without it.
const SPIN: &str = "return { pre_prompt = function() while true do pcall(function() end) end end }";

/// The same as a tool in Python.
const SPIN_PYTHON: &str = "def lookup(query: str) -> str:\n    \"\"\"Never ends.\"\"\"\n    while True:\n        pass\n";

/// Who never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Company {
    /// A hook.
    Hooks,
    /// A tool in Python.
    Python,
}

impl Company {
    /// The agent whose runs never end by themselves.
    fn agent(self, upstream: &Upstream) -> Value {
        let mut agent = json!({ "name": "spinning", "model": upstream.model, "upstream": "bench" });
        match self {
            Company::Hooks => {
                let timeout = format!("{}ms", BUDGET.as_millis());
                agent["hooks"] = json!([{ "script": "spin.lua", "on_error": "skip", "timeout": timeout }]);
            }
            Company::Python => {
                agent["tools"] = json!([{ "name": "lookup", "provider": "python", "function": "spin:lookup" }]);
                agent["policies"] = json!({ "tool_timeout": "200ms" });
            }
        }
        agent
    }
}

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
pub fn run(executable: &Path, python: &Path, company: Company, pairs: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mock = Process::mock()?;
    let upstream = Upstream::mock(mock.addr);
    let mut document = config(&upstream);
    document["agents"].as_array_mut().ok_or("no agents")?.push(company.agent(&upstream));
    if company == Company::Python {
        document["python"] = json!({ "venv": environment(python)?, "workers": 1 });
    }
    let gateway = Process::gateway(executable, &document, &[("spin.lua", SPIN), ("spin.py", SPIN_PYTHON)])?;
    let (mut beside_spinning, mut beside_burner) = (Felt::default(), Felt::default());
    for _ in 0..pairs {
        runtime.block_on(slice(&gateway, &upstream, true, &mut beside_spinning))?;
        let burner = Process::burner()?;
        let before = burner.cpu()?;
        runtime.block_on(slice(&gateway, &upstream, false, &mut beside_burner))?;
        beside_burner.cpu += burner.cpu()?.saturating_sub(before);
    }
    for felt in [&mut beside_spinning, &mut beside_burner] {
        felt.latencies.sort_unstable();
    }
    print(company, &beside_spinning, &beside_burner)
}

/// One slice: the client asks for plain answers, one at a time; with `spinning`, another asks for runs whose hook never ends.
async fn slice(gateway: &Process, upstream: &Upstream, spinning: bool, felt: &mut Felt) -> Result<()> {
    let plain = Load { addr: gateway.addr, request: Scenario::Single.request(upstream, gateway.addr), streams: false, connections: 1 };
    let spin = Load { addr: gateway.addr, request: chat(gateway, "spinning", true), streams: true, connections: 1 };
    let (mut asking, mut disturbing) = (plain.connect().await?, spin.connect().await?);
    asking.run(Duration::from_millis(200)).await?;
    let burnt = || Ok::<_, crate::Error>(gateway.cpu()? + gateway.children_cpu()?);
    let before = burnt()?;
    let outcome = if spinning {
        let (outcome, runs) = tokio::join!(asking.run(SLICE), disturbing.run(SLICE));
        if runs?.latencies.len() < 5 {
            return Err("what never ends hardly ran".into());
        }
        outcome?
    } else {
        asking.run(SLICE).await?
    };
    if spinning {
        felt.cpu += burnt()?.saturating_sub(before);
    }
    felt.latencies.extend(outcome.latencies);
    Ok(())
}

fn print(company: Company, spinning: &Felt, burner: &Felt) -> Result<()> {
    println!("{:>24} {:>9} {:>9} {:>9} {:>9} {:>9}", "beside", "requests", "p50 ms", "p99 ms", "max ms", "CPU s");
    let name = match company {
        Company::Hooks => "hooks that never end",
        Company::Python => "tools that never end",
    };
    for (name, felt) in [(name, spinning), ("a process that burns", burner)] {
        let (n, cpu) = (felt.latencies.len(), felt.cpu.as_secs_f64());
        println!("{name:>24} {n:>9} {:>9.3} {:>9.3} {:>9.3} {cpu:>9.1}", felt.at(0.5), felt.at(0.99), felt.at(1.0));
    }
    let (median, tail) = (spinning.at(0.5) / burner.at(0.5), spinning.at(0.99) / burner.at(0.99));
    let bound = (BUDGET + Duration::from_millis(150)).as_secs_f64() * 1e3;
    println!(
        "median {median:.2} times the control's (at most 1.3), p99 {tail:.2} times (at most 2), longest {:.0} ms (at most {bound:.0})",
        spinning.at(1.0)
    );
    match median <= 1.3 && tail <= 2.0 && spinning.at(1.0) <= bound {
        true => Ok(()),
        false => Err("runaway code holds up the others".into()),
    }
}
