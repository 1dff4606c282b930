//! Sends one prompt to one model and gives its reply piece by piece; an answer that is not streamed is a single piece.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::chat::wire::{self, Frame};
use crate::chat::{Choice, Delta, Prompt, Reply, sse};
use crate::error::{Error, Kind, Result};
use crate::upstream::Upstream;
use crate::upstream::breaker::Failure;
use crate::upstream::catalog::root_cause;
use crate::upstream::fallback::{Candidate, Fallback};
use crate::upstream::queue::Place;

/// How much of an upstream's error answer is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// How long an upstream may pause in an error answer.
const ERROR_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest whole answer of an upstream that does not stream, in bytes.
const MAX_WHOLE_BYTES: usize = 32 << 20;

/// A reply on its way. Dropping it closes the connection, and the upstream stops generating.
#[derive(Debug)]
pub struct ModelStream {
    /// None for a reply that is there already.
    response: Option<Response>,
    idle_timeout: Duration,
    form: Form,
    wire: wire::Decoder,
    frames: VecDeque<Frame>,
    finished: bool,
    ended: bool,
    /// Ours among those that may be at the upstream at once.
    _place: Option<Place>,
}

#[derive(Debug)]
enum Form {
    Events(sse::Decoder),
    Whole(Vec<u8>),
}

/// Asks the model, and when it fails before it has said anything, the others in their order. Each is asked when it is the turn of this key
/// at its upstream. Returns once the upstream has begun to answer; a refusal of its is an error here.
pub async fn ask(upstream: &Upstream, fallback: &[Candidate], prompt: &Prompt, key: Option<&str>) -> Result<ModelStream> {
    let mut fallback = Fallback::new(fallback);
    let mut instead = fallback.instead_of(upstream);
    loop {
        let (upstream, model) = instead.as_ref().map_or((upstream, &prompt.model), |other| (&*other.upstream, &other.model));
        let asked = match begin(upstream, prompt, model, key).await {
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
async fn begin(upstream: &Upstream, prompt: &Prompt, model: &str, key: Option<&str>) -> Result<ModelStream> {
    let place = upstream.enter(key).await?;
    let body = Bytes::from(encode(prompt, model));
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
    let events = content_type(&response).starts_with("text/event-stream");
    Ok(ModelStream {
        response: Some(response),
        idle_timeout: upstream.settings.idle_timeout,
        form: if events { Form::Events(sse::Decoder::default()) } else { Form::Whole(Vec::new()) },
        wire: wire::Decoder::default(),
        frames: VecDeque::new(),
        finished: false,
        ended: false,
        _place: place,
    })
}

impl ModelStream {
    /// A reply that somebody else made: a chat completion's message, perhaps with the completion's `usage` and `finish_reason` in it.
    pub fn of_message(message: Value) -> Result<ModelStream> {
        let (usage, finish) = (message.get("usage").cloned(), message.get("finish_reason").cloned());
        let completion = json!({ "choices": [{ "index": 0, "message": message, "finish_reason": finish }], "usage": usage });
        let mut wire = wire::Decoder::default();
        let frames = VecDeque::from([wire.decode(&completion.to_string())?]);
        Ok(ModelStream {
            response: None,
            idle_timeout: Duration::ZERO,
            form: Form::Whole(Vec::new()),
            wire,
            frames,
            finished: true,
            ended: true,
            _place: None,
        })
    }

    /// The reply of an agent in a model's place.
    pub fn of_reply(reply: &Reply) -> Result<ModelStream> {
        let mut message = reply.first().map_or_else(|| json!({}), Choice::message);
        message["usage"] = json!(reply.usage);
        message["finish_reason"] = json!(reply.first().and_then(|choice| choice.finish.as_deref()));
        ModelStream::of_message(message)
    }

    /// The next piece, or `None` when the reply is complete. A stream that breaks off is an error, never an end.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(Some(frame));
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// Returns when the reply has words, calls or an end to show. Until then nobody has seen any of it.
    async fn wait_for_words(&mut self) -> Result<()> {
        while !self.frames.iter().flat_map(|frame| &frame.deltas).any(says_something) {
            if !self.read().await? {
                return Err(Error::new(Kind::UpstreamEmpty, "The model ended its answer without a word."));
            }
        }
        Ok(())
    }

    /// Reads on. `false` when there is nothing more.
    async fn read(&mut self) -> Result<bool> {
        let Some(response) = self.response.as_mut().filter(|_| !self.ended) else { return Ok(false) };
        let chunk = tokio::time::timeout(self.idle_timeout, response.chunk()).await;
        match chunk.map_err(|_| timed_out("stopped in the middle of its answer"))? {
            Ok(Some(bytes)) => self.take(&bytes)?,
            Ok(None) => self.end()?,
            Err(e) => {
                let error = Error::new(Kind::UpstreamError, "The upstream broke off its answer.");
                return Err(error.source(root_cause(&e)));
            }
        }
        Ok(true)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.form {
            Form::Events(decoder) => {
                let mut events = Vec::new();
                decoder.feed(bytes, &mut events)?;
                self.decode(events)
            }
            Form::Whole(body) if body.len() + bytes.len() > MAX_WHOLE_BYTES => {
                Err(Error::new(Kind::UpstreamError, "The upstream's answer is too large."))
            }
            Form::Whole(body) => {
                body.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// The connection's data has ended. That is the reply's end only if the reply said so.
    fn end(&mut self) -> Result<()> {
        match &mut self.form {
            Form::Events(decoder) => {
                let mut events = Vec::new();
                decoder.finish(&mut events)?;
                self.decode(events)?;
            }
            Form::Whole(body) => {
                let body = std::mem::take(body);
                let text = std::str::from_utf8(&body).map_err(|_| not_an_answer())?;
                let frame = self.wire.decode(text)?;
                if frame.deltas.is_empty() {
                    return Err(not_an_answer());
                }
                self.finished = true;
                self.frames.push_back(frame);
            }
        }
        self.ended = true;
        if self.finished { Ok(()) } else { Err(Error::new(Kind::UpstreamError, "The upstream ended its answer early.")) }
    }

    fn decode(&mut self, events: Vec<sse::Event>) -> Result<()> {
        for event in events {
            if event.data.trim() == "[DONE]" {
                (self.finished, self.ended) = (true, true);
                return Ok(());
            }
            let frame = self.wire.decode(&event.data)?;
            self.finished |= frame.deltas.iter().any(|delta| delta.finish.is_some());
            self.frames.push_back(frame);
        }
        Ok(())
    }
}

/// Whether a client would see anything of this piece.
fn says_something(delta: &Delta) -> bool {
    let texts = [&delta.content, &delta.reasoning, &delta.refusal, &delta.finish];
    let has_text = texts.into_iter().flatten().any(|text| !text.is_empty());
    has_text || !delta.calls.is_empty() || !delta.rest.is_empty()
}

/// The request's body: the prompt's own fields win over what else it carries.
fn encode(prompt: &Prompt, model: &str) -> Vec<u8> {
    let mut body = prompt.rest.clone();
    body.insert("model".into(), Value::from(model));
    body.insert("messages".into(), json!(prompt.messages));
    if !prompt.tools.is_empty() {
        body.insert("tools".into(), json!(prompt.tools));
    }
    body.insert("stream".into(), true.into());
    body.insert("stream_options".into(), json!({ "include_usage": true }));
    Value::Object(body).to_string().into_bytes()
}

fn content_type(response: &Response) -> &str {
    let value = response.headers().get(http::header::CONTENT_TYPE);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn not_an_answer() -> Error {
    Error::new(Kind::UpstreamError, "The upstream's answer is not a chat completion.")
}

fn timed_out(what: &str) -> Error {
    Error::new(Kind::UpstreamTimeout, format!("The upstream {what}."))
}

fn failed(error: reqwest::Error) -> Error {
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
    let said = serde_json::from_slice::<Value>(&body).ok().and_then(|body| body.get("error").map(wire::upstream_error));
    let cause = said.as_ref().map_or_else(|| format!("status {status}"), |said| format!("status {status}: {}", said.message));
    let error = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Error::new(Kind::UpstreamAuth, "The upstream did not accept the gateway's credentials.")
        }
        StatusCode::TOO_MANY_REQUESTS => Error::new(Kind::UpstreamRateLimited, "The upstream is limiting requests."),
        _ if status.is_client_error() => {
            let message = said.map_or_else(|| format!("The upstream refused the request with status {status}."), |said| said.message);
            Error::new(Kind::UpstreamRejected, message).with_status(status.as_u16())
        }
        _ => Error::new(Kind::UpstreamError, format!("The upstream failed with status {status}.")),
    };
    Error { retry_after, ..error.source(cause) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;

    #[test]
    fn the_prompt_wins_over_what_it_carries() {
        let mut rest = crate::chat::Object::new();
        rest.insert("temperature".into(), 0.into());
        rest.insert("stream".into(), false.into());
        let prompt = Prompt { model: "other".into(), messages: vec![Message::text("user", "hi")], tools: vec![], rest };
        let body: Value = serde_json::from_slice(&encode(&prompt, "m")).unwrap();
        assert_eq!(
            body,
            json!({
                "model": "m", "messages": [{ "role": "user", "content": "hi" }], "temperature": 0,
                "stream": true, "stream_options": { "include_usage": true },
            })
        );
    }
}
