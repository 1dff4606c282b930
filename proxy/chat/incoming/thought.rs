//! Parts a thought between `<think>` and `</think>` at the beginning of a text from the text. However it is split, the parts are the same.

const OPENING: &str = "<think>";
const CLOSING: &str = "</think>";

/// Follows one text.
#[derive(Debug, Default)]
pub(super) struct Thought {
    state: State,
    /// What cannot be told yet.
    held: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No word yet, and perhaps half a tag.
    #[default]
    Before,
    /// The tag was read, and no word of the thought.
    Opened,
    Within,
    /// The thought is over, and no word of the text was read.
    Closed,
    /// The rest is text.
    Over,
}

/// What a piece of the text holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) thought: Option<String>,
    pub(super) text: Option<String>,
}

impl Thought {
    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: String) -> Parts {
        let mut parts = Parts::default();
        if self.state == State::Over {
            parts.text = Some(piece);
            return parts;
        }
        self.held.push_str(&piece);
        while let Some(next) = self.step(&mut parts) {
            self.state = next;
        }
        parts
    }

    /// Reads on in what is held; `None` when that needs more, or nothing is left to part.
    fn step(&mut self, parts: &mut Parts) -> Option<State> {
        match self.state {
            State::Before => {
                let begin = self.held.trim_start();
                if let Some(rest) = begin.strip_prefix(OPENING) {
                    self.held = rest.to_owned();
                    return Some(State::Opened);
                }
                if OPENING.starts_with(begin) {
                    return None;
                }
                parts.text = Some(std::mem::take(&mut self.held));
                Some(State::Over)
            }
            State::Opened => {
                drop_blank(&mut self.held);
                (!self.held.is_empty()).then_some(State::Within)
            }
            State::Within => {
                let closing = self.held.find(CLOSING);
                let end = closing.unwrap_or_else(|| certain(&self.held));
                let thought = self.held[..end].trim_end();
                if !thought.is_empty() {
                    parts.thought = Some(thought.to_owned());
                }
                self.held.drain(..closing.map_or(end, |at| at + CLOSING.len()));
                closing.map(|_| State::Closed)
            }
            State::Closed => {
                drop_blank(&mut self.held);
                if self.held.is_empty() {
                    return None;
                }
                parts.text = Some(std::mem::take(&mut self.held));
                Some(State::Over)
            }
            State::Over => None,
        }
    }

    /// The text has ended: what is held is what it looks like.
    pub(super) fn end(&mut self) -> Parts {
        let held = Some(std::mem::take(&mut self.held)).filter(|held| !held.is_empty());
        match std::mem::replace(&mut self.state, State::Over) {
            State::Within => {
                let thought = held.map(|held| held.trim_end().to_owned()).filter(|thought| !thought.is_empty());
                Parts { thought, text: None }
            }
            _ => Parts { thought: None, text: held },
        }
    }
}

fn drop_blank(text: &mut String) {
    let blank = text.len() - text.trim_start().len();
    text.drain(..blank);
}

/// How much of a thought is certain: all but white space at its end, and what may be the beginning of the closing tag.
fn certain(thought: &str) -> usize {
    let half = (1..CLOSING.len()).rev().find(|n| thought.ends_with(&CLOSING[..*n])).unwrap_or(0);
    thought[..thought.len() - half].trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parted(pieces: &[&str]) -> (String, String) {
        let mut thought = Thought::default();
        let (mut thoughts, mut texts) = (String::new(), String::new());
        let mut parts: Vec<Parts> = pieces.iter().map(|piece| thought.push((*piece).to_owned())).collect();
        parts.push(thought.end());
        for part in parts {
            thoughts += &part.thought.unwrap_or_default();
            texts += &part.text.unwrap_or_default();
        }
        (thoughts, texts)
    }

    #[test]
    fn any_split_gives_the_same_parts() {
        for (text, thought, rest) in [
            ("<think>hm </ b</think>\n\nYes. <think>", "hm </ b", "Yes. <think>"),
            (" \n<think>\n a\n\n</think>x", "a", "x"),
            ("<think></think>", "", ""),
            ("<think> \n</think>\u{e4}", "", "\u{e4}"),
            ("<think>a \n b </thin", "a \n b </thin", ""),
            ("<think>a ", "a", ""),
            ("<thing>", "", "<thing>"),
            ("  <thi", "", "  <thi"),
            ("\n\nHello  ", "", "\n\nHello  "),
            ("", "", ""),
        ] {
            let wanted = (thought.to_owned(), rest.to_owned());
            let cuts: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
            for first in &cuts {
                for second in cuts.iter().filter(|second| *second >= first) {
                    assert_eq!(parted(&[&text[..*first], &text[*first..*second], &text[*second..]]), wanted, "{text:?} {first} {second}");
                }
            }
            let letters: Vec<String> = text.chars().map(String::from).collect();
            assert_eq!(parted(&letters.iter().map(String::as_str).collect::<Vec<_>>()), wanted, "{text:?}");
        }
    }

    #[test]
    fn text_leaves_at_once() {
        let mut thought = Thought::default();
        assert_eq!(thought.push("Hel".into()), Parts { thought: None, text: Some("Hel".into()) });
        assert_eq!(thought.push("".into()), Parts { thought: None, text: Some("".into()) });
        let mut thought = Thought::default();
        assert_eq!(thought.push("<think>h".into()), Parts { thought: Some("h".into()), text: None });
        assert_eq!(thought.push("m </".into()), Parts { thought: Some("m".into()), text: None });
        assert_eq!(thought.push("think>a".into()), Parts { thought: None, text: Some("a".into()) });
    }
}
