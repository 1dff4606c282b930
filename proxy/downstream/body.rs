//! Reads a client's JSON body whole, in the two ways that leave Pingora able to pass it on.
//!
//! Pingora replays to the upstream what its 64 KiB retry buffer holds, and hangs when a longer body was read before.
//! So the buffer is switched on only for the tail of a declared body; a chunked body is read up to the end of its JSON value,
//! the final chunk left unread. Either way Pingora comes to `request_body_filter` once at the end, and that puts in the whole body.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;

use crate::chat::peek::Extent;
use crate::chat::request::malformed;
use crate::error::{Error, Kind, Result};

/// How much of a body Pingora can replay.
const REPLAYED: usize = 64 << 10;

/// How much of an unwanted body is read, in bytes, and for how long.
const MAX_DRAINED: usize = 8 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What is set aside for a body before any of it has come.
const FIRST_ALLOCATION: usize = 1 << 20;

/// Refuses a body that says that it is over the limit, before any of it is read. Returns its declared length.
pub fn check_declared(head: &RequestHeader, limit: usize) -> Result<Option<usize>> {
    let declared = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) { Err(too_large(limit)) } else { Ok(declared) }
}

/// Reads the body: one JSON object or array, at most `limit` bytes. A body over the limit is refused as early as it shows.
pub async fn read(session: &mut Session, limit: usize) -> Result<Bytes> {
    let declared = check_declared(session.req_header(), limit)?;
    let headers = &session.req_header().headers;
    let waiting = headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let session = session.as_downstream_mut();
    if session.is_body_empty() {
        return Err(malformed("the body is empty"));
    }
    if waiting {
        session.write_continue_response().await.map_err(lost)?;
    }
    match declared {
        Some(length) => read_declared(session, length).await,
        None => read_chunked(session, limit).await,
    }
}

async fn read_declared(session: &mut ServerSession, length: usize) -> Result<Bytes> {
    let (mut body, mut extent) = (BytesMut::with_capacity(length.min(FIRST_ALLOCATION)), Extent::default());
    while body.len() < length {
        if length - body.len() <= REPLAYED {
            session.enable_retry_buffering();
        }
        match session.read_request_body().await.map_err(lost)? {
            // The usual body comes in one piece: it is passed on as it is.
            Some(piece) if piece.len() == length => {
                extent.feed(&piece)?;
                return Ok(piece);
            }
            Some(piece) => {
                extent.feed(&piece)?;
                body.extend_from_slice(&piece);
            }
            None => break,
        }
    }
    Ok(body.freeze())
}

async fn read_chunked(session: &mut ServerSession, limit: usize) -> Result<Bytes> {
    let (mut body, mut extent) = (BytesMut::new(), Extent::default());
    while let Some(piece) = session.read_request_body().await.map_err(lost)? {
        if body.len() + piece.len() > limit {
            return Err(too_large(limit));
        }
        body.extend_from_slice(&piece);
        if extent.feed(&piece)? {
            break;
        }
    }
    Ok(body.freeze())
}

/// Reads what `read` left of a chunked body, for an answer of our own. Only white space may stand there.
pub async fn finish(session: &mut Session) -> Result<()> {
    let session = session.as_downstream_mut();
    while !session.is_body_done() {
        match session.read_request_body().await.map_err(lost)? {
            Some(piece) => check_blank(&piece)?,
            None => break,
        }
    }
    Ok(())
}

/// Reads some of a body that nobody wants, after the answer: closed over unread bytes, a connection is reset, and the answer is lost with it.
pub async fn drain(session: &mut Session) {
    let expects = session.req_header().headers.contains_key(header::EXPECT);
    let session = session.as_downstream_mut();
    let waiting = expects && session.body_bytes_read() == 0;
    let reading = async {
        let mut left = MAX_DRAINED;
        while left > 0 && !session.is_body_done() {
            match session.read_request_body().await {
                Ok(Some(piece)) => left = left.saturating_sub(piece.len()),
                _ => break,
            }
        }
    };
    // A client that waits for a `100` sends nothing.
    if !waiting {
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, reading).await;
    }
}

/// Refuses anything but white space behind the JSON value.
pub fn check_blank(piece: &[u8]) -> Result<()> {
    if piece.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    Err(malformed("something stands behind the JSON object"))
}

/// The body is over the limit.
pub fn too_large(limit: usize) -> Error {
    Error::new(Kind::TooLarge, format!("The request body is larger than {limit} bytes."))
}

fn lost(error: Box<pingora::Error>) -> Error {
    use pingora::ErrorType::{ConnectionClosed, ReadError, ReadTimedout};
    let (kind, message) = match error.etype() {
        ReadTimedout => (Kind::RequestTimeout, "The request body did not arrive in time."),
        ConnectionClosed | ReadError => (Kind::ClientGone, "The client left."),
        _ => (Kind::BadRequest, "The request body is not framed as HTTP wants it."),
    };
    Error::new(kind, message).source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_body_is_held_to_the_limit() {
        let declared = |length: &str| {
            let mut head = RequestHeader::build("POST", b"/", None).unwrap();
            head.insert_header("content-length", length.to_owned()).unwrap();
            check_declared(&head, 10)
        };
        assert_eq!(declared("10").unwrap(), Some(10));
        assert_eq!(declared("11").unwrap_err().kind, Kind::TooLarge);
    }

    #[test]
    fn only_white_space_may_follow() {
        assert!(check_blank(b" \r\n\t").is_ok() && check_blank(b"").is_ok());
        assert_eq!(check_blank(b" {").unwrap_err().kind, Kind::MalformedJson);
    }
}
