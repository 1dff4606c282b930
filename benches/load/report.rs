//! From samples to a table and a file: medians, their spread, and ratios within each round.

use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;
use crate::driver::Outcome;

/// One slice of load on one target.
pub struct Sample {
    n_requests: usize,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    first_byte_p50_ms: f64,
    /// CPU time of the target for each request. None for the upstream itself.
    cpu_us: Option<f64>,
    peak_bytes: Option<u64>,
}

impl Sample {
    /// What `outcome` says, with the CPU time and memory of the process that answered.
    pub fn new(outcome: Outcome, cpu: Option<Duration>, peak_bytes: Option<u64>) -> Self {
        let n_requests = outcome.latencies.len();
        let rank = |times: &[Duration], share: f64| {
            let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
            times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Sample {
            n_requests,
            per_second: n_requests as f64 / outcome.elapsed.as_secs_f64(),
            p50_ms: rank(&outcome.latencies, 0.5),
            p99_ms: rank(&outcome.latencies, 0.99),
            first_byte_p50_ms: rank(&outcome.first_bytes, 0.5),
            cpu_us: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / n_requests.max(1) as f64),
            peak_bytes,
        }
    }
}

/// A scenario's samples, by target, in the order of the rounds.
pub struct Section {
    scenario: String,
    connections: usize,
    targets: Vec<(String, Vec<Sample>)>,
}

impl Section {
    pub fn new(scenario: String, connections: usize) -> Self {
        Section { scenario, connections, targets: Vec::new() }
    }

    /// Adds the sample of a round.
    pub fn add(&mut self, target: &str, sample: Sample) {
        match self.targets.iter_mut().find(|(name, _)| name == target) {
            Some((_, samples)) => samples.push(sample),
            None => self.targets.push((target.to_owned(), vec![sample])),
        }
    }

    /// The table.
    pub fn print(&self) {
        println!("\n{} ({} connections)", self.scenario, self.connections);
        println!(
            "{:<10}{:>10}{:>10}{:>10}{:>12}{:>26}{:>24}{:>10}",
            "", "req/s", "p50 ms", "p99 ms", "1st byte ms", "CPU us/req", "x baseline", "peak MB"
        );
        for (name, samples) in &self.targets {
            let of = |pick: fn(&Sample) -> f64| Spread::of(samples.iter().map(pick)).median;
            let cpu = self.cpu(name).map_or(String::new(), |spread| spread.show(1));
            let ratio = self.ratio(name).map_or(String::new(), |spread| spread.show(3));
            let peak = samples
                .iter()
                .filter_map(|sample| sample.peak_bytes)
                .max()
                .map_or(String::new(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
            println!(
                "{name:<10}{:>10.0}{:>10.3}{:>10.3}{:>12.3}{cpu:>26}{ratio:>24}{peak:>10}",
                of(|sample| sample.per_second),
                of(|sample| sample.p50_ms),
                of(|sample| sample.p99_ms),
                of(|sample| sample.first_byte_p50_ms),
            );
        }
    }

    fn samples(&self, target: &str) -> &[Sample] {
        self.targets.iter().find(|(name, _)| name == target).map_or(&[], |(_, samples)| samples)
    }

    fn cpu(&self, target: &str) -> Option<Spread> {
        let values: Vec<f64> = self.samples(target).iter().filter_map(|sample| sample.cpu_us).collect();
        (!values.is_empty()).then(|| Spread::of(values.into_iter()))
    }

    /// CPU time per request as a multiple of the baseline's in the same round. The gateway runs between the two bare proxies and is
    /// held against the mean of both; the second of them is held against the first, which shows how much of a ratio is noise.
    fn ratio(&self, target: &str) -> Option<Spread> {
        let cpu = |name: &str| -> Vec<f64> { self.samples(name).iter().filter_map(|sample| sample.cpu_us).collect() };
        let (first, second) = (cpu("baseline"), cpu("again"));
        let ratios: Vec<f64> = match target {
            "baseline" => Vec::new(),
            "again" => second.iter().zip(&first).map(|(second, first)| second / first).collect(),
            _ => cpu(target).iter().zip(first.iter().zip(&second)).map(|(cpu, (first, second))| 2.0 * cpu / (first + second)).collect(),
        };
        (!ratios.is_empty()).then(|| Spread::of(ratios.into_iter()))
    }

    fn to_value(&self) -> Value {
        let sample = |sample: &Sample| {
            json!({
                "requests": sample.n_requests, "per_second": sample.per_second, "p50_ms": sample.p50_ms, "p99_ms": sample.p99_ms,
                "first_byte_p50_ms": sample.first_byte_p50_ms, "cpu_us": sample.cpu_us, "peak_bytes": sample.peak_bytes,
            })
        };
        let target = |(name, samples): &(String, Vec<Sample>)| {
            json!({
                "target": name, "cpu_us": self.cpu(name).map(Spread::to_value), "ratio": self.ratio(name).map(Spread::to_value),
                "samples": samples.iter().map(sample).collect::<Vec<_>>(),
            })
        };
        json!({
            "scenario": self.scenario, "connections": self.connections, "targets": self.targets.iter().map(target).collect::<Vec<_>>(),
        })
    }
}

/// Everything that was measured, and where.
pub struct Report {
    pub sections: Vec<Section>,
    options: Value,
}

impl Report {
    pub fn new(seconds: f64, connections: usize, pairs: usize, threads: usize) -> Self {
        let options = json!({ "seconds": seconds, "connections": connections, "pairs": pairs, "threads": threads });
        Report { sections: Vec::new(), options }
    }

    /// All samples, as JSON.
    pub fn to_json(&self) -> String {
        let sections: Vec<Value> = self.sections.iter().map(Section::to_value).collect();
        format!("{:#}\n", json!({ "machine": machine(), "options": self.options, "scenarios": sections }))
    }

    /// Fails when a plain request costs the gateway more than `max` times the baseline, at the median.
    pub fn check(&self, max: Option<f64>) -> Result<()> {
        let plain = self.sections.iter().find(|section| section.scenario == "plain");
        match (max, plain.and_then(|section| section.ratio("gateway"))) {
            (Some(max), Some(ratio)) if ratio.median > max => {
                Err(format!("a plain request costs {:.3} times the baseline's CPU time, more than {max}", ratio.median).into())
            }
            (Some(_), None) => Err("--max-ratio needs the plain scenario and the gateway".into()),
            _ => Ok(()),
        }
    }
}

/// A median between its extremes.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { at(middle) } else { (at(middle.saturating_sub(1)) + at(middle)) / 2.0 };
        Spread { median, min: at(0), max: at(values.len().saturating_sub(1)) }
    }

    fn show(self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}-{:.digits$})", self.median, self.min, self.max)
    }

    fn to_value(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

fn machine() -> Value {
    let line = |file: &str, prefix: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix(prefix)).map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
    };
    json!({
        "cpu": line("/proc/cpuinfo", "model name"), "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": line("/proc/sys/kernel/osrelease", ""),
    })
}
