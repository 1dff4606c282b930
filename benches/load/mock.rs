//! The mock upstream: canned answers of an OpenAI-compatible server, made as cheaply as a server can.

use std::io::Write;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Result;
use crate::process::end_with_parent;

/// How many pieces of text a stream has.
const N_CHUNKS: usize = 100;
/// The gap between two of them, so that each is read and written by itself, as a model's are.
const GAP: Duration = Duration::from_millis(1);

/// Serves on a free port, whose address is the first line on stdout, until the parent ends.
pub fn serve() -> Result<()> {
    end_with_parent();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
        let canned: &'static Canned = Box::leak(Box::new(Canned::new()));
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            connections.spawn(answer_all(stream, canned));
            // A connection that broke is the other side's to report; here it only leaves the set.
            while connections.try_join_next().is_some() {}
        }
    })
}

/// Every answer, ready to send.
struct Canned {
    whole: Vec<u8>,
    models: Vec<u8>,
    tool: Vec<u8>,
    missing: Vec<u8>,
    stream_head: Vec<u8>,
    chunks: Vec<Vec<u8>>,
    /// The last chunk of a stream, `[DONE]`, and the end of the body.
    end: Vec<u8>,
    /// A whole stream that asks for the tool.
    asks: Vec<u8>,
    /// A whole stream that answers.
    answers: Vec<u8>,
}

impl Canned {
    fn new() -> Self {
        let frame = |choices: &str, usage: &str| {
            let base = r#""id":"chatcmpl-mock","object":"chat.completion.chunk","created":1767225600,"model":"mock-model""#;
            let event = format!("data: {{{base},\"choices\":{choices}{usage}}}\n\n");
            format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
        };
        let delta =
            |delta: &str, finish: &str| frame(&format!(r#"[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]"#), "");
        let first = delta(r#"{"role":"assistant","content":""}"#, "null");
        let end = |finish: &str| {
            let usage = r#","usage":{"prompt_tokens":200,"completion_tokens":100,"total_tokens":300}"#;
            [delta("{}", finish), frame("[]", usage), b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n".to_vec()].concat()
        };
        let stream_head =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let word = |i: usize| delta(&format!(r#"{{"content":"word{i} "}}"#), "null");
        let chunks: Vec<Vec<u8>> = std::iter::once(first.clone()).chain((1..N_CHUNKS).map(word)).collect();
        let call = r#"{"tool_calls":[{"index":0,"id":"call_mock","type":"function","function":{"name":"lookup","arguments":""}}]}"#;
        let arguments = r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"query\":\"moon\"}"}}]}"#;
        let asks = [stream_head.clone(), first.clone(), delta(call, "null"), delta(arguments, "null"), end("\"tool_calls\"")].concat();
        let answers = [stream_head.clone(), first, (1..20).flat_map(word).collect(), end("\"stop\"")].concat();
        let text = "The moon is made of rock, and we know because people went there and brought some of it home. ".repeat(4);
        Canned {
            whole: json(&format!(
                r#"{{"id":"chatcmpl-mock","object":"chat.completion","created":1767225600,"model":"mock-model","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":200,"completion_tokens":100,"total_tokens":300}}}}"#
            )),
            models: json(r#"{"object":"list","data":[{"id":"mock-model","object":"model","created":1767225600,"owned_by":"bench"}]}"#),
            tool: json(r#"{"fact":"the moon is made of rock"}"#),
            missing: b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
            stream_head,
            chunks,
            end: end("\"stop\""),
            asks,
            answers,
        }
    }
}

fn json(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Answers the requests of one connection until it closes.
async fn answer_all(mut stream: TcpStream, canned: &Canned) -> std::io::Result<()> {
    let mut bytes = BytesMut::with_capacity(16 << 10);
    loop {
        let (head, length) = loop {
            if let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break (head + 4, content_length(&bytes[..head])?);
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        while bytes.len() < head + length {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
        let (head, body) = (&bytes[..head], &bytes[head..head + length]);
        let has = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
        let answer = if head.starts_with(b"POST /v1/chat/completions ") {
            match (has(b"\"stream\":true"), has(b"\"role\":\"tool\""), has(b"\"tools\":[{")) {
                (false, ..) => &canned.whole,
                (true, true, _) => &canned.answers,
                (true, false, true) => &canned.asks,
                (true, false, false) => {
                    send_chunks(&mut stream, canned).await?;
                    &canned.end
                }
            }
        } else if head.starts_with(b"GET /tool?") {
            &canned.tool
        } else if head.starts_with(b"GET /v1/models ") {
            &canned.models
        } else {
            &canned.missing
        };
        stream.write_all(answer).await?;
        let request = head.len() + body.len();
        bytes.advance(request);
    }
}

async fn send_chunks(stream: &mut TcpStream, canned: &Canned) -> std::io::Result<()> {
    stream.write_all(&canned.stream_head).await?;
    for chunk in &canned.chunks {
        stream.write_all(chunk).await?;
        tokio::time::sleep(GAP).await;
    }
    Ok(())
}

/// The length of the body behind `head`; without one there is no body.
fn content_length(head: &[u8]) -> std::io::Result<usize> {
    let head = std::str::from_utf8(head).map_err(std::io::Error::other)?;
    for (name, value) in head.lines().filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            return value.trim().parse().map_err(std::io::Error::other);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(std::io::Error::other("the mock reads no chunked requests"));
        }
    }
    Ok(0)
}
