//! Reads forward in a text whose rest may still be on its way.

/// The text that is there does not decide it: whether there is a finding here, or where it ends, depends on what comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Open;

/// Where a finding ends, or none.
pub(super) type Found = Result<Option<usize>, Open>;

/// A place in a text.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    pub at: usize,
    /// Nothing comes after the text.
    last: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str, at: usize, last: bool) -> Self {
        Cursor { text, at, last }
    }

    /// The same text at another place.
    pub(super) fn moved(&self, at: usize) -> Self {
        Cursor { at, ..*self }
    }

    /// The next character; none at the end.
    pub(super) fn peek(&self) -> Result<Option<char>, Open> {
        match self.rest().chars().next() {
            None if !self.last => Err(Open),
            next => Ok(next),
        }
    }

    /// The character after the next one.
    pub(super) fn peek_second(&self) -> Result<Option<char>, Open> {
        match self.peek()? {
            None => Ok(None),
            Some(next) => self.moved(self.at + next.len_utf8()).peek(),
        }
    }

    /// Whether the next character fits; if it does, it is passed.
    pub(super) fn pass(&mut self, fits: impl Fn(char) -> bool) -> Result<bool, Open> {
        let next = self.peek()?.filter(|next| fits(*next));
        self.at += next.map_or(0, char::len_utf8);
        Ok(next.is_some())
    }

    /// Passes the characters that fit, and says how many bytes that was. It stops at `max`: the work at one place is bounded.
    pub(super) fn pass_all(&mut self, max: usize, fits: impl Fn(char) -> bool) -> Result<usize, Open> {
        let start = self.at;
        while self.at - start < max && self.pass(&fits)? {}
        Ok(self.at - start)
    }

    /// Passes `word` if the text goes on with it.
    pub(super) fn pass_word(&mut self, word: &str) -> Result<bool, Open> {
        let rest = self.rest();
        if rest.starts_with(word) {
            self.at += word.len();
            return Ok(true);
        }
        if !self.last && word.starts_with(rest) { Err(Open) } else { Ok(false) }
    }

    /// Whether it is certain that none of the next so many bytes is `byte`.
    pub(super) fn lacks(&self, byte: u8, within: usize) -> bool {
        let rest = self.rest().as_bytes();
        (self.last || rest.len() >= within) && memchr::memchr(byte, &rest[..within.min(rest.len())]).is_none()
    }

    /// The character before.
    pub(super) fn before(&self) -> Option<char> {
        self.behind().next_back()
    }

    /// Whether the text before ends so.
    pub(super) fn is_behind(&self, ending: &str) -> bool {
        self.text[..self.at].ends_with(ending)
    }

    /// Whether a number may begin here: it does not go on with what stands before, be it directly or with one of `joints` between.
    pub(super) fn begins(&self, joints: &str) -> bool {
        let mut behind = self.behind();
        let Some(before) = behind.next_back() else { return true };
        if is_word(before) || before == '_' || before == '+' {
            return false;
        }
        !(joints.contains(before) && behind.next_back().is_some_and(is_word))
    }

    /// Whether a number may end here: neither a word follows, nor one of `joints` with a digit behind it.
    pub(super) fn ends(&self, joints: &str) -> Result<bool, Open> {
        let Some(next) = self.peek()? else { return Ok(true) };
        if is_word(next) || next == '_' {
            return Ok(false);
        }
        Ok(!joints.contains(next) || !self.peek_second()?.is_some_and(|second| second.is_ascii_digit()))
    }

    /// What was passed since `start`.
    pub(super) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn behind(&self) -> std::str::Chars<'a> {
        self.text[..self.at].chars()
    }
}

/// A letter or digit of the scripts that put spaces between words; in others a word says nothing about where something begins.
pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || (c < '\u{530}' && c.is_alphanumeric())
}
