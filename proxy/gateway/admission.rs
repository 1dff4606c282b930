//! Lets a request in as far as its key, its user and its agent have room, before it costs anything; and settles what it used.

use std::net::IpAddr;

use http::StatusCode;
use pingora::proxy::Session;

use super::{Context, Gateway};
use crate::access::Caller;
use crate::agent::Agent;
use crate::error::Result;
use crate::limits::{Permit, Price, Spent, Tail};
use crate::metrics::METRICS;

/// How many bytes of a request are about one token.
const BYTES_PER_TOKEN: u64 = 4;

/// What is watched of a plain answer, to know what it used.
pub(super) struct Metered {
    tail: Tail,
    /// The model as its upstream knows it.
    model: String,
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
    /// Watches the answer of a plain model, where somebody's tokens are counted.
    pub(super) fn meter(&mut self, model: Option<&str>) {
        if self.permit.as_ref().is_some_and(Permit::counts_tokens) {
            self.metered = Some(Box::new(Metered { tail: Tail::default(), model: model.unwrap_or_default().to_owned() }));
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
            let totals = self.ledger.totals();
            // A model that was asked and never came to say what it used has read the prompt.
            let silent = totals.hops > 0 && totals.usage.total_tokens == 0;
            Bill {
                tokens: Some(if silent { estimate.tokens } else { totals.usage.total_tokens }),
                cost: totals.usage.cost(),
                estimated: silent.then_some(true),
            }
        } else {
            match &self.metered {
                Some(metered) if status.is_some_and(|status| status.is_success()) => self.bill_of(metered, estimate),
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
        let estimated = told.is_none().then_some(true);
        let usage = told.unwrap_or_else(|| crate::chat::Usage {
            prompt_tokens: estimate.tokens,
            completion_tokens: metered.tail.estimate(),
            ..Default::default()
        });
        let upstream = self.forward.as_ref().map_or("", |forward| &forward.upstream().name);
        let price = self.snapshot.around.prices.of(upstream, &metered.model);
        let cost = usage.cost().or(price.map(|price: Price| price.cost(&usage)));
        Bill { tokens: Some(usage.prompt_tokens + usage.completion_tokens), cost, estimated }
    }
}
