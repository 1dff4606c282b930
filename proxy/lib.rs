//! moongate, the programmable agent gateway: it stands between any OpenAI-compatible client and any OpenAI-compatible server.
//! Plain models pass straight through; agents appear as models and run in here.
//!
//! # One request
//! ```text
//! gateway::request_filter    snapshot -> access.check -> body::read -> routes.find -> admit
//!   Target::Upstream         Pingora streams it: peer, authorize, put_body
//!   Target::Agent            opening.announce: hooks.on_request; answer::stream(session, events, agent.drive(run))
//!     run.ask_model(prompt)    hooks.pre_prompt -> around.ask -> pieces -> hooks.on_chunk -> events
//!     run.call_tools(turn)     hooks.on_tool_call -> scene.call -> hooks.on_tool_result; together, results in the order asked
//!     run.finish(reply)        hooks.post_response -> the end
//!     run.recover(error)       hooks.on_error, when the run failed
//! gateway::logging           the ledger settled, one record
//! ```
//!
//! # What holds everywhere
//! - A request sees one snapshot from its first phase to its last.
//! - Hooks and limits act inside `Run`'s verbs, so no kind of agent can go round them.
//! - One room knows each foreign thing: `gateway` and `downstream` Pingora's session, `hooks` Lua, `tools::mcp` MCP.
//! - Whole or streamed, chat or response: one loop drives the run, and an `Encoder` writes what it says in the client's protocol.
//! - Cancelling is dropping. What must happen however a run ends is in its ledger, settled in `gateway::logging`.
//! - A failing tool is a result that the model reads; a failing hook is an error of the run.
//! - Modules know those below them in this list, never those above.

pub mod access;
mod admin;
mod agent;
mod backoff;
pub mod chat;
pub mod cli;
pub mod config;
pub mod demo;
mod downstream;
pub mod error;
mod flight;
mod gateway;
pub mod hooks;
pub mod init;
pub mod limits;
pub mod logs;
mod metrics;
mod model;
mod program;
pub mod python;
mod responses;
mod route;
pub mod sandbox;
pub mod server;
mod sessions;
mod shared;
mod shelf;
pub mod snapshot;
mod store;
pub mod testing;
mod tls;
pub mod tools;
mod upstream;
