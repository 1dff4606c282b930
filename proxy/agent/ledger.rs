//! What a run has used so far, readable however the run ends: finished, failed, timed out or dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chat::Usage;

/// The book of one run. The run writes, `gateway::logging` reads once at the end.
#[derive(Debug, Default)]
pub struct Ledger {
    totals: Mutex<Totals>,
    /// The book of the run that uses this one's agent as a tool.
    parent: Option<Arc<Ledger>>,
}

/// The sums of a run.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Tokens of all model calls, nested agents' included.
    pub usage: Usage,
    /// Model calls.
    pub hops: u32,
    /// Replies of models that asked for tools, and got them.
    pub tool_hops: u32,
    /// Tool calls that were executed.
    pub tool_calls: u32,
}

impl Ledger {
    /// The book of a run within a run: what its model calls use is the outer run's use, too, however the inner one ends.
    pub fn within(parent: &Arc<Ledger>) -> Arc<Ledger> {
        Arc::new(Ledger { totals: Mutex::default(), parent: Some(parent.clone()) })
    }

    /// A model call's tokens.
    pub fn spend(&self, usage: &Usage) {
        self.record(|totals| totals.usage.add(usage));
        if let Some(parent) = &self.parent {
            parent.spend(usage);
        }
    }

    /// The sums so far.
    pub fn totals(&self) -> Totals {
        self.lock().clone()
    }

    /// Adds to the sums.
    pub fn record(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_within_a_run_spends_for_both() {
        let outer = Arc::new(Ledger::default());
        let inner = Ledger::within(&outer);
        inner.spend(&Usage { prompt_tokens: 2, completion_tokens: 1, total_tokens: 3, ..Usage::default() });
        inner.record(|totals| totals.hops += 1);
        assert_eq!((outer.totals().usage.total_tokens, outer.totals().hops), (3, 0));
        assert_eq!((inner.totals().usage.total_tokens, inner.totals().hops), (3, 1));
    }
}
