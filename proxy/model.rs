//! Sends one prompt to one model and gives its reply piece by piece; an answer that is not streamed is a single piece.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::chat::incoming::{self, Decoder, Frame, Mending, Reader};
use crate::chat::{Choice, Delta, Object, Prompt, Reply, outgoing};
use crate::error::{Error, Kind, Result};
use crate::limits::{Price, Prices};
use crate::upstream::Upstream;
use crate::upstream::breaker::Failure;
use crate::upstream::catalog::root_cause;
use crate::upstream::fallback::{Candidate, Fallback};
use crate::upstream::queue::Place;

/// How much of an upstream's error answer is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// How long an upstream may pause in an error answer.
const ERROR_TIMEOUT: Duration = Duration::from_secs(5);

/// How long more is waited for behind a reply that said that it ends: usage may follow.
const AFTER_END: Duration = Duration::from_secs(5);

/// A reply on its way. Dropping it closes the connection, and the upstream stops generating.
#[derive(Debug)]
pub struct ModelStream {
    /// None for a reply that is there already.
    answer: Option<Answer>,
    frames: VecDeque<Frame>,
    /// What went wrong behind the frames.
    failure: Option<Error>,
    /// What its tokens cost.
    price: Option<Price>,
    /// Who keeps the books of it.
    witness: Option<Box<dyn Witness>>,
}

/// Keeps the books of a model call. Dropped as soon as the reply has ended, or is given up.
pub trait Witness: std::fmt::Debug + Send + Sync {
    /// A piece of the reply passes, of a model with this price.
    fn hear(&mut self, frame: &Frame, price: Option<Price>);
}

/// What comes from an upstream.
#[derive(Debug)]
struct Answer {
    response: Response,
    reader: Reader,
    idle_timeout: Duration,
    /// Ours among those that may be at the upstream at once.
    _place: Option<Place>,
}

/// Asks the model, and when it fails before it has said anything, the others in their order. Each is asked when it is the turn of this key
/// at its upstream. Returns once the upstream has begun to answer; a refusal of its is an error here.
pub async fn ask(upstream: &Upstream, fallback: &[Candidate], prompt: &Prompt, key: Option<&str>, prices: &Prices) -> Result<ModelStream> {
    let mut fallback = Fallback::new(fallback);
    let mut instead = fallback.instead_of(upstream);
    loop {
        let (upstream, model) = instead.as_ref().map_or((upstream, &prompt.model), |other| (&*other.upstream, &other.model));
        let asked = match begin(upstream, prompt, model, key, prices).await {
            Ok(mut stream) if fallback.is_left() => stream.wait_for_words().await.map(|()| stream),
            asked => asked,
        };
        let Err(error) = asked else { return asked };
        let next = if concerns_upstream(error.kind) { fallback.after(upstream) } else { None };
        let Some(next) = next else { return Err(error) };
        tracing::debug!(upstream = upstream.name, next = next.upstream.name, "another model is asked: {}", error.chain());
        instead = Some(next);
    }
}

/// Whether another upstream may do better: this one failed, and not the request.
fn concerns_upstream(kind: Kind) -> bool {
    use Kind::{UpstreamBusy, UpstreamEmpty, UpstreamError, UpstreamRateLimited, UpstreamTimeout, UpstreamUnreachable};
    matches!(kind, UpstreamBusy | UpstreamEmpty | UpstreamError | UpstreamRateLimited | UpstreamTimeout | UpstreamUnreachable)
}

/// Asks one model; the upstream is always streamed from, so that it notices when we leave.
async fn begin(upstream: &Upstream, prompt: &Prompt, model: &str, key: Option<&str>, prices: &Prices) -> Result<ModelStream> {
    upstream.make_ready(model).await;
    let place = upstream.enter(key).await?;
    let body = Bytes::from(outgoing::encode(prompt, model, &upstream.settings.repair, upstream.host()));
    upstream.begin();
    let mut attempt = 0;
    let response = loop {
        let request = upstream.request(Method::POST, "/chat/completions");
        let request = request.header(http::header::CONTENT_TYPE, "application/json").body(body.clone());
        match tokio::time::timeout(upstream.settings.first_byte_timeout, request.send()).await {
            Ok(Ok(response)) => break response,
            // Nothing was sent: asking again repeats nothing.
            Ok(Err(e)) if e.is_connect() && attempt < upstream.settings.retries && upstream.may_retry() => attempt += 1,
            Ok(Err(e)) => {
                let failure = if e.is_connect() { Failure::Connect } else { Failure::Answer };
                upstream.failed(failure, &root_cause(&e));
                return Err(failed(e));
            }
            Err(_) => {
                let error = timed_out("did not begin to answer in time");
                upstream.failed(Failure::Answer, &error);
                return Err(error);
            }
        }
    };
    upstream.answered(response.status().as_u16());
    if !response.status().is_success() {
        return Err(refused(response).await);
    }
    upstream.has_answered(model);
    let reader = Reader::new(content_type(&response), Mending::new(&upstream.settings.repair, prompt));
    let answer = Answer { response, reader, idle_timeout: upstream.settings.idle_timeout, _place: place };
    Ok(ModelStream { answer: Some(answer), frames: VecDeque::new(), failure: None, price: prices.of(&upstream.name, model), witness: None })
}

impl ModelStream {
    /// A reply that somebody else made: a chat completion's message, perhaps with the completion's `usage` and `finish_reason` in it.
    pub fn of_message(message: Value) -> Result<ModelStream> {
        let (usage, finish) = (message.get("usage").cloned(), message.get("finish_reason").cloned());
        let mut completion = Object::new();
        completion.insert("choices".into(), json!([{ "index": 0, "message": message, "finish_reason": finish }]));
        completion.insert("usage".into(), json!(usage));
        let frames = VecDeque::from([Decoder::default().decode(completion)?]);
        Ok(ModelStream { answer: None, frames, failure: None, price: None, witness: None })
    }

    /// The reply of an agent in a model's place.
    pub fn of_reply(reply: &Reply) -> Result<ModelStream> {
        let mut message = reply.first().map_or_else(|| json!({}), Choice::message);
        message["usage"] = json!(reply.usage);
        message["finish_reason"] = json!(reply.first().and_then(|choice| choice.finish.as_deref()));
        ModelStream::of_message(message)
    }

    /// The same; this one hears all of it.
    pub fn witnessed(self, witness: impl Witness + 'static) -> ModelStream {
        ModelStream { witness: Some(Box::new(witness)), ..self }
    }

    /// The next piece, or `None` when the reply is complete. A stream that breaks off is an error, never an end.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(mut frame) = self.frames.pop_front() {
                if let (Some(price), Some(usage)) = (self.price, &mut frame.usage) {
                    usage.set_cost(price.cost(usage));
                }
                if let Some(witness) = &mut self.witness {
                    witness.hear(&frame, self.price);
                }
                return Ok(Some(frame));
            }
            if !self.read().await? {
                self.witness = None;
                return Ok(None);
            }
        }
    }

    /// Returns when the reply has words, calls or an end to show. Until then nobody has seen any of it.
    async fn wait_for_words(&mut self) -> Result<()> {
        while !self.frames.iter().flat_map(|frame| &frame.deltas).any(says_something) {
            if !self.read().await? {
                return Err(incoming::empty());
            }
        }
        Ok(())
    }

    /// Reads on. `false` when there is nothing more.
    async fn read(&mut self) -> Result<bool> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let Some(answer) = &mut self.answer else { return Ok(false) };
        let read = answer.read(&mut self.frames).await;
        if !matches!(read, Ok(true)) {
            self.answer = None;
        }
        self.failure = read.err();
        Ok(true)
    }
}

impl Answer {
    /// Reads on. `false` when nothing more will come.
    async fn read(&mut self, frames: &mut VecDeque<Frame>) -> Result<bool> {
        let complete = self.reader.is_complete();
        let patience = if complete { self.idle_timeout.min(AFTER_END) } else { self.idle_timeout };
        match tokio::time::timeout(patience, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => self.reader.feed(&bytes, frames).map(|()| !self.reader.is_over()),
            Ok(Ok(None)) => self.reader.finish(frames).map(|()| false),
            // Whatever happens behind a complete reply, it is complete.
            Ok(Err(_)) | Err(_) if complete => Ok(false),
            Ok(Err(e)) => Err(Error::new(Kind::UpstreamError, "The upstream broke off its answer.").source(root_cause(&e))),
            Err(_) => Err(timed_out("stopped in the middle of its answer")),
        }
    }
}

/// Whether a client would see anything of this piece.
fn says_something(delta: &Delta) -> bool {
    let texts = [&delta.content, &delta.reasoning, &delta.refusal, &delta.finish];
    let has_text = texts.into_iter().flatten().any(|text| !text.is_empty());
    has_text || !delta.calls.is_empty() || !delta.rest.is_empty()
}

fn content_type(response: &Response) -> &str {
    let value = response.headers().get(http::header::CONTENT_TYPE);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The upstream was silent for too long.
pub fn timed_out(what: &str) -> Error {
    Error::new(Kind::UpstreamTimeout, format!("The upstream {what}."))
}

/// A request that got no answer.
pub fn failed(error: reqwest::Error) -> Error {
    let cause = root_cause(&error);
    if error.is_timeout() && !error.is_connect() {
        timed_out("did not answer in time").source(cause)
    } else if error.is_connect() {
        Error::new(Kind::UpstreamUnreachable, "The upstream could not be reached.").source(cause)
    } else {
        Error::new(Kind::UpstreamError, "The upstream broke off the connection.").source(cause)
    }
}

/// An answer that is not 2xx. What concerns the client's request keeps its status and words;
/// what concerns our credentials or the server's health does not look like the client's fault.
async fn refused(mut response: Response) -> Error {
    let status = response.status();
    let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    while let Ok(Ok(Some(bytes))) = tokio::time::timeout(ERROR_TIMEOUT, response.chunk()).await {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_ERROR_BYTES {
            break;
        }
    }
    let said = incoming::of_body(&body);
    let cause = said.as_ref().map_or_else(|| format!("status {status}"), |said| format!("status {status}: {}", said.message));
    let error = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => incoming::refused_credentials(),
        StatusCode::TOO_MANY_REQUESTS => Error::new(Kind::UpstreamRateLimited, "The upstream is limiting requests."),
        _ if status.is_client_error() => {
            let message = said.map_or_else(|| format!("The upstream refused the request with status {status}."), |said| said.message);
            Error::new(Kind::UpstreamRejected, message).with_status(status.as_u16())
        }
        _ => Error::new(Kind::UpstreamError, format!("The upstream failed with status {status}.")),
    };
    Error { retry_after, ..error.source(cause) }
}
