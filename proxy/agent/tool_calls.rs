//! How a run executes the tool calls of one turn: together or in turn, bounded in number, time and size.

use futures_util::future::try_join_all;
use serde_json::Value;
use tokio::sync::mpsc;

use super::ledger::Ledger;
use super::run::{EVENTS, Run, Start, aborted};
use crate::chat::request::ChatRequest;
use crate::chat::{Message, Object, Reply, ToolCall, ToolResult};
use crate::error::{Error, Kind, Result};
use crate::hooks::{CallView, Point, Verdict};
use crate::metrics::METRICS;
use crate::tools::{self, Tool};

/// How deep agents may use agents.
const MAX_DEPTH: u32 = 4;

impl Run {
    /// One `tool` message for each call, in the order asked. A tool's failure is a result; only a hook's is an error of the run.
    pub(super) async fn execute(&self, calls: &[ToolCall]) -> Result<Vec<Message>> {
        let policies = &self.agent.policies;
        let left = policies.max_tool_calls.saturating_sub(self.ledger.totals().tool_calls) as usize;
        let (now, never) = calls.split_at(left.min(calls.len()));
        self.ledger.record(|totals| totals.tool_calls += now.len() as u32);
        // An error of a hook ends the run: tools that still work are dropped, and none begins.
        let results = if policies.parallel_tool_calls {
            try_join_all(now.iter().map(|call| self.execute_one(call))).await?
        } else {
            let mut results = Vec::with_capacity(now.len());
            for call in now {
                results.push(self.execute_one(call).await?);
            }
            results
        };
        let mut messages = Vec::with_capacity(calls.len());
        messages.extend(now.iter().zip(results).map(|(call, result)| Message::tool(&call.id, result.content)));
        let limit = "not executed: the limit of tool calls is reached";
        messages.extend(never.iter().map(|call| Message::tool(&call.id, limit)));
        Ok(messages)
    }

    async fn execute_one(&self, call: &ToolCall) -> Result<ToolResult> {
        let Some(tool) = self.offer.find(&call.name) else {
            METRICS.tool_call("unknown", false);
            let names: Vec<_> = self.offer.tools().iter().map(|tool| tool.name.as_str()).collect();
            return Ok(ToolResult::error(format!("unknown tool `{}`; there are: {}", call.name, names.join(", "))));
        };
        let arguments = match tool.parse(&call.arguments) {
            Ok(arguments) => arguments,
            Err(why) => return Ok(ToolResult::error(format!("invalid arguments: {why}"))),
        };
        let result = match self.consult(tool, arguments).await? {
            Consulted::Call(arguments) => {
                let limit = self.agent.policies.tool_timeout;
                let called = tokio::time::timeout(limit, self.call(tool, arguments)).await;
                called.unwrap_or_else(|_| ToolResult::error(format!("timed out after {} s", limit.as_secs_f64())))
            }
            Consulted::Result(result) => result,
        };
        METRICS.tool_call(tool.provider, !result.is_error);
        Ok(self.bounded(result))
    }

    /// Asks the `on_tool_call` hooks.
    async fn consult(&self, tool: &Tool, arguments: Object) -> Result<Consulted> {
        if !self.agent.hooks.has(Point::OnToolCall) {
            return Ok(Consulted::Call(arguments));
        }
        let mut view = CallView { name: tool.name.clone(), arguments };
        let before = view.clone();
        match self.hooks.on_tool_call(&mut view).await? {
            Verdict::Continue => {}
            Verdict::Answer(Value::String(text)) => return Ok(Consulted::Result(ToolResult::ok(text))),
            Verdict::Answer(value) => return Ok(Consulted::Result(ToolResult::ok(value.to_string()))),
            Verdict::Reject(message) => return Ok(Consulted::Result(ToolResult::error(message))),
            Verdict::Abort(status, message) => return Err(aborted(status, message)),
        }
        if view != before {
            // The model cannot correct what a script broke.
            tool.validate(&view.arguments).map_err(|why| {
                let error = Error::new(Kind::HookError, "A hook of this agent failed.");
                error.source(format!("a script changed the arguments of `{}` to invalid ones: {why}", tool.name))
            })?;
        }
        Ok(Consulted::Call(view.arguments))
    }

    async fn call(&self, tool: &Tool, arguments: Object) -> ToolResult {
        match &tool.kind {
            tools::Kind::Agent(name) => Box::pin(self.ask_agent(name, arguments)).await,
            _ => tool.call(arguments).await,
        }
    }

    /// Runs another agent on the `input` that the model wrote, with the rights of the caller. Its answer is the result.
    async fn ask_agent(&self, name: &str, arguments: Object) -> ToolResult {
        let Some(agent) = self.directory.get(name).filter(|agent| self.caller.may_use(&agent.name, agent.allow.as_deref())) else {
            return ToolResult::error(format!("the agent `{name}` is not available"));
        };
        if self.depth >= MAX_DEPTH {
            return ToolResult::error(format!("agents may use agents {MAX_DEPTH} deep, no deeper"));
        }
        if let Err(error) = agent.check_available() {
            return ToolResult::error(error.message);
        }
        let input = arguments.get("input").and_then(Value::as_str).unwrap_or_default();
        let request = ChatRequest { model: name.into(), messages: vec![Message::text("user", input)], ..ChatRequest::default() };
        let (events, mut pieces) = mpsc::channel(EVENTS);
        let start = Start {
            agent: agent.clone(),
            directory: self.directory.clone(),
            caller: self.caller.clone(),
            headers: self.headers.clone(),
            request,
            turns: self.turns.clone(),
            ledger: Ledger::within(&self.ledger),
            events,
        };
        let mut run = Run::at_depth(start, self.depth + 1);
        let folding = async {
            let mut reply = Reply::default();
            while let Some(delta) = pieces.recv().await {
                reply.push(&delta);
            }
            reply
        };
        let driving = async move { agent.drive(&mut run).await };
        let (outcome, reply) = tokio::join!(driving, folding);
        let text = reply.choices.into_iter().next().and_then(|choice| choice.content);
        match outcome {
            Ok(()) => ToolResult::ok(text.unwrap_or_default()),
            Err(error) => ToolResult::error(format!("the agent `{name}` failed: {}", error.message)),
        }
    }

    /// The result cut to the agent's `max_tool_result_bytes`; the model reads that it was.
    fn bounded(&self, mut result: ToolResult) -> ToolResult {
        let max = self.agent.policies.max_tool_result_bytes;
        if result.content.len() > max {
            let total = result.content.len();
            result.content.truncate(result.content.floor_char_boundary(max));
            result.content.push_str(&format!("\n[cut off: {total} bytes in all]"));
        }
        result
    }
}

enum Consulted {
    Call(Object),
    Result(ToolResult),
}
