//! What one request carries through the phases, and its end: the ledger settled, one record, always.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{StatusCode, Version};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::admission::{Bill, Metered};
use super::forward::Forward;
use crate::access::Caller;
use crate::agent::Agent;
use crate::agent::ledger::Ledger;
use crate::config::document::Cors;
use crate::downstream::{Answer, Extra, answer, cors};
use crate::error::{Error, Kind, Result};
use crate::flight::Flying;
use crate::limits::Permit;
use crate::metrics::METRICS;
use crate::snapshot::Snapshot;

/// One request's state.
pub struct Context {
    /// The configuration that this request sees from its first to its last phase.
    pub(super) snapshot: Arc<Snapshot>,
    /// What every response to it carries.
    pub(super) extra: Extra,
    /// What a run used.
    pub(super) ledger: Arc<Ledger>,
    /// A response of ours has begun, or was tried: a failure must not begin another.
    pub(super) answered: bool,
    /// Where Pingora passes it on to.
    pub(super) forward: Option<Forward>,
    /// Who is asking, once that is known.
    pub(super) caller: Option<Caller>,
    /// Its share of what its limits allow.
    pub(super) permit: Option<Permit>,
    /// What is watched of a plain answer.
    pub(super) metered: Option<Box<Metered>>,
    pub(super) agent: Option<Arc<Agent>>,
    failure: Option<Error>,
    started: Instant,
    _flying: Flying,
}

impl Context {
    pub(super) fn new(snapshot: Arc<Snapshot>, flying: Flying) -> Context {
        Context {
            snapshot,
            extra: Extra::default(),
            ledger: Arc::default(),
            answered: false,
            forward: None,
            caller: None,
            permit: None,
            metered: None,
            agent: None,
            failure: None,
            started: Instant::now(),
            _flying: flying,
        }
    }

    pub(super) fn identify(&mut self, head: &RequestHeader, cors: &Cors) {
        self.extra = Extra { request_id: request_id(head), cors: cors::check(cors, &head.headers), ..Extra::default() };
    }

    /// HTTP/1.1 wants a `Host`, which Pingora does not ask for.
    pub(super) fn check_host(&self, head: &RequestHeader) -> Result<()> {
        if head.version == Version::HTTP_11 && !head.headers.contains_key(http::header::HOST) {
            return Err(Error::new(Kind::BadRequest, "The request has no Host header."));
        }
        Ok(())
    }

    pub(super) fn run_of(&mut self, agent: &Arc<Agent>) {
        self.agent = Some(agent.clone());
    }

    /// The largest body, in bytes.
    pub(super) fn max_body(&self) -> usize {
        self.snapshot.document.server.limits.max_body_bytes
    }

    /// A request that no model decides: to the default upstream, for callers who may use all of it. `body`, where it was read.
    pub(super) fn pass_on(&mut self, caller: &Caller, body: Option<Bytes>) -> Result<bool> {
        if !caller.is_unrestricted() {
            return Err(Error::new(Kind::Rejected, "This key may use its models only."));
        }
        let upstream = self.snapshot.routes.default_upstream()?.clone();
        self.meter(None);
        self.forward = Some(Forward::new(upstream, body));
        Ok(false)
    }

    pub(super) async fn answer(&mut self, session: &mut Session, answer: Answer) -> Result<bool> {
        self.answered = true;
        let sent = answer.send(session, &self.extra).await;
        sent.map_err(answer::lost)?;
        Ok(true)
    }

    /// Tells the client of a failure, unless an answer has begun, and keeps it for the record.
    pub(super) async fn refuse(&mut self, session: &mut Session, error: Error) -> pingora::Result<()> {
        let answer = Answer::error(&error);
        self.failure = Some(error);
        if self.answered { Ok(()) } else { answer.send(session, &self.extra).await }
    }

    /// Keeps why this request fails for the record; the first reason stays.
    pub(super) fn note(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// The end of every request, however it ended: metrics, and one record.
    pub(super) fn settle(&mut self, session: &Session, error: Option<&pingora::Error>) {
        let left = match &self.failure {
            Some(failure) => failure.kind == Kind::ClientGone,
            None => error.is_some_and(|e| *e.esource() == pingora::ErrorSource::Downstream),
        };
        let begun = answer_begun(session);
        let status = if left { 499 } else { begun.map_or(0, |status| status.as_u16()) };
        let elapsed = self.started.elapsed();
        let Bill { tokens, cost, estimated } = self.charge(begun);
        let target = self.target_name();
        METRICS.request(target, status, elapsed.as_secs_f64());
        let head = session.req_header();
        let (method, path, id) = (head.method.as_str(), head.uri.path(), self.extra.request_id.as_str());
        let ms = elapsed.as_micros() as f64 / 1000.0;
        let reason = self.failure.as_ref().map(Error::chain).or_else(|| error.map(ToString::to_string));
        let reason = reason.as_deref();
        let caller = self.caller.as_ref();
        let (key, user) = (caller.and_then(Caller::key_id), caller.and_then(Caller::user));
        if let Some(agent) = &self.agent {
            let totals = self.ledger.totals();
            let outcome = self.failure.as_ref().map_or("ok", |failure| failure.kind.code().unwrap_or("invalid_request"));
            METRICS.run(&agent.name, outcome, totals.hops, totals.usage.prompt_tokens, totals.usage.completion_tokens);
            let (hops, tools) = (totals.hops, totals.tool_calls);
            tracing::info!(id, method, path, target, status, ms, hops, tools, tokens, estimated, cost, outcome, key, user, reason, "run");
        } else {
            tracing::info!(id, method, path, target, status, ms, tokens, estimated, cost, key, user, reason, "request");
        }
    }

    /// What the request was for: an agent, an upstream, or the gateway itself.
    pub(super) fn target_name(&self) -> &str {
        match (&self.agent, &self.forward) {
            (Some(agent), _) => &agent.name,
            (None, Some(forward)) => &forward.upstream().name,
            (None, None) => "moongate",
        }
    }
}

/// The status of the answer that the client is getting. A `100` that was passed on is none.
pub(super) fn answer_begun(session: &Session) -> Option<StatusCode> {
    let status = session.response_written()?.status;
    (status == StatusCode::SWITCHING_PROTOCOLS || !status.is_informational()).then_some(status)
}

/// The request's id: the client's own where it is short and plain, else a new one.
fn request_id(head: &RequestHeader) -> String {
    let given = head.headers.get("x-request-id").and_then(|value| value.to_str().ok());
    let plain = |id: &&str| !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    given.filter(plain).map_or_else(|| uuid::Uuid::now_v7().simple().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_id_is_kept_where_it_is_plain() {
        let id = |given: &str| {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            head.insert_header("x-request-id", given.to_owned()).unwrap();
            request_id(&head)
        };
        assert_eq!(id("req_1.a:b-C"), "req_1.a:b-C");
        for given in ["", "two words", "\"quoted\"", &"x".repeat(129)] {
            assert_eq!(id(given).len(), 32, "{given}");
        }
    }
}
