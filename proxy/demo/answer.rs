//! What a demo model says to a conversation: text, tool calls, or a value that fits a schema. Pure: the same question has the same answer.

use serde_json::{Value, json};

use super::hints::Hints;
use super::instance::{instance, takes_place};
use super::mention::{Tool, mentioned};

/// How much of a message is repeated, in words.
const MAX_ECHO: usize = 40;
/// How far the demo counts when asked to.
const MAX_COUNT: usize = 10_000;
/// How many calls one answer asks for.
const MAX_CALLS: usize = 8;

/// A request, as far as the answer depends on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Question<'a> {
    pub(super) messages: &'a [Value],
    pub(super) tools: Vec<Tool<'a>>,
    pub(super) choice: Choice<'a>,
    /// Several calls may be asked for at once.
    pub(super) parallel: bool,
    pub(super) format: Format<'a>,
    /// Thinks aloud first.
    pub(super) reasons: bool,
    /// The longest text, in words.
    pub(super) max_words: Option<usize>,
}

/// `tool_choice`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Choice<'a> {
    #[default]
    Auto,
    None,
    Required,
    Named(&'a str),
}

/// `response_format`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Format<'a> {
    #[default]
    Text,
    /// Any JSON object.
    Object,
    /// JSON that fits this schema.
    Schema(&'a Value),
}

/// What the model says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Answer {
    pub(super) reasoning: String,
    pub(super) text: String,
    /// Names and arguments of the tools it asks for.
    pub(super) calls: Vec<(String, Value)>,
    /// OpenAI's `finish_reason`.
    pub(super) finish: &'static str,
}

impl Answer {
    /// The length in words, which is what the demo counts as tokens.
    pub(super) fn n_words(&self) -> usize {
        let calls: usize = self.calls.iter().map(|(name, arguments)| n_words(name) + n_words(&arguments.to_string())).sum();
        n_words(&self.reasoning) + n_words(&self.text) + calls
    }
}

/// The answer to `question`.
pub(super) fn answer(question: &Question) -> Answer {
    let turn = Turn::read(question.messages);
    let calls = calls(question, &turn);
    let text = if !calls.is_empty() {
        let names: Vec<&str> = calls.iter().map(|(name, _)| name.as_str()).collect();
        format!("Let me ask {}.\n\n", names.join(" and "))
    } else {
        match question.format {
            Format::Schema(schema) => instance(schema, &mut Hints::read(&turn.asked, "")).to_string(),
            Format::Object => json!({ "answer": prose(question, &turn) }).to_string(),
            Format::Text => prose(question, &turn),
        }
    };
    let mut answer = Answer { reasoning: String::new(), text, finish: if calls.is_empty() { "stop" } else { "tool_calls" }, calls };
    if question.reasons {
        answer.reasoning = thoughts(&turn, answer.calls.len());
    }
    if let Some(max) = question.max_words.filter(|max| answer.calls.is_empty() && *max < n_words(&answer.text)) {
        answer.text = pieces(&answer.text).take(max).collect();
        answer.finish = "length";
    }
    answer
}

/// The pieces in which a text is streamed: words, with the space behind them.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(char::is_whitespace)
}

/// The length of a conversation in words, never 0.
pub(super) fn n_prompt_words(messages: &[Value]) -> usize {
    messages.iter().map(|message| n_words(&text_of(message))).sum::<usize>().max(1)
}

/// The text of a message: its content, or the text parts of it.
pub(super) fn text_of(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().map(|part| match part.get("text").or(part.get("refusal")).and_then(Value::as_str) {
                Some(text) => text.to_owned(),
                None => format!("[{}]", part.get("type").and_then(Value::as_str).unwrap_or("part")),
            });
            texts.collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// The end of a conversation: the last thing the user said, and what happened since.
#[derive(Debug, Default)]
struct Turn {
    instructions: bool,
    asked: String,
    /// How often the model asked for tools since.
    n_hops: usize,
    /// Each tool's name and what it answered since.
    results: Vec<(String, String)>,
}

impl Turn {
    fn read(messages: &[Value]) -> Self {
        let mut turn = Turn::default();
        let mut asked: Vec<(&str, &str)> = Vec::new();
        for message in messages {
            match role(message) {
                "system" | "developer" => turn.instructions = true,
                "user" => turn = Turn { instructions: turn.instructions, asked: text_of(message), ..Turn::default() },
                "assistant" => {
                    asked = calls_of(message).collect();
                    turn.n_hops += usize::from(!asked.is_empty());
                }
                "tool" => {
                    let id = message.get("tool_call_id").and_then(Value::as_str);
                    let name = asked.iter().find(|(known, _)| Some(*known) == id).map_or("the tool", |(_, name)| name);
                    turn.results.push((name.to_owned(), text_of(message)));
                }
                _ => {}
            }
        }
        turn
    }
}

/// The role of a message.
pub(super) fn role(message: &Value) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

/// Ids and names of the calls that a message asks for.
pub(super) fn calls_of(message: &Value) -> impl Iterator<Item = (&str, &str)> {
    let calls = message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    calls.iter().filter_map(|call| Some((call.get("id")?.as_str()?, call.get("function")?.get("name")?.as_str()?)))
}

fn calls(question: &Question, turn: &Turn) -> Vec<(String, Value)> {
    // "roll the dice, then tell the time" are two steps, one for each time the model is asked.
    let steps: Vec<(&str, Vec<Tool>)> = turn.asked.split(" then ").map(|step| (step, mentioned(&question.tools, step))).collect();
    let mut steps = steps.into_iter().filter(|(_, tools)| !tools.is_empty());
    let step = steps.nth(turn.n_hops);
    let (text, tools) = match question.choice {
        Choice::None => return Vec::new(),
        Choice::Auto => step.unwrap_or_default(),
        Choice::Required => step.unwrap_or_else(|| (turn.asked.as_str(), question.tools.iter().take(1).copied().collect())),
        Choice::Named(name) => {
            let tool = question.tools.iter().find(|tool| tool.name == name);
            (step.map_or(turn.asked.as_str(), |(text, _)| text), tool.into_iter().copied().collect())
        }
    };
    let calls = tools.iter().flat_map(|tool| calls_to(tool, text));
    calls.take(if question.parallel { MAX_CALLS } else { 1 }).collect()
}

/// The calls of one tool: several when the message names several places and the tool asks for one.
fn calls_to(tool: &Tool, text: &str) -> Vec<(String, Value)> {
    let hints = Hints::read(text, tool.name);
    let n = if takes_place(tool.parameters) { hints.places.len().max(1) } else { 1 };
    let call = |i: usize| {
        let mut hints = hints.clone();
        hints.places = hints.places.iter().skip(i).take(1).cloned().collect();
        let arguments = instance(tool.parameters, &mut hints);
        (tool.name.to_owned(), if arguments.is_object() { arguments } else { json!({}) })
    };
    (0..n).map(call).collect()
}

fn prose(question: &Question, turn: &Turn) -> String {
    if !turn.results.is_empty() {
        let results = turn.results.iter().map(|(name, content)| format!("{name} says: {content}"));
        return results.collect::<Vec<_>>().join("\n\n");
    }
    if let Some(n) = asked_count(&turn.asked) {
        return (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(" ");
    }
    let mut text = String::from("I am moongate's built-in demo model: no network, no intelligence, the same answer every time.");
    if turn.asked.trim().is_empty() {
        text.push_str(" You said nothing yet.");
    } else {
        text.push_str(&format!(" You said: “{}”.", shortened(&turn.asked)));
    }
    if turn.instructions {
        text.push_str(" I was given instructions, too.");
    }
    if let Choice::Auto | Choice::Required = question.choice
        && !question.tools.is_empty()
    {
        let names: Vec<&str> = question.tools.iter().take(5).map(|tool| tool.name).collect();
        let more = question.tools.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text.push_str(&format!(" Mention one of my tools and I will call it: {}{more}.", names.join(", ")));
    }
    text
}

fn thoughts(turn: &Turn, n_calls: usize) -> String {
    let heard = format!("I read the message (words: {}).", n_words(&turn.asked));
    match (n_calls, turn.results.len()) {
        (0, 0) => format!("{heard} No tool is needed, so I answer."),
        (0, n) => format!("{heard} The tools answered (results: {n}), so I can answer, too."),
        (n, _) => format!("{heard} I need my tools first (calls: {n})."),
    }
}

/// The N of "count to N".
fn asked_count(text: &str) -> Option<usize> {
    let text = text.to_lowercase();
    let (_, after) = text.split_once("count to ")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<usize>().ok().map(|n| n.min(MAX_COUNT))
}

fn shortened(text: &str) -> String {
    let mut words = text.split_whitespace();
    let mut short = words.by_ref().take(MAX_ECHO).collect::<Vec<_>>().join(" ");
    if words.next().is_some() {
        short.push_str(" ...");
    }
    short
}

fn n_words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered() -> Value {
        json!([
            { "type": "function", "function": { "name": "get_weather", "parameters": {
                "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] } } },
            { "type": "function", "function": { "name": "get_time" } },
        ])
    }

    fn ask(offered: &Value, messages: &Value, change: impl FnOnce(&mut Question<'_>)) -> Answer {
        let tools = offered.as_array().into_iter().flatten().filter_map(Tool::read).collect();
        let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut question = Question { messages, tools, parallel: true, ..Question::default() };
        change(&mut question);
        answer(&question)
    }

    fn user(text: &str) -> Value {
        json!([{ "role": "user", "content": text }])
    }

    fn called(answer: &Answer) -> Vec<(&str, &Value)> {
        answer.calls.iter().map(|(name, arguments)| (name.as_str(), arguments)).collect()
    }

    #[test]
    fn plain_talk_is_repeated() {
        let answer = ask(
            &Value::Null,
            &json!([{ "role": "system", "content": "Be kind" }, { "role": "user", "content": "weather in Paris" }]),
            |_| {},
        );
        assert!(answer.text.contains("“weather in Paris”") && answer.text.contains("instructions"), "{}", answer.text);
        assert_eq!((answer.finish, answer.calls.len()), ("stop", 0));
    }

    #[test]
    fn tools_that_are_mentioned_are_called_together() {
        let answer = ask(&offered(), &user("The weather in Paris and the time?"), |_| {});
        assert_eq!(called(&answer), [("get_weather", &json!({ "city": "Paris" })), ("get_time", &json!({}))]);
        assert_eq!(answer.finish, "tool_calls");
        let one = ask(&offered(), &user("The weather in Paris and the time?"), |question| question.parallel = false);
        assert_eq!(one.calls.len(), 1);
        let two = ask(&offered(), &user("weather in Paris and Rome"), |_| {});
        assert_eq!(called(&two), [("get_weather", &json!({ "city": "Paris" })), ("get_weather", &json!({ "city": "Rome" }))]);
    }

    #[test]
    fn then_makes_steps_and_results_make_the_answer() {
        let mut messages = user("Tell me the time, then the weather in Rome");
        let first = ask(&offered(), &messages, |_| {});
        assert_eq!(called(&first), [("get_time", &json!({}))]);
        let turns = messages.as_array_mut().expect("a list");
        turns.push(json!({ "role": "assistant", "tool_calls": [{ "id": "a", "function": { "name": "get_time" } }] }));
        turns.push(json!({ "role": "tool", "tool_call_id": "a", "content": "noon" }));
        let second = ask(&offered(), &messages, |_| {});
        assert_eq!(called(&second), [("get_weather", &json!({ "city": "Rome" }))]);
        let turns = messages.as_array_mut().expect("a list");
        turns.push(json!({ "role": "assistant", "tool_calls": [{ "id": "b", "function": { "name": "get_weather" } }] }));
        turns.push(json!({ "role": "tool", "tool_call_id": "b", "content": [{ "type": "text", "text": "rain" }] }));
        let last = ask(&offered(), &messages, |_| {});
        assert_eq!(last.text, "get_time says: noon\n\nget_weather says: rain");
        assert_eq!(last.finish, "stop");
    }

    #[test]
    fn the_choice_of_tools_is_honoured() {
        let mentioned = user("weather in Paris");
        assert!(ask(&offered(), &mentioned, |question| question.choice = Choice::None).calls.is_empty());
        assert_eq!(called(&ask(&offered(), &user("Hello"), |question| question.choice = Choice::Required))[0].0, "get_weather");
        assert_eq!(
            called(&ask(&offered(), &mentioned, |question| question.choice = Choice::Named("get_time"))),
            [("get_time", &json!({}))]
        );
        assert!(ask(&Value::Null, &mentioned, |question| question.choice = Choice::Required).calls.is_empty());
    }

    #[test]
    fn formats_limits_and_counting() {
        let object = ask(&Value::Null, &user("hi"), |question| question.format = Format::Object);
        assert!(serde_json::from_str::<Value>(&object.text).expect("JSON")["answer"].is_string());
        let short = ask(&Value::Null, &user("count to 12"), |question| question.max_words = Some(3));
        assert_eq!((short.text.as_str(), short.finish), ("1 2 3 ", "length"));
        assert_eq!(ask(&Value::Null, &user("Please count to 3."), |_| {}).text, "1 2 3");
        assert!(ask(&Value::Null, &user("hi"), |question| question.reasons = true).reasoning.contains("words: 1"));
    }
}
