//! The tools that a server offers: listed page by page within bounds, and cleaned before any model reads them.

use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::PaginatedRequestParams;
use rmcp::service::{Peer, ServiceError};
use serde_json::{Map, Value, json};

use crate::tools::schema::Schema;

/// How many tools of one server are taken, and from how many pages.
const MAX_TOOLS: usize = 1000;
const MAX_PAGES: usize = 100;
/// How many characters of a description a model reads.
const MAX_DESCRIPTION: usize = 4096;
/// How many bytes of schema a model reads for one tool.
const MAX_SCHEMA: usize = 64 << 10;

/// The tools of one server, as they were at one moment.
#[derive(Debug, Default, PartialEq)]
pub struct Catalog {
    tools: Vec<Listed>,
    /// What an operator should know about the list; said once for each new list.
    pub(super) warnings: Vec<String>,
}

/// One tool of a server.
#[derive(Clone)]
pub struct Listed {
    /// The server's name for it.
    pub name: String,
    /// The server's words about it, cleaned.
    pub description: String,
    /// The JSON Schema of its arguments, cleaned.
    pub parameters: Value,
    /// The same, compiled.
    pub schema: Arc<Schema>,
}

impl Catalog {
    /// In the server's order.
    pub fn tools(&self) -> &[Listed] {
        &self.tools
    }

    /// The tool with exactly this name.
    pub fn find(&self, name: &str) -> Option<&Listed> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    /// The tools' names, for messages.
    pub fn names(&self) -> String {
        const SHOWN: usize = 20;
        let mut names: Vec<&str> = self.tools.iter().take(SHOWN).map(|tool| tool.name.as_str()).collect();
        if self.tools.len() > SHOWN {
            names.push("...");
        }
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    /// Asks the server for all its tools.
    pub(super) async fn fetch(peer: &Peer<RoleClient>) -> Result<Catalog, ServiceError> {
        let mut catalog = Catalog::default();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut params = PaginatedRequestParams::default();
            params.cursor = cursor.clone();
            let page = peer.list_tools(Some(params)).await?;
            for tool in page.tools {
                if catalog.tools.len() == MAX_TOOLS {
                    catalog.warnings.push(format!("it has more than {MAX_TOOLS} tools: the rest is left out"));
                    return Ok(catalog);
                }
                if catalog.find(&tool.name).is_none() {
                    let words = tool.description.as_deref().or(tool.title.as_deref()).unwrap_or_default();
                    let listed = Listed::new(&tool.name, words, &tool.input_schema, &mut catalog.warnings);
                    catalog.tools.push(listed);
                }
            }
            match page.next_cursor {
                Some(next) if Some(&next) != cursor.as_ref() => cursor = Some(next),
                _ => return Ok(catalog),
            }
        }
        catalog.warnings.push(format!("its list of tools has more than {MAX_PAGES} pages: the rest is left out"));
        Ok(catalog)
    }
}

impl Listed {
    fn new(name: &str, words: &str, schema: &Map<String, Value>, warnings: &mut Vec<String>) -> Listed {
        let description = clean(words, MAX_DESCRIPTION);
        if description.len() != words.len() {
            warnings.push(format!("`{name}`: its description was shortened, or had invisible characters taken out"));
        }
        let mut parameters = Value::Object(schema.clone());
        clean_schema(&mut parameters);
        let compiled = if parameters.to_string().len() > MAX_SCHEMA {
            Err(format!("it is longer than {MAX_SCHEMA} bytes"))
        } else {
            Schema::compile(&parameters)
        };
        let schema = compiled.unwrap_or_else(|why| {
            warnings.push(format!("`{name}`: its schema cannot be used, so any object is taken: {why}"));
            parameters = json!({});
            Schema::any()
        });
        complete(&mut parameters);
        Listed { name: name.to_owned(), description, parameters, schema: Arc::new(schema) }
    }

    /// For `/mcp/servers`.
    pub(super) fn to_value(&self) -> Value {
        json!({ "name": self.name, "description": self.description, "parameters": self.parameters })
    }
}

/// The compiled schema follows from the rest.
impl PartialEq for Listed {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.description == other.description && self.parameters == other.parameters
    }
}

impl std::fmt::Debug for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listed").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What model servers insist on: `type` and `properties`, and no `$schema`.
fn complete(parameters: &mut Value) {
    if let Value::Object(map) = parameters {
        map.shift_remove("$schema");
        map.entry("type").or_insert_with(|| "object".into());
        map.entry("properties").or_insert_with(|| json!({}));
    }
}

/// Cleans the words inside a schema, which a model reads like the description itself.
fn clean_schema(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(clean_schema),
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(text) if matches!(key.as_str(), "description" | "title") => {
                        *text = clean(text, MAX_DESCRIPTION);
                    }
                    value => clean_schema(value),
                }
            }
        }
        _ => {}
    }
}

/// Text without what a person reviewing it would not see: control characters, direction marks, zero-width and tag
/// characters. At most `max` characters.
pub(crate) fn clean(text: &str, max: usize) -> String {
    let visible = text.chars().filter(|&c| {
        let control = c.is_control() && c != '\n' && c != '\t';
        let hidden = matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
        !control && !hidden
    });
    let mut cleaned: String = visible.take(max + 1).collect();
    if let Some((end, _)) = cleaned.char_indices().nth(max) {
        cleaned.truncate(end);
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Catalog {
        /// A list of tools with these names and schemas.
        pub(in crate::tools::mcp) fn of(tools: &[(&str, Value)]) -> Catalog {
            let tools = tools.iter().map(|(name, schema)| Listed { name: (*name).into(), ..listed("words", schema.clone()) });
            Catalog { tools: tools.collect(), warnings: Vec::new() }
        }
    }

    fn listed(words: &str, schema: Value) -> Listed {
        let Value::Object(schema) = schema else { panic!("not an object") };
        Listed::new("t", words, &schema, &mut Vec::new())
    }

    #[test]
    fn words_are_cleaned_and_bounded() {
        assert_eq!(clean("a\u{202e}b\u{200b}c\u{e0041}d\u{7}e\r\nf\tg", 100), "abcde\nf\tg");
        assert_eq!(clean("grüße 日本 👍", 100), "grüße 日本 👍");
        let tool = listed(&"x".repeat(1_000_000), json!({ "properties": { "a": { "description": "b\u{202e}c" } } }));
        assert_eq!(tool.description.len(), MAX_DESCRIPTION);
        assert_eq!(tool.parameters["properties"]["a"]["description"], "bc");
    }

    #[test]
    fn a_bad_schema_takes_any_object() {
        for schema in [json!({ "type": 5 }), json!({ "$ref": "http://127.0.0.1:9/x" }), json!({ "x": "y".repeat(70_000) })] {
            let tool = listed("", schema);
            assert_eq!(tool.parameters, json!({ "type": "object", "properties": {} }));
            assert!(tool.schema.parse(r#"{"anything": 1}"#).is_ok());
        }
    }

    #[test]
    fn a_schema_has_what_model_servers_insist_on() {
        let tool = listed("", json!({ "$schema": "http://json-schema.org/draft-07/schema#" }));
        assert_eq!(tool.parameters, json!({ "type": "object", "properties": {} }));
    }
}
