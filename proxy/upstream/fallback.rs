//! Who is asked in whose place: the models that an alias names beside its own, in their order.

use std::sync::Arc;

use super::Upstream;
use crate::metrics::METRICS;

/// A model that may answer in another one's place.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Where it is.
    pub upstream: Arc<Upstream>,
    /// Its name there.
    pub model: String,
}

/// One request's way through its candidates.
#[derive(Debug)]
pub struct Fallback<C> {
    candidates: C,
    next: usize,
}

impl<C: AsRef<[Candidate]>> Fallback<C> {
    /// The way through these, which come after the model that the request is for.
    pub fn new(candidates: C) -> Self {
        Fallback { candidates, next: 0 }
    }

    /// Whom to ask at first in the place of `upstream`; `None` is nobody. A server whose breaker is open is passed over,
    /// unless the others are no better.
    pub fn instead_of(&mut self, upstream: &Upstream) -> Option<Candidate> {
        if self.candidates.as_ref().is_empty() || upstream.admits() {
            return None;
        }
        let instead = self.admitted()?;
        METRICS.upstream_fallback(&upstream.name);
        Some(self.take(instead))
    }

    /// Whom to ask after `upstream` has failed; `None` when nobody is left, or it has used up its retries.
    pub fn after(&mut self, upstream: &Upstream) -> Option<Candidate> {
        if !self.is_left() || !upstream.may_retry() {
            return None;
        }
        let next = self.admitted().unwrap_or(self.next);
        METRICS.upstream_fallback(&upstream.name);
        Some(self.take(next))
    }

    /// Whether there is anybody left to ask.
    pub fn is_left(&self) -> bool {
        self.next < self.candidates.as_ref().len()
    }

    fn admitted(&self) -> Option<usize> {
        let left = self.candidates.as_ref().iter().enumerate().skip(self.next);
        left.into_iter().find(|(_, candidate)| candidate.upstream.admits()).map(|(i, _)| i)
    }

    fn take(&mut self, i: usize) -> Candidate {
        self.next = i + 1;
        self.candidates.as_ref()[i].clone()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::breaker::{Failure, THRESHOLD};
    use super::*;
    use crate::config::document;

    fn candidate(name: &str) -> Candidate {
        crate::tls::install_provider();
        let settings = document::Upstream { base_url: Some("http://h/v1".into()), ..Default::default() };
        let upstream = Upstream::build(name, settings, Path::new("."), &tokio::runtime::Handle::current()).unwrap();
        Candidate { upstream: Arc::new(upstream), model: format!("model of {name}") }
    }

    fn open(candidate: &Candidate) {
        (0..THRESHOLD).for_each(|_| candidate.upstream.failed(Failure::Connect, &"refused"));
    }

    fn name(candidate: Option<Candidate>) -> Option<String> {
        candidate.map(|candidate| candidate.upstream.name.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_asked_in_their_order_and_each_once() {
        let (first, rest) = (candidate("a").upstream, [candidate("b"), candidate("c")]);
        let mut fallback = Fallback::new(&rest[..]);
        assert!(fallback.instead_of(&first).is_none());
        let second = fallback.after(&first).unwrap();
        assert_eq!((second.upstream.name.as_str(), second.model.as_str()), ("b", "model of b"));
        assert_eq!(name(fallback.after(&second.upstream)).as_deref(), Some("c"));
        assert!(!fallback.is_left() && fallback.after(&rest[1].upstream).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_is_passed_over_while_somebody_else_is_there() {
        let (first, rest) = (candidate("a"), [candidate("b"), candidate("c")]);
        open(&first);
        open(&rest[0]);
        let mut fallback = Fallback::new(&rest[..]);
        assert_eq!(name(fallback.instead_of(&first.upstream)).as_deref(), Some("c"));
        open(&rest[1]);
        let mut fallback = Fallback::new(&rest[..]);
        assert!(fallback.instead_of(&first.upstream).is_none(), "nobody is better");
        assert_eq!(name(fallback.after(&first.upstream)).as_deref(), Some("b"));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let mut fallback = Fallback::new(&rest[..]);
        assert!(fallback.instead_of(&first.upstream).is_none(), "the probe");
        assert_eq!(name(Fallback::new(&rest[..]).instead_of(&first.upstream)).as_deref(), Some("b"), "one is enough");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_without_retries_left_is_the_last() {
        let (first, rest) = (candidate("a").upstream, [candidate("b")]);
        while first.may_retry() {}
        assert!(Fallback::new(&rest[..]).after(&first).is_none());
    }
}
