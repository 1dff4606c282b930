//! Compiled patterns, kept for all VMs of the process: a hook compiles its pattern once and not with each call.

use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use lru::LruCache;
use mlua::Value;
use regex::{Error, Regex, RegexBuilder};

use super::super::argument::{self, wrong};
use super::weight::weight;

/// How many patterns are kept.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(127);

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 16 << 10;

/// The largest compiled pattern, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// What a search may cost at worst: the weight of the pattern times the bytes of the text. This much takes about a second where every
/// byte is as bad as can be, and usually a few milliseconds.
const MAX_WORK: usize = 1 << 28;

static PATTERNS: LazyLock<Mutex<LruCache<String, Arc<Pattern>>>> = LazyLock::new(|| Mutex::new(LruCache::new(CAPACITY)));

/// A compiled pattern.
pub(in super::super) struct Pattern {
    pub regex: Regex,
    /// In how many places of the pattern a search may be at the same time.
    weight: usize,
}

/// The pattern in a script's argument.
pub(in super::super) fn compiled(function: &str, pattern: &Value) -> mlua::Result<Arc<Pattern>> {
    let pattern = argument::text(function, "the pattern", pattern)?;
    find(&pattern).map_err(|problem| wrong(function, problem))
}

/// The compiled pattern, or one line that says what is wrong with it.
pub(in super::super) fn find(pattern: &str) -> Result<Arc<Pattern>, String> {
    let lock = || PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().get(pattern) {
        return Ok(Arc::clone(known));
    }
    if pattern.len() > MAX_PATTERN {
        return Err(format!("the pattern is longer than {} KiB", MAX_PATTERN >> 10));
    }
    let compiled = Arc::new(compile(pattern)?);
    lock().put(pattern.to_owned(), Arc::clone(&compiled));
    Ok(compiled)
}

fn compile(pattern: &str) -> Result<Pattern, String> {
    let regex = RegexBuilder::new(pattern).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).nest_limit(100).build();
    let regex = regex.map_err(|error| match error {
        Error::CompiledTooBig(_) => format!(
            "the pattern {} is too large when compiled; a class of ASCII is smaller (`[0-9A-Za-z_]` for `\\w`), and so is a lower count",
            shown(pattern)
        ),
        error => described(pattern, &error.to_string()),
    })?;
    Ok(Pattern { regex, weight: weight(pattern) })
}

/// The parser's own message has several lines: the pattern, a mark below the place, the reason.
fn described(pattern: &str, message: &str) -> String {
    let place = message.lines().rev().find(|line| line.trim_start().starts_with('^')).and_then(|line| line.find('^'));
    let reason = message.lines().last().unwrap_or(message);
    let reason = reason.trim().strip_prefix("error: ").unwrap_or(reason.trim());
    // The parser indents the pattern by four spaces. Of a pattern of several lines it numbers the lines instead.
    match place.and_then(|place| place.checked_sub(4)).filter(|_| !pattern.contains('\n')) {
        Some(place) => format!("the pattern {} is wrong at character {}: {reason}", shown(pattern), place + 1),
        None => format!("the pattern {} is wrong: {reason}", shown(pattern)),
    }
}

fn shown(pattern: &str) -> String {
    let line = pattern.replace('\n', "\\n");
    let end = line.floor_char_boundary(120);
    if end < line.len() { format!("`{}...`", &line[..end]) } else { format!("`{line}`") }
}

/// Refuses a search that could take long although its time is in proportion to the text.
pub(in super::super) fn check_work(function: &str, pattern: &Pattern, length: usize) -> mlua::Result<()> {
    if pattern.weight.saturating_mul(length) > MAX_WORK {
        let longest = MAX_WORK / pattern.weight.max(1);
        return Err(wrong(function, format_args!("with the counts in this pattern a text may have {longest} bytes; it has {length}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_pattern_is_described_in_one_line() {
        for (pattern, expected) in [
            ("a(b", "the pattern `a(b` is wrong at character 2: unclosed group"),
            ("^a(b", "the pattern `^a(b` is wrong at character 3: unclosed group"),
            ("(?=x)", "the pattern `(?=x)` is wrong at character 1: look-around, including look-ahead and look-behind, is not supported"),
            ("\\1", "the pattern `\\1` is wrong at character 1: backreferences are not supported"),
            ("a\n(", "the pattern `a\\n(` is wrong: unclosed group"),
            (
                "\\w{100}",
                "the pattern `\\w{100}` is too large when compiled; a class of ASCII is smaller (`[0-9A-Za-z_]` for `\\w`), and so is a lower count",
            ),
        ] {
            assert_eq!(find(pattern).map(|_| ()).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_pattern_is_compiled_once() {
        assert!(Arc::ptr_eq(&find("one{1,2}").unwrap(), &find("one{1,2}").unwrap()));
    }
}
