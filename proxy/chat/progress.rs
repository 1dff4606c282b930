//! How a client is shown what an agent's tools do: as Open WebUI's status lines and tool cards, or as reasoning text.

use serde_json::{Value, json};

use super::markup;
use super::{Delta, Message, ToolCall, ToolResult};

/// How much of a result is shown, in bytes. The model reads all of it.
const MAX_SHOWN: usize = 4 << 10;

/// The openings of what is shown in the text, and of what Open WebUI itself adds to it.
const OURS: [&str; 2] = [r#"<details type="tool_calls""#, r#"<details type="reasoning""#];
const END: &str = "</details>";

/// A way to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Open WebUI's: a status line while the tool works, a card in the text when it has ended.
    Openwebui,
    /// A line of reasoning at its begin, and one at its end.
    Reasoning,
}

/// What a run does that its reply does not say.
#[derive(Debug, Clone, PartialEq)]
pub enum Doing {
    /// A tool is called.
    Begins(ToolCall),
    /// It has ended, well or badly.
    Ended(ToolCall, ToolResult),
    /// It waits for its turn at this upstream, behind so many others.
    Waits(String, usize),
    /// It was its turn there.
    Served(String),
    /// Its model is being loaded, for so many seconds already.
    Loads(String, u64),
    /// It is.
    Loaded(String),
}

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// A chunk without choices that has this `event`.
    Event(Value),
    /// A piece of the reply.
    Piece(Delta),
}

impl Form {
    /// What a client of this form is sent.
    pub fn show(self, doing: &Doing) -> Vec<Shown> {
        match (self, doing) {
            (Form::Openwebui, Doing::Begins(call)) => vec![status(&format!("Calling {}", call.name), false)],
            (Form::Openwebui, Doing::Ended(call, result)) => {
                let what = if result.is_error { format!("{} failed", call.name) } else { format!("Called {}", call.name) };
                vec![status(&what, true), Shown::Piece(Delta::text(card(call, &result.content)))]
            }
            (Form::Openwebui, Doing::Waits(upstream, ahead)) => vec![status(&waits(upstream, *ahead), false)],
            (Form::Openwebui, Doing::Served(upstream)) => vec![status(&format!("{upstream} answers"), true)],
            (Form::Reasoning, Doing::Waits(upstream, ahead)) => vec![reasoning(waits(upstream, *ahead) + "\n")],
            (Form::Openwebui, Doing::Loads(model, seconds)) => vec![status(&loads(model, *seconds), false)],
            (Form::Openwebui, Doing::Loaded(model)) => vec![status(&format!("Loaded {model}"), true)],
            (Form::Reasoning, Doing::Served(_) | Doing::Loaded(_)) => Vec::new(),
            (Form::Reasoning, Doing::Loads(model, seconds)) => vec![reasoning(loads(model, *seconds) + "\n")],
            (Form::Reasoning, Doing::Begins(call)) => {
                vec![reasoning(format!("Calling {} with {}\n", call.name, shortened(&call.arguments)))]
            }
            (Form::Reasoning, Doing::Ended(call, result)) => {
                let verb = if result.is_error { "failed" } else { "answered" };
                vec![reasoning(format!("{} {verb}: {}\n", call.name, shortened(&result.content)))]
            }
        }
    }
}

fn waits(upstream: &str, ahead: usize) -> String {
    match ahead {
        0 => format!("Waiting for {upstream}"),
        ahead => format!("Waiting for {upstream}, {ahead} before us"),
    }
}

fn loads(model: &str, seconds: u64) -> String {
    match seconds {
        0 => format!("Loading {model}"),
        seconds => format!("Loading {model}, {seconds} s"),
    }
}

fn status(description: &str, done: bool) -> Shown {
    Shown::Event(json!({ "type": "status", "data": { "description": description, "done": done } }))
}

fn reasoning(text: String) -> Shown {
    Shown::Piece(Delta { reasoning: Some(text), ..Delta::default() })
}

/// The block that Open WebUI shows as a card. All that a model or a tool said is escaped: nothing of it can end the block, or be markup.
fn card(call: &ToolCall, result: &str) -> String {
    let (id, name, arguments, result) = (escape(&call.id), escape(&call.name), escape(&call.arguments), escape(shortened(result)));
    format!(
        "\n{} done=\"true\" id=\"{id}\" name=\"{name}\" arguments=\"{arguments}\">\n<summary>Tool Executed</summary>\n{result}\n{END}\n",
        OURS[0]
    )
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SHOWN)]
}

/// An attribute is one line, and so is a result.
fn escape(text: &str) -> String {
    markup::escape(text).replace('\n', "&#10;")
}

/// Takes out of the conversation what was shown of tools in earlier answers, so that models do not learn to write it themselves.
pub fn forget(messages: &mut [Message]) {
    for message in messages.iter_mut().filter(|message| message.role() == "assistant") {
        match message.0.get_mut("content") {
            Some(Value::String(text)) => strip(text),
            Some(Value::Array(parts)) => {
                let texts = parts.iter_mut().filter_map(|part| part.get_mut("text"));
                for text in texts {
                    if let Value::String(text) = text {
                        strip(text);
                    }
                }
            }
            _ => {}
        }
    }
}

fn strip(text: &mut String) {
    while let Some(begin) = OURS.iter().filter_map(|opening| text.find(opening)).min() {
        let Some(length) = text[begin..].find(END).map(|at| at + END.len()) else { return };
        let mut end = begin + length;
        let begin = text[..begin].trim_end_matches('\n').len();
        end += text[end..].len() - text[end..].trim_start_matches('\n').len();
        let gap = if begin == 0 || end == text.len() { "" } else { "\n\n" };
        text.replace_range(begin..end, gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> ToolCall {
        ToolCall { id: "c\"1".into(), name: "find".into(), arguments: r#"{"q":"</details><script>"}"#.into() }
    }

    #[test]
    fn a_card_holds_whatever_was_said() {
        let shown = Form::Openwebui.show(&Doing::Ended(call(), ToolResult::ok("a & b\n</details>")));
        let Shown::Piece(delta) = &shown[1] else { panic!("{shown:?}") };
        assert_eq!(
            delta.content.as_deref().unwrap(),
            "\n<details type=\"tool_calls\" done=\"true\" id=\"c&quot;1\" name=\"find\" \
             arguments=\"{&quot;q&quot;:&quot;&lt;/details&gt;&lt;script&gt;&quot;}\">\n<summary>Tool Executed</summary>\n\
             a &amp; b&#10;&lt;/details&gt;\n</details>\n"
        );
        assert_eq!(shown[0], status("Called find", true));
        assert_eq!(Form::Openwebui.show(&Doing::Begins(call())), [status("Calling find", false)]);
    }

    #[test]
    fn a_wait_is_shown_with_its_length() {
        let waits = |form: Form, ahead| form.show(&Doing::Waits("lm".into(), ahead));
        assert_eq!(waits(Form::Openwebui, 0), [status("Waiting for lm", false)]);
        assert_eq!(waits(Form::Reasoning, 2), [reasoning("Waiting for lm, 2 before us\n".into())]);
        assert_eq!(Form::Openwebui.show(&Doing::Served("lm".into())), [status("lm answers", true)]);
    }

    #[test]
    fn a_load_is_shown_with_its_time() {
        assert_eq!(Form::Openwebui.show(&Doing::Loads("m".into(), 0)), [status("Loading m", false)]);
        assert_eq!(Form::Reasoning.show(&Doing::Loads("m".into(), 5)), [reasoning("Loading m, 5 s\n".into())]);
        assert_eq!(Form::Openwebui.show(&Doing::Loaded("m".into())), [status("Loaded m", true)]);
        assert!(Form::Reasoning.show(&Doing::Loaded("m".into())).is_empty());
    }

    #[test]
    fn reasoning_is_lines() {
        let failed = Doing::Ended(call(), ToolResult::error("é".repeat(MAX_SHOWN)));
        let [Shown::Piece(delta)] = &Form::Reasoning.show(&failed)[..] else { panic!() };
        let text = delta.reasoning.as_deref().unwrap();
        assert!(text.starts_with("find failed: é") && text.ends_with("é\n") && text.len() <= MAX_SHOWN + 20);
    }

    #[test]
    fn what_was_shown_is_forgotten() {
        let block = card(&call(), "x");
        let thought = "<details type=\"reasoning\" done=\"true\" duration=\"1\">\n<summary>Thought</summary>\n> hm\n</details>\n";
        let mut messages = vec![
            Message::text("assistant", format!("Let me see.{block}{block}It is x.")),
            Message::text("assistant", format!("{thought}Hello")),
            Message::text("user", block.clone()),
            Message::text("assistant", "<details type=\"tool_calls\" that never ends"),
            Message(
                serde_json::from_value(json!({ "role": "assistant", "content": [{ "type": "text", "text": format!("a{block}") }] }))
                    .unwrap(),
            ),
        ];
        forget(&mut messages);
        let texts: Vec<String> = messages.iter().map(Message::words).collect();
        assert_eq!(texts, ["Let me see.\n\nIt is x.", "Hello", &block, "<details type=\"tool_calls\" that never ends", "a"]);
    }
}
