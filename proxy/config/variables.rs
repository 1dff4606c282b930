//! `${VAR}` and `${VAR:-default}` in the scalars of a document.

use std::path::Path;

use super::fault::{Fault, join};
use super::tree::{Node, Value};

/// Looks a variable up: the environment, or what a test says.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How deep defaults may stand in defaults: `${A:-${B:-c}}` is 2.
const MAX_DEPTH: usize = 8;
/// How long a scalar may become, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Replaces the variables in every scalar below `node`. A scalar with a fault is cut out.
pub(super) fn replace(node: &mut Node, lookup: Lookup, file: &Path, faults: &mut Vec<Fault>) {
    replace_below(node, "", lookup, file, faults);
}

fn replace_below(node: &mut Node, path: &str, lookup: Lookup, file: &Path, faults: &mut Vec<Fault>) {
    match &mut node.value {
        Value::Scalar(scalar) if scalar.text.contains("${") => match expand(&scalar.text, lookup, 1) {
            Ok(expanded) => {
                scalar.variable = expanded.variable;
                scalar.text = expanded.text;
            }
            Err(message) => {
                faults.push(Fault::at(file, node.spot, path, message));
                node.value = Value::Cut;
            }
        },
        Value::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                replace_below(item, &join(path, &format!("[{i}]")), lookup, file, faults);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                replace_below(&mut entry.value, &join(path, &entry.key), lookup, file, faults);
            }
        }
        Value::Null | Value::Scalar(_) | Value::Cut => {}
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Expanded {
    text: String,
    /// A variable was in it, not just a `$${`.
    variable: bool,
}

/// The values of variables are not looked into: a secret may hold `${`.
fn expand(text: &str, lookup: Lookup, depth: usize) -> Result<Expanded, String> {
    if depth > MAX_DEPTH {
        return Err(format!("has variables nested deeper than {MAX_DEPTH} levels"));
    }
    let mut out = Expanded { text: String::with_capacity(text.len()), variable: false };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.text.push_str(&rest[..at]);
            out.text.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.text.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = closing(inner).ok_or("has a `${` without `}`; a literal `${` is written `$${`")?;
        out.text.push_str(&value(&inner[..end], lookup, depth)?);
        out.variable = true;
        rest = &inner[end + 1..];
        if out.text.len() > MAX_BYTES {
            return Err(format!("grows longer than {} MiB by its variables", MAX_BYTES >> 20));
        }
    }
    out.text.push_str(rest);
    Ok(out)
}

/// The value of `NAME` or `NAME:-default`; as in a shell, the default also holds for an empty variable.
fn value(inner: &str, lookup: Lookup, depth: usize) -> Result<String, String> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_name(name) {
        return Err("has a `${...}` that does not hold a variable's name; a literal `${` is written `$${`".into());
    }
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(expand(default, lookup, depth + 1)?.text),
        (None, None) => Err(format!("the variable `{name}` is not set; set it, or write `${{{name}:-default}}`")),
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Where the `}` is that belongs to a brace before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "ODD" => Some("${A}".to_owned()),
            _ => None,
        };
        expand(text, &lookup, 1).map(|expanded| expanded.text)
    }

    #[test]
    fn variables_are_replaced() {
        let cases = [
            ("${A}", "one"),
            ("<${A}|${A}>", "<one|one>"),
            ("${B:-two}", "two"),
            ("${B:-}", ""),
            ("${EMPTY:-two}", "two"),
            ("${EMPTY}", ""),
            ("${B:-${A}}", "one"),
            ("${B:-{\"x\": {}}}", "{\"x\": {}}"),
            ("${B:-http://h/v1}", "http://h/v1"),
            ("$${A}", "${A}"),
            ("$${A} ${A} $A {A}", "${A} one $A {A}"),
            ("${ODD}", "${A}"),
        ];
        for (text, want) in cases {
            assert_eq!(expanded(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_a_fault() {
        assert!(expanded("${B}").unwrap_err().contains("`B` is not set"));
        assert!(expanded("x ${A").unwrap_err().contains("without `}`"));
        for text in ["${}", "${1A}", "${A B}", "${A-x}", "${é}"] {
            assert!(expanded(text).unwrap_err().contains("name"), "{text}");
        }
        let deep = format!("{}x{}", "${B:-".repeat(1000), "}".repeat(1000));
        assert!(expanded(&deep).unwrap_err().contains("nested"));
    }

    #[test]
    fn only_a_variable_makes_a_scalar_typeless() {
        let lookup = |_: &str| Some("1".to_owned());
        assert!(expand("${A}", &lookup, 1).unwrap().variable);
        assert!(!expand("$${A}", &lookup, 1).unwrap().variable);
    }
}
