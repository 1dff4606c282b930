//! The gateway through its front door: the real binary, real sockets, scripted servers behind it. One module a behaviour.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::large_futures,
    reason = "a test that cannot go on fails, and its fake servers are tasks of their own"
)]

mod support;

mod access;
mod admin;
mod agent;
mod bodies;
mod cancel;
mod cli;
mod clients;
mod fallback;
mod harness;
mod headers;
mod hooks;
mod keys;
mod limits;
mod lua_tests;
mod mcp_real;
mod misbehaviour;
mod models;
mod outage;
mod preload;
#[cfg(feature = "python")]
mod python;
mod queue;
mod readme;
mod redis;
mod refusals;
mod reload;
mod responses;
mod sessions;
mod sockets;
mod streams;
mod tidy;
mod webui;
mod without_python;
#[cfg(feature = "python")]
mod worker;
