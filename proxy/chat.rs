//! The message types everyone speaks, as OpenAI's chat completions have them: pure data, no I/O, unknown fields kept.

pub mod completion;
pub mod encoder;
pub mod fold;
pub mod incoming;
pub mod markup;
pub mod outgoing;
pub mod peek;
pub mod progress;
pub mod request;
pub mod sse;
pub mod task;
pub mod wire;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A JSON object whose keys keep their order.
pub type Object = Map<String, Value>;

/// One message of a conversation, kept as the client wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(pub Object);

impl Message {
    /// A message with `role` and plain text.
    pub fn text(role: &str, content: impl Into<String>) -> Self {
        let mut fields = Object::new();
        fields.insert("role".into(), role.into());
        fields.insert("content".into(), Value::String(content.into()));
        Message(fields)
    }

    /// The model's turn that asked for `calls`, with the text that came before them.
    pub fn asking(content: &str, calls: &[ToolCall]) -> Self {
        let mut message = Message::text("assistant", content);
        let calls = calls.iter().map(ToolCall::to_value).collect();
        message.0.insert("tool_calls".into(), Value::Array(calls));
        message
    }

    /// The answer to the call with `id`.
    pub fn tool(id: &str, content: impl Into<String>) -> Self {
        let mut message = Message::text("tool", content);
        message.0.insert("tool_call_id".into(), id.into());
        message
    }

    /// The text: the content, or its parts of text put together.
    pub fn words(&self) -> String {
        match self.0.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
            _ => String::new(),
        }
    }

    /// `system`, `user`, `assistant`, `tool`, ... or empty when the message has none.
    pub fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }
}

/// The name in a tool's definition; tools that are no functions have none.
pub fn tool_name(definition: &Value) -> Option<&str> {
    definition.pointer("/function/name")?.as_str()
}

/// What goes to the model this turn. A `pre_prompt` hook may change all of it, for this call only.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prompt {
    /// The model's name at the upstream.
    pub model: String,
    /// The conversation so far, instructions first.
    pub messages: Vec<Message>,
    /// Tool definitions in OpenAI's form (`{"type": "function", "function": {...}}`).
    pub tools: Vec<Value>,
    /// Every other field of the request (`temperature`, `tool_choice`, unknown ones), forwarded as they came.
    pub rest: Object,
}

/// The model asks for a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolCall {
    /// Pairs the call with its result. Never empty: a missing one is minted.
    pub id: String,
    /// The tool's name as the model wrote it.
    pub name: String,
    /// A string of JSON, as the model wrote it; perhaps not valid.
    pub arguments: String,
}

impl ToolCall {
    /// The call in OpenAI's form.
    pub fn to_value(&self) -> Value {
        serde_json::json!({
            "id": self.id, "type": "function",
            "function": { "name": self.name, "arguments": self.arguments },
        })
    }
}

/// What the model reads after its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// Text for the model.
    pub content: String,
    /// The tool failed; the model reads why and may correct itself.
    pub is_error: bool,
}

impl ToolResult {
    /// A tool's success.
    pub fn ok(content: impl Into<String>) -> Self {
        ToolResult { content: content.into(), is_error: false }
    }

    /// A tool's failure, in words for the model.
    pub fn error(content: impl Into<String>) -> Self {
        ToolResult { content: content.into(), is_error: true }
    }
}

/// Takes out what upstreams refuse in a request without tools.
pub fn forget_tools(rest: &mut Object) {
    rest.shift_remove("tool_choice");
    rest.shift_remove("parallel_tool_calls");
}

/// A piece of a reply.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Delta {
    /// Which choice (`n > 1`) this belongs to.
    pub choice: u32,
    /// A piece of the text.
    pub content: Option<String>,
    /// A piece of the model's reasoning, of whatever spelling.
    pub reasoning: Option<String>,
    /// A piece of a refusal.
    pub refusal: Option<String>,
    /// Pieces of tool calls.
    pub calls: Vec<CallDelta>,
    /// Why the choice ended.
    pub finish: Option<String>,
    /// Log probabilities of this piece.
    pub logprobs: Option<Value>,
    /// Other keys of the delta (`annotations`, `images`, ...), forwarded as they came.
    pub rest: Object,
}

impl Delta {
    /// A piece of text of the first choice.
    pub fn text(content: impl Into<String>) -> Self {
        Delta { content: Some(content.into()), ..Delta::default() }
    }
}

/// A piece of a tool call: the first one has `id` and `name`, the others more of `arguments`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallDelta {
    /// Which call of the reply this belongs to.
    pub index: u32,
    /// The id, in the first piece.
    pub id: Option<String>,
    /// The name, in the first piece.
    pub name: Option<String>,
    /// A piece of the arguments' JSON.
    pub arguments: String,
}

/// Tokens used, as upstreams report them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens of the reply.
    #[serde(default)]
    pub completion_tokens: u64,
    /// Both together.
    #[serde(default)]
    pub total_tokens: u64,
    /// Details that some upstreams add (`prompt_tokens_details`, ...): numbers are summed over hops.
    #[serde(flatten)]
    pub details: Object,
}

/// A reply as a whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// The choices in the order of their index; one unless the client asked for more.
    pub choices: Vec<Choice>,
    /// Tokens used.
    pub usage: Usage,
}

/// One of the replies that a model offers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Choice {
    /// Its number.
    pub index: u32,
    /// The text.
    pub content: Option<String>,
    /// The model's reasoning.
    pub reasoning: Option<String>,
    /// The model's refusal.
    pub refusal: Option<String>,
    /// The tool calls with their index in the stream.
    pub calls: Vec<(u32, ToolCall)>,
    /// Why it ended.
    pub finish: Option<String>,
    /// Log probabilities.
    pub logprobs: Option<Value>,
    /// Other keys of the message.
    pub rest: Object,
}
