//! What a run has used so far, readable however the run ends: finished, failed, timed out or dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chat::Usage;
use crate::chat::incoming::Frame;
use crate::limits::Price;
use crate::model::Witness;

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
    /// Model calls whose usage nobody told.
    pub unsaid: Vec<Unsaid>,
}

/// A model call whose usage nobody told: the client left in its midst, the stream broke, or the server does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Unsaid {
    /// About how many tokens the reply had.
    pub heard: u64,
    /// What its tokens cost.
    pub price: Option<Price>,
}

/// A model call under way. It is booked when it is dropped, so however it ends: by what the server told, else by what was heard.
#[derive(Debug)]
pub struct Ask {
    ledger: Arc<Ledger>,
    told: Option<Usage>,
    unsaid: Unsaid,
    is_void: bool,
}

impl Ask {
    /// A model is about to be asked.
    pub fn begin(ledger: &Arc<Ledger>) -> Ask {
        Ask { ledger: ledger.clone(), told: None, unsaid: Unsaid::default(), is_void: false }
    }

    /// It could not be asked: nothing was used.
    pub fn cancel(&mut self) {
        self.is_void = true;
    }
}

impl Witness for Ask {
    fn hear(&mut self, frame: &Frame, price: Option<Price>) {
        for delta in &frame.deltas {
            let texts = [&delta.content, &delta.reasoning, &delta.refusal].into_iter().flatten().map(String::len);
            let bytes: usize = texts.chain(delta.calls.iter().map(|call| call.arguments.len())).sum();
            // A piece is a token, unless it is long.
            self.unsaid.heard += if bytes == 0 { 0 } else { (bytes as u64 / 4).max(1) };
        }
        self.unsaid.price = price;
        if let Some(usage) = &frame.usage {
            self.told = Some(usage.clone());
        }
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        if self.is_void {
            return;
        }
        if let Some(usage) = &self.told {
            self.ledger.spend(usage);
        }
        // A server that does not count may say 0.
        if self.told.as_ref().is_none_or(|usage| usage.prompt_tokens + usage.completion_tokens == 0) {
            self.ledger.guess(self.unsaid);
        }
    }
}

impl Ledger {
    /// The book of a run within a run: what its model calls use is the outer run's use, too, however the inner one ends.
    pub fn within(parent: &Arc<Ledger>) -> Arc<Ledger> {
        Arc::new(Ledger { totals: Mutex::default(), parent: Some(parent.clone()) })
    }

    /// A model call's tokens.
    fn spend(&self, usage: &Usage) {
        self.record(|totals| totals.usage.add(usage));
        if let Some(parent) = &self.parent {
            parent.spend(usage);
        }
    }

    fn guess(&self, unsaid: Unsaid) {
        self.record(|totals| totals.unsaid.push(unsaid));
        if let Some(parent) = &self.parent {
            parent.guess(unsaid);
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
    use crate::chat::Delta;

    fn frame(text: &str, tokens: Option<u64>) -> Frame {
        let usage = tokens.map(|n| Usage { prompt_tokens: n, completion_tokens: 1, total_tokens: n + 1, ..Usage::default() });
        Frame { deltas: vec![Delta::text(text)], usage }
    }

    #[test]
    fn a_run_within_a_run_spends_for_both() {
        let outer = Arc::new(Ledger::default());
        let inner = Ledger::within(&outer);
        let mut ask = Ask::begin(&inner);
        ask.hear(&frame("a", Some(1)), None);
        ask.hear(&frame("b", Some(2)), None);
        drop(ask);
        inner.record(|totals| totals.hops += 1);
        assert_eq!((outer.totals().usage.total_tokens, outer.totals().hops), (3, 0));
        assert_eq!((inner.totals().usage.total_tokens, inner.totals().hops), (3, 1));
        assert_eq!(outer.totals().unsaid, []);
    }

    /// A reply that is cut off was heard so far; one that never began has read the prompt; a model that was not reached has used nothing.
    #[test]
    fn what_nobody_tells_was_heard() {
        let outer = Arc::new(Ledger::default());
        let mut ask = Ask::begin(&Ledger::within(&outer));
        ["a", "", "twelve bytes"].iter().for_each(|text| ask.hear(&frame(text, None), None));
        drop(ask);
        drop(Ask::begin(&outer));
        Ask::begin(&outer).cancel();
        assert_eq!(outer.totals().unsaid.iter().map(|unsaid| unsaid.heard).collect::<Vec<_>>(), [4, 0]);
        assert_eq!(outer.totals().usage, Usage::default());
    }
}
