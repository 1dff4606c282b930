//! How many requests may be sent once more: a share of the recent ones, and a few besides, so that a dead server is not stormed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What is recent.
const WINDOW: usize = 10;

/// Thousandths of a retry: what each request adds, what each retry takes.
const DEPOSIT: i32 = 200;
const WITHDRAWAL: i32 = -1000;

/// Retries a second that need no requests before them.
const RESERVED: i64 = 10;

/// The retries that the requests to one server have earned: 20 % of those of the last ten seconds, and ten a second besides.
#[derive(Debug)]
pub struct RetryBudget {
    began: Instant,
    /// One a second of the window, gone round and round: the second, and its deposits without its withdrawals.
    seconds: [AtomicU64; WINDOW],
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget { began: Instant::now(), seconds: Default::default() }
    }
}

impl RetryBudget {
    /// A request is sent, for the first time.
    pub fn deposit(&self) {
        self.book(DEPOSIT);
    }

    /// Takes a retry, if one is left.
    pub fn withdraw(&self) -> bool {
        let has_one = self.balance() >= i64::from(-WITHDRAWAL);
        if has_one {
            self.book(WITHDRAWAL);
        }
        has_one
    }

    fn balance(&self) -> i64 {
        let now = self.now();
        let recent = |slot: &AtomicU64| {
            let (second, net) = unpack(slot.load(Ordering::Relaxed));
            if now.wrapping_sub(second) < WINDOW as u32 { i64::from(net) } else { 0 }
        };
        RESERVED * WINDOW as i64 * i64::from(-WITHDRAWAL) + self.seconds.iter().map(recent).sum::<i64>()
    }

    fn book(&self, thousandths: i32) {
        let now = self.now();
        let Some(slot) = self.seconds.get(now as usize % WINDOW) else { return };
        let add = |packed| {
            let (second, net) = unpack(packed);
            let net = if second == now { net } else { 0 };
            Some(pack(now, net.saturating_add(thousandths)))
        };
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// The second, from 1: a slot that was never used is of second 0, long ago.
    fn now(&self) -> u32 {
        let started = Duration::from_secs(WINDOW as u64);
        (self.began.elapsed() + started).as_secs() as u32
    }
}

fn pack(second: u32, net: i32) -> u64 {
    u64::from(second) << 32 | u64::from(net as u32)
}

fn unpack(packed: u64) -> (u32, i32) {
    ((packed >> 32) as u32, packed as u32 as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn withdrawn(budget: &RetryBudget) -> usize {
        (0..10_000).take_while(|_| budget.withdraw()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_need_no_requests() {
        let budget = RetryBudget::default();
        assert_eq!(withdrawn(&budget), 100);
        assert!(!budget.withdraw());
    }

    #[tokio::test(start_paused = true)]
    async fn every_fifth_request_earns_one() {
        let budget = RetryBudget::default();
        withdrawn(&budget);
        (0..4).for_each(|_| budget.deposit());
        assert!(!budget.withdraw());
        budget.deposit();
        assert_eq!(withdrawn(&budget), 1);
        (0..1000).for_each(|_| budget.deposit());
        assert_eq!(withdrawn(&budget), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_recent_counts_no_more() {
        let budget = RetryBudget::default();
        (0..1000).for_each(|_| budget.deposit());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(withdrawn(&budget), 300);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(withdrawn(&budget), 0, "the requests are forgotten before the retries");
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(withdrawn(&budget), 100);
    }
}
