//! How a turn is found again in a history that the client keeps: by all that the client has seen up to it.
//!
//! A branch, an edited message or an answer that was made anew looks different from there on, so that it never gets another branch's turns.

use sha2::{Digest, Sha256};

use crate::chat::Message;

/// A conversation as the client sees it, message by message.
#[derive(Debug, Clone, Default)]
pub struct Trail(Sha256);

impl Trail {
    /// The trail behind these messages.
    pub fn of(messages: &[Message]) -> Trail {
        let mut trail = Trail::default();
        messages.iter().for_each(|message| trail.follow(message));
        trail
    }

    /// The next message. Only what people said and read counts: system messages change with every request of some clients.
    pub fn follow(&mut self, message: &Message) {
        if matches!(message.role(), "user" | "assistant") {
            self.step(message.role(), &message.words());
        }
    }

    /// The mark of the turn that an answer with this text ends.
    pub fn mark(&self, answer: &str) -> String {
        let mut trail = self.clone();
        trail.step("assistant", answer);
        let hash = trail.0.finalize();
        hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// White space does not count: clients store answers in their own way.
    fn step(&mut self, role: &str, text: &str) {
        self.0.update(role);
        self.0.update([0]);
        for word in text.split_whitespace() {
            self.0.update(word);
        }
        self.0.update([0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(texts: &[&str]) -> Vec<Message> {
        let roles = ["user", "assistant"].into_iter().cycle();
        roles.zip(texts).map(|(role, text)| Message::text(role, *text)).collect()
    }

    #[test]
    fn only_the_same_conversation_has_the_same_mark() {
        let mark = |texts: &[&str], answer| Trail::of(&conversation(texts)).mark(answer);
        let mut with_system = conversation(&["hi", "hello", "why?"]);
        with_system.insert(0, Message::text("system", "It is Friday."));
        assert_eq!(Trail::of(&with_system).mark("be cause"), mark(&["hi", "hel lo\n", "why?"], "because"));
        for other in [&["hi", "hello", "how?"][..], &["hi", "hullo", "why?"], &["hi", "hello"], &["hihello", "", "why?"]] {
            assert_ne!(mark(other, "because"), mark(&["hi", "hello", "why?"], "because"));
        }
    }
}
