//! Plain traffic: what Pingora needs to pass a request on, and what becomes of it when the upstream fails.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, StatusCode, Uri, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{ErrorSource, ErrorType};

use super::context::{Context, answer_begun};
use crate::access::Caller;
use crate::agent::Agent;
use crate::chat::peek::Peek;
use crate::downstream::{Answer, answer, body, is_credential};
use crate::error::{Error, Kind, Result};
use crate::upstream::Upstream;
use crate::upstream::breaker::Failure;
use crate::upstream::fallback::{Candidate, Fallback};
use crate::upstream::queue::Place;

/// Where a request whose body we read is to go.
pub(super) struct Destination {
    pub(super) upstream: Arc<Upstream>,
    /// What its `model` is replaced by; `None` is as it came.
    pub(super) model: Option<String>,
    /// The models that are asked when this one fails.
    pub(super) fallback: Option<Arc<[Candidate]>>,
}

impl Destination {
    /// This upstream and nobody else.
    pub(super) fn new(upstream: Arc<Upstream>, model: Option<String>) -> Destination {
        Destination { upstream, model, fallback: None }
    }

    /// The model behind an agent or an alias.
    pub(super) fn model_of(agent: &Agent) -> Destination {
        Destination { upstream: agent.upstream.clone(), model: Some(agent.model.clone()), fallback: Some(agent.fallback.clone()) }
    }
}

/// Where a request is passed on to.
pub struct Forward {
    upstream: Arc<Upstream>,
    /// The model's name there, where another one is asked in its place.
    model: Option<String>,
    /// There was a connection: the upstream may have begun to work on it.
    is_connected: bool,
    /// The body, where we read it; else Pingora streams it.
    body: Option<Bytes>,
    /// How much of a streamed body has passed, in bytes.
    passed: usize,
    /// The position of the address that was tried first, and how many were tried in vain.
    first: usize,
    attempt: usize,
    /// Ours among those that may be at the upstream at once.
    place: Option<Place>,
    /// The upstream's breaker has learnt what came of this request.
    is_judged: bool,
    /// For requests that may go elsewhere.
    spare: Option<Box<Spare>>,
}

/// What it takes to ask somebody else.
struct Spare {
    fallback: Fallback<Arc<[Candidate]>>,
    /// The body as it came.
    body: Bytes,
    peek: Peek,
    key: Option<String>,
}

/// What the client shows to us alone, and headers about the way its request came: neither concerns anybody behind the gateway.
fn is_private(name: &HeaderName) -> bool {
    is_credential(name) || matches!(name.as_str(), "forwarded" | "x-real-ip") || name.as_str().starts_with("x-forwarded-")
}

impl Forward {
    /// A request to this upstream; without a `body` we look at no byte of it.
    pub fn new(upstream: Arc<Upstream>, body: Option<Bytes>) -> Forward {
        let first = upstream.peers().first();
        Forward {
            first,
            upstream,
            model: None,
            is_connected: false,
            body,
            passed: 0,
            attempt: 0,
            place: None,
            is_judged: false,
            spare: None,
        }
    }

    /// Whom it is passed on to.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// The model that was asked in the place of the one that was meant, if there was one.
    pub(super) fn other_model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Whether the upstream may have begun to work on it.
    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Goes to another upstream at once, where this one's breaker is open.
    fn avoid(&mut self) {
        if let Some(instead) = self.spare.as_mut().and_then(|spare| spare.fallback.instead_of(&self.upstream)) {
            self.turn_to(instead);
        }
    }

    /// Goes on to another upstream after this one has failed; `false` when there is none.
    fn fall_over(&mut self) -> bool {
        let next = self.spare.as_mut().and_then(|spare| spare.fallback.after(&self.upstream));
        next.map(|next| self.turn_to(next)).is_some()
    }

    fn turn_to(&mut self, Candidate { upstream, model }: Candidate) {
        let Some(spare) = self.spare.take() else { return };
        let body = spare.peek.replace_model(&spare.body, &model).into();
        *self = Forward { spare: Some(spare), model: Some(model), ..Forward::new(upstream, Some(body)) };
    }

    /// Tells the upstream's breaker what came of this request, once.
    fn fail(&mut self, failure: Failure, why: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.is_judged, true) {
            self.upstream.failed(failure, why);
        }
    }

    /// The address for the next attempt.
    async fn reach(&mut self) -> Result<Box<HttpPeer>> {
        if self.attempt == 0 {
            if let (None, Some(spare)) = (&self.place, &self.spare) {
                self.place = self.upstream.enter(spare.key.as_deref()).await?;
            }
            self.upstream.begin();
        }
        let peer = self.upstream.peers().pick(self.first + self.attempt).await;
        peer.inspect_err(|error| self.fail(Failure::Connect, error))
    }
}

impl Context {
    /// Passes a request on whose body we read, its `model` replaced where the route says so. Where the upstream has only so many places,
    /// it waits for one; a client that leaves meanwhile gives up its own.
    pub(super) async fn forward(
        &mut self,
        session: &mut Session,
        caller: &Caller,
        to: Destination,
        body: Bytes,
        peek: &Peek,
    ) -> Result<bool> {
        let Destination { upstream, model, fallback } = to;
        self.meter(model.as_deref().or(peek.model.as_deref()));
        let key = || caller.key_id().map(str::to_owned);
        let spare = |fallback| Box::new(Spare { fallback: Fallback::new(fallback), body: body.clone(), peek: peek.clone(), key: key() });
        let spare = fallback.filter(|fallback| !fallback.is_empty()).map(spare);
        let body = match model {
            Some(model) => peek.replace_model(&body, &model).into(),
            None => body,
        };
        let forward = self.forward.insert(Forward { spare, ..Forward::new(upstream, Some(body)) });
        forward.avoid();
        loop {
            let entered = match forward.upstream.try_enter() {
                Ok(place) => Ok(place),
                // Pingora is to find the end of a chunked body unread, and while that is so the client's leaving does not show.
                Err(()) if !session.as_downstream_mut().is_body_done() => forward.upstream.enter(caller.key_id()).await,
                Err(()) => answer::unless_gone(session, forward.upstream.enter(caller.key_id())).await,
            };
            match entered {
                Ok(place) => {
                    forward.place = place;
                    return Ok(false);
                }
                Err(error) if error.kind == Kind::UpstreamBusy && forward.fall_over() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where the next attempt connects.
    pub(super) async fn peer(&mut self) -> pingora::Result<Box<HttpPeer>> {
        let forward = self.forward.as_mut().ok_or_else(no_upstream)?;
        loop {
            match forward.reach().await {
                Ok(peer) => return Ok(peer),
                Err(_) if forward.fall_over() => {}
                Err(error) if error.kind == Kind::UpstreamBusy => {
                    return Err(pingora::Error::because(ErrorType::HTTPStatus(429), "queueing", error).into_up());
                }
                Err(error) => return Err(pingora::Error::because(ErrorType::ConnectNoRoute, "resolving the upstream", error).into_up()),
            }
        }
    }

    /// The request's head as the upstream gets it: its path, its host, our credentials in the place of the client's.
    pub(super) fn authorize(&self, head: &mut RequestHeader) -> pingora::Result<()> {
        let Forward { upstream, body, .. } = self.target()?;
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mapped = upstream.path(path);
        if mapped != path {
            let uri = Uri::try_from(mapped).map_err(|e| pingora::Error::because(ErrorType::InternalError, "mapping the path", e))?;
            head.set_uri(uri);
        }
        let client = head.headers.get(header::AUTHORIZATION).filter(|_| upstream.settings.forward_authorization).cloned();
        let is_token = |name: &HeaderName| self.caller.as_ref().is_some_and(|caller| caller.is_token(name));
        let ours_alone: Vec<HeaderName> = head.headers.keys().filter(|name| is_private(name) || is_token(name)).cloned().collect();
        for name in ours_alone {
            head.remove_header(&name);
        }
        if let Some(value) = client.as_ref().or(upstream.authorization()) {
            head.insert_header(header::AUTHORIZATION, value)?;
        }
        if self.metered.is_some() && head.headers.contains_key(header::ACCEPT_ENCODING) {
            // What is to be read must not be compressed.
            head.remove_header(&header::ACCEPT_ENCODING);
        }
        head.insert_header(header::HOST, upstream.authority())?;
        head.insert_header("x-request-id", &self.extra.request_id)?;
        if let Some(body) = body {
            for name in [header::TRANSFER_ENCODING, header::EXPECT] {
                if head.headers.contains_key(&name) {
                    head.remove_header(&name);
                }
            }
            head.insert_header(header::CONTENT_LENGTH, body.len())?;
        }
        Ok(())
    }

    /// Pingora passes the body on. Where we have read it, its last piece becomes the whole, and all before it nothing.
    /// Where not, it is counted, so that a chunked one keeps to the limit, too.
    pub(super) fn put_body(&mut self, piece: &mut Option<Bytes>, end: bool) -> pingora::Result<()> {
        let limit = self.max_body();
        let Some(forward) = &mut self.forward else { return Ok(()) };
        let Some(whole) = &forward.body else {
            forward.passed += piece.as_ref().map_or(0, Bytes::len);
            return if forward.passed <= limit { Ok(()) } else { Err(refused(body::too_large(limit))) };
        };
        if end {
            // A clone, for a retry comes here again.
            *piece = Some(whole.clone());
        } else if let Some(more) = piece {
            body::check_blank(more).map_err(refused)?;
            more.clear();
        }
        Ok(())
    }

    /// A connection could not be made, nothing was sent: the next address, or once more, as `retries` says, or another upstream.
    pub(super) fn connect_again(&mut self, mut error: Box<pingora::Error>) -> Box<pingora::Error> {
        if let Some(forward) = &mut self.forward {
            forward.attempt += 1;
            let (upstream, n_addresses) = (&forward.upstream, forward.upstream.peers().count());
            let retries = n_addresses + upstream.settings.retries;
            let again = forward.attempt < n_addresses || (forward.attempt < retries && upstream.may_retry());
            if !again {
                forward.fail(Failure::Connect, &error);
            }
            error.set_retry(again || forward.fall_over());
        }
        error
    }

    /// The upstream has begun to answer. `Err` when it has failed and another one is to be asked: nothing was sent to the client.
    pub(super) fn judge(&mut self, session: &Session, status: StatusCode) -> pingora::Result<()> {
        let Some(forward) = &mut self.forward else { return Ok(()) };
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        if !std::mem::replace(&mut forward.is_judged, true) {
            forward.upstream.answered(status.as_u16());
        }
        let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        if passing && can_send_again(session) && forward.fall_over() {
            let mut error = pingora::Error::explain(ErrorType::HTTPStatus(status.as_u16()), "another upstream is asked").into_up();
            error.set_retry(true);
            return Err(error);
        }
        Ok(())
    }

    /// The connection failed after it was made. While no answer has begun, another upstream is asked; else Pingora's own rule holds:
    /// what may have been worked on is sent again only if that repeats nothing.
    pub(super) fn broke(&mut self, session: &Session, mut error: Box<pingora::Error>, reused: bool) -> Box<pingora::Error> {
        let of_upstream = *error.esource() == ErrorSource::Upstream;
        if of_upstream && matches!(error.etype(), ErrorType::HTTPStatus(_)) {
            return error;
        }
        if let Some(forward) = self.forward.as_mut().filter(|forward| of_upstream && !forward.is_judged) {
            // A server may close an idle connection at any time, also in the moment in which it is used again.
            let stale = reused && !matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
            if !stale {
                forward.fail(Failure::Answer, &error);
            }
            if answer_begun(session).is_none() && can_send_again(session) && forward.fall_over() {
                error.set_retry(true);
                return error;
            }
        }
        if session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated() {
            error.retry.decide_reuse(reused);
        } else {
            error.set_retry(false);
        }
        error
    }

    pub(super) fn connected(&mut self) {
        if let Some(forward) = &mut self.forward {
            forward.is_connected = true;
            forward.upstream.peers().prefer(forward.first + forward.attempt);
        }
    }

    /// The upstream failed. While nothing was sent the client gets a real error; after that its connection is cut, so that it sees it.
    pub(super) async fn failed(&mut self, session: &mut Session, error: &pingora::Error) -> FailToProxy {
        use ErrorType::{ConnectTimedout, ConnectionClosed, HTTPStatus, ReadError, ReadTimedout, WriteError, WriteTimedout};
        let (kind, message) = match (error.esource(), error.etype()) {
            (ErrorSource::Downstream, HTTPStatus(413)) => (Kind::TooLarge, "The request body is too large."),
            (ErrorSource::Downstream, HTTPStatus(_)) => {
                (Kind::MalformedJson, "Something stands behind the JSON object of the request body.")
            }
            (ErrorSource::Downstream, ReadTimedout) => (Kind::RequestTimeout, "The request body did not arrive in time."),
            (ErrorSource::Downstream, ConnectionClosed | ReadError | WriteError | WriteTimedout) => (Kind::ClientGone, "The client left."),
            (ErrorSource::Downstream, _) => (Kind::BadRequest, "The request is not framed as HTTP wants it."),
            (ErrorSource::Upstream, ConnectTimedout | ReadTimedout | WriteTimedout) => {
                (Kind::UpstreamTimeout, "The upstream did not answer in time.")
            }
            (ErrorSource::Upstream, HTTPStatus(429)) => (Kind::UpstreamBusy, "The upstream is busy. Please try again later."),
            (ErrorSource::Upstream, kind) if is_connecting(kind) => (Kind::UpstreamUnreachable, "The upstream could not be reached."),
            (ErrorSource::Upstream, _) => (Kind::UpstreamError, "The upstream broke off the connection."),
            _ => (Kind::Internal, "The gateway failed."),
        };
        let begun = answer_begun(session).is_some();
        let failure = Error::new(kind, message).source(error.to_string());
        let code = failure.http_status();
        if !begun && kind != Kind::ClientGone {
            // Pingora closes the connection after it, and the client is to know. One that left in the meantime has no use for the answer.
            let answer = Answer { close: true, ..Answer::error(&failure) };
            let _ = answer.send(session, &self.extra).await;
        }
        self.note(failure);
        FailToProxy { error_code: code, can_reuse_downstream: false }
    }

    pub(super) fn target(&self) -> pingora::Result<&Forward> {
        self.forward.as_ref().ok_or_else(no_upstream)
    }
}

fn no_upstream() -> Box<pingora::Error> {
    pingora::Error::explain(ErrorType::InternalError, "the request has no upstream")
}

/// Whether Pingora could send the body once more: not when its end is all that it had to read of it.
fn can_send_again(session: &Session) -> bool {
    session.as_ref().get_retry_buffer().is_some()
}

/// Takes out of an upstream's response what its `Connection` header says is between it and us alone; Pingora does so for requests only.
pub(super) fn strip_nominated(head: &mut ResponseHeader) {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    head.remove_header("keep-alive");
    head.remove_header("proxy-connection");
    let nominated = head.headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let nominated: Vec<String> = nominated.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect();
    for name in nominated.iter().filter(|name| !matches!(name.as_str(), "" | "close" | "keep-alive")) {
        head.remove_header(name.as_str());
    }
}

/// A body that is not to be passed on.
fn refused(error: Error) -> Box<pingora::Error> {
    pingora::Error::because(ErrorType::HTTPStatus(error.http_status()), "reading the body", error).into_down()
}

fn is_connecting(kind: &ErrorType) -> bool {
    use ErrorType::{ConnectError, ConnectNoRoute, ConnectRefused, InvalidCert, TLSHandshakeFailure, TLSHandshakeTimedout};
    matches!(kind, ConnectError | ConnectNoRoute | ConnectRefused | InvalidCert | TLSHandshakeFailure | TLSHandshakeTimedout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_nobody_behind_us_is_private() {
        let private = |name: &str| is_private(&HeaderName::try_from(name).unwrap());
        for name in
            ["authorization", "cookie", "x-api-key", "proxy-authorization", "forwarded", "x-forwarded-for", "x-forwarded-ssl", "x-real-ip"]
        {
            assert!(private(name), "{name}");
        }
        for name in ["content-type", "openai-organization", "x-stainless-os", "x-openwebui-chat-id"] {
            assert!(!private(name), "{name}");
        }
    }

    #[test]
    fn headers_between_the_upstream_and_us_end_here() {
        let answer = |status: u16| {
            let mut head = ResponseHeader::build(status, None).unwrap();
            for (name, value) in [("connection", "keep-alive, X-Hop"), ("keep-alive", "timeout=5"), ("x-hop", "1"), ("x-kept", "1")] {
                head.insert_header(name, value).unwrap();
            }
            strip_nominated(&mut head);
            ["keep-alive", "x-hop", "x-kept"].map(|name| head.headers.contains_key(name))
        };
        assert_eq!(answer(200), [false, false, true]);
        assert_eq!(answer(101), [true, true, true]);
    }
}
