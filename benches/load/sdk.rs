//! What an agent of the OpenAI Agents SDK costs behind the gateway: the same agent run by plain Python, by a worker, and as YAML.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::Result;
use crate::driver::Load;
use crate::process::{Process, cpu_of, environment};
use crate::scenario::{Upstream, chat, config};

/// The agent, and the program that runs it in plain Python.
const AGENT: &str = include_str!("sdk_agent.py");

/// How many runs each slice has.
const RUNS: usize = 96;

/// How many runs are under way at once.
const CONNECTIONS: usize = 8;

/// The SDK in plain Python, run after run as it is told.
struct Plain {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Plain {
    fn start(python: &Path, program: &Path, upstream: &Upstream) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(program).args([upstream.base_url(), CONNECTIONS.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().ok_or("no stdin")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Plain { child, orders, answers })
    }

    fn run(&mut self, n: usize) -> Result<()> {
        writeln!(self.orders, "{n}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line == "done\n" { Ok(()) } else { Err("plain Python failed".into()) }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time per run, in milliseconds, one sample a round.
#[derive(Default)]
struct Costs {
    plain: Vec<f64>,
    gateway: Vec<f64>,
    worker: Vec<f64>,
    yaml_gateway: Vec<f64>,
    yaml_worker: Vec<f64>,
}

/// Runs `pairs` rounds of all three, and prints what a run costs in each. Fails when the gateway and its worker together need more than
/// 1.1 times what plain Python does.
pub fn run(executable: &Path, python: &Path, pairs: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mock = Process::mock()?;
    let upstream = Upstream::mock(mock.addr);
    let mut document = config(&upstream);
    document["python"] = json!({ "venv": environment(python)?, "workers": 1 });
    document["agents"] = json!([
        { "name": "coded", "kind": "sdk", "module": "sdk_agent:agent", "upstream": "bench", "model": upstream.model },
        {
            "name": "declared", "upstream": "bench", "model": upstream.model, "instructions": "You are a concise and helpful assistant.",
            "tools": [{ "name": "lookup", "provider": "python", "function": "sdk_agent:lookup" }],
        },
    ]);
    let gateway = Process::gateway(executable, &document, &[("sdk_agent.py", AGENT)])?;
    let program = gateway.path("sdk_agent.py").ok_or("the gateway has no folder")?;
    let mut plain = Plain::start(python, &program, &upstream)?;
    let load = |agent| Load { addr: gateway.addr, request: chat(&gateway, agent, true), streams: true, connections: CONNECTIONS };
    let (coded, declared) = (load("coded"), load("declared"));
    let through = |load: &Load, n: usize| -> Result<(f64, f64)> {
        let before = (gateway.cpu()?, gateway.children_cpu()?);
        runtime.block_on(async { load.connect().await?.run_times(n / CONNECTIONS).await })?;
        let after = (gateway.cpu()?, gateway.children_cpu()?);
        Ok((per_run(after.0.saturating_sub(before.0), n), per_run(after.1.saturating_sub(before.1), n)))
    };
    // The first runs of each import and compile.
    plain.run(RUNS)?;
    through(&coded, RUNS)?;
    through(&declared, RUNS)?;
    let mut costs = Costs::default();
    for round in 0..pairs {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => {
                    let before = cpu_of(plain.child.id())?;
                    plain.run(RUNS)?;
                    costs.plain.push(per_run(cpu_of(plain.child.id())?.saturating_sub(before), RUNS));
                }
                1 => {
                    let (ours, workers) = through(&coded, RUNS)?;
                    costs.gateway.push(ours);
                    costs.worker.push(workers);
                }
                _ => {
                    let (ours, workers) = through(&declared, RUNS)?;
                    costs.yaml_gateway.push(ours);
                    costs.yaml_worker.push(workers);
                }
            }
        }
    }
    print(&costs)
}

fn per_run(cpu: Duration, n: usize) -> f64 {
    cpu.as_secs_f64() * 1e3 / n as f64
}

fn print(costs: &Costs) -> Result<()> {
    println!("{:>44} {:>11} {:>21}", "CPU ms per run", "median", "extremes");
    for (name, samples) in [
        ("plain Python", &costs.plain),
        ("SDK agent: the gateway", &costs.gateway),
        ("SDK agent: its worker", &costs.worker),
        ("the same in YAML: the gateway", &costs.yaml_gateway),
        ("the same in YAML: the worker, for its tool", &costs.yaml_worker),
    ] {
        let (least, middle, most) = spread(samples.clone());
        println!("{name:>44} {middle:>11.2} {:>21}", format!("{least:.2}-{most:.2}"));
    }
    let sums = |ours: &[f64], workers: &[f64]| -> Vec<f64> {
        ours.iter().zip(workers).zip(&costs.plain).map(|((ours, worker), plain)| (ours + worker) / plain).collect()
    };
    let (least, coded, most) = spread(sums(&costs.gateway, &costs.worker));
    println!("SDK agent, gateway and worker together: {coded:.2} times plain Python ({least:.2}-{most:.2}; at most 1.1)");
    let (least, yaml, most) = spread(sums(&costs.yaml_gateway, &costs.yaml_worker));
    println!("the same in YAML: {yaml:.2} times plain Python ({least:.2}-{most:.2})");
    if coded <= 1.1 { Ok(()) } else { Err("SDK agents cost too much".into()) }
}

/// The least, the median and the most.
fn spread(mut samples: Vec<f64>) -> (f64, f64, f64) {
    samples.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| samples.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(samples.len() / 2), at(samples.len().saturating_sub(1)))
}
