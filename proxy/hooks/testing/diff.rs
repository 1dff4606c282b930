//! Shows how two values differ, for people.

use mlua::{Lua, Value as Lv};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::super::convert;

/// How many equal lines stand around a difference.
const CONTEXT: usize = 3;

/// The longest text of a diff, in bytes.
const MAX: usize = 8 << 10;

/// `got` and `want` in the form that suits them: two short values side by side, longer ones as a diff of lines.
pub(super) fn show(lua: &Lua, got: &Lv, want: &Lv) -> String {
    let (got, want) = (written(lua, got), written(lua, want));
    if !got.contains('\n') && !want.contains('\n') {
        return format!("got  {got}\nwant {want}");
    }
    let diff = TextDiff::from_lines(&want, &got);
    let mut text = String::from("- want\n+ got\n");
    for group in diff.grouped_ops(CONTEXT) {
        text.push_str("@@\n");
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            text.push(sign);
            text.push_str(change.value().trim_end_matches('\n'));
            text.push('\n');
        }
    }
    text.truncate(text.floor_char_boundary(MAX));
    text.trim_end().to_owned()
}

/// A text bare when it has lines, any other value as JSON with its keys in order; what JSON cannot say, as Lua shows it.
fn written(lua: &Lua, value: &Lv) -> String {
    match convert::from_lua(lua, value) {
        Ok(Value::String(text)) if text.contains('\n') => text,
        Ok(Value::Null) => "nil".into(),
        Ok(mut value) => {
            value.sort_all_objects();
            if value.to_string().len() <= 60 { value.to_string() } else { format!("{value:#}") }
        }
        Err(misfit) => format!("{} that{misfit}", value.type_name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(got: &str, want: &str) -> String {
        let lua = Lua::new();
        let value = |source: &str| lua.load(source).eval::<Lv>().unwrap();
        show(&lua, &value(got), &value(want))
    }

    #[test]
    fn short_values_stand_side_by_side_and_long_ones_line_by_line() {
        assert_eq!(diff("{ b = 1, a = 'x' }", "nil"), "got  {\"a\":\"x\",\"b\":1}\nwant nil");
        assert_eq!(diff("'a\\nb\\nc'", "'a\\nx\\nc'"), "- want\n+ got\n@@\n a\n-x\n+b\n c");
        assert_eq!(diff("print", "1"), "got  function that is a function, which JSON cannot say\nwant 1");
    }
}
