//! Wrong keys from one address: after so many, the address waits, whatever key it brings.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use lru::LruCache;
use tokio::time::Instant;

use super::gcra::{Bucket, Rate};
use super::{lock, seconds};
use crate::error::{Error, Kind, Result};
use crate::metrics::METRICS;

/// How many addresses are remembered; beyond it, those that failed least lately are forgotten.
const MAX_ADDRESSES: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// The failed attempts of this process.
#[derive(Debug)]
pub struct Failures {
    addresses: Mutex<LruCache<IpAddr, Bucket>>,
    /// Somebody has failed: until then nothing is looked up.
    is_used: AtomicBool,
    began: Instant,
}

impl Default for Failures {
    fn default() -> Self {
        Failures { addresses: Mutex::new(LruCache::new(MAX_ADDRESSES)), is_used: AtomicBool::new(false), began: Instant::now() }
    }
}

impl Failures {
    /// 429 while this address has failed `per_minute` times and none is forgiven yet; 0 is no limit.
    pub fn check(&self, address: IpAddr, per_minute: u32) -> Result<()> {
        if per_minute == 0 || !self.is_used.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some(bucket) = lock(&self.addresses).peek(&network(address)).copied() else { return Ok(()) };
        bucket.check(Rate::new(per_minute.into()), 1, self.now()).map_err(|wait| {
            METRICS.limit_refused("failed_attempts");
            let mut error = Error::new(Kind::RateLimited, "Too many requests with a wrong key came from this address.");
            error.retry_after = Some(seconds(wait));
            error
        })
    }

    /// A request from this address had a wrong key.
    pub fn count(&self, address: IpAddr, per_minute: u32) {
        if per_minute == 0 {
            return;
        }
        self.is_used.store(true, Ordering::Relaxed);
        let (rate, now) = (Rate::new(per_minute.into()), self.now());
        let mut addresses = lock(&self.addresses);
        let bucket = addresses.get_or_insert_mut(network(address), Bucket::default);
        if bucket.check(rate, 1, now).is_ok() {
            bucket.take(rate, 1, now);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Whoever has one address of an IPv6 network has the others, too.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_waits_after_so_many() {
        let failures = Failures::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let refused = |text: &str| failures.check(address(text), 3).is_err();
        for n in 0..10 {
            assert_eq!(refused("192.0.2.1"), n >= 3, "{n}");
            failures.count(address("192.0.2.1"), 3);
        }
        assert!(refused("::ffff:192.0.2.1") && !refused("192.0.2.2"));
        assert_eq!(failures.check(address("192.0.2.1"), 3).unwrap_err().retry_after.as_deref(), Some("20"));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(!refused("192.0.2.1"), "one is forgiven");
        for _ in 0..5 {
            failures.count(address("2001:db8::1"), 3);
            failures.count(address("192.0.2.9"), 0);
        }
        assert!(refused("2001:db8::ffff") && !refused("2001:db8:0:1::1") && !refused("192.0.2.9"));
    }
}
