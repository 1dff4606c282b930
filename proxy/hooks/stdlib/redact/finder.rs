//! Finds personal data and secrets in a text, or in a stream of it: at each place in turn, so that what was decided stays decided.
//!
//! Of findings that begin at the same place the longest counts, then the script's own, then the order of `KINDS`. One that begins
//! inside another does not count.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::regex::cache::Pattern;
use super::cursor::{Cursor, Found, Open, is_word};
use super::{addresses, contacts, keys, numbers, phone};

/// What is found without being told.
pub(super) struct Kind {
    pub name: &'static str,
    /// Whether one may begin with a character. Most characters of a text begin nothing.
    begins: fn(char) -> bool,
    find: fn(Cursor) -> Found,
}

pub(super) const KINDS: [Kind; 9] = [
    Kind { name: "email", begins: is_word, find: contacts::email },
    Kind { name: "phone", begins: |c| c.is_ascii_digit() || c == '+' || c == '(', find: phone::phone },
    Kind { name: "credit_card", begins: |c| c.is_ascii_digit(), find: numbers::credit_card },
    Kind { name: "iban", begins: |c| c.is_ascii_alphabetic(), find: numbers::iban },
    Kind { name: "ipv4", begins: |c| c.is_ascii_digit(), find: addresses::ipv4 },
    Kind { name: "ipv6", begins: |c| c.is_ascii_hexdigit(), find: addresses::ipv6 },
    Kind { name: "us_ssn", begins: |c| c.is_ascii_digit(), find: numbers::us_ssn },
    Kind { name: "api_key", begins: |c| c.is_ascii_alphabetic() || c == '-', find: keys::api_key },
    Kind { name: "url_password", begins: |_| true, find: contacts::url_password },
];

/// The most findings of one search.
const MAX_FINDINGS: usize = 20_000;

/// A line that is longer is searched in pieces of this length for the script's own patterns, in bytes.
const MAX_LINE: usize = 4096;

/// How much is searched before the clock is looked at, in bytes.
const STRETCH: usize = 8 << 10;

/// How much of the text before a place is looked at there, in bytes.
const CONTEXT: usize = 8;

/// What to find.
pub(super) struct Finder {
    /// Places in `KINDS`.
    pub kinds: Vec<usize>,
    /// The script's own kinds. Each is searched line by line: a stream can be searched only in what cannot grow any more.
    pub patterns: Vec<(String, Arc<Pattern>)>,
    /// Texts that are never findings.
    pub allow: HashSet<String>,
}

/// Something that was found, by its places in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finding<'a> {
    pub kind: &'a str,
    pub start: usize,
    pub end: usize,
}

/// What a search came to.
pub(super) struct Searched<'a> {
    pub findings: Vec<Finding<'a>>,
    /// The text up to here is decided; what comes after it waits for more.
    pub settled: usize,
    /// The next search needs the text from here on.
    pub keep: usize,
}

impl Finder {
    /// Searches `text` from `from` on; what stands before was searched already. `last`: nothing comes after it. `pause` is called now and
    /// then and may end the search.
    pub(super) fn search<E: From<String>>(
        &self,
        text: &str,
        from: usize,
        last: bool,
        mut pause: impl FnMut() -> Result<(), E>,
    ) -> Result<Searched<'_>, E> {
        let lines = self.lines(text, from, last);
        let own = self.own(text, &lines, &mut pause)?;
        // Without patterns of the script's own, lines do not matter.
        let limit = if self.patterns.is_empty() { text.len() } else { lines.last().map_or(from, |line| line.1) };
        let (mut findings, mut own, mut at, mut pause_at) = (Vec::new(), own.into_iter().peekable(), from, from + STRETCH);
        while at < limit {
            if at >= pause_at {
                pause()?;
                pause_at = at + STRETCH;
            }
            while own.next_if(|finding| finding.start < at).is_some() {}
            let mut best = own.next_if(|finding| finding.start == at);
            let Ok(known) = self.known(text, at, last) else { break };
            if let Some(known) = known
                && best.is_none_or(|best| known.end > best.end)
            {
                best = Some(known);
            }
            let Some(finding) = best else {
                at = text.ceil_char_boundary(at + 1);
                // Nothing begins within a word, but for what the script's own patterns found there.
                let bound = own.peek().map_or(limit, |finding| finding.start.clamp(at, limit));
                let is_within = |byte: &u8| byte.is_ascii_alphanumeric();
                if text.as_bytes().get(at - 1).is_some_and(is_within) {
                    at += text.as_bytes()[at..bound.max(at)].iter().take_while(|byte| is_within(byte)).count();
                }
                continue;
            };
            at = finding.end;
            if !self.allow.contains(&text[finding.start..finding.end]) {
                findings.push(finding);
            }
            if findings.len() > MAX_FINDINGS {
                return Err(format!("there are more than {MAX_FINDINGS} findings").into());
            }
        }
        let mut settled = at;
        if !self.patterns.is_empty() && !last {
            // The next search begins where a line does, else the script's patterns would match other things in the rest of it.
            let clean = |end: usize| end <= at && !findings.iter().any(|finding| finding.start < end && end < finding.end);
            settled = lines.iter().map(|line| line.1).filter(|end| clean(*end)).max().unwrap_or(from);
            findings.retain(|finding| finding.end <= settled);
        }
        let keep = text.floor_char_boundary(settled.saturating_sub(CONTEXT));
        Ok(Searched { findings, settled, keep })
    }

    /// The longest finding of the built-in kinds that begins at `at`.
    fn known(&self, text: &str, at: usize, last: bool) -> Result<Option<Finding<'_>>, Open> {
        let cursor = Cursor::new(text, at, last);
        let Some(next) = cursor.peek()? else { return Ok(None) };
        // Nothing begins within a word.
        if is_word(next) && cursor.before().is_some_and(is_word) {
            return Ok(None);
        }
        let mut best: Option<Finding> = None;
        for kind in self.kinds.iter().filter_map(|kind| KINDS.get(*kind)).filter(|kind| (kind.begins)(next)) {
            if let Some(end) = (kind.find)(cursor)?
                && best.is_none_or(|best| end > best.end)
            {
                best = Some(Finding { kind: kind.name, start: at, end });
            }
        }
        Ok(best)
    }

    /// The lines that are complete, as places. None without patterns of the script's own.
    fn lines(&self, text: &str, from: usize, last: bool) -> Vec<(usize, usize)> {
        let (mut lines, mut start) = (Vec::new(), from);
        while !self.patterns.is_empty() && start < text.len() {
            let longest = text.floor_char_boundary(start + MAX_LINE);
            let end = match memchr::memchr(b'\n', &text.as_bytes()[start..longest]) {
                Some(place) => start + place + 1,
                None if longest < text.len() || text.len() - start == MAX_LINE || last => longest,
                None => break,
            };
            lines.push((start, end));
            start = end;
        }
        lines
    }

    /// What the script's own patterns find: for each place one finding, in the order of the places.
    fn own<E>(&self, text: &str, lines: &[(usize, usize)], pause: &mut impl FnMut() -> Result<(), E>) -> Result<Vec<Finding<'_>>, E> {
        let mut found: Vec<Finding> = Vec::new();
        for (start, end) in lines {
            pause()?;
            let line = text[*start..*end].trim_end_matches('\n');
            for (name, pattern) in &self.patterns {
                let places = pattern.regex.find_iter(line).filter(|place| !place.is_empty());
                found.extend(places.map(|place| Finding { kind: name, start: start + place.start(), end: start + place.end() }));
            }
        }
        found.sort_by_key(|finding| (finding.start, std::cmp::Reverse(finding.end)));
        found.dedup_by_key(|finding| finding.start);
        Ok(found)
    }
}
