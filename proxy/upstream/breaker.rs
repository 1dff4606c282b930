//! Whether a server is worth asking where another one could be asked: after failures in a row it is left alone, and tried again later.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// So many failures in a row open it.
pub const THRESHOLD: u32 = 5;

/// How long it is open at first; then twice as long each time a probe fails, up to half a minute.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// A circuit breaker. While it is closed, asking it and telling it of a success cost one load each.
#[derive(Debug)]
pub struct Breaker {
    n_failures: AtomicU32,
    is_open: AtomicBool,
    outage: Mutex<Outage>,
}

#[derive(Debug)]
struct Outage {
    backoff: Backoff,
    /// When it was closed last.
    closed_at: Instant,
    wait: Duration,
    /// When the next probe is due.
    probe_at: Instant,
    /// A probe is under way.
    probing: bool,
    /// The latest failure.
    failure: Failure,
}

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There was no connection.
    Connect,
    /// There was one, and no answer in time, half an answer's head, or a status of 500 and more.
    Answer,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Requests go to the server.
    Closed,
    /// Those that can go elsewhere do.
    Open,
    /// The next one is the probe, or one is under way.
    HalfOpen,
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The server is left alone for so long.
    Opened(Duration),
    /// The probe failed: for so long again.
    Reopened(Duration),
    /// The server is asked as before.
    Closed,
}

impl Default for Breaker {
    fn default() -> Self {
        let now = Instant::now();
        let outage = Outage {
            backoff: Backoff::new(FIRST_WAIT),
            closed_at: now,
            wait: FIRST_WAIT,
            probe_at: now,
            probing: false,
            failure: Failure::Connect,
        };
        Breaker { n_failures: AtomicU32::new(0), is_open: AtomicBool::new(false), outage: Mutex::new(outage) }
    }
}

impl Breaker {
    /// Whether a request that could go elsewhere should go here. Where it is open and the wait is over, this one is the probe;
    /// should nothing be heard of it, there is another after the same wait.
    pub fn admits(&self) -> bool {
        if !self.is_open.load(Ordering::Relaxed) {
            return true;
        }
        let (mut outage, now) = (self.lock(), Instant::now());
        let due = now >= outage.probe_at;
        if due {
            outage.probing = true;
            outage.probe_at = now + outage.wait;
        }
        due
    }

    /// The server has answered a request, whoever sent it.
    pub fn succeeded(&self) -> Option<Change> {
        if self.n_failures.load(Ordering::Relaxed) != 0 {
            self.n_failures.store(0, Ordering::Relaxed);
        }
        self.is_open.load(Ordering::Relaxed).then(|| self.close(self.lock())).flatten()
    }

    /// A request has failed. What had begun before it was opened changes nothing any more.
    pub fn failed(&self, failure: Failure) -> Option<Change> {
        let n_failures = self.n_failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if n_failures < THRESHOLD && !self.is_open.load(Ordering::Relaxed) {
            return None;
        }
        let (mut outage, now) = (self.lock(), Instant::now());
        let was_open = self.is_open.swap(true, Ordering::Relaxed);
        outage.failure = failure;
        if was_open && !outage.probing && now < outage.probe_at {
            return None;
        }
        let held = if was_open { Duration::ZERO } else { now - outage.closed_at };
        outage.wait = outage.backoff.wait(held);
        (outage.probe_at, outage.probing) = (now + outage.wait, false);
        Some(if was_open { Change::Reopened(outage.wait) } else { Change::Opened(outage.wait) })
    }

    /// The server has answered a question about its health. That closes it where there was no connection; where there were bad answers,
    /// the next request may show whether they have become better.
    pub fn healthy(&self) -> Option<Change> {
        if !self.is_open.load(Ordering::Relaxed) {
            return None;
        }
        let mut outage = self.lock();
        match outage.failure {
            Failure::Connect => {
                self.n_failures.store(0, Ordering::Relaxed);
                self.close(outage)
            }
            Failure::Answer => {
                if !outage.probing {
                    outage.probe_at = outage.probe_at.min(Instant::now());
                }
                None
            }
        }
    }

    /// Where it stands now.
    pub fn state(&self) -> State {
        if !self.is_open.load(Ordering::Relaxed) {
            return State::Closed;
        }
        let outage = self.lock();
        if outage.probing || Instant::now() >= outage.probe_at { State::HalfOpen } else { State::Open }
    }

    /// How long it waits between two probes; `None` while it is closed.
    pub fn wait(&self) -> Option<Duration> {
        self.is_open.load(Ordering::Relaxed).then(|| self.lock().wait)
    }

    fn close(&self, mut outage: MutexGuard<'_, Outage>) -> Option<Change> {
        (outage.closed_at, outage.probing) = (Instant::now(), false);
        self.is_open.swap(false, Ordering::Relaxed).then_some(Change::Closed)
    }

    fn lock(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn opened(failure: Failure) -> Breaker {
        let breaker = Breaker::default();
        for _ in 1..THRESHOLD {
            assert_eq!(breaker.failed(failure), None);
        }
        assert_eq!(breaker.failed(failure), Some(Change::Opened(seconds(1))));
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_a_success_between_does_not() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            for _ in 1..THRESHOLD {
                assert_eq!(breaker.failed(Failure::Answer), None);
            }
            assert_eq!(breaker.succeeded(), None);
        }
        assert!(breaker.admits());
        let breaker = opened(Failure::Answer);
        assert!(!breaker.admits());
        assert_eq!(breaker.failed(Failure::Answer), None, "what was under way tells nothing new");
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_a_wait_and_the_wait_doubles_up_to_half_a_minute() {
        let breaker = opened(Failure::Connect);
        for wait in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!((breaker.state(), breaker.wait()), (State::Open, Some(seconds(wait))));
            advance(seconds(wait) - Duration::from_millis(1)).await;
            assert!(!breaker.admits());
            advance(Duration::from_millis(1)).await;
            assert_eq!(breaker.state(), State::HalfOpen);
            assert!(breaker.admits(), "the probe");
            assert!(!breaker.admits(), "and no other");
            assert_eq!(breaker.failed(Failure::Connect), Some(Change::Reopened(seconds((wait * 2).min(30)))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_answers_closes_it_and_one_that_is_never_heard_of_is_replaced() {
        let breaker = opened(Failure::Connect);
        for _ in 0..2 {
            advance(seconds(1)).await;
            assert!(breaker.admits() && !breaker.admits());
        }
        assert_eq!(breaker.succeeded(), Some(Change::Closed));
        assert_eq!((breaker.state(), breaker.wait(), breaker.succeeded()), (State::Closed, None, None));
        assert!(breaker.admits() && breaker.admits());
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_again_soon_waits_longer_and_what_held_begins_anew() {
        let breaker = opened(Failure::Connect);
        let again = |held: u64| {
            let breaker = &breaker;
            async move {
                breaker.succeeded();
                advance(seconds(held)).await;
                (0..THRESHOLD).filter_map(|_| breaker.failed(Failure::Connect)).collect::<Vec<_>>()
            }
        };
        assert_eq!(again(5).await, [Change::Opened(seconds(2))]);
        assert_eq!(again(30).await, [Change::Opened(seconds(1))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_healthy_answer_shows_that_there_is_a_connection_and_no_more() {
        let unreachable = opened(Failure::Connect);
        assert_eq!(unreachable.healthy(), Some(Change::Closed));
        assert_eq!(unreachable.state(), State::Closed);
        let failing = opened(Failure::Answer);
        assert_eq!((failing.healthy(), failing.state()), (None, State::HalfOpen));
        assert!(failing.admits() && !failing.admits(), "one request finds out");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_had_no_choice_counts_when_the_wait_is_over() {
        let breaker = opened(Failure::Connect);
        assert_eq!(breaker.failed(Failure::Connect), None);
        advance(seconds(1)).await;
        assert_eq!(breaker.failed(Failure::Connect), Some(Change::Reopened(seconds(2))));
    }
}
