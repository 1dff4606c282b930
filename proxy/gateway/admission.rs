//! Lets a request in as far as its key, its user and its agent have room, before it costs anything; and settles what it used.

use std::net::IpAddr;

use http::StatusCode;
use pingora::proxy::Session;

use super::forward::Forward;
use super::{Context, Gateway};
use crate::access::Caller;
use crate::agent::Agent;
use crate::agent::ledger::Totals;
use crate::chat::Usage;
use crate::error::Result;
use crate::limits::{Permit, Price, Spent, Tail};
use crate::metrics::METRICS;

/// How many bytes of a request are about one token.
const BYTES_PER_TOKEN: u64 = 4;

/// What is watched of a plain answer, to know what it used.
pub(super) struct Metered {
    tail: Tail,
    /// The model as its upstream knows it; `None` where we do not know which it is, or whether it is one at all.
    model: Option<String>,
}

/// What a request used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Bill {
    pub(super) tokens: Option<u64>,
    pub(super) cost: Option<f64>,
    /// The server has not said it: about so much.
    pub(super) estimated: Option<bool>,
}

impl Gateway {
    /// 429 when the caller, its user or the agent has no room for a request with a body of so many bytes.
    pub(super) fn admit(&self, context: &mut Context, caller: &Caller, agent: Option<&Agent>, bytes: usize) -> Result<()> {
        let mut claims = caller.claims();
        claims.extend(agent.and_then(Agent::claim));
        if claims.is_empty() {
            return Ok(());
        }
        let estimate = Spent { tokens: bytes as u64 / BYTES_PER_TOKEN, cost: 0.0 };
        let (admitted, standing) = self.counters.admit(claims, estimate);
        context.extra.standing = Some(Box::new(standing));
        context.permit = Some(admitted?);
        Ok(())
    }

    /// 429 while too many wrong keys came from the client's address.
    pub(super) fn check_failures(&self, session: &Session, context: &Context) -> Result<()> {
        match suspect(session, context) {
            Some(address) => self.failures.check(address, context.snapshot.document.auth.failed_attempts.per_minute),
            None => Ok(()),
        }
    }

    /// A wrong key came from the client's address.
    pub(super) fn count_failure(&self, session: &Session, context: &Context) {
        if let Some(address) = suspect(session, context) {
            self.failures.count(address, context.snapshot.document.auth.failed_attempts.per_minute);
        }
    }
}

/// The client's address, where wrong keys from it count.
fn suspect(session: &Session, context: &Context) -> Option<IpAddr> {
    let access = &context.snapshot.access;
    let address = session.client_addr()?.as_inet()?.ip().to_canonical();
    (access.has_keys() && !access.is_exempt(address)).then_some(address)
}

impl Context {
    /// Watches the answer of a plain model, or of what may be one, where somebody's tokens are counted.
    pub(super) fn meter(&mut self, model: Option<&str>) {
        if self.permit.as_ref().is_some_and(Permit::counts_tokens) {
            self.metered = Some(Box::new(Metered { tail: Tail::default(), model: model.map(str::to_owned) }));
        }
    }

    /// A piece of a plain answer passes.
    pub(super) fn watch(&mut self, piece: &[u8]) {
        if let Some(metered) = &mut self.metered {
            metered.tail.push(piece);
        }
    }

    /// The request is over: its permit is charged with what it used, and given back.
    pub(super) fn charge(&mut self, status: Option<StatusCode>) -> Bill {
        let bill = self.bill(status);
        if let Some(mut permit) = self.permit.take() {
            permit.charge(Spent { tokens: bill.tokens.unwrap_or(0), cost: bill.cost.unwrap_or(0.0) });
        }
        bill
    }

    fn bill(&self, status: Option<StatusCode>) -> Bill {
        let estimate = self.permit.as_ref().map(Permit::estimate).unwrap_or_default();
        let bill = if self.agent.is_some() {
            bill_of_run(&self.ledger.totals(), estimate)
        } else {
            let is_connected = self.forward.as_ref().is_some_and(Forward::is_connected);
            match (&self.metered, status) {
                (Some(metered), Some(status)) if status.is_success() => self.bill_of(metered, estimate),
                // The client left before the answer came.
                (Some(metered), None) if is_connected && metered.model.is_some() => self.bill_of(metered, estimate),
                _ => Bill::default(),
            }
        };
        if let Some(cost) = bill.cost {
            METRICS.cost(self.target_name(), cost);
        }
        bill
    }

    fn bill_of(&self, metered: &Metered, estimate: Spent) -> Bill {
        let told = metered.tail.usage();
        if told.is_none() && metered.model.is_none() && !metered.tail.is_stream() {
            return Bill::default();
        }
        let estimated = told.is_none().then_some(true);
        let usage = told.unwrap_or_else(|| guessed(estimate.tokens, metered.tail.estimate()));
        let forward = self.forward.as_ref();
        let upstream = forward.map_or("", |forward| &forward.upstream().name);
        let model = forward.and_then(Forward::other_model).or(metered.model.as_deref()).unwrap_or_default();
        let price = self.snapshot.around.prices.of(upstream, model);
        let cost = usage.cost().or(price.map(|price: Price| price.cost(&usage)));
        Bill { tokens: Some(usage.prompt_tokens + usage.completion_tokens), cost, estimated }
    }
}

/// What a run used: what servers told, and of the model calls of which they told nothing, the prompt and what was heard.
fn bill_of_run(totals: &Totals, estimate: Spent) -> Bill {
    let (mut tokens, mut cost) = (totals.usage.prompt_tokens + totals.usage.completion_tokens, totals.usage.cost());
    for unsaid in &totals.unsaid {
        tokens = tokens.saturating_add(estimate.tokens + unsaid.heard);
        if let Some(price) = unsaid.price {
            cost = Some(cost.unwrap_or(0.0) + price.cost(&guessed(estimate.tokens, unsaid.heard)));
        }
    }
    Bill { tokens: Some(tokens), cost, estimated: (!totals.unsaid.is_empty()).then_some(true) }
}

fn guessed(prompt_tokens: u64, completion_tokens: u64) -> Usage {
    Usage { prompt_tokens, completion_tokens, ..Usage::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::ledger::Unsaid;
    use crate::config::document;
    use crate::limits::Prices;

    #[test]
    fn a_run_pays_for_what_nobody_counted() {
        let price = document::Price { input: 1e6, cached_input: None, output: 2e6 };
        let price = Prices::build(&[("m".to_owned(), price)].into_iter().collect()).unwrap().of("u", "m");
        let mut usage = Usage { total_tokens: 12, ..guessed(10, 2) };
        usage.set_cost(14.0);
        let mut totals = Totals { usage, ..Totals::default() };
        let estimate = Spent { tokens: 100, cost: 0.0 };
        assert_eq!(bill_of_run(&totals, estimate), Bill { tokens: Some(12), cost: Some(14.0), estimated: None });
        totals.unsaid = vec![Unsaid { heard: 3, price }, Unsaid { heard: 5, price: None }];
        assert_eq!(bill_of_run(&totals, estimate), Bill { tokens: Some(12 + 103 + 105), cost: Some(14.0 + 106.0), estimated: Some(true) });
    }
}
