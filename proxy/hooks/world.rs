//! What scripts reach outside themselves, as the rest of the gateway offers it: one door, JSON in and out. No Lua in here.

use async_trait::async_trait;
use serde_json::Value;

use crate::chat::{Object, Usage};

/// Where a script's call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// `std.http`: `{ method, url, headers, body, timeout, max_bytes }`, answered by `{ status, headers, body, url }`.
    Http,
    /// `std.mcp`: `{ server, tool, arguments }`, answered by the tool's text.
    Mcp,
    /// `std.tools`: `{ name, arguments }`, answered by the tool's text; without a name by the list of the agent's tools.
    Tools,
    /// `std.python`: `{ function, arguments }`, answered by what the function returned.
    Python,
    /// `std.llm`: a chat request, answered by `{ content, reasoning, tool_calls, finish, usage }`.
    Llm,
    /// `std.agent`: `{ name, messages }`, answered like `std.llm`.
    Agent,
    /// `std.store`: `{ op, key, ... }`, answered by what the operation says.
    Store,
}

impl Reach {
    /// The module's name: `std.http`, ...
    pub fn module(self) -> &'static str {
        match self {
            Reach::Http => "std.http",
            Reach::Mcp => "std.mcp",
            Reach::Tools => "std.tools",
            Reach::Python => "std.python",
            Reach::Llm => "std.llm",
            Reach::Agent => "std.agent",
            Reach::Store => "std.store",
        }
    }
}

/// What the hooks of one run may reach, and with whose rights.
#[async_trait]
pub trait World: Send + Sync {
    /// Carries one call of a script out. `Err` is a sentence for the script's author; the script gets it as `nil, message`.
    /// Called on the request's own task; dropping the future cancels the call.
    async fn reach(&self, reach: Reach, request: Object) -> Result<Value, String>;

    /// Which model call the run is at, from 1, and the tokens that it has used so far.
    fn progress(&self) -> (u32, Usage) {
        Default::default()
    }
}

/// The world of a script that is only loaded: nothing is there.
pub struct Nowhere;

#[async_trait]
impl World for Nowhere {
    async fn reach(&self, reach: Reach, _: Object) -> Result<Value, String> {
        Err(format!("{} reaches nothing here", reach.module()))
    }
}
