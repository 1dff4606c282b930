//! The built-in demo upstream: a small OpenAI-compatible server inside the process, offline, for the first five minutes and for tests.
//!
//! It is a real HTTP server on a loopback port, so that the rest of the gateway treats it like any other upstream.
//! Its models know nothing: they repeat what they read, call the tools that a message names, and say the same thing every time.
//!
//! | model | how it answers |
//! |---|---|
//! | `demo` | word by word, 15 ms apart |
//! | `demo-fast` | the same words without a pause: for tests |
//! | `demo-reasoner` | like `demo`, after some `reasoning_content` |
//!
//! "count to 500" makes an answer of that length; "roll the dice, then the weather in Paris" asks for one tool after the other.

mod answer;
mod chat;
mod embeddings;
mod hints;
mod instance;
mod mention;
mod responses;
pub mod tools;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};

use crate::error::{Error, Kind, Result};

/// The largest request body that is read, in bytes.
const MAX_BODY_BYTES: usize = 32 << 20;

/// When the demo's models were "made": a fixed moment, in seconds since 1970.
const MODELS_CREATED: u64 = 1_767_225_600;

/// Every model of the demo.
const MODELS: [Model; 3] = [
    Model { id: "demo", pause: Duration::from_millis(15), reasons: false },
    Model { id: "demo-fast", pause: Duration::ZERO, reasons: false },
    Model { id: "demo-reasoner", pause: Duration::from_millis(15), reasons: true },
];

type Response = hyper::Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A running demo server. Dropping it stops the server and cuts its connections.
#[derive(Debug)]
pub struct Demo {
    base_url: String,
    server: AbortHandle,
}

impl Demo {
    /// Starts a server on a free loopback port; everything it does runs on `handle`.
    /// Fails when the port cannot be opened.
    pub fn start(handle: &Handle) -> std::io::Result<Demo> {
        let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        listener.set_nonblocking(true)?;
        let base_url = format!("http://{}/v1", listener.local_addr()?);
        let server = handle.spawn(accept(listener)).abort_handle();
        Ok(Demo { base_url, server })
    }

    /// Where the server is, up to and with `/v1`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One of the demo's models.
#[derive(Debug, Clone, Copy)]
struct Model {
    id: &'static str,
    /// The gap between two pieces of a streamed answer.
    pause: Duration,
    /// It thinks aloud before it answers.
    reasons: bool,
}

impl Model {
    /// The model that a request's `model` names.
    fn find(id: &str) -> Result<Model> {
        MODELS.into_iter().find(|model| model.id == id).ok_or_else(|| {
            let known = MODELS.map(|model| model.id).join(", ");
            Error::new(Kind::ModelNotFound, format!("The demo upstream has no model `{id}`. It has: {known}.")).param("model")
        })
    }

    fn to_value(self) -> Value {
        json!({ "id": self.id, "object": "model", "created": MODELS_CREATED, "owned_by": "moongate" })
    }
}

/// Accepts connections until it is aborted; they end with it, because the set that holds them does.
async fn accept(listener: std::net::TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the demo upstream cannot listen"),
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    let connection = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service_fn(serve));
                    connections.spawn(connection);
                }
                // Out of file descriptors, most likely: the ones in use must end first.
                Err(error) => {
                    tracing::warn!(%error, "the demo upstream could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            // How a connection ended is the client's business; it only has to leave the set.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers one request; every failure is an answer too.
async fn serve(request: Request<Incoming>) -> std::result::Result<Response, Infallible> {
    Ok(route(request).await.unwrap_or_else(|error| refuse(&error)))
}

async fn route(request: Request<Incoming>) -> Result<Response> {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/v1/models") => Ok(whole(&json!({ "object": "list", "data": MODELS.map(Model::to_value) }))),
        (&Method::POST, "/v1/chat/completions") => chat::complete(&read(request).await?),
        (&Method::POST, "/v1/responses") => responses::respond(&read(request).await?),
        (&Method::POST, "/v1/embeddings") => embeddings::embed(&read(request).await?),
        (_, "/v1/models" | "/v1/chat/completions" | "/v1/responses" | "/v1/embeddings") => {
            Err(Error::new(Kind::MethodNotAllowed, format!("{path} does not take {}.", request.method())))
        }
        (&Method::GET, path) if path.starts_with("/v1/models/") => {
            Model::find(&path["/v1/models/".len()..]).map(|model| whole(&model.to_value()))
        }
        _ => Err(Error::new(Kind::NotFound, format!("The demo upstream has nothing at {path}."))),
    }
}

/// The request's body, which must be a JSON object.
async fn read(request: Request<Incoming>) -> Result<Value> {
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Error::new(Kind::TooLarge, format!("The body is over {MAX_BODY_BYTES} bytes."))
        } else {
            Error::new(Kind::BadRequest, "The body could not be read.").source(error)
        }
    })?;
    match serde_json::from_slice::<Value>(&body.to_bytes()) {
        Ok(body) if body.is_object() => Ok(body),
        Ok(_) => Err(Error::new(Kind::MalformedJson, "The body must be a JSON object.")),
        Err(error) => Err(Error::new(Kind::MalformedJson, format!("The body is not JSON: {error}."))),
    }
}

/// The field `name` of a body, as `None` when it is absent or null.
fn field<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

/// The field `name` of a body, false when it is absent.
fn flag(body: &Value, name: &str) -> Result<bool> {
    match field(body, name) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| Error::new(Kind::InvalidType, format!("`{name}` must be a boolean.")).param(name)),
    }
}

/// The model that a body asks for.
fn model(body: &Value) -> Result<Model> {
    match field(body, "model") {
        None => Err(Error::new(Kind::MissingParameter, "Missing required parameter: `model`.").param("model")),
        Some(Value::String(id)) => Model::find(id),
        Some(_) => Err(Error::new(Kind::InvalidType, "`model` must be a string.").param("model")),
    }
}

/// An answer in one piece.
fn whole(body: &Value) -> Response {
    respond(StatusCode::OK, "application/json", Full::from(body.to_string()).boxed_unsync())
}

/// An answer as server-sent events, which leave one by one with `pause` between them.
fn streamed(events: Vec<String>, pause: Duration) -> Response {
    let frames = stream::iter(events).enumerate().then(move |(i, event)| async move {
        if i > 0 && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok(Frame::data(Bytes::from(event)))
    });
    let mut response = respond(StatusCode::OK, "text/event-stream", StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-cache"));
    response
}

fn refuse(error: &Error) -> Response {
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, "application/json", Full::from(error.body().to_string()).boxed_unsync());
    if error.kind == Kind::MethodNotAllowed {
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, POST"));
    }
    response
}

fn respond(status: StatusCode, content_type: &'static str, body: UnsyncBoxBody<Bytes, Infallible>) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

/// Seconds since 1970.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// A number made of `text` (FNV-1a): the same in every build and on every machine.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
