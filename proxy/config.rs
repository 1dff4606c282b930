//! The configuration as written: documents, where each key stands, and what is wrong with it. Decisions are the snapshot's.

pub mod agent;
mod auth;
mod decode;
pub mod document;
mod duration;
mod expiry;
mod fault;
#[cfg(test)]
mod golden;
mod hint;
mod hook;
mod limits;
pub mod load;
mod mcp;
mod pending;
pub mod reference;
mod repair;
mod sandbox;
mod schema;
mod secret;
mod server;
#[cfg(test)]
mod shipped;
mod size;
mod state;
mod tool;
mod tree;
mod upstream;
mod validate;
mod variables;

pub use document::*;
pub use fault::{Fault, Origin, Place};
pub use load::{AgentEntry, Loaded, load};
pub use schema::{agent_schema, json_schema};
pub use validate::validate;
