//! A file as a tree in which every value knows where it stands. YAML and JSON end up the same.

use std::collections::HashMap;
use std::path::Path;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Tag, options};

use super::fault::{Fault, Places, Spot, join};

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// How deep values may be nested.
const MAX_DEPTH: usize = 64;
const TOO_DEEP: &str = "is nested deeper than 64 levels";
/// How many values a file may hold once its aliases are filled in: a few lines of aliases can stand for billions.
const MAX_NODES: usize = 100_000;

/// A value and where it stands: itself for a scalar, the key in front of it for anything else.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub spot: Spot,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A value in which a fault was found: the rest of the file is read as if it were not there.
    Cut,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub spot: Spot,
    pub value: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub text: String,
    pub style: Style,
    /// A variable was replaced in it: it is read as whatever type its field has.
    pub variable: bool,
}

/// How a scalar is written, which decides what it may be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A string, whatever it looks like.
    Quoted,
    /// YAML without quotes: what its field needs, or else what it looks like.
    Plain,
    /// A number or boolean of JSON: never a string.
    Literal,
}

/// Reads what is in `file`: JSON or YAML, as its name says. `None` when its syntax is broken; faults may be found
/// although there is a tree.
pub(super) fn parse(file: &Path, bytes: &[u8], faults: &mut Vec<Fault>) -> Option<Node> {
    if bytes.len() > MAX_BYTES {
        faults.push(Fault::at(file, Spot::START, "", format!("is longer than {} MiB", MAX_BYTES >> 20)));
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = good.rsplit('\n').next().unwrap_or_default();
            let spot = Spot { line: good.matches('\n').count() + 1, column: line.chars().count() + 1 };
            faults.push(Fault::at(file, spot, "", "is not UTF-8"));
            return None;
        }
    };
    let json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if json && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        faults.push(json_fault(file, text, &error));
        return None;
    }
    let parser = Parser::new_from_str_with_options(text, options! { emit_comments: false });
    let mut builder = Builder { parser, file, json, faults, anchors: HashMap::new(), n_nodes: 0 };
    match builder.document() {
        Ok(node) => Some(node),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

impl Node {
    /// Takes out what is there for others: `$schema` for editors, `x-...` to hang anchors on.
    pub(super) fn drop_extensions(&mut self) {
        if let Value::Map(entries) = &mut self.value {
            entries.retain(|entry| entry.key != "$schema" && !entry.key.starts_with("x-"));
        }
    }

    /// Where each key stands.
    pub(super) fn places(&self, file: &Path) -> Places {
        let mut spots = HashMap::new();
        self.walk("", &mut |path, node| {
            spots.insert(path.to_owned(), node.spot);
        });
        Places { file: file.to_owned(), spots }
    }

    fn walk(&self, path: &str, visit: &mut impl FnMut(&str, &Node)) {
        visit(path, self);
        match &self.value {
            Value::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    item.walk(&join(path, &format!("[{i}]")), visit);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    entry.value.walk(&join(path, &entry.key), visit);
                }
            }
            Value::Null | Value::Scalar(_) | Value::Cut => {}
        }
    }

    /// How many nodes this is, and over how many levels.
    fn size(&self) -> (usize, usize) {
        let sum = |(n, depth): (usize, usize), node: &Node| {
            let (more, deeper) = node.size();
            (n + more, depth.max(deeper + 1))
        };
        match &self.value {
            Value::List(items) => items.iter().fold((1, 1), sum),
            Value::Map(entries) => entries.iter().map(|entry| &entry.value).fold((1, 1), sum),
            Value::Null | Value::Scalar(_) | Value::Cut => (1, 1),
        }
    }
}

/// Serde's JSON parser counts columns in bytes and puts the place into the message.
fn json_fault(file: &Path, text: &str, error: &serde_json::Error) -> Fault {
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let column = line.char_indices().take_while(|(at, _)| *at < error.column()).count().max(1);
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Fault::at(file, Spot { line: error.line().max(1), column }, "", message)
}

struct Builder<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    file: &'a Path,
    json: bool,
    faults: &'a mut Vec<Fault>,
    anchors: HashMap<usize, Node>,
    n_nodes: usize,
}

/// A fault after which the file cannot be read on is an `Err`; others are put aside.
type Built<T> = Result<T, Fault>;

impl<'a> Builder<'a> {
    fn document(&mut self) -> Built<Node> {
        let mut root = None;
        loop {
            let (event, spot) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(Fault::at(self.file, spot, "", "holds more than one document"));
                }
                Event::DocumentStart(..) => {
                    let (event, spot) = self.next()?;
                    root = Some(self.node(event, spot, None, "", 0)?);
                }
                Event::StreamEnd => return Ok(root.unwrap_or(Node { spot: Spot::START, value: Value::Null })),
                _ => return Err(Fault::at(self.file, spot, "", "is not a document")),
            }
        }
    }

    fn next(&mut self) -> Built<(Event<'a>, Spot)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, spot(&span.start))),
            Some(Err(error)) => Err(Fault::at(self.file, spot(error.marker()), "", error.info())),
            None => Ok((Event::StreamEnd, Spot::START)),
        }
    }

    /// The node that begins with `event`, the value of a key at `key_spot` perhaps.
    fn node(&mut self, event: Event<'a>, spot: Spot, key_spot: Option<Spot>, path: &str, depth: usize) -> Built<Node> {
        let fatal = |message: &str| Err(Fault::at(self.file, spot, path, message));
        self.n_nodes += 1;
        if depth > MAX_DEPTH {
            return fatal(TOO_DEEP);
        }
        if self.n_nodes > MAX_NODES {
            return fatal(&format!("is the value after the {MAX_NODES}th, which is the last one allowed"));
        }
        let outer = key_spot.unwrap_or(spot);
        let (id, node) = match event {
            Event::Scalar(text, style, id, tag) => (id, self.scalar(&text, style, tag.as_deref(), spot, outer, path)),
            Event::SequenceStart(_, id, tag) => {
                self.refuse(tag.as_deref(), spot, path);
                (id, Node { spot: outer, value: Value::List(self.list(path, depth)?) })
            }
            Event::MappingStart(_, id, tag) => {
                self.refuse(tag.as_deref(), spot, path);
                (id, Node { spot: outer, value: Value::Map(self.map(path, depth)?) })
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return fatal("refers to a value that is not complete before it");
                };
                let (n_nodes, levels) = node.size();
                self.n_nodes += n_nodes;
                return if depth + levels > MAX_DEPTH { fatal(TOO_DEEP) } else { Ok(node) };
            }
            _ => return fatal("is not a value"),
        };
        if id != 0 {
            self.anchors.insert(id, node.clone());
        }
        Ok(node)
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, spot: Spot, outer: Spot, path: &str) -> Node {
        let string = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
        if !string {
            self.refuse(tag, spot, path);
        }
        let style = match style {
            ScalarStyle::Plain if self.json => Style::Literal,
            ScalarStyle::Plain if !string => Style::Plain,
            _ => Style::Quoted,
        };
        if style != Style::Quoted && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Node { spot: outer, value: Value::Null };
        }
        Node { spot, value: Value::Scalar(Scalar { text: text.to_owned(), style, variable: false }) }
    }

    fn list(&mut self, path: &str, depth: usize) -> Built<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            let (event, spot) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            let path = join(path, &format!("[{}]", items.len()));
            items.push(self.node(event, spot, None, &path, depth + 1)?);
        }
    }

    fn map(&mut self, path: &str, depth: usize) -> Built<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Spot> = HashMap::new();
        loop {
            let (event, spot) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let plain = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let key = match event {
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Fault::at(self.file, spot, path, "a key must be a plain word or a string")),
            };
            let path = join(path, &key);
            let (event, value_spot) = self.next()?;
            let value = self.node(event, value_spot, Some(spot), &path, depth + 1)?;
            if key == "<<" && plain && !self.json {
                self.merge(value, spot, &path, &mut merged);
            } else if let Some(first) = seen.get(&key) {
                let message = format!("is written twice; the first one is on line {}", first.line);
                self.faults.push(Fault::at(self.file, spot, path, message));
            } else {
                seen.insert(key.clone(), spot);
                entries.push(Entry { key, spot, value });
            }
        }
        entries.extend(merged.into_iter().filter(|entry| seen.insert(entry.key.clone(), entry.spot).is_none()));
        Ok(entries)
    }

    /// YAML's merge key, `<<: *defaults` or `<<: [*a, *b]`: the first one that has a key wins.
    fn merge(&mut self, value: Node, spot: Spot, path: &str, merged: &mut Vec<Entry>) {
        match value.value {
            Value::Map(entries) => merged.extend(entries),
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                for item in items {
                    self.merge(item, spot, path, merged);
                }
            }
            _ => self.faults.push(Fault::at(self.file, spot, path, "merges mappings alone: `<<: *anchor`")),
        }
    }

    fn refuse(&mut self, tag: Option<&Tag>, spot: Spot, path: &str) {
        if let Some(tag) = tag {
            let message = format!("the tag `{}` means nothing here; leave it out", tag.original());
            self.faults.push(Fault::at(self.file, spot, path, message));
        }
    }
}

fn spot(marker: &Marker) -> Spot {
    Spot { line: marker.line(), column: marker.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, text: impl AsRef<[u8]>) -> Vec<String> {
        let mut faults = Vec::new();
        parse(Path::new(name), text.as_ref(), &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    fn spot_of(name: &str, text: &str, key: &str) -> (usize, usize) {
        let mut faults = Vec::new();
        let places = parse(Path::new(name), text.as_ref(), &mut faults).unwrap().places(Path::new(name));
        assert!(faults.is_empty(), "{faults:?}");
        let spot = places.spots[key];
        (spot.line, spot.column)
    }

    #[test]
    fn every_value_knows_its_place() {
        let text = "a: 1\nb:\n  - x: é \n    y: [1, 2]\n  - z\n";
        assert_eq!(spot_of("f.yaml", text, "a"), (1, 4));
        assert_eq!(spot_of("f.yaml", text, "b"), (2, 1), "a collection stands where its key does");
        assert_eq!(spot_of("f.yaml", text, "b[0]"), (3, 5));
        assert_eq!(spot_of("f.yaml", text, "b[0].y[1]"), (4, 12));
        assert_eq!(spot_of("f.yaml", text, "b[1]"), (5, 5));
        let text = "{\n\t\"a\": [1,\n\t\t{\"b\": \"\\ud83d\\ude00\\/\"}]\n}";
        assert_eq!(spot_of("f.json", text, "a[1].b"), (3, 9), "tabs, surrogates and escapes of JSON are read");
    }

    #[test]
    fn syntax_errors_have_a_place() {
        assert_eq!(faults("f.json", "{\n  \"é\": 1,\n}"), ["f.json:3:1: key must be a string"]);
        assert_eq!(faults("f.json", "{\"é\" 1}"), ["f.json:1:6: expected `:`"]);
        assert_eq!(faults("f.yaml", "a: [1, 2\nb: 3\n").len(), 1);
        assert!(faults("f.yaml", "a: b: c\n")[0].starts_with("f.yaml:1:"));
        assert_eq!(faults("f.json", "a: 1").len(), 1, "JSON is not YAML");
        assert_eq!(faults("f.yaml", b"a: 1\nb: \xc3\xa9\xff"), ["f.yaml:2:5: is not UTF-8"]);
    }

    #[test]
    fn duplicate_keys_are_faults_in_both_forms() {
        let at = "a.b: is written twice; the first one is on line 2";
        assert_eq!(faults("f.yaml", "a:\n  b: 1\n  b: 2\n"), [format!("f.yaml:3:3: {at}")]);
        assert_eq!(faults("f.json", "{\"a\": {\n  \"b\": 1,\n  \"b\": 2}}"), [format!("f.json:3:3: {at}")]);
    }

    #[test]
    fn anchors_and_merge_keys_are_filled_in() {
        let mut faults = Vec::new();
        let tree = parse(Path::new("f.yaml"), b"a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n", &mut faults).unwrap();
        let mut seen = Vec::new();
        tree.walk("", &mut |path, node| {
            if let Value::Scalar(scalar) = &node.value {
                seen.push(format!("{path}={}", scalar.text));
            }
        });
        assert_eq!(seen, ["a.x=1", "a.y=2", "b.x=3", "b.y=2"]);
    }

    #[test]
    fn bombs_are_refused() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        assert!(faults("f.yaml", &deep)[0].contains("nested"), "{:?}", faults("f.yaml", &deep));
        assert_eq!(faults("f.json", &deep).len(), 1);
        let block: String = (0..200).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        assert!(faults("f.yaml", &block)[0].contains("nested"));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let below = format!("*a{}, ", i - 1).repeat(10);
            bomb.push_str(&format!("a{i}: &a{i} [{below}]\n"));
        }
        assert!(faults("f.yaml", &bomb)[0].contains("the last one allowed"));
        let stairs: String = (1..30).map(|i| format!("a{i}: &a{i} [[[*a{}]]]\n", i - 1)).collect();
        assert!(faults("f.yaml", format!("a0: &a0 x\n{stairs}"))[0].contains("nested"));
        assert!(faults("f.yaml", "a: &a [*a]\n")[0].contains("not complete"));
        assert_eq!(faults("f.yaml", "a: !!python/object x\n").len(), 1);
        assert!(faults("f.yaml", "a: 1\n---\nb: 2\n")[0].contains("more than one document"));
    }
}
