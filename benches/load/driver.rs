//! The load driver: connections that send one request after the other, and read each answer to its end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// How long one answer may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A load: who gets which request over how many connections.
pub struct Load {
    pub addr: SocketAddr,
    /// The whole request, head and body.
    pub request: Vec<u8>,
    /// The answer is a stream, which must end with `[DONE]`.
    pub streams: bool,
    pub connections: usize,
}

/// Open connections.
pub struct Fleet<'a> {
    load: &'a Load,
    connections: Vec<Connection>,
}

/// What came of a slice of load.
pub struct Outcome {
    pub elapsed: Duration,
    /// How long each request took, sorted.
    pub latencies: Vec<Duration>,
    /// How long each answer's first byte took, sorted.
    pub first_bytes: Vec<Duration>,
}

impl Load {
    /// Opens the connections.
    pub async fn connect(&self) -> Result<Fleet<'_>> {
        let open = (0..self.connections).map(|_| Connection::open(self.addr));
        Ok(Fleet { load: self, connections: try_join_all(open).await? })
    }
}

impl Fleet<'_> {
    /// Keeps every connection busy for `length`; requests that have begun are finished. Fails with the first answer that is not right.
    pub async fn run(&mut self, length: Duration) -> Result<Outcome> {
        self.run_while(|began, _| began.elapsed() < length).await
    }

    /// Sends `n` requests on every connection.
    pub async fn run_times(&mut self, n: usize) -> Result<Outcome> {
        self.run_while(|_, done| done < n).await
    }

    async fn run_while(&mut self, goes_on: impl Fn(Instant, usize) -> bool + Copy) -> Result<Outcome> {
        let (load, began) = (self.load, Instant::now());
        let busy = self.connections.iter_mut().map(|connection| async move {
            let mut times = Vec::new();
            while goes_on(began, times.len()) {
                let asked = Instant::now();
                let first = tokio::time::timeout(PATIENCE, connection.ask(load)).await.map_err(|_| "an answer took too long")??;
                times.push((asked.elapsed(), first - asked));
            }
            Ok::<_, crate::Error>(times)
        });
        let times = try_join_all(busy).await?.concat();
        let sorted = |mut times: Vec<Duration>| {
            times.sort_unstable();
            times
        };
        Ok(Outcome {
            elapsed: began.elapsed(),
            latencies: sorted(times.iter().map(|(whole, _)| *whole).collect()),
            first_bytes: sorted(times.iter().map(|(_, first)| *first).collect()),
        })
    }
}

struct Connection {
    stream: TcpStream,
    bytes: BytesMut,
}

/// How the end of a body is found.
enum Framing {
    Length(usize),
    Chunked,
}

impl Connection {
    async fn open(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, bytes: BytesMut::with_capacity(64 << 10) })
    }

    /// Sends the request and reads the answer. Returns when the first byte came.
    async fn ask(&mut self, load: &Load) -> Result<Instant> {
        self.stream.write_all(&load.request).await?;
        self.read().await?;
        let first = Instant::now();
        let head = loop {
            if let Some(at) = find(&self.bytes, b"\r\n\r\n") {
                break self.bytes.split_to(at + 4);
            }
            self.read().await?;
        };
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let is_ok = head.starts_with("http/1.1 200 ");
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
        let framing = match (header("transfer-encoding"), header("content-length")) {
            (Some("chunked"), _) => Framing::Chunked,
            (_, Some(length)) => Framing::Length(length.parse()?),
            _ => return Err("an answer without a length".into()),
        };
        let tail = match framing {
            Framing::Length(length) => self.read_length(length).await?,
            Framing::Chunked => self.read_chunks().await?,
        };
        if !is_ok {
            return Err(format!("{}: {}", head.lines().next().unwrap_or_default(), String::from_utf8_lossy(&tail)).into());
        }
        if load.streams && !tail.ends_with(b"data: [DONE]\n\n") {
            return Err(format!("a stream ended early: {}", String::from_utf8_lossy(&tail)).into());
        }
        if !load.streams && !tail.ends_with(b"}") {
            return Err("an answer that is not JSON".into());
        }
        Ok(first)
    }

    /// The body, of which the last part is returned.
    async fn read_length(&mut self, length: usize) -> Result<BytesMut> {
        while self.bytes.len() < length {
            self.read().await?;
        }
        Ok(self.bytes.split_to(length))
    }

    /// The same for a chunked body: the last bytes of it, over chunk borders.
    async fn read_chunks(&mut self) -> Result<BytesMut> {
        let mut tail = BytesMut::new();
        loop {
            let line = loop {
                if let Some(at) = find(&self.bytes, b"\r\n") {
                    break self.bytes.split_to(at + 2);
                }
                self.read().await?;
            };
            let digits = std::str::from_utf8(&line)?.split(';').next().unwrap_or_default().trim();
            let length = usize::from_str_radix(digits, 16)?;
            let chunk = self.read_length(length + 2).await?;
            if length == 0 {
                return Ok(tail);
            }
            tail.extend_from_slice(&chunk[..length]);
            tail.advance(tail.len().saturating_sub(512));
        }
    }

    async fn read(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.bytes).await? {
            0 => Err("the connection was closed within an answer".into()),
            _ => Ok(()),
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
