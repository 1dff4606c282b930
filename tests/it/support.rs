//! What every test stands on: the gateway as a process, scripted servers behind it, a client that sees each byte.

pub mod client;
pub mod events;
pub mod exchange;
pub mod fake_mcp;
pub mod gateway;
pub mod process;
pub mod programs;
pub mod redis;
pub mod scripted_model;
pub mod tls;
pub mod wire;

pub use client::{Answer, Live, Request};
pub use exchange::Exchange;
pub use fake_mcp::FakeMcp;
pub use gateway::{Gateway, Setup};
pub use scripted_model::{ScriptedModel, Step};

use std::time::Duration;

/// Awaits `future`, and fails the test when that takes longer than `seconds`. What it was waiting for is named in the failure.
pub async fn within<F: Future>(seconds: u64, what: &str, future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(seconds), future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: still not there after {seconds} s"),
    }
}

/// `n` bytes that repeat only after a long while, so that a lost, doubled or moved piece never goes unseen.
pub fn filler(n: usize) -> String {
    let mut text = String::with_capacity(n + 16);
    let mut i = 0_u64;
    while text.len() < n {
        i += 1;
        text.push_str(&format!("{i:x}."));
    }
    text.truncate(n);
    text
}
