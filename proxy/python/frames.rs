//! What the gateway and a worker tell each other: frames of JSON behind four bytes of length, over one socket.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::codec::LengthDelimitedCodec;

use crate::chat::{Message, Object};

/// The largest frame, in bytes: a prompt with pictures fits, a runaway result does not.
const MAX_FRAME: usize = 64 << 20;

/// Frames as both sides cut them.
pub(super) fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().big_endian().length_field_length(4).max_frame_length(MAX_FRAME).new_codec()
}

/// To the worker.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Order<'a> {
    /// Import everything that is named here. The first frame, once; answered by `Loaded`.
    Load { agents: &'a [AgentTarget], tools: &'a [String] },
    /// Run an agent.
    Run {
        call: u64,
        #[serde(flatten)]
        run: &'a RunOrder,
    },
    /// Call a function.
    Call { call: u64, function: &'a str, arguments: &'a Object },
    /// A call is no longer wanted. It is still answered by `Ended`.
    Cancel { call: u64 },
    /// A piece of a model's answer: a chat completion's chunk as text.
    Chunk { ask: u64, data: &'a str },
    /// A model's answer is complete.
    Done { ask: u64 },
    /// A model's answer failed, before its first piece or after it.
    Failed { ask: u64, status: u16, error: &'a Value },
    /// What a tool, or the hooks around one, said.
    Answer {
        ask: u64,
        #[serde(flatten)]
        answer: &'a Answer,
    },
    /// Are you there?
    Ping { n: u64 },
}

/// An agent by its name and the code that makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentTarget {
    /// The name in the configuration.
    pub name: String,
    /// `module:attribute`.
    pub target: String,
}

/// What a run of a code-defined agent begins with.
#[derive(Debug, Clone, Serialize)]
pub struct RunOrder {
    /// The agent's name in the configuration.
    pub agent: String,
    /// The model that agents without one of their own ask for.
    pub model: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// How many model calls there may be.
    pub max_turns: u32,
    /// The gateway's tools: `name`, `description`, `parameters`.
    pub tools: Vec<Value>,
    /// A system message that goes before the code's own.
    pub instructions: Option<String>,
    /// Whether `AfterTool` is asked.
    pub review: bool,
    /// Whether the tools of one turn may run at the same time.
    pub parallel_tool_calls: bool,
    /// How long one of the code's own tools may take, in seconds.
    pub tool_timeout: f64,
    /// What the code can know of the run.
    pub context: Value,
}

/// The answer to an ask about a tool.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Go on with these arguments.
    Arguments {
        /// They fit the tool's schema if they did before.
        arguments: Object,
    },
    /// This is the result.
    Result {
        /// What the model reads.
        content: String,
        /// Whether it is a failure.
        is_error: bool,
    },
}

/// From the worker.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Report {
    Ready(About),
    Loaded(Loaded),
    Delta {
        call: u64,
        #[serde(flatten)]
        piece: Piece,
    },
    Ask {
        call: u64,
        ask: u64,
        #[serde(flatten)]
        what: What,
    },
    Forget {
        call: u64,
        ask: u64,
    },
    Ended {
        call: u64,
        result: Option<Object>,
        error: Option<Trouble>,
    },
    Stuck {
        call: u64,
    },
    Pong {
        tasks: i64,
    },
}

/// The interpreter as it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Python's version.
    pub python: String,
    /// The Agents SDK's version, where it is installed.
    pub sdk: Option<String>,
    /// Why the SDK cannot be imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk_error: Option<String>,
    /// The environment that packages are installed in.
    pub prefix: PathBuf,
}

/// What came of `Order::Load`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Loaded {
    /// For each agent why it cannot run.
    pub agents: HashMap<String, Option<Failure>>,
    /// For each function what it is, or why it cannot be called.
    pub tools: HashMap<String, ToolReport>,
    /// Every imported file below the root.
    pub files: Vec<PathBuf>,
}

/// A function as the model is told of it, or why it cannot be called.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum ToolReport {
    Failed { failure: Failure },
    Signature(Signature),
}

/// A function as the model is told of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Signature {
    /// Its own name.
    pub name: String,
    /// From its docstring.
    #[serde(default)]
    pub description: Option<String>,
    /// JSON Schema of its arguments, from its type hints.
    pub parameters: Value,
}

/// Why code cannot be used, and where it says so.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Failure {
    pub message: String,
    pub file: Option<String>,
    pub line: Option<u32>,
}

/// A piece of an agent's reply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Piece {
    /// Text.
    pub content: Option<String>,
    /// Reasoning.
    pub reasoning: Option<String>,
    /// A refusal in the model's own words.
    pub refusal: Option<String>,
}

/// What the code needs of the gateway.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A model: a chat completion's request.
    Model {
        /// The request's body.
        body: Object,
    },
    /// A tool of the gateway's.
    Tool {
        /// The tool's name.
        name: String,
        /// The arguments as the model wrote them.
        arguments: String,
        /// The call's id.
        id: String,
    },
    /// Whether a tool of the code's own may be called.
    BeforeTool {
        /// The tool's name.
        name: String,
        /// The arguments as the model wrote them.
        arguments: String,
        /// The call's id.
        id: String,
    },
    /// What becomes of the result of a tool of the code's own.
    AfterTool {
        /// The tool's name.
        name: String,
        /// The arguments that it was called with.
        arguments: Object,
        /// The call's id.
        id: String,
        /// What it returned.
        content: String,
        /// Whether that is a failure.
        is_error: bool,
    },
}

/// Why a call of the worker's failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Trouble {
    /// What went wrong.
    pub kind: TroubleKind,
    /// What the exception says, its type first.
    pub message: String,
    /// The file below the root that raised it.
    #[serde(default)]
    pub file: Option<String>,
    /// The line there.
    #[serde(default)]
    pub line: Option<u32>,
    /// The whole traceback.
    #[serde(default)]
    pub traceback: Option<String>,
}

/// Kinds of `Trouble`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// The code raised an exception.
    Exception,
    /// A guardrail refused the request or the reply.
    Guardrail,
    /// The run made more model calls than it may.
    MaxTurns,
    /// The result is nothing that JSON can hold.
    Output,
    /// The arguments do not fit the function.
    Arguments,
    /// The code cannot be imported, or is not what it should be.
    Load,
    /// It was cancelled.
    Cancelled,
    /// The model failed, and the code did not deal with it.
    Model,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        place(f, &self.message, self.file.as_deref(), self.line)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        place(f, &self.message, self.file.as_deref(), self.line)
    }
}

fn place(f: &mut std::fmt::Formatter<'_>, message: &str, file: Option<&str>, line: Option<u32>) -> std::fmt::Result {
    match (file, line) {
        (Some(file), Some(line)) => write!(f, "{file}:{line}: {message}"),
        (Some(file), None) => write!(f, "{file}: {message}"),
        _ => f.write_str(message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(value: Value) -> Report {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn orders_are_one_flat_object() {
        let answer = Answer::Result { content: "2".into(), is_error: false };
        let order = serde_json::to_value(Order::Answer { ask: 6, answer: &answer }).unwrap();
        assert_eq!(order, json!({ "type": "answer", "ask": 6, "content": "2", "is_error": false }));
        let call = Order::Call { call: 2, function: "m:f", arguments: &Object::new() };
        assert_eq!(serde_json::to_value(call).unwrap(), json!({ "type": "call", "call": 2, "function": "m:f", "arguments": {} }));
    }

    #[test]
    fn reports_are_read() {
        let loaded = report(json!({
            "type": "loaded",
            "agents": { "a": null, "b": { "message": "no", "file": "agents/b.py", "line": 3 } },
            "tools": { "m:f": { "name": "f", "description": "d", "parameters": {} }, "m:g": { "failure": { "message": "no", "file": null, "line": null } } },
            "files": ["/r/agents/b.py"],
        }));
        let Report::Loaded(loaded) = loaded else { panic!("{loaded:?}") };
        assert!(loaded.agents["a"].is_none());
        assert_eq!(loaded.agents["b"].as_ref().unwrap().to_string(), "agents/b.py:3: no");
        assert!(matches!(&loaded.tools["m:f"], ToolReport::Signature(signature) if signature.name == "f"));
        assert!(matches!(&loaded.tools["m:g"], ToolReport::Failed { failure } if failure.message == "no"));
        let ask = report(json!({ "type": "ask", "call": 1, "ask": 5, "what": "model", "body": { "model": "m" } }));
        assert!(matches!(ask, Report::Ask { call: 1, ask: 5, what: What::Model { .. } }));
        let ended =
            report(json!({ "type": "ended", "call": 1, "error": { "kind": "max_turns", "message": "m", "file": null, "line": null } }));
        assert!(matches!(ended, Report::Ended { error: Some(Trouble { kind: TroubleKind::MaxTurns, .. }), .. }));
    }
}
