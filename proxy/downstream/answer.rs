//! A run's reply on its way to the client: streamed as it comes, or whole at its end, in the words of the client's protocol.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use tokio::sync::mpsc::Receiver;
use tokio::time::MissedTickBehavior;

use super::{Answer, Extra};
use crate::agent::Agent;
use crate::agent::memory::End;
use crate::agent::run::Run;
use crate::agent::voice::Heard;
use crate::chat::encoder::Encoder;
use crate::chat::{Usage, sse};
use crate::error::{Error, Kind, Result};

/// How long a stream may be silent before a comment shows that it lives.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Drives the run and sends its reply. A failure is told to the client in every case: with its status while nothing was sent,
/// within the stream after that. The returned error is for the log. A client that leaves drops the run at once.
pub async fn stream(
    session: &mut Session,
    extra: &Extra,
    agent: &Agent,
    mut run: Run,
    heard: Receiver<Heard>,
    manner: Manner,
) -> Result<()> {
    let mut writer = Writer { extra, started: Instant::now(), manner, head_sent: false };
    let mut outcome = writer.follow(session, agent, &mut run, heard).await;
    match &outcome {
        // Before the client knows that the turn is over: its next one finds it.
        Ok(()) => outcome = run.remember(End::Whole).await,
        Err(error) if error.kind == Kind::ClientGone => run.remember(End::Cancelled).await?,
        // A failed run adds nothing.
        Err(_) => {}
    }
    let usage = run.usage();
    drop(run);
    match outcome {
        Ok(()) => writer.end(session, &usage).await,
        Err(error) if error.kind == Kind::ClientGone => {
            session.set_keepalive(None);
            Err(error)
        }
        Err(error) => {
            writer.fail(session, &error).await?;
            Err(error)
        }
    }
}

/// How a client wants its answer.
pub struct Manner {
    /// As it comes, by server-sent events.
    pub streamed: bool,
    /// In these words.
    pub encoder: Box<dyn Encoder>,
}

/// Works on a request whose body was read, until it is done or the client leaves.
pub async fn unless_gone<T>(session: &mut Session, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            left = session.as_downstream_mut().read_body_or_idle(true) => {
                if let Err(error) = left {
                    return Err(lost(error));
                }
            }
        }
    }
}

struct Writer<'a> {
    extra: &'a Extra,
    started: Instant,
    manner: Manner,
    head_sent: bool,
}

impl Writer<'_> {
    /// The one place where a run, its pieces, the client's leaving and the clock meet.
    async fn follow(&mut self, session: &mut Session, agent: &Agent, run: &mut Run, mut heard: Receiver<Heard>) -> Result<()> {
        let mut driving = std::pin::pin!(agent.drive(run));
        let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(event) = heard.recv() => {
                    pings.reset();
                    self.forward(session, event, &mut heard).await?;
                }
                outcome = &mut driving => {
                    while let Ok(event) = heard.try_recv() {
                        self.forward(session, event, &mut heard).await?;
                    }
                    return outcome;
                }
                left = session.as_downstream_mut().read_body_or_idle(true) => {
                    if let Err(error) = left {
                        return Err(lost(error));
                    }
                }
                _ = pings.tick(), if self.manner.streamed => self.write(session, sse::PING.to_vec()).await?,
            }
        }
    }

    /// Sends what was heard, and with it what waits behind it.
    async fn forward(&mut self, session: &mut Session, event: Heard, heard: &mut Receiver<Heard>) -> Result<()> {
        let mut bytes = self.encode(&event);
        while let Ok(next) = heard.try_recv() {
            bytes.extend(self.encode(&next));
        }
        if bytes.is_empty() { Ok(()) } else { self.write(session, bytes).await }
    }

    fn encode(&mut self, event: &Heard) -> Vec<u8> {
        match event {
            Heard::Piece(piece) => self.manner.encoder.piece(piece),
            Heard::Tool(doing) => self.manner.encoder.tool(doing),
        }
    }

    async fn end(mut self, session: &mut Session, usage: &Usage) -> Result<()> {
        let bytes = self.manner.encoder.end(usage);
        if !self.manner.streamed {
            let answer = Answer::new(StatusCode::OK, "application/json", bytes);
            let timing = format!("run;dur={:.1}", self.started.elapsed().as_secs_f64() * 1000.0);
            return answer.header("server-timing", &timing).send(session, self.extra).await.map_err(lost);
        }
        self.write(session, bytes).await?;
        session.write_response_body(None, true).await.map_err(lost)
    }

    async fn fail(&mut self, session: &mut Session, error: &Error) -> Result<()> {
        if !self.head_sent {
            return Answer::error(error).send(session, self.extra).await.map_err(lost);
        }
        session.set_keepalive(None);
        let bytes = self.manner.encoder.failure(error);
        self.write(session, bytes).await?;
        session.write_response_body(None, true).await.map_err(lost)
    }

    async fn write(&mut self, session: &mut Session, bytes: Vec<u8>) -> Result<()> {
        self.open(session).await?;
        session.write_response_body(Some(Bytes::from(bytes)), false).await.map_err(lost)
    }

    /// Sends the header of a stream, and what it opens with, if they have not left yet.
    async fn open(&mut self, session: &mut Session) -> Result<()> {
        if self.head_sent || !self.manner.streamed {
            return Ok(());
        }
        self.head_sent = true;
        session.write_response_header(Box::new(self.head().map_err(lost)?), false).await.map_err(lost)?;
        let opening = self.manner.encoder.opening();
        session.write_response_body(Some(opening.into()), false).await.map_err(lost)
    }

    fn head(&self) -> pingora::Result<ResponseHeader> {
        let mut head = ResponseHeader::build(StatusCode::OK, Some(8))?;
        head.insert_header(header::CONTENT_TYPE, "text/event-stream")?;
        head.insert_header(header::CACHE_CONTROL, "no-cache")?;
        head.insert_header("x-accel-buffering", "no")?;
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        head.insert_header("server-timing", format!("first;dur={:.1}", self.started.elapsed().as_secs_f64() * 1000.0))?;
        self.extra.apply(&mut head)?;
        Ok(head)
    }
}

/// An answer, or the rest of it, could not be sent: the client left.
pub fn lost(error: Box<pingora::Error>) -> Error {
    Error::new(Kind::ClientGone, "The client left.").source(error)
}
