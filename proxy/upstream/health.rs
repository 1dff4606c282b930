//! What requests and questions show of a server's health: its breaker learns it, and each change is told once.

use std::fmt::Display;

use super::Upstream;
use super::breaker::{Change, Failure, State, THRESHOLD};
use super::catalog;
use crate::metrics::METRICS;

impl Upstream {
    /// Whether a request that could go elsewhere should go here. The one that is to find out whether it answers again is told yes.
    pub fn admits(&self) -> bool {
        self.breaker.admits()
    }

    /// A request is sent here for the first time; what it and others like it earn are retries.
    pub fn begin(&self) {
        self.budget.deposit();
    }

    /// Takes one of the retries that are left, here or elsewhere, for a request that failed here.
    pub fn may_retry(&self) -> bool {
        let may = self.budget.withdraw();
        if !may {
            METRICS.upstream_retry_refused(&self.name);
        }
        may
    }

    /// The server has begun to answer a request with this status.
    pub fn answered(&self, status: u16) {
        if status >= 500 {
            return self.failed(Failure::Answer, &format_args!("status {status}"));
        }
        let change = self.breaker.succeeded();
        self.tell(change, &"");
    }

    /// A request has failed before its answer began.
    pub fn failed(&self, failure: Failure, why: &dyn Display) {
        let change = self.breaker.failed(failure);
        self.tell(change, why);
    }

    /// It was asked how it is, and has answered well.
    pub(super) fn healthy(&self) {
        let change = self.breaker.healthy();
        self.tell(change, &"");
    }

    /// Whether it answers, as far as is known; `None` when it was not asked yet.
    pub fn is_up(&self) -> Option<bool> {
        match self.catalog.listing().state {
            catalog::State::Down(_) => Some(false),
            _ if self.breaker.state() != State::Closed => Some(false),
            catalog::State::Unknown => None,
            catalog::State::Up => Some(true),
        }
    }

    fn tell(&self, change: Option<Change>, why: &dyn Display) {
        let upstream = self.name.as_str();
        match change {
            None => {}
            Some(Change::Opened(wait)) => {
                METRICS.upstream_breaker_opened(upstream);
                let seconds = wait.as_secs_f64();
                tracing::warn!(upstream, "the breaker opens after {THRESHOLD} failures in a row, the next try is in {seconds} s: {why}");
            }
            Some(Change::Reopened(wait)) => {
                tracing::debug!(upstream, "the breaker stays open, the next try is in {} s: {why}", wait.as_secs_f64());
            }
            Some(Change::Closed) => tracing::info!(upstream, "the breaker closes: the upstream answers again"),
        }
    }
}
