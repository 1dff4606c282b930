//! The load bench: what a request costs in the gateway, beside the smallest proxy that Pingora can be.
//!
//! `cargo bench --bench load -- --help` lists the options; docs/benchmarks.md says how to read the figures.
//! Every part is a process of its own, so that the kernel accounts for its CPU time: this driver, a mock upstream,
//! two bare Pingora proxies, which give the baseline and its spread, and the real `moongate`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench is read on the terminal")]

mod baseline;
mod driver;
mod endurance;
mod fairness;
mod mock;
mod process;
mod report;
mod scenario;
mod sdk;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use driver::{Load, Outcome};
use fairness::Company;
use process::Process;
use report::{Report, Sample, Section};
use scenario::{Scenario, Upstream};

/// Anything that stops the bench, in words.
type Error = Box<dyn std::error::Error>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// How long each slice runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(100);

/// Measures the gateway's cost per request.
#[derive(Parser)]
#[command(name = "load", args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// How long each slice is measured, in seconds.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// How many rounds: each measures every target once, the gateway between the two bare proxies.
    #[arg(long, default_value_t = 21)]
    pairs: usize,
    /// How many connections send requests, one after the other on each.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Threads of each bare proxy: as many as the gateway has.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
    /// The scenarios to run: plain, single, stream, agent. Default: all of them.
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<Scenario>,
    /// Your own server, up to and with /v1, in place of the mock: http://localhost:1234/v1. Leaves the agent out.
    #[arg(long, value_name = "URL", requires = "model")]
    target: Option<String>,
    /// The model to ask your own server for.
    #[arg(long)]
    model: Option<String>,
    /// The gateway's executable. Default: the one built with this bench.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_moongate"))]
    gateway: PathBuf,
    /// The Python of a virtual environment with openai-agents, for what needs one.
    #[arg(long, value_name = "FILE", global = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python"))]
    python: PathBuf,
    /// Measures the baseline alone.
    #[arg(long)]
    no_gateway: bool,
    /// Writes all samples to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fails when the gateway's CPU time per plain request is more than this many times the baseline's.
    #[arg(long, value_name = "X")]
    max_ratio: Option<f64>,
    /// Cargo says this to every bench.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// Other measurements, and what this executable does when the bench starts it again.
#[derive(Subcommand)]
enum Role {
    /// Whether code that never ends holds up a client that asks for plain answers.
    Fairness {
        /// What never ends.
        #[arg(long, value_enum, default_value = "hooks")]
        company: Company,
        /// How many rounds of two slices.
        #[arg(long, default_value_t = 10)]
        pairs: usize,
    },
    /// Whether memory stays flat over many runs of agents with hooks.
    Endurance {
        /// How many runs.
        #[arg(long, default_value_t = 10_000)]
        runs: usize,
    },
    /// What an SDK agent's run costs, beside the same agent in plain Python and in YAML. The gateway must be built with Python.
    Sdk {
        /// How many rounds.
        #[arg(long, default_value_t = 9)]
        pairs: usize,
    },
    /// Burns a core.
    #[command(hide = true)]
    Burn,
    /// The mock upstream.
    #[command(hide = true)]
    Mock,
    /// The bare proxy.
    #[command(hide = true)]
    Baseline { listen: SocketAddr, upstream: SocketAddr, threads: usize },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.role {
        Some(Role::Fairness { company, pairs }) => fairness::run(&options.gateway, &options.python, company, pairs),
        Some(Role::Endurance { runs }) => endurance::run(&options.gateway, runs),
        Some(Role::Sdk { pairs }) => sdk::run(&options.gateway, &options.python, pairs),
        Some(Role::Burn) => fairness::burn(),
        Some(Role::Mock) => mock::serve(),
        Some(Role::Baseline { listen, upstream, threads }) => baseline::serve(listen, upstream, threads),
        None => bench(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mock = Process::mock()?;
    let upstream = match (&options.target, &options.model) {
        (Some(url), Some(model)) => Upstream::real(url, model)?,
        _ => Upstream::mock(mock.addr),
    };
    let gateway = match options.no_gateway {
        true => None,
        false => Some(Process::gateway(&options.gateway, &scenario::config(&upstream), &[])?),
    };
    let targets = Targets {
        baseline: Process::baseline(upstream.addr, options.threads)?,
        again: Process::baseline(upstream.addr, options.threads)?,
        gateway,
        upstream,
    };
    let mut report = Report::new(options.seconds, options.connections, options.pairs, options.threads);
    for scenario in Scenario::ALL {
        let is_wanted = options.scenarios.is_empty() || options.scenarios.contains(&scenario);
        let is_possible = !scenario.needs_gateway() || (targets.gateway.is_some() && options.target.is_none());
        if is_wanted && is_possible {
            eprintln!("{scenario}: {}", scenario.about());
            let section = runtime.block_on(measure(&targets, scenario, options))?;
            section.print();
            report.sections.push(section);
        }
    }
    if let Some(file) = &options.json {
        std::fs::write(file, report.to_json())?;
    }
    report.check(options.max_ratio)
}

/// Everything that requests are sent to.
struct Targets {
    upstream: Upstream,
    baseline: Process,
    /// A second bare proxy: what differs between the two is noise.
    again: Process,
    gateway: Option<Process>,
}

/// Measures every target `pairs` times, in turns, so that a busy moment of the machine falls on all of them alike.
async fn measure(targets: &Targets, scenario: Scenario, options: &Options) -> Result<Section> {
    let connections = if scenario == Scenario::Single { 1 } else { options.connections };
    let mut section = Section::new(scenario.to_string(), connections);
    let through = |process: &'static str| {
        (
            process,
            match process {
                "baseline" => Some(&targets.baseline),
                "again" => Some(&targets.again),
                "gateway" => targets.gateway.as_ref(),
                _ => None,
            },
        )
    };
    let mut order: Vec<(&str, Option<&Process>)> = match scenario.needs_gateway() {
        true => vec![through("gateway")],
        false => vec![through("direct"), through("baseline"), through("gateway"), through("again")],
    };
    order.retain(|(name, process)| *name == "direct" || process.is_some());
    for _ in 0..options.pairs {
        for (name, process) in &order {
            let addr = process.map_or(targets.upstream.addr, |process| process.addr);
            let load = Load { addr, request: scenario.request(&targets.upstream, addr), streams: scenario.streams(), connections };
            let sample = slice(&load, *process, Duration::from_secs_f64(options.seconds)).await;
            section.add(name, sample.map_err(|error| format!("{scenario}, {name}: {error}"))?);
        }
        order.reverse();
    }
    Ok(section)
}

/// One slice of load, and the CPU time that `process` spent on it.
async fn slice(load: &Load, process: Option<&Process>, length: Duration) -> Result<Sample> {
    let mut fleet = load.connect().await?;
    fleet.run(WARM_UP).await?;
    let before = process.map(Process::cpu).transpose()?;
    let outcome: Outcome = fleet.run(length).await?;
    let cpu = match (process, before) {
        (Some(process), Some(before)) => Some(process.cpu()?.saturating_sub(before)),
        _ => None,
    };
    let peak_bytes = process.map(Process::peak_bytes).transpose()?;
    Ok(Sample::new(outcome, cpu, peak_bytes))
}
