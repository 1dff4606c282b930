//! The client's side: one connection a request, nothing retried, nothing repaired.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::either::Either;

use super::events::Streamed;
use super::wire::{Framing, Head, Wire};

/// A request to be sent.
#[derive(Clone)]
pub struct Request {
    address: SocketAddr,
    start: String,
    headers: Vec<(String, String)>,
    body: Body,
}

#[derive(Clone)]
enum Body {
    None,
    Whole(Bytes),
    Chunks(Vec<Bytes>),
}

impl Request {
    /// `method path` at this address, with a Host header and nothing else.
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        let headers = vec![("host".to_owned(), address.to_string())];
        Request { address, start: format!("{method} {path} HTTP/1.1\r\n"), headers, body: Body::None }
    }

    /// Adds a header; `host` is replaced.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if name == "host" {
            self.headers.retain(|(n, _)| n != "host");
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves out a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self
    }

    /// `Authorization: Bearer KEY`.
    pub fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    /// A body of JSON with its length.
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// A body with its length.
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = Body::Whole(body.into());
        self.header("content-type", content_type)
    }

    /// A chunked body: one chunk for each of these.
    pub fn chunks(mut self, content_type: &str, chunks: Vec<Bytes>) -> Self {
        self.body = Body::Chunks(chunks);
        self.header("content-type", content_type)
    }

    /// Connects and sends the head alone; the body is the caller's to send.
    pub async fn head_only(self) -> Wire {
        self.try_head().await.expect("the gateway accepts and reads")
    }

    async fn try_head(self) -> io::Result<Wire> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true).expect("a socket takes nodelay");
        let mut head = self.start;
        match &self.body {
            Body::None => {}
            Body::Whole(body) => head.push_str(&format!("content-length: {}\r\n", body.len())),
            Body::Chunks(_) => head.push_str("transfer-encoding: chunked\r\n"),
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut wire = Wire::new(Either::Left(tcp));
        wire.send(head.as_bytes()).await?;
        Ok(wire)
    }

    /// Sends it and returns the connection on which the answer will come. A server that answers early may stop reading: that is no error here.
    pub async fn send(self) -> Wire {
        let body = self.body.clone();
        let mut wire = self.head_only().await;
        match body {
            Body::None => {}
            Body::Whole(body) => {
                let _ = wire.send(&body).await;
            }
            Body::Chunks(chunks) => {
                for chunk in chunks {
                    if wire.send_chunk(&chunk).await.is_err() {
                        return wire;
                    }
                }
                let _ = wire.send(b"0\r\n\r\n").await;
            }
        }
        wire
    }

    /// Sends it and waits for the head of the answer.
    pub async fn open(self) -> Live {
        let method_has_body = !self.start.starts_with("HEAD ");
        let wire = self.send().await;
        super::within(30, "the head of an answer", Live::read(wire, method_has_body)).await.expect("an answer")
    }

    /// Sends it and waits for the whole answer.
    pub async fn answer(self) -> Answer {
        super::within(60, "a whole answer", async { self.open().await.answer().await.expect("a whole answer") }).await
    }

    /// As `answer`, for a request without a body; `None` when the server does not accept, or hangs up.
    pub async fn try_answer(self) -> Option<Answer> {
        let live = Live::read(self.try_head().await.ok()?, true).await.ok()?;
        live.answer().await.ok()
    }

    /// Sends it and reads the events of the answer to their end, however that comes.
    pub async fn stream(self) -> Streamed {
        super::within(60, "a whole stream", async { Streamed::read(self.open().await).await }).await
    }
}

/// An answer whose body is still coming. Dropping it is a client that leaves.
pub struct Live {
    /// Start line and headers.
    pub head: Head,
    wire: Wire,
    framing: Framing,
}

impl Live {
    /// Reads the head of an answer; interim answers (100) are skipped.
    pub async fn read(mut wire: Wire, body_expected: bool) -> io::Result<Live> {
        loop {
            let head = wire.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = head.start[1].clone();
            if status.starts_with('1') && status != "101" {
                continue;
            }
            let framing = match status.as_str() {
                "204" | "304" | "101" => Framing::Length(0),
                _ if !body_expected => Framing::Length(0),
                _ => head.framing(Framing::Close),
            };
            return Ok(Live { head, wire, framing });
        }
    }

    /// The next piece of the body; `None` is its proper end, `Err` an end that came too early.
    pub async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        self.wire.piece(&mut self.framing).await
    }

    /// The rest of the body.
    pub async fn answer(mut self) -> io::Result<Answer> {
        let body = self.wire.body(self.framing).await?;
        Ok(Answer { head: self.head, body })
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Start line and headers.
    pub head: Head,
    /// The body, unframed.
    pub body: Bytes,
}

impl Answer {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.start[1].parse().expect("a status is a number")
    }

    /// The first header with this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.text()))
    }

    /// The text of the first choice of a chat completion.
    pub fn content(&self) -> String {
        let body = self.json();
        body["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("no content in {body}")).to_owned()
    }

    /// Fails unless this is OpenAI's form of an error, with this status and code. All four keys are there.
    pub fn assert_error(&self, status: u16, code: impl Into<Value>) -> Value {
        assert_eq!(self.status(), status, "status of {}", self.text());
        let error = self.json()["error"].clone();
        for key in ["message", "type", "param", "code"] {
            assert!(error.get(key).is_some(), "{key:?} is missing in {error}");
        }
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "an error says what is wrong: {error}");
        assert_eq!(error["code"], code.into(), "code of {error}");
        error
    }
}
