//! OpenAI's Responses API over the same runs as chat completions: requests read, replies written as items, conversations kept.

pub mod encoder;
mod events;
mod input;
mod items;
pub mod kept;
pub mod request;
