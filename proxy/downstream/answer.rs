//! A run's reply on its way to the client: streamed as it comes, or folded up into one answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use tokio::sync::mpsc::Receiver;
use tokio::time::MissedTickBehavior;

use super::{Answer, Extra};
use crate::agent::Agent;
use crate::agent::run::Run;
use crate::agent::voice::Heard;
use crate::chat::progress::{Form, Shown};
use crate::chat::wire::Envelope;
use crate::chat::{Delta, Reply, sse};
use crate::error::{Error, Kind, Result};

/// How long a stream may be silent before a comment shows that it lives.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Drives the run and sends its reply. A failure is told to the client in every case: with its status while nothing was sent,
/// by an error event after that. The returned error is for the log. A client that leaves drops the run at once.
pub async fn stream(
    session: &mut Session,
    extra: &Extra,
    agent: &Agent,
    mut run: Run,
    heard: Receiver<Heard>,
    manner: Manner,
) -> Result<()> {
    let mut writer = Writer {
        envelope: run.envelope.clone(),
        extra,
        started: Instant::now(),
        reply: Reply::default(),
        manner,
        head_sent: false,
        opened: Vec::new(),
    };
    let outcome = writer.follow(session, agent, &mut run, heard).await;
    let usage = run.usage();
    drop(run);
    match outcome {
        Ok(()) => writer.end(session, usage).await,
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
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// As it comes, by server-sent events.
    pub streamed: bool,
    /// How it is shown what the tools do; only in a stream.
    pub progress: Option<Form>,
}

impl Manner {
    /// Whether the run is to tell what its tools do.
    pub fn wants_tools(self) -> bool {
        self.streamed && self.progress.is_some()
    }
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
                    return Err(Error::new(Kind::ClientGone, "The client left.").source(error));
                }
            }
        }
    }
}

struct Writer<'a> {
    envelope: Envelope,
    extra: &'a Extra,
    started: Instant,
    reply: Reply,
    manner: Manner,
    head_sent: bool,
    /// The choices above the first whose role has left.
    opened: Vec<u32>,
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
                        return Err(Error::new(Kind::ClientGone, "The client left.").source(error));
                    }
                }
                _ = pings.tick(), if self.manner.streamed => self.write(session, Bytes::from_static(sse::PING)).await?,
            }
        }
    }

    /// Sends what was heard, and with it what waits behind it.
    async fn forward(&mut self, session: &mut Session, event: Heard, heard: &mut Receiver<Heard>) -> Result<()> {
        if !self.manner.streamed {
            if let Heard::Piece(piece) = event {
                self.reply.push(&piece);
            }
            return Ok(());
        }
        let mut bytes = self.encode_heard(event);
        while let Ok(next) = heard.try_recv() {
            bytes.extend(self.encode_heard(next));
        }
        self.write(session, bytes.into()).await
    }

    fn encode_heard(&mut self, event: Heard) -> Vec<u8> {
        match (event, self.manner.progress) {
            (Heard::Piece(piece), _) => self.encode(&piece),
            (Heard::Tool(_), None) => Vec::new(),
            (Heard::Tool(doing), Some(form)) => {
                let shown = form.show(&doing).into_iter().map(|shown| match shown {
                    Shown::Event(event) => self.envelope.event(&event),
                    Shown::Piece(piece) => self.envelope.piece(&piece),
                });
                shown.flat_map(|chunk| sse::encode(&chunk)).collect()
            }
        }
    }

    /// A piece as an event; the role before the first one of each further choice. The first choice's leaves with the header.
    fn encode(&mut self, piece: &Delta) -> Vec<u8> {
        if piece.choice == 0 || self.opened.contains(&piece.choice) {
            return sse::encode(&self.envelope.piece(piece));
        }
        self.opened.push(piece.choice);
        let mut bytes = sse::encode(&self.envelope.opening(piece.choice));
        bytes.extend(sse::encode(&self.envelope.piece(piece)));
        bytes
    }

    async fn end(mut self, session: &mut Session, usage: crate::chat::Usage) -> Result<()> {
        if !self.manner.streamed {
            self.reply.usage = usage;
            let answer = Answer::json(&self.envelope.completion(&self.reply));
            let timing = format!("run;dur={:.1}", self.started.elapsed().as_secs_f64() * 1000.0);
            return answer.header("server-timing", &timing).send(session, self.extra).await.map_err(lost);
        }
        let mut bytes = Vec::new();
        if self.envelope.include_usage {
            bytes = sse::encode(&self.envelope.usage(&usage));
        }
        bytes.extend_from_slice(sse::DONE);
        self.write(session, bytes.into()).await?;
        session.write_response_body(None, true).await.map_err(lost)
    }

    async fn fail(&mut self, session: &mut Session, error: &Error) -> Result<()> {
        if !self.head_sent {
            return Answer::error(error).send(session, self.extra).await.map_err(lost);
        }
        // No `[DONE]`: clients read an error, and none takes the part for the whole.
        session.set_keepalive(None);
        self.write(session, sse::encode(&error.body()).into()).await?;
        session.write_response_body(None, true).await.map_err(lost)
    }

    async fn write(&mut self, session: &mut Session, bytes: Bytes) -> Result<()> {
        if !self.head_sent {
            self.head_sent = true;
            session.write_response_header(Box::new(self.head().map_err(lost)?), false).await.map_err(lost)?;
            let opening = sse::encode(&self.envelope.opening(0));
            session.write_response_body(Some(opening.into()), false).await.map_err(lost)?;
        }
        session.write_response_body(Some(bytes), false).await.map_err(lost)
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

fn lost(error: Box<pingora::Error>) -> Error {
    Error::new(Kind::ClientGone, "The client left.").source(error)
}
