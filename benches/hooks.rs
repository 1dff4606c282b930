//! What a hook call costs, in CPU time of the calling thread: `cargo bench --bench hooks`.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{Criterion, Throughput};
use moongate::chat::{Message, Object, Prompt};
use moongate::config::HookEntry;
use moongate::hooks::{CallView, HookRun, Hooks, Nowhere, RunView, Verdict};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

/// How many subjects are made in advance of a timed stretch.
const BATCH: u64 = 64;

const READS_RUN: &str = "local h = {} function h.pre_prompt(prompt, run) local a = run.agent end return h";
const APPENDS: &str = r#"local h = {} function h.pre_prompt(prompt, run)
  table.insert(prompt.messages, { role = "system", content = "Answer in one sentence." })
end return h"#;
const READS_ARGUMENTS: &str =
    "local h = {} function h.on_tool_call(call, run) if call.arguments.amount > 500 then return run:reject('no') end end return h";

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bench = &mut Bench { criterion: Criterion::default().with_measurement(ThreadCpu).configure_from_args(), runtime };
    let steady = |source| Ok::<_, Box<dyn Error>>(load(source)?.begin(view(), Arc::new(Nowhere)));
    let short = || Prompt { model: "m".into(), messages: vec![Message::text("user", "hello")], ..Prompt::default() };
    let run = steady(READS_RUN)?;
    bench.case("reads run", short, async |prompt: &mut Prompt| pre_prompt(&run, prompt).await);
    let run = steady(APPENDS)?;
    bench.case("appends a message to 20", long_prompt, async |prompt: &mut Prompt| pre_prompt(&run, prompt).await);
    let run = steady(READS_ARGUMENTS)?;
    bench.case("reads call.arguments", call, async |call: &mut CallView| {
        assert_eq!(run.on_tool_call(call, &|_| Ok(())).await.ok(), Some(Verdict::Continue));
    });
    bench.case("no hook for the point", short, async |prompt: &mut Prompt| pre_prompt(&run, prompt).await);
    let hooks = load(READS_RUN)?;
    bench.case("a run's first hook", short, async |prompt: &mut Prompt| {
        pre_prompt(&hooks.begin(view(), Arc::new(Nowhere)), prompt).await;
    });
    bench.criterion.final_summary();
    Ok(())
}

struct Bench {
    criterion: Criterion<ThreadCpu>,
    runtime: Runtime,
}

impl Bench {
    /// Times `call`, and not the making of its subjects.
    fn case<T>(&mut self, name: &str, subject: impl Fn() -> T, call: impl AsyncFn(&mut T)) {
        let runtime = &self.runtime;
        let stretch = async |n: u64| {
            let (mut spent, mut left) = (0, n);
            while left > 0 {
                let mut subjects: Vec<T> = (0..left.min(BATCH)).map(|_| subject()).collect();
                let before = cpu_now();
                for subject in &mut subjects {
                    call(black_box(subject)).await;
                }
                spent += cpu_now() - before;
                left -= subjects.len() as u64;
            }
            spent
        };
        self.criterion.bench_function(name, |bencher| bencher.iter_custom(|n| runtime.block_on(stretch(n))));
    }
}

async fn pre_prompt(run: &HookRun, prompt: &mut Prompt) {
    assert_eq!(run.pre_prompt(prompt).await.ok(), Some(Verdict::Continue));
}

fn load(source: &str) -> Result<Arc<Hooks>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("x.lua"), source)?;
    Ok(Arc::new(Hooks::load(&[HookEntry::Path("x.lua".into())], folder.path()).map_err(|faults| format!("{faults:?}"))?))
}

fn view() -> RunView {
    let headers = ["accept", "content-type", "host", "user-agent"].map(|name| (name.to_owned(), "anything".to_owned()));
    RunView { id: "run-1".into(), agent: "support".into(), model: "support".into(), headers: headers.to_vec().into(), ..RunView::default() }
}

/// 20 messages with 4 KB of text.
fn long_prompt() -> Prompt {
    let message = |index: usize| Message::text(if index.is_multiple_of(2) { "user" } else { "assistant" }, "a word ".repeat(29) + "!");
    Prompt { model: "m".into(), messages: (0..20).map(message).collect(), ..Prompt::default() }
}

fn call() -> CallView {
    let arguments = serde_json::json!({ "amount": 250, "currency": "EUR", "to": { "iban": "DE02", "name": "A. Person" } });
    CallView { name: "refund".into(), arguments: arguments.as_object().map_or_else(Object::new, Clone::clone) }
}

/// In nanoseconds.
fn cpu_now() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// CPU time of the calling thread, for criterion.
struct ThreadCpu;

impl Measurement for ThreadCpu {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        cpu_now()
    }
    fn end(&self, before: u64) -> u64 {
        cpu_now() - before
    }
    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }
    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for ThreadCpu {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        let (factor, unit) = if typical < 1e3 { (1.0, "ns CPU") } else { (1e-3, "µs CPU") };
        values.iter_mut().for_each(|value| *value *= factor);
        unit
    }

    fn scale_throughputs(&self, typical: f64, _: &Throughput, values: &mut [f64]) -> &'static str {
        self.scale_values(typical, values)
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        "ns"
    }
}
