//! The native half of `std.regex`. A search takes time in proportion to its text, whatever the pattern.

pub(super) mod cache;
mod weight;

use mlua::{Lua, MultiValue, Table, Value};
use regex::{Captures, Regex};

use super::argument::{self, MAX_TEXT, keep_time, number, wrong};

/// The most matches that one call finds.
const MAX_MATCHES: usize = 10_000;

/// Fills the native half.
pub(super) fn install(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.raw_set("test", lua.create_function(test)?)?;
    native.raw_set("find", lua.create_function(find)?)?;
    native.raw_set("match", lua.create_function(first_match)?)?;
    native.raw_set("find_all", lua.create_function(find_all)?)?;
    native.raw_set("replace", lua.create_function(replace)?)?;
    native.raw_set("split", lua.create_function(split)?)?;
    native.raw_set("escape", lua.create_function(escape)?)
}

fn test(_: &Lua, (text, pattern): (Value, Value)) -> mlua::Result<bool> {
    let regex = cache::compiled("regex.test", &pattern)?;
    let text = argument::text("regex.test", "the text", &text)?;
    cache::check_work("regex.test", &regex, text.len())?;
    Ok(regex.regex.is_match(&text))
}

fn find(lua: &Lua, (text, pattern, init): (Value, Value, Value)) -> mlua::Result<MultiValue> {
    let regex = cache::compiled("regex.find", &pattern)?;
    let text = argument::text("regex.find", "the text", &text)?;
    cache::check_work("regex.find", &regex, text.len())?;
    let nothing = || Ok(MultiValue::from_vec(vec![Value::Nil]));
    let init = if init.is_nil() { 1 } else { argument::whole("regex.find", "the place to begin at", &init)? };
    let from = if init < 0 { (text.len() as i64 + init).max(0) } else { (init - 1).max(0) };
    let Some(from) = usize::try_from(from).ok().filter(|from| *from <= text.len()) else { return nothing() };
    let Some(captures) = regex.regex.captures_at(&text, text.ceil_char_boundary(from)) else { return nothing() };
    let mut values = Vec::with_capacity(captures.len() + 1);
    for (group, capture) in captures.iter().enumerate() {
        match capture {
            Some(whole) if group == 0 => values.extend([number(whole.start() + 1), number(whole.end())]),
            Some(part) => values.push(Value::String(lua.create_string(part.as_str())?)),
            None => values.push(Value::Nil),
        }
    }
    Ok(MultiValue::from_vec(values))
}

fn first_match(lua: &Lua, (text, pattern): (Value, Value)) -> mlua::Result<Option<Table>> {
    let regex = cache::compiled("regex.match", &pattern)?;
    let text = argument::text("regex.match", "the text", &text)?;
    cache::check_work("regex.match", &regex, text.len())?;
    regex.regex.captures(&text).map(|found| captured(lua, &regex.regex, &found)).transpose()
}

fn find_all(lua: &Lua, (function, text, pattern): (String, Value, Value)) -> mlua::Result<Table> {
    let regex = cache::compiled(&function, &pattern)?;
    let text = argument::text(&function, "the text", &text)?;
    cache::check_work(&function, &regex, text.len())?;
    let matches = lua.create_table()?;
    for (n, found) in regex.regex.captures_iter(&text).enumerate() {
        check_matches(lua, &function, n)?;
        let Some(whole) = found.get(0) else { continue };
        let item = lua.create_table_with_capacity(0, 4)?;
        item.raw_set("first", number(whole.start() + 1))?;
        item.raw_set("last", number(whole.end()))?;
        item.raw_set("text", whole.as_str())?;
        item.raw_set("captures", captured(lua, &regex.regex, &found)?)?;
        matches.raw_push(item)?;
    }
    Ok(matches)
}

fn replace(lua: &Lua, (text, pattern, replacement): (Value, Value, Value)) -> mlua::Result<(Value, Value)> {
    let regex = cache::compiled("regex.replace", &pattern)?;
    let original = &text;
    let text = argument::text("regex.replace", "the text", original)?;
    let replacement = argument::text("regex.replace", "the replacement", &replacement)?;
    cache::check_work("regex.replace", &regex, text.len())?;
    let (mut replaced, mut from, mut n_matches) = (String::new(), 0, 0);
    for found in regex.regex.captures_iter(&text) {
        check_matches(lua, "regex.replace", n_matches)?;
        let Some(whole) = found.get(0) else { continue };
        replaced.push_str(&text[from..whole.start()]);
        expand(&found, &replacement, &mut replaced)?;
        from = whole.end();
        n_matches += 1;
    }
    if n_matches == 0 {
        return Ok((original.clone(), number(0)));
    }
    replaced.push_str(&text[from..]);
    Ok((Value::String(lua.create_string(replaced)?), number(n_matches)))
}

/// Appends the replacement with its `$1` and `${name}` filled in. One replacement may be long as well, so each group is counted.
fn expand(found: &Captures, replacement: &str, replaced: &mut String) -> mlua::Result<()> {
    let longest = found.get(0).map_or(0, |whole| whole.len());
    let bound = replaced.len() + replacement.len() + replacement.matches('$').count() * longest;
    if bound > MAX_TEXT {
        return Err(wrong("regex.replace", format_args!("the result would be longer than {} MiB", MAX_TEXT >> 20)));
    }
    found.expand(replacement, replaced);
    Ok(())
}

fn split(lua: &Lua, (text, pattern): (Value, Value)) -> mlua::Result<Table> {
    let regex = cache::compiled("regex.split", &pattern)?;
    let text = argument::text("regex.split", "the text", &text)?;
    cache::check_work("regex.split", &regex, text.len())?;
    let pieces = lua.create_table()?;
    for (n, piece) in regex.regex.split(&text).enumerate() {
        check_matches(lua, "regex.split", n)?;
        pieces.raw_push(lua.create_string(piece)?)?;
    }
    Ok(pieces)
}

fn escape(_: &Lua, text: Value) -> mlua::Result<String> {
    Ok(regex::escape(&argument::text("regex.escape", "the text", &text)?))
}

/// The groups of a match: `[0]` is the whole, then by number and by name. A group that took no part is not there.
fn captured(lua: &Lua, regex: &Regex, found: &Captures) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (group, name) in regex.capture_names().enumerate() {
        let Some(part) = found.get(group) else { continue };
        let part = lua.create_string(part.as_str())?;
        if let Some(name) = name {
            table.raw_set(name, &part)?;
        }
        table.raw_seti(group, part)?;
    }
    Ok(table)
}

fn check_matches(lua: &Lua, function: &str, n_matches: usize) -> mlua::Result<()> {
    if n_matches == MAX_MATCHES {
        return Err(wrong(function, format_args!("the text has more than {MAX_MATCHES} matches")));
    }
    keep_time(lua)
}
