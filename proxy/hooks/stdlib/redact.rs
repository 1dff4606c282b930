//! The native half of `std.redact`: finding. What becomes of the findings is decided in Lua.

mod addresses;
mod contacts;
mod cursor;
mod finder;
mod keys;
mod numbers;
mod phone;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use mlua::{Lua, Table, UserData, UserDataRef, Value};

use super::super::point;
use super::argument::{self, keep_time, number, wrong};
use super::regex::cache;
use finder::{Finder, KINDS};

/// The longest name of a script's own kind, in bytes: placeholders are held back in a stream, and they are no longer than this and a number.
const MAX_NAME: usize = 32;

/// The most patterns of a script's own.
const MAX_PATTERNS: usize = 32;

impl UserData for Finder {}

/// Why a search ended early: an error of Lua's, or a sentence that needs the function's name.
enum Stopped {
    Raised(mlua::Error),
    Said(String),
}

impl From<String> for Stopped {
    fn from(problem: String) -> Self {
        Stopped::Said(problem)
    }
}

/// Fills the native half.
pub(super) fn install(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.raw_set("finder", lua.create_function(finder)?)?;
    native.raw_set("search", lua.create_function(search)?)
}

/// What the options of a script ask for.
fn finder(_: &Lua, (function, options): (String, Value)) -> mlua::Result<Finder> {
    let mut finder = Finder { kinds: (0..KINDS.len()).collect(), patterns: Vec::new(), allow: HashSet::new() };
    let Some(options) = argument::optional_table(&function, "the options", &options)? else { return Ok(finder) };
    argument::known(&function, options, &["kinds", "patterns", "placeholder", "allow"])?;
    if let Some(kinds) = argument::optional_table(&function, "`kinds`", &options.raw_get("kinds")?)? {
        let kinds = kinds.sequence_values::<Value>().map(|kind| kind_named(&function, &kind?)).collect::<mlua::Result<HashSet<_>>>()?;
        finder.kinds.retain(|kind| kinds.contains(kind));
    }
    if let Some(patterns) = argument::optional_table(&function, "`patterns`", &options.raw_get("patterns")?)? {
        for pair in patterns.pairs::<Value, Value>() {
            let (name, pattern) = pair?;
            finder.patterns.push((own_name(&function, &name)?, cache::compiled(&function, &pattern)?));
        }
        if finder.patterns.len() > MAX_PATTERNS {
            return Err(wrong(&function, format_args!("there are more than {MAX_PATTERNS} `patterns`")));
        }
        // Lua's tables have no order of their own.
        finder.patterns.sort_by(|a, b| a.0.cmp(&b.0));
    }
    if let Some(allow) = argument::optional_table(&function, "`allow`", &options.raw_get("allow")?)? {
        for text in allow.sequence_values::<Value>() {
            finder.allow.insert(argument::text(&function, "an item of `allow`", &text?)?.to_owned());
        }
    }
    Ok(finder)
}

fn kind_named(function: &str, kind: &Value) -> mlua::Result<usize> {
    let name = argument::text(function, "an item of `kinds`", kind)?;
    KINDS.iter().position(|kind| kind.name == &*name).ok_or_else(|| {
        let names = KINDS.map(|kind| kind.name);
        let near = point::suggest(&name, names);
        let hint = near.map_or_else(|| format!("; there are {}", names.join(", ")), |near| format!(": did you mean `{near}`?"));
        wrong(function, format_args!("there is no kind `{}`{hint}", &*name))
    })
}

/// A name for a kind of the script's own. It becomes a part of placeholders: `[CUSTOMER_NUMBER_1]`.
fn own_name(function: &str, name: &Value) -> mlua::Result<String> {
    let name = argument::text(function, "a name in `patterns`", name)?;
    if KINDS.iter().any(|kind| kind.name == &*name) {
        return Err(wrong(function, format_args!("`{}` in `patterns` is a built-in kind", &*name)));
    }
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !is_name || name.len() > MAX_NAME {
        return Err(wrong(
            function,
            format_args!(
                "`{}` in `patterns` is no name: it has small letters, digits and `_`, at most {MAX_NAME}, and begins with a letter",
                &*name
            ),
        ));
    }
    Ok(name.to_owned())
}

/// What is found in `text` behind its first `skip` bytes; the place up to which that is decided; and the place from which on the next
/// search of a stream needs the text. Both places count bytes.
fn search(
    lua: &Lua,
    (finder, function, text, skip, last): (UserDataRef<Finder>, String, Value, usize, bool),
) -> mlua::Result<(Table, Value, Value)> {
    let raw = argument::bytes(&function, "the text", &text)?;
    // In a stream the last character may have come in part.
    let whole = match std::str::from_utf8(&raw) {
        Ok(text) => text,
        Err(error) if !last && error.error_len().is_none() => std::str::from_utf8(&raw[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return Err(wrong(&function, "the text is not UTF-8")),
    };
    let searched = finder.search(whole, skip.min(whole.len()), last, || keep_time(lua).map_err(Stopped::Raised));
    let searched = searched.map_err(|stopped| match stopped {
        Stopped::Raised(error) => error,
        Stopped::Said(problem) => wrong(&function, problem),
    })?;
    let findings = lua.create_table_with_capacity(searched.findings.len(), 0)?;
    for finding in searched.findings {
        let item = lua.create_table_with_capacity(0, 4)?;
        item.raw_set("kind", finding.kind)?;
        item.raw_set("first", number(finding.start + 1))?;
        item.raw_set("last", number(finding.end))?;
        item.raw_set("text", &whole[finding.start..finding.end])?;
        findings.raw_push(item)?;
    }
    Ok((findings, number(searched.settled), number(searched.keep)))
}
