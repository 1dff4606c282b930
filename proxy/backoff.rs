//! How long to wait before something that was lost is begun again: twice as long each time, and from the start once it has held.

use std::time::Duration;

/// The shortest wait that is one, and the longest.
pub const FIRST: Duration = Duration::from_millis(250);
const LAST: Duration = Duration::from_secs(30);

/// What lived this long was stable.
const STABLE: Duration = Duration::from_secs(30);

/// The waits of one thing that is begun again and again.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits that begin with `first`, perhaps nothing, and go on between a quarter of a second and half a minute.
    pub fn new(first: Duration) -> Backoff {
        Backoff { first, next: first }
    }

    /// The wait after something that held for `held`.
    pub fn wait(&mut self, held: Duration) -> Duration {
        if held >= STABLE {
            self.next = self.first;
        }
        let wait = self.next;
        self.next = (wait * 2).clamp(FIRST, LAST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::ZERO);
        let waits: Vec<u128> = (0..10).map(|_| backoff.wait(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [0, 250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(backoff.wait(STABLE), Duration::ZERO);
        let mut backoff = Backoff::new(FIRST);
        assert_eq!([(); 2].map(|()| backoff.wait(Duration::ZERO).as_millis()), [250, 500]);
    }
}
