//! How many requests are being worked on, and whether new ones are taken: what a stop waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::metrics::METRICS;

/// The requests in flight.
#[derive(Debug, Default)]
pub struct Flight {
    count: AtomicUsize,
    stopping: AtomicBool,
    landed: Notify,
}

/// One request in flight, from its first phase to its last, however it ends.
#[derive(Debug)]
pub struct Flying(Arc<Flight>);

impl Flight {
    /// A request begins.
    pub fn enter(self: &Arc<Self>) -> Flying {
        self.count.fetch_add(1, Ordering::AcqRel);
        METRICS.in_flight.inc();
        Flying(self.clone())
    }

    /// New requests are refused from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether new requests are refused.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Returns as soon as nothing is in flight, or after `limit`. `false` when requests are left.
    pub async fn wait_idle(&self, limit: Duration) -> bool {
        let idle = async {
            loop {
                let landed = self.landed.notified();
                if self.count.load(Ordering::Acquire) == 0 {
                    return;
                }
                landed.await;
            }
        };
        tokio::time::timeout(limit, idle).await.is_ok()
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        METRICS.in_flight.dec();
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.landed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idle_is_seen_at_once_and_the_limit_holds() {
        let flight = Arc::new(Flight::default());
        assert!(flight.wait_idle(Duration::ZERO).await);
        let one = flight.enter();
        assert!(!flight.wait_idle(Duration::from_secs(1)).await);
        let waiting = {
            let flight = flight.clone();
            async move { flight.wait_idle(Duration::from_secs(60)).await }
        };
        let begun = tokio::time::Instant::now();
        let (idle, ()) = tokio::join!(waiting, async { drop(one) });
        assert!(idle && begun.elapsed() < Duration::from_secs(1));
    }
}
