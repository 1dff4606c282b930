//! Every metric: its name, help text and labels in one table. Labels come from the configuration or from closed sets, never from clients.

use std::sync::LazyLock;

use prometheus::{
    CounterVec, Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// One field a metric.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    run_hops: IntCounter,
    run_tokens: IntCounterVec,
    runs: IntCounterVec,
    tool_calls: IntCounterVec,
    reloads: IntCounterVec,
    limits_refused: IntCounterVec,
    cost: CounterVec,
    upstream_waiting: IntGaugeVec,
    upstream_up: IntGaugeVec,
    upstream_breaker_opened: IntCounterVec,
    upstream_fallbacks: IntCounterVec,
    upstream_retries_refused: IntCounterVec,
    upstream_loads: IntCounterVec,
    python_ends: IntCounter,
    /// Python workers that take calls.
    pub python_workers: IntGauge,
    /// Runs and calls that are alive in Python workers, as these say themselves once a second.
    pub python_tasks: IntGauge,
    shared_failures: IntCounterVec,
    /// 1 while Redis answers.
    pub shared_up: IntGauge,
    /// What the sessions in memory take.
    pub session_bytes: IntGauge,
    /// Requests being worked on.
    pub in_flight: IntGauge,
    /// 1 while the configuration on disk is the one that serves.
    pub config_current: IntGauge,
}

impl Metrics {
    fn new() -> Metrics {
        let registry = Registry::new();
        let seconds = vec![0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
        Metrics {
            requests: counters(&registry, "requests_total", "Requests answered.", &["target", "status"]),
            request_seconds: {
                let options =
                    HistogramOpts::new("moongate_request_seconds", "Time from the request's head to the answer's end.").buckets(seconds);
                register(&registry, HistogramVec::new(options, &["target"]))
            },
            run_hops: register(&registry, IntCounter::new("moongate_run_hops_total", "Model calls made by runs.")),
            run_tokens: counters(&registry, "run_tokens_total", "Tokens used by runs, as upstreams report them.", &["kind"]),
            runs: counters(&registry, "runs_total", "Runs ended.", &["agent", "outcome"]),
            tool_calls: counters(&registry, "tool_calls_total", "Tool calls executed by runs.", &["provider", "outcome"]),
            reloads: counters(&registry, "reloads_total", "Reloads of the configuration.", &["outcome"]),
            limits_refused: counters(&registry, "limits_refused_total", "Requests refused because a limit was reached.", &["limit"]),
            cost: register(
                &registry,
                CounterVec::new(Opts::new("moongate_cost_total", "What tokens cost, in the currency of the prices."), &["target"]),
            ),
            upstream_waiting: gauges(&registry, "upstream_waiting", "Requests that wait for a place at an upstream.", &["upstream"]),
            upstream_up: gauges(&registry, "upstream_up", "1 while an upstream answers, 0 while it does not.", &["upstream"]),
            upstream_breaker_opened: counters(
                &registry,
                "upstream_breaker_opened_total",
                "Outages of an upstream: so often its breaker opened.",
                &["upstream"],
            ),
            upstream_fallbacks: counters(
                &registry,
                "upstream_fallbacks_total",
                "Requests that went elsewhere because this upstream failed, or its breaker was open.",
                &["upstream"],
            ),
            upstream_retries_refused: counters(
                &registry,
                "upstream_retries_refused_total",
                "Failed requests that were not tried again, because too many were.",
                &["upstream"],
            ),
            upstream_loads: counters(
                &registry,
                "upstream_loads_total",
                "Models that were to be loaded at an upstream.",
                &["upstream", "outcome"],
            ),
            python_ends: register(
                &registry,
                IntCounter::new("moongate_python_worker_ends_total", "Python workers that ended, or were ended, while they were wanted."),
            ),
            python_workers: register(&registry, IntGauge::new("moongate_python_workers", "Python workers that take calls.")),
            python_tasks: register(
                &registry,
                IntGauge::new("moongate_python_tasks", "Runs and calls that are alive in Python workers, as these say themselves."),
            ),
            shared_failures: counters(
                &registry,
                "redis_failures_total",
                "Calls of Redis that failed, or were not made for it was away.",
                &["feature"],
            ),
            shared_up: register(
                &registry,
                IntGauge::new("moongate_redis_up", "1 while Redis answers, 0 while it does not or is not used."),
            ),
            session_bytes: register(
                &registry,
                IntGauge::new("moongate_session_bytes", "What the sessions that are remembered in memory take."),
            ),
            in_flight: register(&registry, IntGauge::new("moongate_requests_in_flight", "Requests being worked on.")),
            config_current: register(
                &registry,
                IntGauge::new("moongate_config_current", "1 while the configuration on disk is the one that serves."),
            ),
            registry,
        }
    }

    /// A request was answered. `target` is the upstream's or the agent's name, or `moongate`.
    pub fn request(&self, target: &str, status: u16, seconds: f64) {
        let mut digits = [0; 3];
        self.requests.with_label_values(&[target, status_label(status, &mut digits)]).inc();
        self.request_seconds.with_label_values(&[target]).observe(seconds);
    }

    /// A run ended. `outcome` is `ok` or an error's code.
    pub fn run(&self, agent: &str, outcome: &str, hops: u32, prompt_tokens: u64, completion_tokens: u64) {
        self.runs.with_label_values(&[agent, outcome]).inc();
        self.run_hops.inc_by(u64::from(hops));
        self.run_tokens.with_label_values(&["prompt"]).inc_by(prompt_tokens);
        self.run_tokens.with_label_values(&["completion"]).inc_by(completion_tokens);
    }

    /// A tool call was executed.
    pub fn tool_call(&self, provider: &str, ok: bool) {
        self.tool_calls.with_label_values(&[provider, if ok { "ok" } else { "error" }]).inc();
    }

    /// A call of Redis failed. `feature` is what it was for.
    pub fn shared_failed(&self, feature: &str) {
        self.shared_failures.with_label_values(&[feature]).inc();
    }

    /// A request was refused; `limit` is the key of the limit in the configuration.
    pub fn limit_refused(&self, limit: &str) {
        self.limits_refused.with_label_values(&[limit]).inc();
    }

    /// The tokens of a request to this agent or upstream cost so much.
    pub fn cost(&self, target: &str, cost: f64) {
        self.cost.with_label_values(&[target]).inc_by(cost.max(0.0));
    }

    /// So many requests more wait for a place at this upstream.
    pub fn upstream_waiting(&self, upstream: &str, more: i64) {
        self.upstream_waiting.with_label_values(&[upstream]).add(more);
    }

    /// An upstream's breaker opened.
    pub fn upstream_breaker_opened(&self, upstream: &str) {
        self.upstream_breaker_opened.with_label_values(&[upstream]).inc();
    }

    /// A request left this upstream for another one.
    pub fn upstream_fallback(&self, upstream: &str) {
        self.upstream_fallbacks.with_label_values(&[upstream]).inc();
    }

    /// A request that failed at this upstream is not tried again.
    pub fn upstream_retry_refused(&self, upstream: &str) {
        self.upstream_retries_refused.with_label_values(&[upstream]).inc();
    }

    /// A model was loaded at this upstream, or could not be.
    pub fn upstream_load(&self, upstream: &str, ok: bool) {
        self.upstream_loads.with_label_values(&[upstream, if ok { "ok" } else { "error" }]).inc();
    }

    /// Which upstreams answer now: all that there are, so that one that is gone leaves nothing behind.
    pub fn upstreams_up<'a>(&self, upstreams: impl Iterator<Item = (&'a str, bool)>) {
        self.upstream_up.reset();
        for (upstream, is_up) in upstreams {
            self.upstream_up.with_label_values(&[upstream]).set(i64::from(is_up));
        }
    }

    /// A Python worker was lost.
    pub fn python_worker_ended(&self) {
        self.python_ends.inc();
    }

    /// A reload ended.
    pub fn reload(&self, ok: bool) {
        self.reloads.with_label_values(&[if ok { "ok" } else { "refused" }]).inc();
        self.config_current.set(i64::from(ok));
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!("metrics cannot be rendered: {error}");
        }
        text
    }
}

/// The status as three digits, without an allocation for each request.
fn status_label(status: u16, digits: &mut [u8; 3]) -> &str {
    for (i, power) in [100, 10, 1].into_iter().enumerate() {
        digits[i] = b'0' + (status / power % 10) as u8;
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(format!("moongate_{name}"), help), labels))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(format!("moongate_{name}"), help), labels))
}

#[expect(clippy::expect_used, reason = "the table above is fixed: a name that clashes or is malformed fails the first test that runs")]
fn register<M: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("a well-formed metric");
    registry.register(Box::new(metric.clone())).expect("a metric of its own name");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_happened() {
        let metrics = Metrics::new();
        metrics.request("lmstudio", 502, 0.2);
        metrics.tool_call("mcp", false);
        metrics.run("a", "ok", 2, 3, 4);
        metrics.reload(true);
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains(r#"moongate_requests_total{status="502",target="lmstudio"} 1"#), "{text}");
        assert!(text.contains("moongate_run_hops_total 2"), "{text}");
        assert!(text.contains(r#"moongate_tool_calls_total{outcome="error",provider="mcp"} 1"#), "{text}");
        assert!(text.contains("moongate_config_current 1"), "{text}");
    }
}
