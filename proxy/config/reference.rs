//! The reference of all keys, docs/configuration.md, written from the schema and thus from the doc comments.

use std::fmt::Write;

use serde_json::Value;

use super::schema::{agent_schema, json_schema};

/// One key: its path, what it may hold, its default, what it is for.
pub(super) struct Row {
    pub key: String,
    form: String,
    pub default: Option<String>,
    about: String,
    required: bool,
}

/// The whole page, in Markdown.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut section = String::new();
    page.push_str("\n## The gateway's document\n");
    for row in rows(&json_schema()).iter().filter(|row| !row.key.starts_with("agents[*].")) {
        let head = row.key.split(['.', '[']).next().unwrap_or_default();
        if head != section {
            head.clone_into(&mut section);
            let _ = writeln!(page, "\n### `{section}`\n");
        }
        row.write(&mut page);
    }
    page.push_str("\n## An agent's document\n\nAn item of `agents`, or a file of its own below `agents_dir`.\n\n");
    for row in rows(&agent_schema()) {
        row.write(&mut page);
    }
    page
}

impl Row {
    fn write(&self, page: &mut String) {
        let about = self.about.replace('\n', " ");
        let _ = write!(page, "- `{}` ({}", self.key, self.form);
        match &self.default {
            Some(default) => drop(write!(page, ", default `{default}`")),
            None if self.required => page.push_str(", required"),
            None => {}
        }
        let _ = writeln!(page, "): {about}");
    }
}

/// Every key that the schema allows, in its order; those of lists and maps behind `[*]` and `.*`.
pub(super) fn rows(schema: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    collect(schema, schema, "", None, &mut rows);
    rows
}

fn collect(root: &Value, schema: &Value, path: &str, default: Option<&Value>, rows: &mut Vec<Row>) {
    let schema = resolve(root, schema);
    if let Some(Value::Object(properties)) = schema.get("properties") {
        let required = schema.get("required").and_then(Value::as_array);
        for (name, property) in properties.iter().filter(|(name, _)| *name != "$schema") {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let inner = property.get("default").or_else(|| default.and_then(|default| default.get(name)));
            rows.push(Row {
                form: form(root, property),
                default: inner.filter(|value| !value.is_null() && !value.is_object() && *value != &Value::Array(vec![])).map(text),
                about: property.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
                required: required.is_some_and(|required| required.iter().any(|known| known == name)),
                key: key.clone(),
            });
            collect(root, property, &key, inner, rows);
        }
    }
    if let Some(items) = schema.get("items") {
        collect(root, items, &format!("{path}[*]"), None, rows);
    }
    if let Some(values @ Value::Object(_)) = schema.get("additionalProperties") {
        collect(root, values, &format!("{path}.*"), None, rows);
    }
    for choice in ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)).filter_map(Value::as_array).flatten() {
        collect(root, choice, path, default, rows);
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
    target.and_then(|target| root.pointer(target)).unwrap_or(schema)
}

/// What may stand there, in a few words.
fn form(root: &Value, schema: &Value) -> String {
    let resolved = resolve(root, schema);
    if resolved.get("pattern").and_then(Value::as_str).is_some_and(|pattern| pattern.contains("ms|s")) {
        return "duration".into();
    }
    if let Some(choices) = resolved.get("anyOf").or_else(|| resolved.get("oneOf")).and_then(Value::as_array) {
        let mut forms: Vec<String> = Vec::new();
        for choice in choices.iter().filter(|choice| !is_variable(choice)) {
            let form = form(root, choice);
            if form != "nothing" && !forms.contains(&form) {
                forms.push(form);
            }
        }
        return forms.join(" or ");
    }
    if let Some(value) = resolved.get("const") {
        return format!("`{}`", text(value));
    }
    if let Some(values) = resolved.get("enum").and_then(Value::as_array) {
        return values.iter().map(|value| format!("`{}`", text(value))).collect::<Vec<_>>().join(" or ");
    }
    let kind = match resolved.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default(),
        _ => "",
    };
    match kind {
        "array" => match resolved.get("items").map(|items| form(root, items)) {
            Some(items) => format!("list of {items}"),
            None => "list".into(),
        },
        "object" => match resolved.get("additionalProperties") {
            Some(values @ Value::Object(_)) => format!("map of {}", form(root, values)),
            _ => "mapping".into(),
        },
        "integer" => "whole number".into(),
        "boolean" => "`true` or `false`".into(),
        "null" => "nothing".into(),
        "" => "any value".into(),
        other => other.into(),
    }
}

fn is_variable(schema: &Value) -> bool {
    schema.get("pattern").and_then(Value::as_str) == Some("\\$\\{")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

const INTRODUCTION: &str = "\
# Configuration

This page is written from the source: `MOONGATE_WRITE=1 cargo test --release --lib config::reference` writes it anew.

The gateway reads one document, `config/gateway.yaml` unless `--config` says otherwise, in YAML or in JSON, as the file's
name ends. `moongate check` says what is wrong with it, with file, line, column and key; `moongate schema` prints its JSON
Schema for editors (`# yaml-language-server: $schema=...` in the first line). `config/full.yaml` shows every key.

- **Root.** Paths are relative to the root: the folder of the document, or the parent of that folder when it is called
  `config`.
- **Variables.** `${VAR}` in a value is replaced by the environment's, `${VAR:-default}` has a default for a variable that is
  not set or empty, `$${` is a literal `${`. The text is then read as what the key needs, so that `max_concurrent: ${N}`
  works and a secret of digits stays a string. An empty one leaves an optional key out. Where any value may stand
  (`parameters`, a hook's `config`), it is read as YAML reads it; in quotes it stays a string.
- **Durations.** `500ms`, `30s`, `5m`, `24h`, `7d`, `1h30m`.
- **YAML.** Anchors, aliases and merge keys (`<<: *defaults`) work; top-level keys that begin with `x-` are left for them.
  Keys must not stand twice, tags are refused, unknown keys are faults.
- **Agents.** Below `agents_dir`, every `*.yaml`, `*.yml` and `*.json` is one agent, and its path is its name:
  `agents/team/x.yaml` is `team/x`. Files and folders whose names begin with `.` or `_` are left out, and so are files of
  other kinds.
- **Secrets.** Faults never quote values, and logs and listings show `***`.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        if std::env::var_os("MOONGATE_WRITE").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        let command = "MOONGATE_WRITE=1 cargo test --release --lib config::reference";
        assert!(stored == markdown(), "docs/configuration.md is stale; write it anew with\n  {command}");
    }

    #[test]
    fn every_key_says_what_it_is_for() {
        for row in rows(&json_schema()).iter().chain(&rows(&agent_schema())) {
            assert!(!row.about.is_empty() && !row.form.is_empty(), "{}: ({}) {}", row.key, row.form, row.about);
        }
    }
}
