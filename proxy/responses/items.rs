//! The items of a response as they grow out of a run's pieces, each step told as the events that the Responses API has for it.

use serde_json::{Value, json};
use uuid::Uuid;

use super::ITEM_OF_OURS;
use super::events::{Events, OPENING};
use crate::chat::progress::Doing;
use crate::chat::{CallDelta, Delta, ToolCall, ToolResult};

/// The output of one response.
#[derive(Debug)]
pub(super) struct Items {
    pub(super) events: Events,
    /// Who runs the gateway's tools, as their items say.
    server: String,
    items: Vec<Value>,
    /// The item that is being said. Text, a refusal and reasoning are an item each, of one part.
    open: Option<Open>,
    /// The client's calls: their index in the reply, and where they stand.
    calls: Vec<(u32, usize)>,
    /// The gateway's calls that have not ended.
    working: Vec<(ToolCall, usize)>,
}

#[derive(Debug)]
struct Open {
    at: usize,
    id: String,
    part: Part,
    text: String,
    /// What a text refers to.
    annotations: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Text,
    Refusal,
    Reasoning,
}

impl Part {
    /// What its events are called.
    fn name(self) -> &'static str {
        match self {
            Part::Text => "output_text",
            Part::Refusal => "refusal",
            Part::Reasoning => "reasoning_text",
        }
    }

    /// The key of its whole text.
    fn key(self) -> &'static str {
        if self == Part::Refusal { "refusal" } else { "text" }
    }

    fn value(self, text: &str, annotations: &[Value]) -> Value {
        match self {
            Part::Text => json!({ "type": "output_text", "text": text, "annotations": annotations, "logprobs": [] }),
            Part::Refusal => json!({ "type": "refusal", "refusal": text }),
            Part::Reasoning => json!({ "type": "reasoning_text", "text": text }),
        }
    }

    fn item(self, id: &str, content: Value, status: &str) -> Value {
        match self {
            Part::Reasoning => json!({ "id": id, "type": "reasoning", "summary": [], "content": content, "status": status }),
            Part::Text | Part::Refusal => {
                json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content })
            }
        }
    }
}

impl Open {
    fn value(&self) -> Value {
        self.part.value(&self.text, &self.annotations)
    }

    fn item(&self, status: &str) -> Value {
        self.part.item(&self.id, json!([self.value()]), status)
    }

    /// Where its events belong, with what one of them says.
    fn fields(&self, key: &str, value: Value) -> Value {
        json!({ "item_id": self.id, "output_index": self.at, "content_index": 0, key: value })
    }
}

impl Items {
    pub(super) fn new(server: &str, streamed: bool) -> Items {
        Items {
            events: Events::new(streamed, OPENING.len()),
            server: server.to_owned(),
            items: Vec::new(),
            open: None,
            calls: Vec::new(),
            working: Vec::new(),
        }
    }

    /// A piece of the reply.
    pub(super) fn push(&mut self, piece: &Delta) {
        for (part, text) in [(Part::Reasoning, &piece.reasoning), (Part::Text, &piece.content), (Part::Refusal, &piece.refusal)] {
            if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
                self.say(part, text);
            }
        }
        for annotation in piece.rest.get("annotations").and_then(Value::as_array).into_iter().flatten() {
            self.annotate(annotation);
        }
        piece.calls.iter().for_each(|call| self.call(call));
    }

    /// The item that a part belongs to: the one that is being said, or a new one. It is to be put back.
    fn opened(&mut self, part: Part) -> Open {
        match self.open.take() {
            Some(open) if open.part == part => open,
            other => {
                self.open = other;
                self.begin(part)
            }
        }
    }

    /// The text refers to something. Chats have what is said of it a level deeper.
    fn annotate(&mut self, annotation: &Value) {
        let mut annotation = annotation.clone();
        if let Some(Value::Object(fields)) = annotation.get_mut("url_citation").map(Value::take)
            && let Some(whole) = annotation.as_object_mut()
        {
            whole.shift_remove("url_citation");
            whole.extend(fields);
        }
        let mut open = self.opened(Part::Text);
        let mut fields = open.fields("annotation", annotation.clone());
        fields["annotation_index"] = open.annotations.len().into();
        self.events.send("response.output_text.annotation.added", fields);
        open.annotations.push(annotation);
        self.open = Some(open);
    }

    fn say(&mut self, part: Part, text: &str) {
        let mut open = self.opened(part);
        open.text.push_str(text);
        let mut fields = open.fields("delta", text.into());
        if part == Part::Text {
            fields["logprobs"] = json!([]);
        }
        self.events.send(&format!("response.{}.delta", part.name()), fields);
        self.open = Some(open);
    }

    fn begin(&mut self, part: Part) -> Open {
        self.close("completed");
        let id = mint(if part == Part::Reasoning { "rs" } else { "msg" });
        let at = self.add(part.item(&id, json!([]), "in_progress"));
        let open = Open { at, id, part, text: String::new(), annotations: Vec::new() };
        self.events.send("response.content_part.added", open.fields("part", open.value()));
        open
    }

    /// The text that is being said is complete.
    fn close(&mut self, status: &str) {
        let Some(open) = self.open.take() else { return };
        let mut fields = open.fields(open.part.key(), open.text.as_str().into());
        if open.part == Part::Text {
            fields["logprobs"] = json!([]);
        }
        self.events.send(&format!("response.{}.done", open.part.name()), fields);
        self.events.send("response.content_part.done", open.fields("part", open.value()));
        self.items[open.at] = open.item(status);
        self.done(open.at);
    }

    /// A piece of a call that the client is to execute.
    fn call(&mut self, piece: &CallDelta) {
        let found = self.calls.iter().find(|(index, _)| *index == piece.index).map(|(_, at)| *at);
        let at = found.unwrap_or_else(|| {
            self.close("completed");
            let at = self.add(json!({
                "id": mint("fc"), "type": "function_call", "status": "in_progress", "arguments": "",
                "call_id": piece.id.as_deref().unwrap_or_default(), "name": piece.name.as_deref().unwrap_or_default(),
            }));
            self.calls.push((piece.index, at));
            at
        });
        if piece.arguments.is_empty() {
            return;
        }
        let item = &mut self.items[at];
        if let Value::String(arguments) = &mut item["arguments"] {
            arguments.push_str(&piece.arguments);
        }
        let fields = json!({ "item_id": item["id"], "output_index": at, "delta": piece.arguments });
        self.events.send("response.function_call_arguments.delta", fields);
    }

    /// What a tool of the gateway's does.
    pub(super) fn tool(&mut self, doing: &Doing) {
        match doing {
            Doing::Begins(call) => self.tool_begins(call),
            Doing::Ended(call, result) => self.tool_ended(call, result),
            // There is no item for it.
            Doing::Waits(..) | Doing::Served(_) | Doing::Loads(..) | Doing::Loaded(_) => {}
        }
    }

    fn tool_begins(&mut self, call: &ToolCall) {
        self.close("completed");
        let id = format!("{ITEM_OF_OURS}{}", Uuid::new_v4().simple());
        let at = self.add(json!({
            "id": id, "type": "mcp_call", "status": "in_progress", "approval_request_id": null, "arguments": "", "error": null,
            "name": call.name, "output": null, "server_label": self.server,
        }));
        self.items[at]["arguments"] = call.arguments.as_str().into();
        self.working.push((call.clone(), at));
        let fields = |key: &str| json!({ "item_id": id, "output_index": at, key: call.arguments });
        self.events.send("response.mcp_call.in_progress", json!({ "item_id": id, "output_index": at }));
        self.events.send("response.mcp_call_arguments.delta", fields("delta"));
        self.events.send("response.mcp_call_arguments.done", fields("arguments"));
    }

    fn tool_ended(&mut self, call: &ToolCall, result: &ToolResult) {
        // Its arguments may be written in another way by now.
        let Some(position) = self.working.iter().position(|(begun, _)| begun.id == call.id && begun.name == call.name) else { return };
        let (_, at) = self.working.remove(position);
        let item = &mut self.items[at];
        let status = if result.is_error { "failed" } else { "completed" };
        item["status"] = status.into();
        if result.is_error {
            let content = json!([{ "type": "text", "text": result.content }]);
            item["error"] = json!({ "type": "mcp_tool_execution_error", "content": content });
        } else {
            item["output"] = result.content.as_str().into();
        }
        let fields = json!({ "item_id": item["id"], "output_index": at });
        self.events.send(&format!("response.mcp_call.{status}"), fields);
        self.done(at);
    }

    /// Nothing more comes. A reply that says nothing is an empty message.
    pub(super) fn finish(&mut self, status: &str) {
        let speaks = self.items.iter().any(|item| item["type"] == "message" || item["type"] == "function_call");
        if !speaks {
            self.open = Some(self.begin(Part::Text));
        }
        self.close(status);
        // Code may give up a tool of its own.
        for (_, at) in std::mem::take(&mut self.working) {
            self.items[at]["status"] = "incomplete".into();
            self.done(at);
        }
        for (_, at) in std::mem::take(&mut self.calls) {
            let item = &mut self.items[at];
            item["status"] = status.into();
            let fields = json!({ "item_id": item["id"], "output_index": at, "name": item["name"], "arguments": item["arguments"] });
            self.events.send("response.function_call_arguments.done", fields);
            self.done(at);
        }
    }

    /// The items as they are; one that was not finished says so.
    pub(super) fn list(&self) -> Vec<Value> {
        let mut items = self.items.clone();
        if let Some(open) = &self.open {
            items[open.at] = open.item("in_progress");
        }
        for item in items.iter_mut().filter(|item| item["status"] == "in_progress") {
            item["status"] = "incomplete".into();
        }
        items
    }

    fn add(&mut self, item: Value) -> usize {
        let at = self.items.len();
        self.events.send("response.output_item.added", json!({ "output_index": at, "item": item }));
        self.items.push(item);
        at
    }

    fn done(&mut self, at: usize) {
        self.events.send("response.output_item.done", json!({ "output_index": at, "item": self.items[at] }));
    }
}

fn mint(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &str) -> ToolCall {
        ToolCall { id: "c".into(), name: "f".into(), arguments: arguments.into() }
    }

    fn names(items: &mut Items) -> Vec<String> {
        let bytes = String::from_utf8(items.events.take()).unwrap();
        bytes.lines().filter_map(|line| line.strip_prefix("event: response.")).map(str::to_owned).collect()
    }

    #[test]
    fn a_call_whose_arguments_were_rewritten_ends() {
        let mut items = Items::new("A", true);
        items.tool(&Doing::Begins(call(r#"{"a": 1}"#)));
        items.tool(&Doing::Ended(call(r#"{"a":1}"#), ToolResult::ok("x")));
        items.tool(&Doing::Ended(call("{}"), ToolResult::ok("unknown")));
        let list = items.list();
        assert_eq!((list.len(), &list[0]["arguments"], &list[0]["output"]), (1, &json!(r#"{"a": 1}"#), &json!("x")));
        assert_eq!(names(&mut items).last().unwrap(), "output_item.done");
    }

    #[test]
    fn a_call_that_never_ends_is_incomplete() {
        let mut items = Items::new("A", true);
        items.tool(&Doing::Begins(call("{}")));
        items.push(&Delta::text("done"));
        items.finish("completed");
        assert_eq!((&items.list()[0]["status"], &items.list()[1]["status"]), (&json!("incomplete"), &json!("completed")));
        let n_done = names(&mut items).iter().filter(|name| *name == "output_item.done").count();
        assert_eq!(n_done, 2);
    }

    #[test]
    fn calls_that_interleave_keep_apart() {
        let mut items = Items::new("A", false);
        let piece = |index: u32, id: Option<&str>, arguments: &str| Delta {
            calls: vec![CallDelta { index, id: id.map(Into::into), name: id.map(|_| "f".into()), arguments: arguments.into() }],
            ..Delta::default()
        };
        for delta in [piece(0, Some("a"), ""), piece(1, Some("b"), "{"), piece(0, None, "[]"), piece(1, None, "}")] {
            items.push(&delta);
        }
        items.finish("completed");
        let list = items.list();
        let said: Vec<(&str, &str)> =
            list.iter().map(|item| (item["call_id"].as_str().unwrap(), item["arguments"].as_str().unwrap())).collect();
        assert_eq!(said, [("a", "[]"), ("b", "{}")]);
        assert!(items.events.take().is_empty(), "a whole answer has no events");
    }
}
