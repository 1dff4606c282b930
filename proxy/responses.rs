//! OpenAI's Responses API over the same runs as chat completions: requests read, replies written as items, conversations kept.

/// How the ids of items begin that are calls of the gateway's own tools.
pub const ITEM_OF_OURS: &str = "mcp_";

pub mod encoder;
mod events;
mod input;
mod items;
pub mod kept;
pub mod request;
