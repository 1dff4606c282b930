//! The JSON Schema of a tool's arguments: compiled once, checked before every call, explained to the model.

use std::collections::HashSet;

use jsonschema::{PatternOptions, Validator};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::chat::Object;

/// How deeply a schema may be nested, and how many values it may hold: a model reads every one of them.
const MAX_DEPTH: usize = 32;
const MAX_NODES: usize = 10_000;
/// How many errors the model reads about one call, and how long each may be.
const MAX_ERRORS: usize = 3;
const MAX_ERROR_CHARS: usize = 200;

/// A compiled schema.
pub struct Schema {
    validator: Option<Validator>,
}

impl Schema {
    /// Compiles a schema. `Err` says what is wrong with it. References may only point into the schema itself.
    pub fn compile(schema: &Value) -> Result<Schema, String> {
        if !schema.is_object() {
            return Err("a schema must be an object".into());
        }
        let mut nodes = 0;
        bound(schema, 0, &mut nodes)?;
        endless(schema)?;
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(10_000).size_limit(1 << 20))
            .should_validate_formats(false)
            .build(schema)
            .map_err(|e| shorten(&e.to_string()))?;
        Ok(Schema { validator: Some(validator) })
    }

    /// Fits every object.
    pub fn any() -> Schema {
        Schema { validator: None }
    }

    /// `Err` is a sentence for the model: where the arguments do not fit, and why.
    pub fn check(&self, arguments: &Value) -> Result<(), String> {
        let Some(validator) = &self.validator else { return Ok(()) };
        let mut errors = validator.iter_errors(arguments);
        let mut sentences: Vec<String> = errors
            .by_ref()
            .take(MAX_ERRORS)
            .map(|error| match error.instance_path().as_str() {
                "" => shorten(&error.to_string()),
                path => shorten(&format!("{path}: {error}")),
            })
            .collect();
        if sentences.is_empty() {
            return Ok(());
        }
        match errors.take(1000).count() {
            0 => {}
            more => sentences.push(format!("and {more} more")),
        }
        Err(sentences.join("; "))
    }

    /// The arguments as an object that fits. White space alone and `null` mean no arguments, as some models write it.
    pub fn parse(&self, arguments: &str) -> Result<Object, String> {
        let value = match arguments.trim() {
            "" | "null" => Value::Object(Object::new()),
            text => serde_json::from_str(text).map_err(|e| format!("the arguments are not valid JSON: {e}"))?,
        };
        if !value.is_object() {
            return Err(format!("the arguments must be a JSON object, not {}", kind(&value)));
        }
        self.check(&value)?;
        match value {
            Value::Object(object) => Ok(object),
            _ => Ok(Object::new()),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_ERROR_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn bound(value: &Value, depth: usize, nodes: &mut usize) -> Result<(), String> {
    *nodes += 1;
    if depth > MAX_DEPTH {
        return Err(format!("nested more than {MAX_DEPTH} deep"));
    }
    if *nodes > MAX_NODES {
        return Err(format!("more than {MAX_NODES} values"));
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| bound(item, depth + 1, nodes)),
        Value::Object(map) => map.values().try_for_each(|item| bound(item, depth + 1, nodes)),
        _ => Ok(()),
    }
}

/// Keywords whose subschemas apply to the very same value: a cycle of references through these alone never ends.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// The same, but their value is a map of subschemas.
const IN_PLACE_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
/// How many steps a chain of references may have.
const MAX_CHAIN: usize = 200;

/// Refuses references that lead back to themselves without stepping into the arguments, because checking would not end,
/// and forms of reference that cannot be followed here.
fn endless(root: &Value) -> Result<(), String> {
    let mut search = Search { root, open: Vec::new(), done: HashSet::new() };
    search.everywhere(root)
}

struct Search<'a> {
    root: &'a Value,
    open: Vec<*const Value>,
    done: HashSet<*const Value>,
}

impl<'a> Search<'a> {
    fn everywhere(&mut self, at: &'a Value) -> Result<(), String> {
        self.step(at)?;
        match at {
            Value::Array(items) => items.iter().try_for_each(|item| self.everywhere(item)),
            Value::Object(map) => map.values().try_for_each(|item| self.everywhere(item)),
            _ => Ok(()),
        }
    }

    fn step(&mut self, at: &'a Value) -> Result<(), String> {
        let here: *const Value = at;
        let Value::Object(map) = at else { return Ok(()) };
        if self.open.contains(&here) || self.open.len() > MAX_CHAIN {
            return Err("a `$ref` leads back to itself".into());
        }
        if self.done.contains(&here) {
            return Ok(());
        }
        self.open.push(here);
        if let Some(Value::String(reference)) = map.get("$ref") {
            let target = self.target(reference)?;
            self.step(target)?;
        }
        if map.get("$dynamicRef").or(map.get("$recursiveRef")).is_some_and(Value::is_string) {
            return Err("only `$ref` is followed, not `$dynamicRef` or `$recursiveRef`".into());
        }
        for next in IN_PLACE.iter().filter_map(|key| map.get(*key)) {
            match next {
                Value::Array(options) => options.iter().try_for_each(|option| self.step(option))?,
                next => self.step(next)?,
            }
        }
        for next in IN_PLACE_MAPS.iter().filter_map(|key| map.get(*key)?.as_object()) {
            next.values().try_for_each(|option| self.step(option))?;
        }
        self.open.pop();
        self.done.insert(here);
        Ok(())
    }

    fn target(&self, reference: &str) -> Result<&'a Value, String> {
        let unknown = || format!("`$ref: {}` does not point into the schema", shorten(reference));
        let pointer = reference.strip_prefix('#').ok_or_else(unknown)?;
        let pointer = percent_decode_str(pointer).decode_utf8().map_err(|_| unknown())?;
        self.root.pointer(&pointer).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn city() -> Schema {
        Schema::compile(&json!({
            "type": "object",
            "properties": { "city": { "type": "string" }, "days": { "type": "integer", "minimum": 1 } },
            "required": ["city"],
            "additionalProperties": false,
        }))
        .unwrap()
    }

    #[test]
    fn errors_name_the_place_and_the_reason() {
        let schema = city();
        assert_eq!(schema.parse(r#"{"city": 5}"#).unwrap_err(), r#"/city: 5 is not of type "string""#);
        assert_eq!(schema.parse("").unwrap_err(), r#""city" is a required property"#);
        assert_eq!(schema.parse(r#"{"city": "Rome", "days": 0}"#).unwrap_err(), "/days: 0 is less than the minimum of 1");
        assert_eq!(schema.parse("[1]").unwrap_err(), "the arguments must be a JSON object, not an array");
        assert!(schema.parse(r#"{"city": "Ro"#).unwrap_err().starts_with("the arguments are not valid JSON: EOF"));
        assert_eq!(schema.parse(r#"{"city":"Rome"}"#).unwrap(), *json!({"city": "Rome"}).as_object().unwrap());
    }

    #[test]
    fn no_arguments_have_many_spellings() {
        for text in ["", "  ", "{}", "null"] {
            assert_eq!(Schema::any().parse(text), Ok(Object::new()), "{text:?}");
        }
    }

    #[test]
    fn a_few_errors_are_enough() {
        let schema = Schema::compile(&json!({ "additionalProperties": { "type": "string" } })).unwrap();
        let message = schema.parse(r#"{"a":1,"b":2,"c":3,"d":4,"e":5}"#).unwrap_err();
        assert_eq!(message.matches("is not of type").count(), 3, "{message}");
        assert!(message.ends_with("; and 2 more"), "{message}");
        let long = format!(r#"{{"a": [{}0]}}"#, "0,".repeat(5000));
        assert!(schema.parse(&long).unwrap_err().chars().count() < 250);
    }

    #[test]
    fn references_stay_inside_the_schema() {
        for reference in ["http://127.0.0.1:9/schema.json", "file:///etc/passwd", "other.json"] {
            assert!(Schema::compile(&json!({ "properties": { "a": { "$ref": reference } } })).is_err(), "{reference}");
        }
        let inside = json!({
            "$defs": { "node": { "type": "object", "properties": { "next": { "$ref": "#/$defs/node" } } } },
            "properties": { "list": { "$ref": "#/$defs/node" } },
        });
        let schema = Schema::compile(&inside).unwrap();
        assert!(schema.parse(r#"{"list": {"next": {"next": {}}}}"#).is_ok());
        assert!(schema.parse(r#"{"list": {"next": {"next": 5}}}"#).is_err());
    }

    #[test]
    fn what_would_not_end_is_refused() {
        for schema in [
            json!({ "$ref": "#" }),
            json!({ "properties": { "a": { "allOf": [{ "$ref": "#/properties/a" }] } } }),
            json!({ "$defs": { "x": { "$ref": "#/$defs/y" }, "y": { "anyOf": [{ "$ref": "#/$defs/x" }] } },
                    "properties": { "a": { "$ref": "#/$defs/x" } } }),
        ] {
            assert_eq!(Schema::compile(&schema).err().as_deref(), Some("a `$ref` leads back to itself"), "{schema}");
        }
    }

    #[test]
    fn oversized_schemas_are_refused() {
        let mut deep = json!({});
        for _ in 0..50 {
            deep = json!({ "properties": { "a": deep } });
        }
        assert!(Schema::compile(&deep).is_err());
        assert!(Schema::compile(&json!({ "enum": (0..20_000).collect::<Vec<_>>() })).is_err());
        assert!(Schema::compile(&json!({ "type": "nonsense" })).is_err());
        assert!(Schema::compile(&json!([])).is_err());
    }
}
