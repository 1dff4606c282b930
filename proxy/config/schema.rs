//! The JSON Schema of the documents: what `moongate schema` prints and editors read.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::agent::AgentDoc;
use super::document::Document;

/// The schema of the gateway's document.
pub fn json_schema() -> Value {
    schema_of::<Document>("gateway", "moongate configuration")
}

/// The schema of an agent in a file of its own.
pub fn agent_schema() -> Value {
    schema_of::<AgentDoc>("agent", "moongate agent")
}

fn schema_of<T: JsonSchema>(name: &str, title: &str) -> Value {
    let generated = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    let mut schema = generated.to_value();
    open_to_variables(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("$id".into(), format!("urn:moongate:{name}").into());
        root.insert("title".into(), title.into());
        // For YAML's anchors: `x-defaults: &defaults {...}`.
        root.insert("patternProperties".into(), json!({ "^x-": true }));
        let properties = root.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties.insert("$schema".into(), json!({ "type": "string", "description": "Where editors find this schema." }));
        }
    }
    schema
}

/// Lets `${VAR}` stand wherever a scalar stands, and drops defaults that say nothing.
fn open_to_variables(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if object.get("default").is_some_and(|default| default.is_null() || *default == json!({}) || *default == json!([])) {
        object.remove("default");
    }
    for key in ["properties", "$defs"] {
        if let Some(Value::Object(inner)) = object.get_mut(key) {
            inner.values_mut().for_each(open_to_variables);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            open_to_variables(inner);
        }
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(Value::Array(inner)) = object.get_mut(key) {
            inner.iter_mut().for_each(open_to_variables);
            if key == "oneOf" && inner.iter().any(|choice| choice.get("const").is_some()) {
                inner.push(variable());
            }
        }
    }
    if is_narrow(object) {
        let keep = ["description", "default", "title"];
        let (outer, inner): (Map<_, _>, Map<_, _>) = std::mem::take(object).into_iter().partition(|(key, _)| keep.contains(&key.as_str()));
        *object = outer;
        object.insert("anyOf".into(), json!([inner, variable()]));
    }
}

fn variable() -> Value {
    json!({ "type": "string", "pattern": "\\$\\{" })
}

/// Whether text with a variable in it would be refused.
fn is_narrow(schema: &Map<String, Value>) -> bool {
    let types = match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => return false,
    };
    let scalar = types.iter().any(|kind| matches!(*kind, "integer" | "number" | "boolean"));
    scalar || (types.contains(&"string") && (schema.contains_key("pattern") || schema.contains_key("enum")))
}

/// Every key that the schema allows, as `agents[*].tools[*].name` and `upstreams.*.base_url`, in its order.
#[cfg(test)]
pub(super) fn keys(schema: &Value) -> Vec<String> {
    super::reference::rows(schema).into_iter().map(|row| row.key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(schema: &Value, document: Value) -> bool {
        jsonschema::validator_for(schema).unwrap().is_valid(&document)
    }

    #[test]
    fn editors_see_what_the_gateway_accepts() {
        let schema = json_schema();
        assert!(accepts(&schema, json!({ "$schema": "x", "x-y": [], "upstreams": { "a": { "base_url": "http://a" } } })));
        assert!(accepts(&schema, json!({ "server": { "limits": { "max_body_bytes": "${MAX}" }, "shutdown_timeout": "1m30s" } })));
        assert!(accepts(&schema, json!({ "upstreams": { "a": { "kind": "${KIND:-demo}", "forward_authorization": "${F}" } } })));
        assert!(accepts(&schema, json!({ "agents": [{ "name": "a", "hooks": ["a.lua", { "script": "b.lua" }] }] })));
        assert!(accepts(&schema, json!({ "auth": { "keys": [{ "id": "a", "key_sha256": "${SUM}", "models": ["*"] }] } })));
        assert!(accepts(&agent_schema(), json!({ "model": "m", "parameters": { "anything": [1] } })));
    }

    #[test]
    fn editors_see_typos_and_wrong_values() {
        let schema = json_schema();
        for wrong in [
            json!({ "servr": {} }),
            json!({ "server": { "lisen": "x" } }),
            json!({ "server": { "limits": { "max_body_bytes": "many" } } }),
            json!({ "server": { "shutdown_timeout": "30" } }),
            json!({ "upstreams": { "a": { "kind": "opnai" } } }),
            json!({ "mcp_servers": { "a": { "url": "http://a" } } }),
            json!({ "auth": { "keys": [{ "id": "a", "modles": [] }] } }),
            json!({ "auth": { "keys": [{ "id": "a", "key_sha256": "abc" }] } }),
            json!({ "agents": [{ "hooks": [{ "scrip": "b.lua" }] }] }),
            json!({ "agents": [{ "tools": [{ "provider": "mpc" }] }] }),
        ] {
            assert!(!accepts(&schema, wrong.clone()), "{wrong}");
        }
        assert!(!accepts(&agent_schema(), json!({ "modle": "m" })));
    }
}
