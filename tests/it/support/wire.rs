//! HTTP/1.1 by hand, one connection at a time: tests see and send exactly the bytes that they mean.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// Plain TCP, or TLS over it.
pub type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// A connection and what was read ahead of it.
pub struct Wire {
    stream: Stream,
    ahead: BytesMut,
}

/// The start line and the headers of a message.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The bytes as they came, with the empty line.
    pub raw: Bytes,
    /// The three parts of the start line.
    pub start: [String; 3],
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There are this many bytes left.
    Length(usize),
    /// A chunk of size zero ends it.
    Chunked,
    /// The end of the connection ends it.
    Close,
}

impl Head {
    /// The first header with this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// How the body of this message ends; `otherwise` when the head does not say.
    pub fn framing(&self, otherwise: Framing) -> Framing {
        if self.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked;
        }
        match self.header("content-length") {
            Some(n) => Framing::Length(n.trim().parse().expect("content-length is a number")),
            None => otherwise,
        }
    }
}

impl Wire {
    /// Over a connection of which nothing was read.
    pub fn new(stream: Stream) -> Self {
        Wire { stream, ahead: BytesMut::new() }
    }

    /// Reads what is there into the buffer; 0 means the other side is done.
    async fn fill(&mut self) -> io::Result<usize> {
        self.ahead.reserve(64 << 10);
        self.stream.read_buf(&mut self.ahead).await
    }

    /// The head of the next message; `None` when the other side has closed between messages.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                return Ok(Some(parse_head(self.ahead.split_to(end + 4).freeze())));
            }
            if self.fill().await? == 0 {
                return if self.ahead.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The next piece of a body. `None` is its proper end; a connection that ends before is an error.
    pub async fn piece(&mut self, framing: &mut Framing) -> io::Result<Option<Bytes>> {
        match framing {
            Framing::Length(0) => Ok(None),
            Framing::Length(left) => {
                if self.ahead.is_empty() && self.fill().await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let n = self.ahead.len().min(*left);
                *left -= n;
                Ok(Some(self.ahead.split_to(n).freeze()))
            }
            Framing::Chunked => self.chunk().await,
            Framing::Close => {
                if self.ahead.is_empty() && self.fill().await? == 0 {
                    return Ok(None);
                }
                Ok(Some(self.ahead.split().freeze()))
            }
        }
    }

    /// One chunk; `None` is the last one, read with its trailers.
    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let line = self.line().await?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("a chunk begins with {line:?}")))?;
        if size == 0 {
            while !self.line().await?.is_empty() {}
            return Ok(None);
        }
        let data = self.exactly(size).await?;
        let end = self.exactly(2).await?;
        assert_eq!(&end[..], b"\r\n", "a chunk ends with CRLF");
        Ok(Some(data))
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                let line = self.ahead.split_to(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn exactly(&mut self, n: usize) -> io::Result<Bytes> {
        while self.ahead.len() < n {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.ahead.split_to(n).freeze())
    }

    /// All of a body.
    pub async fn body(&mut self, mut framing: Framing) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.piece(&mut framing).await? {
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    /// Sends these bytes, all of them, now.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends one chunk of a chunked body.
    pub async fn send_chunk(&mut self, data: &[u8]) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
        chunk.extend_from_slice(data);
        chunk.extend_from_slice(b"\r\n");
        self.send(&chunk).await
    }

    /// Returns when the other side has closed or reset the connection; what it sends before that is thrown away.
    pub async fn closed(&mut self) {
        loop {
            self.ahead.clear();
            if !matches!(self.fill().await, Ok(n) if n > 0) {
                return;
            }
        }
    }

    /// Says "no more from me" and goes on reading.
    pub async fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Ends the connection with a reset: the other side's next read fails.
    pub fn reset(self) {
        if let Either::Left(tcp) = &self.stream {
            tcp.set_zero_linger().expect("a socket takes linger");
        }
    }

    /// The connection itself, for a protocol that is not HTTP; nothing may have been read ahead.
    pub fn into_stream(self) -> Stream {
        assert!(self.ahead.is_empty(), "bytes of the next protocol were read already");
        self.stream
    }
}

fn parse_head(raw: Bytes) -> Head {
    let text = String::from_utf8_lossy(&raw).into_owned();
    let mut lines = text.split("\r\n");
    let mut parts = lines.next().unwrap_or_default().splitn(3, ' ').map(str::to_owned);
    let start = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let headers =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Head { raw, start, headers }
}

/// Where `needle` begins in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
