//! How a run's reply leaves: each piece past `on_chunk`, held back for `post_response` where it must be, ended, or recovered.

use std::time::Duration;

use super::run::{Run, aborted, rejected};
use crate::chat::{Delta, Reply};
use crate::error::{Error, Kind, Result};
use crate::hooks::{ChunkView, FailureView, Point, ReplyView, Verdict};

/// How long `on_error` may take, waiting included: the run's own time may be over.
const RECOVERY: Duration = Duration::from_secs(10);

impl Run {
    /// Lets `on_chunk` see a piece's text, and change it.
    pub(super) async fn read_chunk(&mut self, delta: &mut Delta) -> Result<()> {
        let Some(text) = delta.content.as_mut().filter(|text| !text.is_empty()) else { return Ok(()) };
        if self.scene.agent.hooks.has(Point::OnChunk) {
            *text = self.consult_chunk(delta.choice, std::mem::take(text), false).await?;
        }
        Ok(())
    }

    /// Lets `on_chunk` give out what it kept back, once the model has said all.
    pub(super) async fn read_last_chunks(&mut self, reply: &mut Reply) -> Result<()> {
        if !self.scene.agent.hooks.has(Point::OnChunk) {
            return Ok(());
        }
        let choices: Vec<u32> = reply.choices.iter().map(|choice| choice.index).collect();
        for choice in choices {
            let content = self.consult_chunk(choice, String::new(), true).await?;
            let delta = Delta { choice, ..Delta::text(content) };
            reply.push(&delta);
            self.say(delta).await?;
        }
        Ok(())
    }

    async fn consult_chunk(&mut self, choice: u32, text: String, last: bool) -> Result<String> {
        let mut view = ChunkView { text, choice, last };
        match self.hooks.on_chunk(&mut view).await? {
            Verdict::Continue => Ok(view.text),
            Verdict::Answer(never) => match never {},
            Verdict::Reject(message) => Err(rejected(message)),
            Verdict::Abort(status, message) => Err(aborted(status, message)),
        }
    }

    /// Lets a piece of the reply leave, or keeps its text back: until it has the client's form, or for `post_response`.
    pub(super) async fn say(&mut self, mut delta: Delta) -> Result<()> {
        if self.format.is_some() {
            (delta.content, delta.logprobs) = (None, None);
        }
        delta.content = delta.content.filter(|text| !text.is_empty());
        if let Some(text) = delta.content.as_ref().filter(|_| self.scene.agent.hooks.has(Point::PostResponse)) {
            self.said.entry(delta.choice).or_default().push_str(text);
            if self.holds {
                delta.content = None;
            }
        }
        if delta == (Delta { choice: delta.choice, ..Delta::default() }) {
            return Ok(());
        }
        self.send(delta).await
    }

    /// A choice is complete: lets `post_response` see its text, and ends it.
    pub(super) async fn conclude(&mut self, choice: u32, finish: String) -> Result<()> {
        self.respond(choice, &finish).await?;
        self.end(choice, finish).await
    }

    /// Lets `post_response` see what was said, and what was held back leave.
    pub(super) async fn respond(&mut self, choice: u32, finish: &str) -> Result<()> {
        if !self.scene.agent.hooks.has(Point::PostResponse) {
            return Ok(());
        }
        let content = self.said.remove(&choice).unwrap_or_default();
        let mut view = ReplyView { content, usage: self.usage(), choice, finish: finish.to_owned(), streamed: !self.holds };
        let text = match self.hooks.post_response(&mut view).await? {
            Verdict::Continue => view.content,
            Verdict::Answer(message) => message.words(),
            Verdict::Reject(message) => return Err(rejected(message)),
            Verdict::Abort(status, message) => return Err(aborted(status, message)),
        };
        if !self.holds || text.is_empty() {
            return Ok(());
        }
        self.send(Delta { choice, ..Delta::text(text) }).await
    }

    /// Lets `on_error` answer in the place of a run that failed. `Err` is what the client is told: the failure itself, unless a hook
    /// aborted with its own words.
    pub(super) async fn recover(&mut self, error: Error) -> Result<()> {
        if matches!(error.kind, Kind::Rejected | Kind::ClientGone) || !self.scene.agent.hooks.has(Point::OnError) {
            return Err(error);
        }
        let mut view = FailureView {
            code: error.kind.code().unwrap_or("invalid_request").to_owned(),
            message: error.message.clone(),
            status: error.http_status(),
            streamed: self.has_spoken,
        };
        match tokio::time::timeout(RECOVERY, self.hooks.on_error(&mut view)).await {
            Ok(Ok(Verdict::Answer(message))) => {
                tracing::warn!(run = %self.id, error = %error.chain(), "the run failed, and `on_error` answered");
                self.send(Delta::text(message.words())).await?;
                self.end(0, "stop".into()).await
            }
            Ok(Ok(Verdict::Abort(status, message))) => Err(Error { source: Some(error.chain().into()), ..aborted(status, message) }),
            // A hook that failed, or took too long, has been logged; the client is told of the failure that it was called for.
            Ok(Ok(Verdict::Continue | Verdict::Reject(_)) | Err(_)) | Err(_) => Err(error),
        }
    }

    pub(super) async fn end(&mut self, choice: u32, finish: String) -> Result<()> {
        self.send(Delta { choice, finish: Some(finish), ..Delta::default() }).await
    }

    pub(super) async fn send(&mut self, delta: Delta) -> Result<()> {
        self.has_spoken |= delta.content.is_some();
        if let (Some(memory), Some(text), 0) = (&mut self.memory, &delta.content, delta.choice) {
            memory.tell(text);
        }
        self.voice.say(delta).await
    }
}
