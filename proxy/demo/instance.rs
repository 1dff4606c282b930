//! Makes a JSON value that fits a JSON Schema, with what a message says where it says something.

use serde_json::{Value, json};

use super::hints::Hints;
use super::mention::words;
use crate::chat::Object;

/// How deep a value may nest; a schema that demands more demands for ever.
const MAX_DEPTH: usize = 16;

/// Parameters of these names take a place.
const PLACES: &[&str] = &["city", "location", "place", "town", "country", "region", "where"];

/// Whether a tool with this schema asks for a place.
pub(super) fn takes_place(schema: &Value) -> bool {
    schema.get("properties").and_then(Value::as_object).is_some_and(|properties| properties.keys().any(|name| is_place(name)))
}

/// A value that fits `schema`. Optional properties are there only when the message says something for them.
pub(super) fn instance(schema: &Value, hints: &mut Hints) -> Value {
    Maker { root: schema, hints }.value("", schema, MAX_DEPTH)
}

struct Maker<'a> {
    /// Where `$ref` looks.
    root: &'a Value,
    hints: &'a mut Hints,
}

impl Maker<'_> {
    fn value(&mut self, name: &str, schema: &Value, depth: usize) -> Value {
        let Some(depth) = depth.checked_sub(1) else { return Value::Null };
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|path| self.root.pointer(path)).cloned();
            return target.map_or(Value::Null, |target| self.value(name, &target, depth));
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return self.mentioned(values).or(schema.get("default")).or(values.first()).cloned().unwrap_or_default();
        }
        if let Some(choices) = schema.get("anyOf").or(schema.get("oneOf")).and_then(Value::as_array) {
            let chosen = choices.iter().find(|choice| type_of(choice) != "null").or(choices.first());
            return chosen.map_or(Value::Null, |choice| self.value(name, choice, depth));
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            return self.value(name, &merged(schema, parts), depth);
        }
        match type_of(schema) {
            "object" => Value::Object(self.object(schema, depth)),
            "array" => self.array(name, schema, depth),
            "number" | "integer" => self.number(name, schema),
            "boolean" => schema.get("default").cloned().unwrap_or(Value::Bool(false)),
            "null" => Value::Null,
            _ => Value::String(self.string(name, schema)),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Object {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Object::new() };
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        // "3 dice with 20 sides": a number beside a property's name belongs to it, whichever comes first.
        let mut beside: Vec<(&String, f64)> = Vec::new();
        for (name, schema) in properties.iter().filter(|(_, schema)| is_number(schema)) {
            if let Some(number) = self.hints.number_beside(&words(name)) {
                beside.push((name, fit(number, schema)));
            }
        }
        let mut object = Object::new();
        for (name, schema) in properties {
            if let Some((_, number)) = beside.iter().find(|(owner, _)| *owner == name) {
                object.insert(name.clone(), as_json(*number, schema));
            } else if required.contains(&name.as_str()) || self.is_offered(name, schema) {
                object.insert(name.clone(), self.value(name, schema, depth));
            }
        }
        object
    }

    /// Whether the message says something for an optional property.
    fn is_offered(&self, name: &str, schema: &Value) -> bool {
        match schema.get("enum").and_then(Value::as_array) {
            Some(values) => self.mentioned(values).is_some(),
            None if is_number(schema) => self.hints.has_numbers(),
            None => type_of(schema) == "string" && is_place(name) && !self.hints.places.is_empty(),
        }
    }

    fn mentioned<'v>(&self, values: &'v [Value]) -> Option<&'v Value> {
        values.iter().find(|value| value.as_str().is_some_and(|value| self.hints.mentions(&words(value))))
    }

    fn array(&mut self, name: &str, schema: &Value, depth: usize) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).clamp(1, 16);
        match schema.get("items").filter(|items| items.is_object()) {
            Some(items) => (0..least).map(|_| self.value(name, items, depth)).collect(),
            None => json!([]),
        }
    }

    fn number(&mut self, name: &str, schema: &Value) -> Value {
        let beside = self.hints.number_beside(&words(name));
        let said = beside.or_else(|| self.hints.next_number());
        let default = schema.get("default").and_then(Value::as_f64);
        as_json(fit(said.or(default).unwrap_or(1.0), schema), schema)
    }

    fn string(&mut self, name: &str, schema: &Value) -> String {
        let fixed = match schema.get("format").and_then(Value::as_str) {
            Some("date") => Some("2026-01-01"),
            Some("time") => Some("12:00:00Z"),
            Some("date-time") => Some("2026-01-01T12:00:00Z"),
            Some("email") => Some("demo@example.com"),
            Some("uri" | "url") => Some("https://example.com/"),
            Some("uuid") => Some("00000000-0000-4000-8000-000000000000"),
            _ => schema.get("default").and_then(Value::as_str),
        };
        let place = if is_place(name) { self.hints.places.first().cloned() } else { None };
        let text = place.or(fixed.map(str::to_owned)).unwrap_or_else(|| self.hints.next_text());
        let length = |key| schema.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let text: String = text.chars().take(length("maxLength").unwrap_or(usize::MAX)).collect();
        let missing = length("minLength").unwrap_or(0).min(4096).saturating_sub(text.chars().count());
        text + &".".repeat(missing)
    }
}

/// A schema's type; of several, the first that is not null.
fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("null"),
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "string",
    }
}

fn is_number(schema: &Value) -> bool {
    matches!(type_of(schema), "number" | "integer") && schema.get("enum").is_none() && schema.get("const").is_none()
}

fn is_place(name: &str) -> bool {
    words(name).iter().any(|word| PLACES.contains(&word.as_str()))
}

/// One schema out of the parts of an `allOf` and what stands beside it.
fn merged(schema: &Value, parts: &[Value]) -> Value {
    let mut all = schema.as_object().cloned().unwrap_or_default();
    all.remove("allOf");
    for (key, value) in parts.iter().filter_map(Value::as_object).flatten() {
        match (all.get_mut(key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => known.extend(more.clone()),
            (Some(Value::Array(known)), Value::Array(more)) => known.extend(more.iter().cloned()),
            (Some(_), _) => {}
            (None, _) => {
                all.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(all)
}

/// The number nearest to `number` that the schema's limits allow.
fn fit(number: f64, schema: &Value) -> f64 {
    let limit = |key| schema.get(key).and_then(Value::as_f64);
    let number = number.max(limit("minimum").unwrap_or(f64::MIN)).min(limit("maximum").unwrap_or(f64::MAX));
    match (limit("exclusiveMinimum"), limit("exclusiveMaximum")) {
        (Some(least), _) if number <= least => least + 1.0,
        (_, Some(most)) if number >= most => most - 1.0,
        _ => number,
    }
}

/// `number` as JSON has it: whole for an integer, and where it is whole.
fn as_json(number: f64, schema: &Value) -> Value {
    let rounded = number.round();
    if (type_of(schema) == "integer" || rounded == number) && rounded.abs() < 9e15 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        return json!(rounded as i64);
    }
    json!(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(schema: Value, text: &str, name: &str) -> Value {
        let value = instance(&schema, &mut Hints::read(text, name));
        let fits = jsonschema::validator_for(&schema).expect("a schema").is_valid(&value);
        assert!(fits, "{value} does not fit {schema}");
        value
    }

    #[test]
    fn a_place_comes_from_the_message() {
        let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
        assert_eq!(made(schema.clone(), "weather in New York?", "get_weather"), json!({ "city": "New York" }));
        assert_eq!(made(schema.clone(), "the weather in paris please", "get_weather"), json!({ "city": "paris" }));
        assert_eq!(made(schema, "weather Berlin", "get_weather"), json!({ "city": "Berlin" }));
    }

    #[test]
    fn numbers_go_to_the_property_beside_them() {
        let schema = json!({ "type": "object", "properties": {
            "count": { "type": "integer", "minimum": 1 }, "sides": { "type": "integer", "maximum": 100, "default": 6 } }, "required": ["sides"] });
        assert_eq!(made(schema.clone(), "roll three dice with 20 sides", "roll_dice"), json!({ "count": 3, "sides": 20 }));
        assert_eq!(made(schema.clone(), "roll a 20-sided die", "roll_dice"), json!({ "sides": 20 }));
        assert_eq!(made(schema, "roll", "roll_dice"), json!({ "sides": 6 }));
    }

    #[test]
    fn strings_are_what_follows_the_tools_name() {
        let schema = json!({ "type": "object", "properties": { "query": { "type": "string" } }, "required": ["query"] });
        assert_eq!(made(schema.clone(), "Search for cats on Mars.", "search")["query"], "cats on Mars");
        assert_eq!(made(schema.clone(), "search \"red fish\" now", "search")["query"], "red fish");
        assert_eq!(made(schema.clone(), "use the read_file tool: /data/a.txt", "read_file")["query"], "/data/a.txt");
        assert_eq!(made(schema, "search", "search")["query"], "search");
    }

    #[test]
    fn a_minimal_instance_of_anything() {
        let schema = json!({
            "type": "object", "required": ["kind", "at", "tags", "owner", "note", "score", "ok"], "additionalProperties": false,
            "properties": {
                "kind": { "enum": ["bug", "wish"] }, "at": { "type": "string", "format": "date-time" },
                "tags": { "type": "array", "items": { "type": "string", "maxLength": 3 }, "minItems": 2 },
                "owner": { "$ref": "#/$defs/person" }, "note": { "type": ["null", "string"], "minLength": 40 },
                "score": { "anyOf": [{ "type": "null" }, { "type": "number", "exclusiveMinimum": 5 }] }, "ok": { "type": "boolean" },
                "unused": { "type": "string" },
            },
            "$defs": { "person": { "allOf": [
                { "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] },
                { "properties": { "age": { "type": "integer" } }, "required": ["age"] },
            ] } },
        });
        let value = made(schema, "a wish from me", "");
        assert_eq!((&value["kind"], value.get("unused")), (&json!("wish"), None));
    }

    #[test]
    fn a_schema_without_end_ends() {
        let schema = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "object", "properties": { "a": { "$ref": "#/$defs/a" } }, "required": ["a"] } } });
        assert!(instance(&schema, &mut Hints::default()).is_object());
    }
}
