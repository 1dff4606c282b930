//! How a run executes the tool calls of one turn: together or in turn, bounded in number, time and size.

use futures_util::future::try_join_all;
use serde_json::Value;

use super::run::aborted;
use super::scene::Scene;
use super::voice::Voice;
use crate::chat::progress::Doing;
use crate::chat::{Message, Object, ToolCall, ToolResult};
use crate::error::Result;
use crate::hooks::{CallView, Fits, HookRun, Point, ResultView, Verdict};
use crate::metrics::METRICS;

/// What the model reads when the run has no tool call left.
pub(super) const NO_MORE_CALLS: &str = "not executed: the limit of tool calls is reached";

/// The tool calls of one run, with the hooks around them.
#[derive(Clone, Copy)]
pub(super) struct ToolCalls<'a> {
    pub(super) scene: &'a Scene,
    pub(super) hooks: &'a HookRun,
    pub(super) voice: &'a Voice,
}

impl ToolCalls<'_> {
    /// One `tool` message for each call, in the order asked. A tool's failure is a result; only a hook's is an error of the run.
    pub(super) async fn execute(self, calls: &[ToolCall]) -> Result<Vec<Message>> {
        let policies = &self.scene.agent.policies;
        let left = policies.max_tool_calls.saturating_sub(self.scene.ledger.totals().tool_calls) as usize;
        let (now, never) = calls.split_at(left.min(calls.len()));
        self.scene.ledger.record(|totals| totals.tool_calls += now.len() as u32);
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
        messages.extend(never.iter().map(|call| Message::tool(&call.id, NO_MORE_CALLS)));
        Ok(messages)
    }

    /// Executes one call, hooks included, and tells that it does.
    pub(super) async fn execute_one(self, call: &ToolCall) -> Result<ToolResult> {
        self.voice.tell(|| Doing::Begins(call.clone())).await;
        let result = self.attempt(call).await?;
        self.voice.tell(|| Doing::Ended(call.clone(), result.clone())).await;
        Ok(result)
    }

    async fn attempt(self, call: &ToolCall) -> Result<ToolResult> {
        let Some(tool) = self.scene.offer.find(&call.name) else {
            METRICS.tool_call("unknown", false);
            return Ok(ToolResult::error(format!("unknown tool `{}`; there are: {}", call.name, self.scene.offer.names())));
        };
        let arguments = match tool.parse(&call.arguments) {
            Ok(arguments) => arguments,
            Err(why) => return Ok(ToolResult::error(format!("invalid arguments: {why}"))),
        };
        let arguments = match self.consult(&tool.name, arguments, &|arguments| tool.validate(arguments)).await? {
            Consulted::Call(arguments) => arguments,
            Consulted::Result(result) => {
                METRICS.tool_call(tool.provider, !result.is_error);
                return Ok(self.bounded(result));
            }
        };
        if !self.scene.agent.hooks.has(Point::OnToolResult) {
            return Ok(self.bounded(self.scene.call(tool, arguments).await));
        }
        let result = self.scene.call(tool, arguments.clone()).await;
        self.review(&tool.name, arguments, result).await
    }

    /// Asks the `on_tool_call` hooks. `fits` says what is wrong with arguments that one of them changed.
    pub(super) async fn consult(self, name: &str, arguments: Object, fits: &Fits<'_>) -> Result<Consulted> {
        if !self.scene.agent.hooks.has(Point::OnToolCall) {
            return Ok(Consulted::Call(arguments));
        }
        let mut view = CallView { name: name.to_owned(), arguments };
        match self.hooks.on_tool_call(&mut view, fits).await? {
            Verdict::Continue => Ok(Consulted::Call(view.arguments)),
            Verdict::Answer(Value::String(text)) => Ok(Consulted::Result(ToolResult::ok(text))),
            Verdict::Answer(value) => Ok(Consulted::Result(ToolResult::ok(value.to_string()))),
            Verdict::Reject(message) => Ok(Consulted::Result(ToolResult::error(message))),
            Verdict::Abort(status, message) => Err(aborted(status, message)),
        }
    }

    /// Lets `on_tool_result` see what a tool returned, and change it. What it sees and what it makes are both cut to their size.
    pub(super) async fn review(self, name: &str, arguments: Object, result: ToolResult) -> Result<ToolResult> {
        let result = self.bounded(result);
        if !self.scene.agent.hooks.has(Point::OnToolResult) {
            return Ok(result);
        }
        let mut view = ResultView { name: name.to_owned(), arguments, content: result.content, is_error: result.is_error };
        let result = match self.hooks.on_tool_result(&mut view).await? {
            Verdict::Continue => ToolResult { content: view.content, is_error: view.is_error },
            Verdict::Answer(never) => match never {},
            Verdict::Reject(message) => ToolResult::error(message),
            Verdict::Abort(status, message) => return Err(aborted(status, message)),
        };
        Ok(self.bounded(result))
    }

    /// The result cut to the agent's `max_tool_result_bytes`; the model reads that it was.
    pub(super) fn bounded(self, mut result: ToolResult) -> ToolResult {
        let max = self.scene.agent.policies.max_tool_result_bytes;
        if result.content.len() > max {
            let total = result.content.len();
            result.content.truncate(result.content.floor_char_boundary(max));
            result.content.push_str(&format!("\n[cut off: {total} bytes in all]"));
        }
        result
    }
}

/// What the hooks before a call decided.
pub(super) enum Consulted {
    /// The tool is called, with these arguments.
    Call(Object),
    /// It is not; this is the result.
    Result(ToolResult),
}
