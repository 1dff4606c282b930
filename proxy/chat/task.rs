//! Open WebUI's background tasks: titles, tags, follow-ups and queries that it asks of the model of a chat, and no person reads as a reply.

use serde::Deserialize;

use super::Message;

/// The header in which Open WebUI names the task, once a connection has it among its own headers as `{{TASK}}`.
pub const HEADER: &str = "x-openwebui-task";

/// How the templates begin, and where they put the conversation.
const OPENING: &str = "### Task:";
const HISTORY: &str = "<chat_history>";

/// Whether this request is one: by its header, else by its form. `header` is the value of `HEADER`.
pub fn is_background(header: Option<&str>, body: &[u8]) -> bool {
    names_task(header) || has_form(body)
}

/// The same of a request that is read.
pub fn is_task(header: Option<&str>, stream: bool, messages: &[Message]) -> bool {
    names_task(header) || is_template(stream, messages)
}

/// Of an ordinary chat the header is empty.
fn names_task(header: Option<&str>) -> bool {
    header.is_some_and(|task| !matches!(task.trim(), "" | "None" | "null" | "{{TASK}}"))
}

fn has_form(body: &[u8]) -> bool {
    if memchr::memmem::find(body, OPENING.as_bytes()).is_none() {
        return false;
    }
    #[derive(Deserialize)]
    struct Chat {
        #[serde(default)]
        stream: Option<bool>,
        /// A connection of the type Responses says `input`.
        #[serde(alias = "input")]
        messages: Vec<Message>,
    }
    let Ok(Chat { stream, messages }) = serde_json::from_slice(body) else { return false };
    is_template(stream == Some(true), &messages)
}

/// One message of the user's, made by a template, not streamed.
fn is_template(stream: bool, messages: &[Message]) -> bool {
    let [message] = messages else { return false };
    let text = message.words();
    !stream && message.role() == "user" && text.trim_start().starts_with(OPENING) && text.contains(HISTORY)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn body(stream: bool, texts: &[&str]) -> Vec<u8> {
        let messages: Vec<Value> = texts.iter().map(|text| json!({ "role": "user", "content": text })).collect();
        json!({ "model": "m", "stream": stream, "messages": messages }).to_string().into_bytes()
    }

    #[test]
    fn a_task_is_told_by_its_header_or_its_form() {
        let title = "\n### Task:\nGenerate a title.\n<chat_history>\nUSER: hi\n</chat_history>";
        assert!(is_background(None, &body(false, &[title])));
        assert!(is_background(Some("title_generation"), &body(false, &["hi"])));
        let part = json!([{ "type": "input_text", "text": title }]);
        let response = json!({ "model": "m", "input": [{ "type": "message", "role": "user", "content": part }] });
        assert!(is_background(None, response.to_string().as_bytes()));
        for (header, body) in [
            (None, body(true, &[title])),
            (None, body(false, &[title, "hi"])),
            (None, body(false, &["What does ### Task: mean in <chat_history>?"])),
            (None, body(false, &["### Task: write a poem"])),
            (Some(""), body(false, &["hi"])),
            (Some("None"), body(false, &["hi"])),
            (None, b"### Task: not JSON".to_vec()),
        ] {
            assert!(!is_background(header, &body), "{header:?} {}", String::from_utf8_lossy(&body));
        }
    }
}
