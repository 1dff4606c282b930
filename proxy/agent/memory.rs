//! What a run knows of its session: what was said before, put where it belongs, and what this turn adds to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::scene::Scene;
use crate::chat::request::ChatRequest;
use crate::chat::{Message, task};
use crate::config::History;
use crate::error::Result;
use crate::sessions::mark::Trail;
use crate::sessions::name::Name;
use crate::sessions::{Sessions, Turn};

/// The session of one run.
pub struct Memory {
    sessions: Arc<Sessions>,
    name: Name,
    ttl: Duration,
    history: History,
    /// What the client said in this turn.
    input: Vec<Message>,
    /// What the model and its tools said.
    said: Vec<Message>,
    /// What the client has been told since the last tools.
    told: String,
    /// The same of the whole turn.
    told_in_all: String,
    /// The conversation as the client sees it, up to this turn.
    trail: Trail,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was answered.
    Whole,
    /// The client left.
    Cancelled,
}

impl Memory {
    /// The memory of a client's run that names its session; `None` where nothing is remembered. The messages become what the model is to get.
    pub async fn open(scene: &Scene, session: Option<&str>, request: &mut ChatRequest) -> Result<Option<Box<Memory>>> {
        let (Some(id), 0, None) = (session, scene.depth, &scene.around.stand_in) else { return Ok(None) };
        let settings = &scene.agent.session;
        let headers = scene.headers();
        let task = headers.iter().find(|(name, _)| name == task::HEADER).map(|(_, value)| value.as_str());
        let messages = &mut request.messages;
        // A title is no part of the conversation that it is for.
        if settings.history == History::None || task::is_task(task, request.stream, messages) {
            return Ok(None);
        }
        let (sessions, name) = (scene.around.sessions.clone(), Name::new(scene.caller.scope(), id));
        let trail = Trail::of(messages);
        let turns = match sessions.read(&name).await {
            Ok(turns) => turns,
            Err(error) if sessions.fails_open() => {
                tracing::debug!(session = id, "a run goes on without its session: {}", error.chain());
                scene.forget_session();
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let input = match settings.history {
            History::Server => {
                let (system, input) = split(std::mem::take(messages));
                messages.extend(system);
                messages.extend(turns.into_iter().flat_map(|turn| turn.input.into_iter().chain(turn.said)));
                messages.extend(input.clone());
                input
            }
            History::Client => {
                restore(messages, turns);
                Vec::new()
            }
            History::None => Vec::new(),
        };
        let (ttl, history) = (settings.ttl, settings.history);
        Ok(Some(Box::new(Memory {
            sessions,
            name,
            ttl,
            history,
            input,
            said: Vec::new(),
            told: String::new(),
            told_in_all: String::new(),
            trail,
        })))
    }

    /// A piece of text leaves for the client.
    pub fn tell(&mut self, text: &str) {
        self.told.push_str(text);
        self.told_in_all.push_str(text);
    }

    /// The model asked for tools, and these are its message and their results.
    pub fn note(&mut self, messages: &[Message]) {
        self.said.extend_from_slice(messages);
        self.told.clear();
    }

    /// The turn is over: adds it to the session in one step.
    pub async fn keep(mut self, end: End) -> Result<()> {
        if !self.told.is_empty() || self.said.is_empty() {
            self.said.push(Message::text("assistant", std::mem::take(&mut self.told)));
        }
        let mut turn = Turn::new(self.input, self.said);
        turn.cancelled = end == End::Cancelled;
        if self.history == History::Client {
            // What the client sends back itself is not kept twice.
            if end == End::Cancelled || !turn.said.iter().any(|message| message.role() == "tool") {
                return Ok(());
            }
            turn.mark = Some(self.trail.mark(&self.told_in_all));
        }
        match self.sessions.append(&self.name, &turn, self.ttl).await {
            Err(error) if self.sessions.fails_open() => {
                tracing::warn!(session = self.name.id, "a turn was not remembered: {}", error.chain());
                Ok(())
            }
            kept => kept,
        }
    }
}

/// The system messages, and what is new to a session: what comes behind the last message that is an answer. A client that sends its whole
/// history each time is thus not heard twice.
fn split(messages: Vec<Message>) -> (Vec<Message>, Vec<Message>) {
    let is_system = |message: &Message| matches!(message.role(), "system" | "developer");
    let (system, others): (Vec<Message>, Vec<Message>) = messages.into_iter().partition(is_system);
    let n_known = others.iter().rposition(|message| message.role() == "assistant").map_or(0, |last| last + 1);
    let input = if n_known == others.len() { others } else { others.into_iter().skip(n_known).collect() };
    (system, input)
}

/// Puts the tool calls and results of earlier turns back before the answers that came of them.
fn restore(messages: &mut Vec<Message>, turns: Vec<Turn>) {
    let mut known: HashMap<String, Vec<Message>> = turns.into_iter().filter_map(|turn| Some((turn.mark?, turn.said))).collect();
    if known.is_empty() {
        return;
    }
    let mut trail = Trail::default();
    // Within a turn whose tools the client has sent itself.
    let mut is_told = false;
    for message in std::mem::take(messages) {
        match message.role() {
            "user" => is_told = false,
            "tool" => is_told = true,
            _ => {}
        }
        let is_answer = message.role() == "assistant" && message.0.get("tool_calls").is_none();
        let said = if is_answer && !is_told { known.remove(&trail.mark(&message.words())) } else { None };
        trail.follow(&message);
        match said {
            Some(said) => messages.extend(said),
            None => messages.push(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(role: &str, text: &str) -> Message {
        Message::text(role, text)
    }

    fn conversation(pairs: &[(&str, &str)]) -> Vec<Message> {
        pairs.iter().map(|(role, text)| message(role, text)).collect()
    }

    fn texts(messages: &[Message]) -> Vec<String> {
        messages.iter().map(|message| format!("{}:{}", message.role(), message.words())).collect()
    }

    /// The turn in which a tool was called for this answer.
    fn turn(before: &[(&str, &str)], answer: &str, result: &str) -> Turn {
        let said = vec![message("assistant", "Let me see."), Message::tool("c", result), message("assistant", answer)];
        Turn { mark: Some(Trail::of(&conversation(before)).mark(&format!("Let me see.{answer}"))), ..Turn::new(Vec::new(), said) }
    }

    #[test]
    fn what_is_new_comes_behind_the_last_answer() {
        let parts = |pairs: &[(&str, &str)]| {
            let (system, input) = split(conversation(pairs));
            (texts(&system), texts(&input))
        };
        let none: [String; 0] = [];
        assert_eq!(parts(&[("user", "a")]), (none.to_vec(), vec!["user:a".into()]));
        let (system, input) = parts(&[("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("user", "d")]);
        assert_eq!((system, input), (vec!["system:s".into()], vec!["user:c".into(), "user:d".into()]));
        assert_eq!(parts(&[("user", "a"), ("assistant", "b")]).1.len(), 2, "nothing new is everything");
    }

    #[test]
    fn tools_come_back_where_they_belong() {
        let first = [("user", "Paris?")];
        let turns = vec![turn(&first, "Sunny.", "sunny in Paris"), turn(&[("user", "Rome?")], "Sunny.", "sunny in Rome")];
        let mut messages = conversation(&[("user", "Paris?"), ("assistant", "Let me see.\n\nSunny."), ("user", "And now?")]);
        restore(&mut messages, turns.clone());
        let wanted = ["user:Paris?", "assistant:Let me see.", "tool:sunny in Paris", "assistant:Sunny.", "user:And now?"];
        assert_eq!(texts(&messages), wanted);

        let edited = conversation(&[("user", "Oslo?"), ("assistant", "Let me see. Sunny."), ("user", "And now?")]);
        let mut messages = edited.clone();
        restore(&mut messages, turns.clone());
        assert_eq!(messages, edited, "another branch gets nothing that is not its own");

        let mut sent = conversation(&[("user", "Paris?")]);
        let mut asking = message("assistant", "Let me see.");
        asking.0.insert("tool_calls".into(), json!([{ "id": "c" }]));
        sent.extend([asking, Message::tool("c", "sunny in Paris"), message("assistant", "Sunny.")]);
        let mut messages = sent.clone();
        restore(&mut messages, turns);
        assert_eq!(messages, sent, "what the client sends itself is not put in twice");
    }
}
