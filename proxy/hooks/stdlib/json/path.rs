//! JSONPath (RFC 9535) with a bound on its work: paths and values come from scripts, and a short path can ask for a walk without end.

mod filter;

use jsonpath_rust::parser::errors::JsonPathError;
use jsonpath_rust::parser::model::{Segment, Selector};
use jsonpath_rust::parser::parse_json_path;
use serde_json::Value;

/// The longest path, in bytes.
const MAX_PATH: usize = 1000;

/// The deepest brackets in a path: its parser takes time that grows with the power of it.
const MAX_DEPTH: usize = 8;

/// The most places of a value that one query looks at.
const MAX_STEPS: usize = 500_000;

/// The most matches.
const MAX_MATCHES: usize = 10_000;

/// A path that is well-formed.
#[derive(Debug)]
pub(super) struct Path(Vec<Segment>);

impl Path {
    /// `Err` says what is wrong, and where.
    pub(super) fn parse(text: &str) -> Result<Path, String> {
        let problem = |problem: String| format!("`{text}` is not a JSONPath: {problem}");
        if text.len() > MAX_PATH {
            return Err(format!("the path is longer than {MAX_PATH} bytes"));
        }
        if depth(text) > MAX_DEPTH {
            return Err(problem(format!("its brackets are more than {MAX_DEPTH} deep")));
        }
        if !text.starts_with('$') {
            return Err(problem("it begins with `$`".into()));
        }
        let path = parse_json_path(text).map_err(|error| problem(described(text, &error)))?;
        filter::check(&path.segments).map_err(problem)?;
        Ok(Path(path.segments))
    }

    /// What the path finds, in order.
    pub(super) fn find<'a>(&self, value: &'a Value) -> Result<Vec<&'a Value>, String> {
        let found = Walk { root: value, n_steps: 0 }.follow(&self.0, value)?;
        if found.len() > MAX_MATCHES {
            return Err(format!("the path has more than {MAX_MATCHES} matches"));
        }
        Ok(found)
    }
}

/// One query under way.
struct Walk<'a> {
    root: &'a Value,
    n_steps: usize,
}

impl<'a> Walk<'a> {
    fn follow(&mut self, segments: &[Segment], from: &'a Value) -> Result<Vec<&'a Value>, String> {
        let mut nodes = vec![from];
        for segment in segments {
            let mut next = Vec::new();
            for node in nodes {
                self.segment(segment, node, &mut next)?;
            }
            nodes = next;
        }
        Ok(nodes)
    }

    fn segment(&mut self, segment: &Segment, node: &'a Value, found: &mut Vec<&'a Value>) -> Result<(), String> {
        match segment {
            Segment::Selector(selector) => self.select(selector, node, found),
            Segment::Selectors(selectors) => selectors.iter().try_for_each(|selector| self.select(selector, node, found)),
            Segment::Descendant(inner) => {
                self.segment(inner, node, found)?;
                children(node).try_for_each(|child| self.segment(segment, child, found))
            }
        }
    }

    fn select(&mut self, selector: &Selector, node: &'a Value, found: &mut Vec<&'a Value>) -> Result<(), String> {
        self.step(1)?;
        match selector {
            Selector::Name(name) => found.extend(node.get(name)),
            Selector::Index(index) => found.extend(node.as_array().and_then(|items| items.get(place(*index, items.len())?))),
            Selector::Wildcard => {
                self.step(n_children(node))?;
                found.extend(children(node));
            }
            Selector::Slice(start, end, step) => {
                let Value::Array(items) = node else { return Ok(()) };
                self.step(items.len())?;
                found.extend(slice(items, *start, *end, step.unwrap_or(1)));
            }
            Selector::Filter(filter) => {
                for child in children(node) {
                    self.step(1)?;
                    if self.holds(filter, child)? {
                        found.push(child);
                    }
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, n_steps: usize) -> Result<(), String> {
        self.n_steps += n_steps;
        if self.n_steps > MAX_STEPS { Err("the path looks at too many places of this value".into()) } else { Ok(()) }
    }
}

fn children(node: &Value) -> impl Iterator<Item = &Value> {
    let (items, fields) = match node {
        Value::Array(items) => (Some(items.iter()), None),
        Value::Object(fields) => (None, Some(fields.values())),
        _ => (None, None),
    };
    items.into_iter().flatten().chain(fields.into_iter().flatten())
}

fn n_children(node: &Value) -> usize {
    match node {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

/// The place that an index means; a negative one counts from the end.
fn place(index: i64, length: usize) -> Option<usize> {
    let length = length as i64;
    usize::try_from(if index < 0 { length + index } else { index }).ok()
}

fn slice(items: &[Value], start: Option<i64>, end: Option<i64>, step: i64) -> Vec<&Value> {
    let length = items.len() as i64;
    let from_start = |index: i64| if index < 0 { length + index } else { index };
    let mut found = Vec::new();
    let (mut at, stop) = if step >= 0 {
        (from_start(start.unwrap_or(0)).clamp(0, length), from_start(end.unwrap_or(length)).clamp(0, length))
    } else {
        (from_start(start.unwrap_or(length - 1)).clamp(-1, length - 1), end.map_or(-1, |end| from_start(end).clamp(-1, length - 1)))
    };
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        found.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
        at += step;
    }
    found
}

/// How deep the brackets of a path stand in one another; those in quotes count too, which does no harm.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The parser's message has several lines: `--> line:column`, the text, a mark, the reason.
fn described(text: &str, error: &JsonPathError) -> String {
    let message = error.to_string();
    let Some((_, rest)) = message.split_once("--> ") else { return message.replace('\n', " ") };
    let column: usize = rest.split(['\n', ' ']).next().and_then(|place| place.split(':').nth(1)?.parse().ok()).unwrap_or(1);
    let rest = text.chars().skip(column - 1).collect::<String>();
    if rest.is_empty() { "it ends too early".to_owned() } else { format!("it is wrong at character {column}, at `{rest}`") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::super::meter::cpu_now;
    use super::*;

    fn query(path: &str, value: &Value) -> Result<Value, String> {
        Ok(Path::parse(path)?.find(value)?.into_iter().cloned().collect())
    }

    #[test]
    fn paths_find_what_the_standard_says() {
        let value = json!({
            "o": { "j j": { "k.k": 3 }, "a": [5, 3, { "a": 2 }, null] }, "list": ["a", "b", "c", "d", "e", "f", "g"],
            "books": [{ "t": "x", "p": 8 }, { "t": "y", "p": 22.5, "isbn": "1" }, { "t": "z" }],
        });
        for (path, expected) in [
            ("$.books[*].t", json!(["x", "y", "z"])),
            ("$['o']['j j']['k.k']", json!([3])),
            ("$..a", json!([[5, 3, { "a": 2 }, null], 2])),
            ("$.o.a[0,-1,9]", json!([5, null])),
            ("$.list[1:3]", json!(["b", "c"])),
            ("$.list[5:1:-2]", json!(["f", "d"])),
            ("$.list[::-1]", json!(["g", "f", "e", "d", "c", "b", "a"])),
            ("$.list[-2:]", json!(["f", "g"])),
            ("$.list[::0]", json!([])),
            ("$.nothing", json!([])),
            ("$.list.x", json!([])),
        ] {
            assert_eq!(query(path, &value), Ok(expected), "{path}");
        }
        assert_eq!(query("$", &value), Ok(json!([value])));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (path, expected) in [
            ("$.[", "`$.[` is not a JSONPath: it is wrong at character 3, at `[`"),
            ("$.a[", "`$.a[` is not a JSONPath: it ends too early"),
            ("a.b", "`a.b` is not a JSONPath: it begins with `$`"),
            ("$[?in(@.a, $.b)]", "`$[?in(@.a, $.b)]` is not a JSONPath: there is no function `in`"),
            ("$[[[[[[[[[[", "`$[[[[[[[[[[` is not a JSONPath: its brackets are more than 8 deep"),
        ] {
            assert_eq!(Path::parse(path).map(|_| ()).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_walk_without_end_is_refused() {
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep, 1]);
        }
        let wide = Value::Array((0..2000).map(|n| json!({ "n": n })).collect());
        for (path, value) in
            [("$..*..*..*..*..*", &deep), ("$[0,0][0,0,0][0,0,0]..*..*..*", &deep), ("$[?$[*].n]", &wide), ("$..[?@..n]..[?$..x]", &wide)]
        {
            let began = cpu_now();
            assert_eq!(query(path, value).unwrap_err(), "the path looks at too many places of this value", "{path}");
            assert!(cpu_now() - began < 5_000_000_000, "{path}");
        }
        let brackets = format!("$[?{}@.a{}]", "length(".repeat(7), ")".repeat(7));
        assert!(Path::parse(&brackets).is_err() || query(&brackets, &wide).is_ok());
    }
}
