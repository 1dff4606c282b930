//! A rate as the generic cell rate algorithm keeps it: one instant says how much is used. N pass at once, and are refilled evenly.
//!
//! Crates for this refuse what does not fit. Tokens are known only when they are used: a bucket here can be charged later, and go into debt.

use std::time::Duration;

/// What N are allowed in, in nanoseconds.
const WINDOW: u64 = 60_000_000_000;

/// A rate: so many a minute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    per_minute: u64,
    /// How long one of them takes to come back, in nanoseconds.
    interval: u64,
}

/// How much of a rate is used: the instant at which all of it is back, in nanoseconds of the owner's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket(u64);

/// What is left of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// How many a minute there are.
    pub limit: u64,
    /// How many would be let through now.
    pub remaining: u64,
    /// When all are back.
    pub reset: Duration,
}

impl Rate {
    /// `per_minute` is at least 1.
    pub(super) fn new(per_minute: u64) -> Rate {
        Rate { per_minute, interval: (WINDOW / per_minute.max(1)).max(1) }
    }

    fn span(self, n: u64) -> u64 {
        self.interval.saturating_mul(n)
    }
}

impl Bucket {
    /// What is left at `now`.
    pub(super) fn level(self, rate: Rate, now: u64) -> Level {
        let used = self.0.saturating_sub(now);
        Level { limit: rate.per_minute, remaining: WINDOW.saturating_sub(used) / rate.interval, reset: Duration::from_nanos(used) }
    }

    /// `Err` when `n` do not fit at `now`: how long until they do. More than the rate has are taken for all of it.
    pub(super) fn check(self, rate: Rate, n: u64, now: u64) -> Result<(), Duration> {
        let full = self.0.max(now).saturating_add(rate.span(n.min(rate.per_minute)));
        match full.saturating_sub(now.saturating_add(WINDOW)) {
            0 => Ok(()),
            wait => Err(Duration::from_nanos(wait)),
        }
    }

    /// Uses `n`, whether they fit or not.
    pub(super) fn take(&mut self, rate: Rate, n: u64, now: u64) {
        self.0 = self.0.max(now).saturating_add(rate.span(n));
    }

    /// Gives `n` back.
    pub(super) fn give_back(&mut self, rate: Rate, n: u64) {
        self.0 = self.0.saturating_sub(rate.span(n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn n_pass_at_once_and_come_back_evenly() {
        let (rate, mut bucket, now) = (Rate::new(600), Bucket::default(), 5 * SECOND);
        let mut passed = 0;
        // One minute of clients that never stop asking, at every millisecond.
        for ms in 0..=60_000 {
            let now = now + ms * 1_000_000;
            while bucket.check(rate, 1, now).is_ok() {
                bucket.take(rate, 1, now);
                passed += 1;
            }
        }
        assert_eq!(passed, 600 + 60 * 10);
    }

    #[test]
    fn what_is_left_and_how_long_until_more_is_told() {
        let (rate, mut bucket) = (Rate::new(60), Bucket::default());
        bucket.take(rate, 60, 0);
        assert_eq!(bucket.check(rate, 1, 0), Err(Duration::from_secs(1)));
        assert_eq!(bucket.level(rate, 0), Level { limit: 60, remaining: 0, reset: Duration::from_secs(60) });
        assert_eq!(bucket.level(rate, 10 * SECOND), Level { limit: 60, remaining: 10, reset: Duration::from_secs(50) });
        assert_eq!(bucket.check(rate, 11, 10 * SECOND), Err(Duration::from_secs(1)));
    }

    #[test]
    fn a_debt_is_paid_before_anything_passes() {
        let (rate, mut bucket) = (Rate::new(60), Bucket::default());
        assert_eq!(bucket.check(rate, 1000, 0), Ok(()), "a full bucket lets everything pass");
        bucket.take(rate, 120, 0);
        assert_eq!(bucket.check(rate, 1, 0), Err(Duration::from_secs(61)));
        bucket.give_back(rate, 100);
        assert_eq!(bucket.level(rate, 0).remaining, 40);
        bucket.give_back(rate, 100);
        assert_eq!(bucket.level(rate, 30 * SECOND).remaining, 60, "no more than there is");
    }
}
