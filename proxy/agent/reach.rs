//! What the scripts of a run reach, and with whose rights: the answers to `std.http`, `std.tools`, `std.llm` and their like.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::scene::Scene;
use super::tool_calls::NO_MORE_CALLS;
use crate::chat::request::ChatRequest;
use crate::chat::{Message, Object, Reply, ToolCall, ToolResult, Usage};
use crate::hooks::{Reach, World};
use crate::metrics::METRICS;
use crate::tools::fetch;

#[async_trait]
impl World for Scene {
    async fn reach(&self, reach: Reach, request: Object) -> Result<Value, String> {
        if let Some(stand_in) = self.around.stand_in.as_ref().filter(|_| reach != Reach::Store) {
            return stand_in.reach(reach, request).await;
        }
        match reach {
            Reach::Http => fetch::fetch(&self.around.egress, request).await,
            Reach::Mcp => self.reach_mcp(request).await,
            Reach::Tools => self.reach_tool(request).await,
            Reach::Python => self.reach_python(request).await,
            Reach::Llm => self.reach_model(request).await,
            Reach::Agent => self.reach_agent(request).await,
            Reach::Store => self.around.store.operate(request),
        }
    }

    fn progress(&self) -> (u32, Usage) {
        let totals = self.ledger.totals();
        (totals.hops, totals.usage)
    }
}

impl Scene {
    async fn reach_mcp(&self, request: Object) -> Result<Value, String> {
        let (server, tool) = (text(&request, "server")?, text(&request, "tool")?);
        let arguments = object(&request, "arguments");
        let Some(found) = self.around.mcp_servers.get(server) else {
            let known: Vec<&str> = self.around.mcp_servers.keys().map(String::as_str).collect();
            return Err(format!("there is no MCP server `{server}`; the configuration has: {}", known.join(", ")));
        };
        let result = self.wait_for(found.call(tool, arguments)).await.unwrap_or_else(ToolResult::error);
        METRICS.tool_call("mcp", !result.is_error);
        outcome(result)
    }

    async fn reach_python(&self, request: Object) -> Result<Value, String> {
        let (function, arguments) = (text(&request, "function")?, object(&request, "arguments"));
        let called = self.wait_for(self.around.python.call(function, &arguments)).await.flatten();
        METRICS.tool_call("python", called.is_ok());
        called.map(|result| result.value)
    }

    async fn reach_tool(&self, request: Object) -> Result<Value, String> {
        if !request.contains_key("name") {
            let functions = self.offer.definitions().into_iter().filter_map(|mut definition| Some(definition.get_mut("function")?.take()));
            return Ok(functions.collect());
        }
        let name = text(&request, "name")?;
        let Some(tool) = self.offer.find(name).cloned() else {
            return Err(format!("the agent has no tool `{name}`; it has: {}", self.offer.names()));
        };
        let arguments = object(&request, "arguments");
        tool.validate(&arguments).map_err(|why| format!("invalid arguments: {why}"))?;
        if !self.take_tool_call() {
            return Err(NO_MORE_CALLS.into());
        }
        outcome(self.call(&tool, arguments).await)
    }

    async fn reach_model(&self, mut request: Object) -> Result<Value, String> {
        for ours in ["stream", "stream_options", "n"] {
            request.shift_remove(ours);
        }
        let model = request.entry("model").or_insert_with(|| "".into());
        if !model.is_string() {
            return Err("`model` is the name of a model".into());
        }
        let request = ChatRequest::of_fields(request).map_err(|error| error.message)?;
        Box::pin(self.ask(request)).await.map(reply).map_err(|error| error.chain())
    }

    async fn reach_agent(&self, mut request: Object) -> Result<Value, String> {
        let messages = request.shift_remove("messages").and_then(|messages| serde_json::from_value::<Vec<Message>>(messages).ok());
        let messages = messages.filter(|messages| !messages.is_empty()).ok_or("the input is a text or a list of messages")?;
        let name = text(&request, "name")?;
        Box::pin(self.run_agent(name, messages)).await.map(reply)
    }
}

/// A model's or agent's reply as scripts see it.
fn reply(reply: Reply) -> Value {
    let choice = reply.choices.into_iter().next().unwrap_or_default();
    let mut fields = Object::new();
    fields.insert("content".into(), choice.content.as_deref().unwrap_or_default().into());
    if let Some(reasoning) = choice.reasoning.as_deref() {
        fields.insert("reasoning".into(), reasoning.into());
    }
    if !choice.calls.is_empty() {
        fields.insert("tool_calls".into(), choice.calls().map(ToolCall::to_value).collect());
    }
    fields.insert("finish".into(), json!(choice.finish));
    fields.insert("usage".into(), json!(reply.usage));
    Value::Object(fields)
}

fn outcome(result: ToolResult) -> Result<Value, String> {
    if result.is_error { Err(result.content) } else { Ok(Value::String(result.content)) }
}

fn text<'a>(request: &'a Object, name: &str) -> Result<&'a str, String> {
    request.get(name).and_then(Value::as_str).ok_or_else(|| format!("`{name}` must be text"))
}

/// A table of arguments; an empty one is a list to Lua.
fn object(request: &Object, name: &str) -> Object {
    request.get(name).and_then(Value::as_object).cloned().unwrap_or_default()
}
