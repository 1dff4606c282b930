//! A small HTTP server for tests: each request is answered by a closure, and all of them are remembered.
#![expect(clippy::disallowed_methods, reason = "a fake ends with its test's runtime")]

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// What the fake does with a request.
pub(crate) enum Reply {
    /// Status, headers, body.
    Full(u16, Vec<(&'static str, String)>, String),
    /// A stream of events that ends when the sender is dropped. The receiver's drop tells that the client left.
    Events(mpsc::Receiver<String>),
    /// Nothing, until the client leaves, which is then told.
    Silence(Arc<Notify>),
    /// The connection is closed.
    Close,
}

/// A running fake. It ends with the test's runtime.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    seen: watch::Sender<Vec<Request>>,
}

impl Fake {
    pub(crate) async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Fake {
        Fake::start_at("127.0.0.1:0", answer).await
    }

    pub(crate) async fn start_at(address: &str, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, _) = watch::channel(Vec::new());
        let (log, answer) = (seen.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answer) = (log.clone(), answer.clone());
                tokio::spawn(async move { serve(stream, &log, &*answer).await });
            }
        });
        Fake { address, seen }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.borrow().clone()
    }

    /// Returns the first request of that kind, when it has come.
    pub(crate) async fn wait_for(&self, wanted: impl Fn(&Request) -> bool) -> Request {
        let mut seen = self.seen.subscribe();
        let seen = seen.wait_for(|seen| seen.iter().any(&wanted)).await.unwrap();
        seen.iter().find(|request| wanted(request)).unwrap().clone()
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl Reply {
    pub(crate) fn json(body: impl ToString) -> Reply {
        Reply::Full(200, vec![("content-type", "application/json".into())], body.to_string())
    }

    pub(crate) fn text(status: u16, body: &str) -> Reply {
        Reply::Full(status, vec![("content-type", "text/plain".into())], body.into())
    }

    pub(crate) fn redirect(status: u16, to: &str) -> Reply {
        Reply::Full(status, vec![("location", to.into())], String::new())
    }
}

async fn serve(stream: TcpStream, log: &watch::Sender<Vec<Request>>, answer: &(dyn Fn(&Request) -> Reply + Send + Sync)) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let Some(request) = read_request(&mut read).await else { return };
    log.send_modify(|seen| seen.push(request.clone()));
    match answer(&request) {
        Reply::Full(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
            headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
            let _ = write.write_all(format!("{head}\r\n{body}").as_bytes()).await;
        }
        Reply::Events(mut events) => {
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n";
            let _ = write.write_all(head.as_bytes()).await;
            loop {
                tokio::select! {
                    event = events.recv() => match event {
                        Some(event) => { let _ = write.write_all(event.as_bytes()).await; }
                        None => return,
                    },
                    _ = read.read_u8() => return,
                }
            }
        }
        Reply::Silence(left) => {
            let _ = read.read_u8().await;
            left.notify_one();
        }
        Reply::Close => {}
    }
}

async fn read_request(read: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Request> {
    let mut line = String::new();
    read.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let mut request = Request { method: words.next()?.into(), target: words.next()?.into(), ..Request::default() };
    loop {
        let mut line = String::new();
        read.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = request.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    read.read_exact(&mut body).await.ok()?;
    request.body = String::from_utf8(body).ok()?;
    Some(request)
}
