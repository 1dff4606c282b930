//! A WebSocket to the default upstream: the handshake passed on, then bytes both ways until one side ends.
//!
//! Pingora passes upgraded connections on, too, but it ends one at once whose `101` is there before it has told itself
//! that the request has no body: common where the server is on this machine and the machine is busy.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::context::Context;
use super::forward::strip_nominated;
use crate::downstream::answer::{self, lost};
use crate::error::{Error, Kind, Result};
use crate::model;

/// How much is read from the upstream at once, in bytes.
const PIECE: usize = 16 << 10;

/// How long the upstream may take to accept what a client said last.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(5);

impl Context {
    /// Opens the socket at the upstream that the request was given to, and stays with it until it ends. An upstream that does not
    /// switch protocols answers for itself.
    pub(super) async fn socket(&mut self, session: &mut Session) -> Result<bool> {
        let mut head = session.req_header().clone();
        self.authorize(&mut head).map_err(internal)?;
        let upstream = self.target().map_err(internal)?.upstream().clone();
        let request = upstream.socket_request(&head.uri).headers(head.headers.clone()).send();
        let asked = tokio::time::timeout(upstream.settings.first_byte_timeout, request);
        let answered = answer::unless_gone(session, async { Ok(asked.await) }).await?;
        let response = answered.map_err(|_| model::timed_out("did not begin to answer in time"))?.map_err(model::failed)?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        self.answered = true;
        self.begin_answer(session, &response).await.map_err(lost)?;
        if switched { pass(session, response).await } else { refuse(session, response).await }?;
        Ok(true)
    }

    async fn begin_answer(&self, session: &mut Session, response: &reqwest::Response) -> pingora::Result<()> {
        let mut head = ResponseHeader::build(response.status(), Some(response.headers().len() + 1))?;
        for (name, value) in response.headers() {
            head.append_header(name, value)?;
        }
        strip_nominated(&mut head);
        self.extra.apply(&mut head)?;
        // A socket may be silent for as long as it likes.
        session.as_downstream_mut().set_read_timeout(None);
        session.set_keepalive(None);
        session.write_response_header(Box::new(head), false).await
    }
}

/// Passes bytes both ways. What the client sent and the upstream has not accepted yet is one piece; meanwhile no more is read of it.
async fn pass(session: &mut Session, response: reqwest::Response) -> Result<()> {
    let upgraded = response.upgrade().await.map_err(broken)?;
    let (mut upstream, mut to_upstream) = tokio::io::split(upgraded);
    let (mut waiting, mut read) = (Bytes::new(), BytesMut::with_capacity(PIECE));
    loop {
        tokio::select! {
            piece = session.as_downstream_mut().read_request_body(), if waiting.is_empty() => match piece.map_err(lost)? {
                Some(piece) => waiting = piece,
                None => break,
            },
            written = to_upstream.write(&waiting), if !waiting.is_empty() => waiting.advance(written.map_err(broken)?),
            length = upstream.read_buf(&mut read) => match length.map_err(broken)? {
                0 => return session.write_response_body(None, true).await.map_err(lost),
                _ => session.write_response_body(Some(read.split().freeze()), false).await.map_err(lost)?,
            },
        }
        read.reserve(PIECE);
    }
    let last = async {
        to_upstream.write_all(&waiting).await?;
        to_upstream.shutdown().await
    };
    let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, last).await;
    Ok(())
}

/// Passes on the answer of an upstream that opens no socket.
async fn refuse(session: &mut Session, mut response: reqwest::Response) -> Result<()> {
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        session.write_response_body(Some(piece), false).await.map_err(lost)?;
    }
    session.write_response_body(None, true).await.map_err(lost)
}

fn broken(error: impl Into<crate::error::Source>) -> Error {
    Error::new(Kind::UpstreamError, "The upstream broke off the connection.").source(error)
}

fn internal(error: Box<pingora::Error>) -> Error {
    Error::new(Kind::Internal, "The gateway failed.").source(error)
}
