//! What one key, user or agent uses: its rates, what it has under way, and what it has used today.

use std::time::Duration;

use super::gcra::{Bucket, Level, Rate};
use crate::config::document::Limits;

/// The moment of a decision, on the clocks that count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Nanoseconds of a clock that only goes forward.
    pub nanos: u64,
    /// Days since 1970, in UTC.
    pub day: u64,
    /// How long the day still has.
    pub rest: Duration,
}

/// What a request is taken to use until it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Tokens of prompts and replies.
    pub tokens: u64,
    /// Their price, in the currency of `prices`.
    pub cost: f64,
}

/// Why something is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Refusal {
    /// The rate of requests, and how long until one fits.
    Requests(Duration),
    /// The rate of tokens, and how long until these fit.
    Tokens(Duration),
    /// So many are under way.
    Concurrent,
    /// What a day has is used, and how long it still is.
    TokensOfDay(Duration),
    /// The same for money.
    CostOfDay(Duration),
}

/// The counts of one key, user or agent.
#[derive(Debug, Default)]
pub(super) struct Meter {
    requests: Bucket,
    tokens: Bucket,
    running: u32,
    day: u64,
    used: Spent,
}

impl Meter {
    /// Whether another request may begin. Nothing is counted.
    pub(super) fn check(&mut self, limits: &Limits, estimate: Spent, now: Now) -> Result<(), Refusal> {
        self.turn_to(now.day);
        if limits.tokens_per_day.is_some_and(|limit| self.used.tokens >= limit) {
            return Err(Refusal::TokensOfDay(now.rest));
        }
        if limits.cost_per_day.is_some_and(|limit| self.used.cost >= limit) {
            return Err(Refusal::CostOfDay(now.rest));
        }
        if limits.concurrent.is_some_and(|limit| self.running >= limit) {
            return Err(Refusal::Concurrent);
        }
        if let Some(rate) = requests(limits) {
            self.requests.check(rate, 1, now.nanos).map_err(Refusal::Requests)?;
        }
        if let Some(rate) = tokens(limits) {
            self.tokens.check(rate, estimate.tokens, now.nanos).map_err(Refusal::Tokens)?;
        }
        Ok(())
    }

    /// A request begins that is taken to use so much.
    pub(super) fn begin(&mut self, limits: &Limits, estimate: Spent, now: Now) {
        self.running += 1;
        if let Some(rate) = requests(limits) {
            self.requests.take(rate, 1, now.nanos);
        }
        if let Some(rate) = tokens(limits) {
            self.tokens.take(rate, estimate.tokens, now.nanos);
        }
        self.used.tokens = self.used.tokens.saturating_add(estimate.tokens);
        self.used.cost += estimate.cost;
    }

    /// It has used so much in truth.
    pub(super) fn correct(&mut self, limits: &Limits, estimate: Spent, spent: Spent, now: Now) {
        if let Some(rate) = tokens(limits) {
            self.tokens.give_back(rate, estimate.tokens);
            self.tokens.take(rate, spent.tokens, now.nanos);
        }
        // A request that lasts over midnight is the new day's.
        if !self.turn_to(now.day) {
            self.used.tokens = self.used.tokens.saturating_sub(estimate.tokens);
            self.used.cost -= estimate.cost;
        }
        self.used.tokens = self.used.tokens.saturating_add(spent.tokens);
        self.used.cost += spent.cost;
    }

    /// It is over.
    pub(super) fn end(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// What is left of the rates of requests and of tokens.
    pub(super) fn levels(&self, limits: &Limits, now: Now) -> (Option<Level>, Option<Level>) {
        let level = |bucket: Bucket, rate: Option<Rate>| Some(bucket.level(rate?, now.nanos));
        (level(self.requests, requests(limits)), level(self.tokens, tokens(limits)))
    }

    /// Begins a new day. `true` when it does: a clock that was set back does not.
    fn turn_to(&mut self, day: u64) -> bool {
        let is_new = day > self.day;
        if is_new {
            (self.day, self.used) = (day, Spent::default());
        }
        is_new
    }
}

fn requests(limits: &Limits) -> Option<Rate> {
    limits.requests_per_minute.map(|limit| Rate::new(limit.into()))
}

fn tokens(limits: &Limits) -> Option<Rate> {
    limits.tokens_per_minute.map(Rate::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(day: u64) -> Now {
        Now { nanos: 0, day, rest: Duration::from_secs(60) }
    }

    fn tokens(tokens: u64) -> Spent {
        Spent { tokens, cost: 0.0 }
    }

    #[test]
    fn a_day_is_used_up_and_begins_anew() {
        let limits = Limits { tokens_per_day: Some(100), cost_per_day: Some(1.0), ..Limits::default() };
        let mut meter = Meter::default();
        assert_eq!(meter.check(&limits, tokens(500), now(1)), Ok(()), "what is left may be overdrawn once");
        meter.begin(&limits, tokens(500), now(1));
        assert_eq!(meter.check(&limits, tokens(1), now(1)), Err(Refusal::TokensOfDay(Duration::from_secs(60))));
        meter.correct(&limits, tokens(500), tokens(99), now(1));
        assert_eq!(meter.check(&limits, tokens(1), now(1)), Ok(()));
        meter.correct(&limits, Spent::default(), Spent { tokens: 0, cost: 1.5 }, now(1));
        assert_eq!(meter.check(&limits, tokens(1), now(1)), Err(Refusal::CostOfDay(Duration::from_secs(60))));
        assert_eq!(meter.check(&limits, tokens(1), now(2)), Ok(()));
        meter.correct(&limits, tokens(0), tokens(100), now(2));
        assert!(meter.check(&limits, tokens(1), now(1)).is_err(), "a clock that was set back gives nothing back");
    }

    #[test]
    fn what_lasts_over_midnight_is_the_new_days() {
        let limits = Limits { tokens_per_day: Some(100), ..Limits::default() };
        let mut meter = Meter::default();
        assert_eq!(meter.check(&limits, tokens(90), now(1)), Ok(()));
        meter.begin(&limits, tokens(90), now(1));
        meter.correct(&limits, tokens(90), tokens(100), now(2));
        assert!(meter.check(&limits, tokens(0), now(2)).is_err());
    }

    #[test]
    fn so_many_at_once() {
        let limits = Limits { concurrent: Some(1), ..Limits::default() };
        let mut meter = Meter::default();
        meter.begin(&limits, tokens(0), now(1));
        assert_eq!(meter.check(&limits, tokens(0), now(1)), Err(Refusal::Concurrent));
        meter.end();
        assert_eq!(meter.check(&limits, tokens(0), now(1)), Ok(()));
    }
}
