//! WebSockets pass to the default upstream: LM Studio's own SDK speaks them.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::support::{Exchange, Gateway, ScriptedModel, Step, filler, within};

/// An upstream that shakes hands and says everything back.
fn echo() -> Step {
    Step::at("GET", "/llm?token=1", |mut e: Exchange| async move {
        let key = derive_accept_key(e.request.header("sec-websocket-key").unwrap().as_bytes());
        let head =
            format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {key}\r\n\r\n");
        e.raw(head.as_bytes()).await.unwrap();
        let mut socket = WebSocketStream::from_raw_socket(e.into_stream(), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    })
}

/// Text, bytes and a large message go there and back; closing closes.
#[tokio::test]
async fn a_websocket_passes() {
    let model = ScriptedModel::start([echo()]).await;
    let gateway = Gateway::start(r#"upstreams: { lm: { base_url: "${LM}" } }"#, [("LM", &model.url())]).await;
    let tcp = TcpStream::connect(gateway.address).await.unwrap();
    let address = format!("ws://{}/llm?token=1", gateway.address);
    let (mut socket, answer) = within(5, "the handshake", tokio_tungstenite::client_async(address, tcp)).await.unwrap();
    assert_eq!(answer.status(), 101);
    for message in [Message::text("hello"), Message::binary(vec![0, 1, 2, 255]), Message::text(filler(300_000))] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(within(5, "the echo", socket.next()).await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = within(5, "the end", socket.next()).await {}
}

/// A WebSocket that the upstream refuses is refused to the client.
#[tokio::test]
async fn a_refused_websocket_is_refused() {
    let model = ScriptedModel::start([Step::at("GET", "/llm", |e| async move { e.json(403, &json!({ "no": true })).await })]).await;
    let gateway = Gateway::start(r#"upstreams: { lm: { base_url: "${LM}" } }"#, [("LM", &model.url())]).await;
    let tcp = TcpStream::connect(gateway.address).await.unwrap();
    let refused = within(5, "the handshake", tokio_tungstenite::client_async(format!("ws://{}/llm", gateway.address), tcp)).await;
    assert!(refused.unwrap_err().to_string().contains("403"));
}
