//! The phases of a request in the order in which they happen; each step is a verb that stands elsewhere.

mod admission;
mod context;
mod forward;
mod runs;
mod socket;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use http::Method;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;

use crate::access::Caller;
use crate::admin;
use crate::agent::surroundings::{Models, Route, Target};
use crate::agent::turns::Turns;
use crate::chat::peek::Peek;
use crate::downstream::{body, cors};
use crate::error::{Error, Kind, Result};
use crate::flight::Flight;
use crate::limits::{Counters, Failures};
use crate::responses::kept::Responses;
use crate::snapshot::reload::Snapshots;
pub use context::Context;
use forward::Destination;
use runs::Protocol;

/// How long a client may take to accept a piece of an answer, before it counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The proxy: what all requests share.
pub struct Gateway {
    snapshots: Arc<Snapshots>,
    flight: Arc<Flight>,
    admin: admin::Admin,
    turns: Arc<Turns>,
    responses: Arc<Responses>,
    counters: Arc<Counters>,
    failures: Failures,
}

impl Gateway {
    /// `control` is the runtime on which reloads happen.
    pub fn new(snapshots: Arc<Snapshots>, flight: Arc<Flight>, control: tokio::runtime::Handle) -> Gateway {
        let admin = admin::Admin::new(snapshots.clone(), flight.clone(), control);
        Gateway {
            snapshots,
            flight,
            admin,
            turns: Arc::default(),
            responses: Arc::default(),
            counters: Arc::default(),
            failures: Failures::default(),
        }
    }

    /// Everything up to the upstream. `true` when the request is answered.
    async fn begin(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        let snapshot = context.snapshot.clone();
        let head = session.req_header();
        context.identify(head, &snapshot.document.server.cors);
        if let Some(preflight) = cors::preflight(&snapshot.document.server.cors, head) {
            return context.answer(session, preflight).await;
        }
        context.check_host(head)?;
        let page = admin::Page::find(head.uri.path());
        if !page.as_ref().is_some_and(admin::Page::is_public) {
            self.check_failures(session, context)?;
        }
        if let Some(page) = page {
            let loopback = is_loopback(session);
            let head = session.req_header();
            let visitor =
                admin::Visitor { method: &head.method, query: head.uri.query().unwrap_or_default(), headers: &head.headers, loopback };
            let answer = self.admin.open(page, visitor, &snapshot).await?;
            return context.answer(session, answer).await;
        }
        if self.flight.is_stopping() {
            return Err(Error::new(Kind::ShuttingDown, "The gateway is shutting down."));
        }
        let caller = context.caller.insert(snapshot.access.check(&session.req_header().headers)?).clone();
        match Shape::of(session.req_header()) {
            Shape::Models(id) => {
                let answer = admin::models::answer(&snapshot, &caller, id.as_deref()).await?;
                context.answer(session, answer).await
            }
            Shape::Chat => self.begin_run(session, context, &caller, Protocol::Chat).await,
            Shape::Responses => self.begin_run(session, context, &caller, Protocol::Responses).await,
            Shape::Response(id) => self.begin_kept(session, context, &caller, &id).await,
            Shape::Json => self.begin_json(session, context, &caller).await,
            Shape::Other => self.begin_other(session, context, &caller).await,
        }
    }

    /// A JSON body that no run answers: routed by its `model` where it has one.
    async fn begin_json(&self, session: &mut Session, context: &mut Context, caller: &Caller) -> Result<bool> {
        if session.as_downstream_mut().is_body_empty() {
            return self.begin_other(session, context, caller).await;
        }
        if !caller.is_unrestricted() && has_dot_segments(session.req_header().uri.path()) {
            return Err(Error::new(Kind::BadRequest, "The path has a segment of dots."));
        }
        let body = body::read(session, context.max_body()).await?;
        let peek = Peek::parse_any(&body)?;
        let Some(model) = peek.model.as_deref() else {
            self.admit(context, caller, None, body.len())?;
            return context.pass_on(caller, Some(body));
        };
        let Route { target, rename } = context.snapshot.routes.find(model, caller)?;
        self.admit(context, caller, None, body.len())?;
        match target {
            Target::Upstream(upstream) => context.forward(session, caller, Destination::new(upstream, rename), body, &peek).await,
            Target::Agent(alias) if alias.is_plain() => context.forward(session, caller, Destination::model_of(&alias), body, &peek).await,
            Target::Agent(_) => {
                let message = format!("'{model}' is run by the gateway: it answers on /v1/chat/completions and /v1/responses.");
                Err(Error::new(Kind::UnsupportedValue, message).param("model"))
            }
        }
    }

    /// A request that is the default upstream's, whatever it is.
    async fn begin_other(&self, session: &mut Session, context: &mut Context, caller: &Caller) -> Result<bool> {
        let declared = body::check_declared(session.req_header(), context.max_body())?;
        self.admit(context, caller, None, declared.unwrap_or(0))?;
        context.pass_on(caller, None)?;
        if is_websocket(session.req_header()) { context.socket(session).await } else { Ok(false) }
    }
}

/// What kind of request this is, by its head alone.
enum Shape {
    Models(Option<String>),
    Chat,
    Responses,
    Response(String),
    Json,
    Other,
}

impl Shape {
    fn of(head: &RequestHeader) -> Shape {
        let path = head.uri.path();
        match (&head.method, path) {
            (&Method::GET | &Method::HEAD, "/v1/models" | "/v1/models/") => Shape::Models(None),
            (&Method::GET | &Method::HEAD, _) if path.starts_with("/v1/models/") => {
                let id = percent_encoding::percent_decode_str(&path["/v1/models/".len()..]).decode_utf8_lossy();
                Shape::Models(Some(id.into_owned()))
            }
            (&Method::POST, "/v1/chat/completions") => Shape::Chat,
            (&Method::POST, "/v1/responses") => Shape::Responses,
            (&Method::GET | &Method::DELETE, _) if is_one_response(path) => Shape::Response(path["/v1/responses/".len()..].to_owned()),
            (&Method::POST, _) if path.starts_with("/v1/") && is_json(head) => Shape::Json,
            _ => Shape::Other,
        }
    }
}

fn is_one_response(path: &str) -> bool {
    path.strip_prefix("/v1/responses/").is_some_and(|id| !id.is_empty() && !id.contains('/'))
}

/// A server that normalises its paths would answer elsewhere than where the caller's rights were checked.
fn has_dot_segments(path: &str) -> bool {
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    path.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."))
}

/// An agent acts, so a web page must not be able to ask it without the browser's preflight: `text/plain` and forms would let it.
fn require_json(head: &RequestHeader) -> Result<()> {
    if is_json(head) {
        return Ok(());
    }
    Err(Error::new(Kind::UnsupportedContentType, "Agents want the header 'content-type: application/json'."))
}

fn is_websocket(head: &RequestHeader) -> bool {
    let upgrade = head.headers.get(http::header::UPGRADE);
    head.method == Method::GET && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn is_loopback(session: &Session) -> bool {
    let address = session.client_addr().and_then(|address| address.as_inet());
    address.is_some_and(|address| address.ip().to_canonical().is_loopback())
}

fn is_json(head: &RequestHeader) -> bool {
    let value = head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.snapshots.current(), self.flight.enter())
    }

    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {
        // Compression is the upstream's business: an answer is passed on as it came.
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> pingora::Result<bool> {
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        let Ok(begun) = AssertUnwindSafe(self.begin(session, context)).catch_unwind().await else {
            // As an error it cuts a stream that has begun; as an answered request it would end like a whole one.
            return Err(pingora::Error::explain(pingora::ErrorType::InternalError, "the gateway panicked"));
        };
        match begun {
            Ok(answered) => Ok(answered),
            Err(error) if error.kind == Kind::ClientGone => {
                context.note(error);
                Err(pingora::Error::explain(pingora::ErrorType::ConnectionClosed, "the client left").into_down())
            }
            Err(error) => {
                if error.kind == Kind::InvalidKey {
                    self.count_failure(session, context);
                }
                context.refuse(session, error).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, _: &mut Session, context: &mut Context) -> pingora::Result<Box<HttpPeer>> {
        context.peer().await
    }

    async fn upstream_request_filter(&self, _: &mut Session, head: &mut RequestHeader, context: &mut Context) -> pingora::Result<()> {
        context.authorize(head)
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        piece: &mut Option<Bytes>,
        end: bool,
        context: &mut Context,
    ) -> pingora::Result<()> {
        context.put_body(piece, end)
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, context: &mut Context, error: Box<pingora::Error>) -> Box<pingora::Error> {
        context.connect_again(error)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _: bool,
        _: &HttpPeer,
        _: std::os::unix::io::RawFd,
        _: Option<&pingora::protocols::Digest>,
        context: &mut Context,
    ) -> pingora::Result<()> {
        context.connected();
        Ok(())
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<pingora::Error>,
        context: &mut Context,
        reused: bool,
    ) -> Box<pingora::Error> {
        context.broke(session, error.more_context(format!("Peer: {peer}")), reused)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        context: &mut Context,
    ) -> pingora::Result<()> {
        context.judge(session, head.status)?;
        forward::strip_nominated(head);
        Ok(())
    }

    async fn response_filter(&self, _: &mut Session, head: &mut ResponseHeader, context: &mut Context) -> pingora::Result<()> {
        context.extra.apply(head)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        piece: &mut Option<Bytes>,
        _: bool,
        context: &mut Context,
    ) -> pingora::Result<Option<Duration>> {
        if let Some(piece) = piece {
            context.watch(piece);
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &pingora::Error, context: &mut Context) -> FailToProxy {
        context.failed(session, error).await
    }

    fn suppress_error_log(&self, _: &Session, _: &Context, _: &pingora::Error) -> bool {
        // `logging` writes the one record of a request.
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&pingora::Error>, context: &mut Context) {
        context.settle(session, error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: Method, path: &str, content_type: &str) -> RequestHeader {
        let mut head = RequestHeader::build(method, path.as_bytes(), None).unwrap();
        head.insert_header("content-type", content_type.to_owned()).unwrap();
        head
    }

    #[test]
    fn requests_are_told_apart_by_their_heads() {
        let shape = |method: Method, path: &str, content_type: &str| Shape::of(&head(method, path, content_type));
        let json = "application/json; charset=utf-8";
        assert!(matches!(shape(Method::GET, "/v1/models", ""), Shape::Models(None)));
        assert!(matches!(shape(Method::GET, "/v1/models/team%2Fx", ""), Shape::Models(Some(id)) if id == "team/x"));
        assert!(matches!(shape(Method::POST, "/v1/chat/completions", "text/plain"), Shape::Chat));
        assert!(matches!(shape(Method::POST, "/v1/responses", json), Shape::Responses));
        assert!(matches!(shape(Method::POST, "/v1/embeddings", json), Shape::Json));
        assert!(matches!(shape(Method::POST, "/v1/audio/transcriptions", "multipart/form-data"), Shape::Other));
        assert!(matches!(shape(Method::POST, "/api/v1/chat", json), Shape::Other));
        assert!(matches!(shape(Method::GET, "/v1/responses/r", ""), Shape::Response(id) if id == "r"));
        assert!(matches!(shape(Method::DELETE, "/v1/responses/r", ""), Shape::Response(_)));
        for path in ["/v1/responses/", "/v1/responses/r/input_items"] {
            assert!(matches!(shape(Method::GET, path, ""), Shape::Other), "{path}");
        }
        assert!(matches!(shape(Method::POST, "/v1/responses/r/cancel", json), Shape::Json));
    }

    #[test]
    fn an_agent_is_asked_in_json_only() {
        assert!(require_json(&head(Method::POST, "/", "application/vnd.x+json")).is_ok());
        for other in ["text/plain", "application/x-www-form-urlencoded", ""] {
            assert_eq!(require_json(&head(Method::POST, "/", other)).unwrap_err().kind, Kind::UnsupportedContentType, "{other}");
        }
    }

    #[test]
    fn segments_of_dots_are_seen_in_any_spelling() {
        for path in ["/v1/../api", "/v1/%2e%2E/api", "/v1/.%2e/x", "/v1/./x", "/v1/..%2Fapi", "/v1/x%5c..%5capi"] {
            assert!(has_dot_segments(path), "{path}");
        }
        assert!(!has_dot_segments("/v1/models/gpt-4.1/..x"));
    }
}
