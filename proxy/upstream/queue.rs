//! Who may be at an upstream now: so many requests at once, the others wait, the keys in turns.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::config::document;
use crate::error::{Error, Kind, Result};
use crate::metrics::METRICS;

/// The way into one upstream.
#[derive(Debug)]
pub struct Queue {
    upstream: String,
    places: usize,
    settings: document::Queue,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Who waits: one line a key, first come, first served. The line at the front is next, and goes to the back then.
    lines: VecDeque<(Option<String>, VecDeque<Ticket>)>,
    waiting: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Ticket {
    number: u64,
    call: oneshot::Sender<()>,
}

/// A place at the upstream, until it is dropped.
#[derive(Debug)]
pub struct Place(Arc<Queue>);

/// Somebody who waits. Dropping it leaves the line, and passes on a place that was just given.
struct Waiting {
    queue: Arc<Queue>,
    number: u64,
    is_over: bool,
}

impl Queue {
    /// A way in for `places` requests at once.
    pub fn new(upstream: &str, places: usize, settings: document::Queue) -> Arc<Queue> {
        Arc::new(Queue { upstream: upstream.to_owned(), places, settings, state: Mutex::default() })
    }

    /// A place, if one is free and nobody waits for it.
    pub fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.lock();
        self.is_free(&state).then(|| {
            state.taken += 1;
            Place(self.clone())
        })
    }

    /// How many wait where one more would have to; `None` where it would not, or may not.
    pub fn ahead(&self) -> Option<usize> {
        let state = self.lock();
        (!self.is_free(&state) && state.waiting < self.settings.max).then_some(state.waiting)
    }

    /// A place, as soon as it is this key's turn. `Err` when too many wait already, or the wait takes longer than it may.
    pub async fn enter(self: &Arc<Self>, key: Option<&str>) -> Result<Place> {
        if let Some(place) = self.try_enter() {
            return Ok(place);
        }
        let (mut waiting, called) = self.line_up(key)?;
        match tokio::time::timeout(self.settings.timeout, called).await {
            Ok(_) => {
                waiting.is_over = true;
                Ok(Place(self.clone()))
            }
            Err(_) => {
                let seconds = self.settings.timeout.as_secs_f64();
                Err(self.busy(format!("The upstream is busy: no place was free for {seconds} s. Please try again later.")))
            }
        }
    }

    fn is_free(&self, state: &State) -> bool {
        state.taken < self.places && state.waiting == 0
    }

    fn line_up(self: &Arc<Self>, key: Option<&str>) -> Result<(Waiting, oneshot::Receiver<()>)> {
        let (call, called) = oneshot::channel();
        let mut state = self.lock();
        if state.waiting >= self.settings.max {
            return Err(self.busy("The upstream is busy, and too many requests wait for it. Please try again later.".into()));
        }
        let number = state.next_number;
        state.next_number += 1;
        state.waiting += 1;
        let line = state.lines.iter_mut().find(|(of, _)| of.as_deref() == key);
        match line {
            Some((_, line)) => line.push_back(Ticket { number, call }),
            None => state.lines.push_back((key.map(str::to_owned), VecDeque::from([Ticket { number, call }]))),
        }
        METRICS.upstream_waiting(&self.upstream, 1);
        Ok((Waiting { queue: self.clone(), number, is_over: false }, called))
    }

    fn busy(&self, message: String) -> Error {
        let cause = format!("max_concurrent of the upstream `{}` is {}", self.upstream, self.places);
        Error { retry_after: Some("1".into()), ..Error::new(Kind::UpstreamBusy, message).source(cause) }
    }

    /// A place is free: whoever is next has it.
    fn pass_on(&self, mut state: MutexGuard<'_, State>) {
        let Some((key, mut line)) = state.lines.pop_front() else {
            state.taken -= 1;
            return;
        };
        let next = line.pop_front();
        if !line.is_empty() {
            state.lines.push_back((key, line));
        }
        state.waiting -= 1;
        METRICS.upstream_waiting(&self.upstream, -1);
        if let Some(ticket) = next {
            // It is still in the line, so it still listens: leaving takes the lock, too.
            let _ = ticket.call.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.pass_on(self.0.lock());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.queue.lock();
        let found = state.lines.iter_mut().enumerate().find_map(|(i, (_, line))| {
            let at = line.iter().position(|ticket| ticket.number == self.number)?;
            line.remove(at);
            Some((i, line.is_empty()))
        });
        match found {
            Some((i, is_empty)) => {
                if is_empty {
                    state.lines.remove(i);
                }
                state.waiting -= 1;
                METRICS.upstream_waiting(&self.queue.upstream, -1);
            }
            // It was called in the moment in which it left.
            None => self.queue.pass_on(state),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "those who wait in these tests are tasks of their own")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn queue(places: usize, max: usize) -> Arc<Queue> {
        Queue::new("u", places, document::Queue { max, timeout: Duration::from_secs(60) })
    }

    /// Lets everybody who can go on do so.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_take_turns_and_each_is_served_in_its_order() {
        let queue = queue(1, 100);
        let place = queue.enter(None).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (key, n) in [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("c", 0)] {
            let (queue, order) = (queue.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let _place = queue.enter(Some(key)).await.unwrap();
                order.lock().unwrap().push(format!("{key}{n}"));
            }));
            settle().await;
        }
        drop(place);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["a0", "b0", "c0", "a1", "b1", "a2"]);
        assert!(queue.try_enter().is_some(), "the place is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_gives_up_the_place_too() {
        let queue = queue(1, 100);
        let place = queue.enter(None).await.unwrap();
        let enter = |key: &'static str| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.enter(Some(key)).await })
        };
        let (leaves, stays) = (enter("a"), enter("b"));
        settle().await;
        leaves.abort();
        settle().await;
        assert_eq!(queue.lock().waiting, 1);
        drop(place);
        drop(stays.await.unwrap().unwrap());
        // Called and gone in the same moment: the place is not lost.
        let place = queue.enter(None).await.unwrap();
        let called = enter("c");
        settle().await;
        drop(place);
        called.abort();
        settle().await;
        drop(called.await);
        assert!(queue.try_enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_and_a_long_wait_are_told() {
        let queue = queue(1, 1);
        let _place = queue.enter(None).await.unwrap();
        let waits = {
            let queue = queue.clone();
            tokio::spawn(async move { queue.enter(None).await.map(drop) })
        };
        settle().await;
        let full = queue.enter(Some("k")).await.unwrap_err();
        assert_eq!((full.kind, full.retry_after.as_deref()), (Kind::UpstreamBusy, Some("1")));
        let late = waits.await.unwrap().unwrap_err();
        assert!(late.message.contains("60 s"), "{late}");
        assert_eq!(queue.lock().waiting, 0);
    }

    #[tokio::test]
    async fn nobody_overtakes_who_waits() {
        let queue = queue(1, 10);
        let place = queue.enter(None).await.unwrap();
        let mut waits = Box::pin(queue.enter(None));
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(place);
        assert!(queue.try_enter().is_none(), "the place is the waiter's");
        drop(waits.await.unwrap());
        assert!(queue.try_enter().is_some());
    }
}
