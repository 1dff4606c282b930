//! Folds the pieces of a reply into the whole: an answer that is not streamed is the streamed one folded up.

use serde_json::{Value, json};

use super::{CallDelta, Choice, Delta, Object, Reply, ToolCall, Usage};

impl Reply {
    /// Adds the next piece.
    pub fn push(&mut self, delta: &Delta) {
        let index = delta.choice;
        let position = self.choices.iter().position(|choice| choice.index >= index).unwrap_or(self.choices.len());
        if self.choices.get(position).is_none_or(|choice| choice.index != index) {
            self.choices.insert(position, Choice { index, ..Choice::default() });
        }
        self.choices[position].push(delta);
    }

    /// The first choice: the only one of an agent's reply.
    pub fn first(&self) -> Option<&Choice> {
        self.choices.first()
    }
}

impl Choice {
    fn push(&mut self, delta: &Delta) {
        append(&mut self.content, delta.content.as_deref());
        append(&mut self.reasoning, delta.reasoning.as_deref());
        append(&mut self.refusal, delta.refusal.as_deref());
        delta.calls.iter().for_each(|piece| self.push_call(piece));
        if delta.finish.is_some() {
            self.finish.clone_from(&delta.finish);
        }
        merge_logprobs(&mut self.logprobs, delta.logprobs.as_ref());
        merge(&mut self.rest, &delta.rest);
    }

    fn push_call(&mut self, piece: &CallDelta) {
        let position = self.calls.iter().position(|(index, _)| *index == piece.index).unwrap_or_else(|| {
            self.calls.push((piece.index, ToolCall::default()));
            self.calls.len() - 1
        });
        let call = &mut self.calls[position].1;
        if let Some(id) = &piece.id {
            call.id.clone_from(id);
        }
        if let Some(name) = &piece.name {
            call.name.clone_from(name);
        }
        call.arguments.push_str(&piece.arguments);
    }

    /// Whether the model said anything at all: text, reasoning, a refusal, a call, or something unknown.
    pub fn is_empty(&self) -> bool {
        let texts = [&self.content, &self.reasoning, &self.refusal];
        texts.iter().all(|text| text.as_deref().unwrap_or_default().is_empty()) && self.calls.is_empty() && self.rest.is_empty()
    }

    /// Why it ended. With calls it is for them, whatever the upstream says.
    pub fn finish_reason(&self) -> &str {
        match self.finish.as_deref().unwrap_or("stop") {
            "stop" | "function_call" if !self.calls.is_empty() => "tool_calls",
            reason => reason,
        }
    }

    /// The calls in the order in which the model asked for them.
    pub fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.calls.iter().map(|(_, call)| call)
    }

    /// The assistant's message in OpenAI's form.
    pub fn message(&self) -> Value {
        let content = match &self.content {
            None if self.calls.is_empty() && self.refusal.is_none() => Some(""),
            content => content.as_deref(),
        };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": self.refusal });
        if let Some(fields) = message.as_object_mut() {
            if let Some(reasoning) = &self.reasoning {
                fields.insert("reasoning_content".into(), Value::from(reasoning.as_str()));
            }
            if !self.calls.is_empty() {
                fields.insert("tool_calls".into(), self.calls().map(ToolCall::to_value).collect());
            }
            fields.extend(self.rest.clone());
        }
        message
    }
}

impl Usage {
    /// Adds another call's tokens; details that are numbers are summed, at any depth.
    pub fn add(&mut self, other: &Usage) {
        let total = other.total_tokens.max(other.prompt_tokens.saturating_add(other.completion_tokens));
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
        self.total_tokens = self.total_tokens.saturating_add(total);
        sum(&mut self.details, &other.details);
    }

    /// What the tokens cost, where a server or the configuration says so.
    pub fn cost(&self) -> Option<f64> {
        self.details.get("cost").and_then(Value::as_f64)
    }

    /// Says what they cost.
    pub fn set_cost(&mut self, cost: f64) {
        self.details.insert("cost".into(), cost.into());
    }
}

fn append(whole: &mut Option<String>, piece: Option<&str>) {
    if let Some(piece) = piece {
        whole.get_or_insert_default().push_str(piece);
    }
}

/// Lists grow, as the lists of streamed deltas do; everything else is what came last.
fn merge(whole: &mut Object, piece: &Object) {
    for (key, value) in piece {
        match (whole.get_mut(key), value) {
            (Some(Value::Array(items)), Value::Array(more)) => items.extend(more.iter().cloned()),
            (Some(place), value) => *place = value.clone(),
            (None, value) => {
                whole.insert(key.clone(), value.clone());
            }
        }
    }
}

fn merge_logprobs(whole: &mut Option<Value>, piece: Option<&Value>) {
    match (whole.as_mut(), piece) {
        (Some(Value::Object(whole)), Some(Value::Object(piece))) => merge(whole, piece),
        (None, Some(piece)) => *whole = Some(piece.clone()),
        _ => {}
    }
}

fn sum(whole: &mut Object, other: &Object) {
    for (key, value) in other {
        match (whole.get_mut(key), value) {
            (Some(Value::Object(whole)), Value::Object(other)) => sum(whole, other),
            (Some(place), value) => {
                if let (Some(a), Some(b)) = (place.as_u64(), value.as_u64()) {
                    *place = Value::from(a.saturating_add(b));
                } else if let (Some(a), Some(b)) = (place.as_f64(), value.as_f64()) {
                    *place = Value::from(a + b);
                }
            }
            (None, value) => {
                whole.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_text_calls_and_logprobs() {
        let mut reply = Reply::default();
        reply.push(&Delta { choice: 1, ..Delta::text("b") });
        reply.push(&Delta { logprobs: Some(json!({ "content": [1] })), ..Delta::text("Hel") });
        reply.push(&Delta { logprobs: Some(json!({ "content": [2] })), ..Delta::text("lo") });
        let call = |id: Option<&str>, arguments: &str| Delta {
            calls: vec![CallDelta { index: 3, id: id.map(Into::into), name: id.map(|_| "f".into()), arguments: arguments.into() }],
            ..Delta::default()
        };
        reply.push(&call(Some("c"), ""));
        reply.push(&call(None, "{}"));
        let first = reply.first().unwrap();
        assert_eq!(
            first.message(),
            json!({
                "role": "assistant", "content": "Hello", "refusal": null,
                "tool_calls": [{ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }],
            })
        );
        assert_eq!(first.logprobs, Some(json!({ "content": [1, 2] })));
        assert_eq!(reply.choices[1].content.as_deref(), Some("b"));
    }

    #[test]
    fn usage_is_summed_with_its_details() {
        let usage = |n: u64| Usage {
            prompt_tokens: n,
            completion_tokens: 1,
            total_tokens: 0,
            details: json!({ "prompt_tokens_details": { "cached_tokens": n } }).as_object().unwrap().clone(),
        };
        let mut total = Usage::default();
        total.add(&usage(2));
        total.add(&usage(3));
        assert_eq!(
            serde_json::to_value(&total).unwrap(),
            json!({
                "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "prompt_tokens_details": { "cached_tokens": 5 },
            })
        );
    }

    #[test]
    fn only_a_reply_without_a_word_is_empty() {
        let mut choice = Choice::default();
        choice.push(&Delta { finish: Some("stop".into()), content: Some(String::new()), ..Delta::default() });
        assert!(choice.is_empty());
        choice.push(&Delta { reasoning: Some("hm".into()), ..Delta::default() });
        assert!(!choice.is_empty());
    }
}
