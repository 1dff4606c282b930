//! The server's side of one request: what came, byte for byte, and the tools to answer it well or badly.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use super::wire::{Framing, Head, Stream, Wire};

/// A request as a server received it.
#[derive(Debug)]
pub struct Received {
    /// Start line and headers, with their bytes.
    pub head: Head,
    /// The body, unframed.
    pub body: Bytes,
}

impl Received {
    /// `GET`, `POST`, ...
    pub fn method(&self) -> &str {
        &self.head.start[0]
    }

    /// The path with its query.
    pub fn path(&self) -> &str {
        &self.head.start[1]
    }

    /// The first header with this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether these bytes stand anywhere in what came: for secrets that must not travel.
    pub fn mentions(&self, needle: &str) -> bool {
        [&self.head.raw, &self.body].iter().any(|bytes| super::wire::find(bytes, needle.as_bytes()).is_some())
    }
}

/// One request that waits for its answer. Dropped before the answer is complete, it closes the connection.
pub struct Exchange {
    /// What came.
    pub request: Arc<Received>,
    wire: Option<Wire>,
    complete: bool,
    back: Option<oneshot::Sender<Wire>>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let (true, Some(wire), Some(back)) = (self.complete, self.wire.take(), self.back.take()) {
            let _ = back.send(wire);
        }
    }
}

impl Exchange {
    fn wire(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("the connection is still ours")
    }

    /// A whole answer.
    pub async fn respond(mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        let mut bytes = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(body);
        self.complete = self.wire().send(&bytes).await.is_ok();
    }

    /// A whole JSON answer.
    pub async fn json(self, status: u16, body: &Value) {
        self.respond(status, &[("content-type", "application/json")], body.to_string().as_bytes()).await;
    }

    /// Begins a chunked answer of this type with status 200.
    pub async fn start(&mut self, content_type: &str) {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n");
        let _ = self.wire().send(head.as_bytes()).await;
    }

    /// Sends a chunk. `Err`: the client is gone.
    pub async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        self.wire().send_chunk(data).await
    }

    /// Sends `data: VALUE` as one chunk. `Err`: the client is gone.
    pub async fn event(&mut self, value: &Value) -> io::Result<()> {
        self.send(format!("data: {value}\n\n").as_bytes()).await
    }

    /// Ends a chunked answer as it should end.
    pub async fn end(mut self) {
        self.complete = self.wire().send(b"0\r\n\r\n").await.is_ok();
    }

    /// Sends bytes as they are, with no framing.
    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire().send(bytes).await
    }

    /// Breaks the connection with a reset.
    pub fn reset(mut self) {
        if let Some(wire) = self.wire.take() {
            wire.reset();
        }
    }

    /// Returns when the client has closed its connection; says when that was.
    pub async fn client_gone(&mut self) -> Instant {
        self.wire().closed().await;
        Instant::now()
    }

    /// The connection itself, for what comes after an upgrade.
    pub fn into_stream(mut self) -> Stream {
        self.wire.take().expect("the connection is still ours").into_stream()
    }
}

/// Listens on a free port and hands each request to `handle`, until the listener's task is dropped.
pub async fn listen<H, F>(tls: Option<TlsAcceptor>, handle: H) -> (SocketAddr, Listening)
where
    H: Fn(Exchange) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    listen_at(free, tls, handle).await
}

/// As `listen`, at this address: that of a server that is gone, for one that comes back.
pub async fn listen_at<H, F>(address: SocketAddr, tls: Option<TlsAcceptor>, handle: H) -> (SocketAddr, Listening)
where
    H: Fn(Exchange) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let handle = Arc::new(handle);
    let task = tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let Ok((tcp, _)) = listener.accept().await else { return };
            tasks.spawn(serve(tcp, tls.clone(), handle.clone()));
        }
    });
    (address, Listening(task))
}

/// A listener at work; dropping it closes the port and every connection.
pub struct Listening(tokio::task::JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve<H, F>(tcp: TcpStream, tls: Option<TlsAcceptor>, handle: Arc<H>)
where
    H: Fn(Exchange) -> F,
    F: Future<Output = ()>,
{
    tcp.set_nodelay(true).expect("a socket takes nodelay");
    let stream = match tls {
        None => Either::Left(tcp),
        Some(acceptor) => match acceptor.accept(tcp).await {
            Ok(stream) => Either::Right(stream),
            Err(_) => return,
        },
    };
    let mut wire = Wire::new(stream);
    while let Ok(Some(head)) = wire.head().await {
        if head.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
            let _ = wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        let Ok(body) = wire.body(head.framing(Framing::Length(0))).await else { return };
        let (back, returned) = oneshot::channel();
        let request = Arc::new(Received { head, body });
        handle(Exchange { request, wire: Some(wire), complete: false, back: Some(back) }).await;
        match returned.await {
            Ok(again) => wire = again,
            Err(_) => return,
        }
    }
}
