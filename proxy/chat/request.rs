//! A chat request that a run works on: parsed strictly, every unknown field kept.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::{Message, Object, tool_name};
use crate::error::{Error, Kind, Result};

/// What a client asks of an agent.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    /// The model as the client named it: the agent's or alias' name.
    pub model: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// The client's own tools, in OpenAI's form.
    pub tools: Vec<Value>,
    /// The conversation, where the client names it apart from what the model gets.
    pub session: Option<String>,
    /// Every other field, forwarded to the model as it came.
    pub rest: Object,
}

impl ChatRequest {
    /// Reads a body. Each error names the parameter at fault.
    pub fn parse(body: &[u8]) -> Result<ChatRequest> {
        ChatRequest::of_fields(object(body)?)
    }

    /// The same of a body that is an object already.
    pub fn of_fields(mut fields: Object) -> Result<ChatRequest> {
        let request = ChatRequest {
            model: take(&mut fields, "model", "a string", |v| v.as_str().map(str::to_owned))?.ok_or_else(|| missing("model"))?,
            messages: messages(take(&mut fields, "messages", "an array", into_array)?.ok_or_else(|| missing("messages"))?)?,
            stream: take(&mut fields, "stream", "a boolean", |v| v.as_bool())?.unwrap_or(false),
            include_usage: include_usage(&mut fields)?,
            tools: tools(take(&mut fields, "tools", "an array", into_array)?.unwrap_or_default())?,
            session: None,
            rest: fields,
        };
        check_range(&request.rest, "temperature", 0.0, 2.0)?;
        check_range(&request.rest, "top_p", 0.0, 1.0)?;
        check_range(&request.rest, "n", 1.0, 128.0)?;
        check_range(&request.rest, "max_tokens", 1.0, f64::INFINITY)?;
        check_range(&request.rest, "max_completion_tokens", 1.0, f64::INFINITY)?;
        Ok(request)
    }

    /// How many choices the client wants.
    pub fn n(&self) -> u64 {
        self.rest.get("n").and_then(Value::as_u64).unwrap_or(1)
    }
}

/// The sentence OpenAI's server uses, then where the JSON breaks.
pub fn malformed(cause: impl fmt::Display) -> Error {
    Error::new(Kind::MalformedJson, format!("We could not parse the JSON body of your request: {cause}"))
}

/// A required parameter is absent.
pub fn missing(param: &str) -> Error {
    Error::new(Kind::MissingParameter, format!("Missing required parameter: '{param}'.")).param(param)
}

/// A parameter has the wrong JSON type.
pub fn wrong_type(param: &str, expected: &str) -> Error {
    Error::new(Kind::InvalidType, format!("Invalid type for '{param}': expected {expected}.")).param(param)
}

const DUPLICATE: &str = "duplicate key ";

/// The body as an object whose keys stand once each.
pub fn object(body: &[u8]) -> Result<Object> {
    struct Once;
    impl<'de> Visitor<'de> for Once {
        type Value = Object;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
            let mut fields = Object::new();
            while let Some(key) = map.next_key::<String>()? {
                if fields.contains_key(&key) {
                    return Err(A::Error::custom(format!("{DUPLICATE}{key}")));
                }
                let value = map.next_value()?;
                fields.insert(key, value);
            }
            Ok(fields)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let fields = json.deserialize_map(Once).and_then(|fields| json.end().map(|()| fields));
    fields.map_err(|e| {
        let text = e.to_string();
        match text.strip_prefix(DUPLICATE).and_then(|rest| rest.rsplit_once(" at line ")) {
            Some((key, _)) => duplicate(key),
            None => malformed(text),
        }
    })
}

/// A key stands twice.
pub fn duplicate(key: &str) -> Error {
    Error::new(Kind::DuplicateKey, format!("Duplicate key '{key}' in the request body.")).param(key)
}

/// Takes `name` out of the fields; `null` counts as absent.
pub fn take<T>(fields: &mut Object, name: &str, expected: &str, convert: impl FnOnce(Value) -> Option<T>) -> Result<Option<T>> {
    match fields.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => convert(value).map(Some).ok_or_else(|| wrong_type(name, expected)),
    }
}

/// The items of an array.
pub fn into_array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn messages(items: Vec<Value>) -> Result<Vec<Message>> {
    if items.is_empty() {
        return Err(Error::new(Kind::InvalidValue, "Invalid 'messages': expected at least one message.").param("messages"));
    }
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| match item {
            Value::Object(fields) if fields.get("role").is_some_and(Value::is_string) => Ok(Message(fields)),
            Value::Object(_) => Err(missing(&format!("messages[{i}].role"))),
            _ => Err(wrong_type(&format!("messages[{i}]"), "an object")),
        })
        .collect()
}

fn tools(items: Vec<Value>) -> Result<Vec<Value>> {
    for (i, tool) in items.iter().enumerate() {
        let function = tool.get("type").and_then(Value::as_str) == Some("function");
        if function && tool_name(tool).is_none_or(str::is_empty) {
            return Err(missing(&format!("tools[{i}].function.name")));
        }
    }
    Ok(items)
}

fn include_usage(fields: &mut Object) -> Result<bool> {
    match fields.shift_remove("stream_options") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Object(options)) => Ok(options.get("include_usage").and_then(Value::as_bool).unwrap_or(false)),
        Some(_) => Err(wrong_type("stream_options", "an object")),
    }
}

/// A number within its bounds, where it is there.
pub fn check_range(fields: &Object, name: &str, min: f64, max: f64) -> Result<()> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(()),
        Some(value) => match value.as_f64() {
            None => Err(wrong_type(name, "a number")),
            Some(number) if number < min || number > max => {
                Err(Error::new(Kind::InvalidValue, format!("Invalid value for '{name}': {number}.")).param(name))
            }
            Some(_) => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (Kind, Option<String>) {
        let error = ChatRequest::parse(body.as_bytes()).unwrap_err();
        (error.kind, error.param)
    }

    #[test]
    fn keeps_what_it_does_not_know() {
        let body = r#"{"model":"a","messages":[{"role":"user","content":null,"x":1}],"stream":true,
            "stream_options":{"include_usage":true},"ttl":5,"temperature":0}"#;
        let request = ChatRequest::parse(body.as_bytes()).unwrap();
        assert!(request.stream && request.include_usage);
        assert_eq!(request.rest.keys().collect::<Vec<_>>(), ["ttl", "temperature"]);
        assert_eq!(request.messages[0].0["x"], 1);
    }

    #[test]
    fn names_the_parameter_at_fault() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(refused("{"), (Kind::MalformedJson, None));
        assert_eq!(refused("[]"), (Kind::MalformedJson, None));
        assert_eq!(refused(r#"{"model":"a"} x"#), (Kind::MalformedJson, None));
        assert_eq!(refused(r#"{"model":"\ud800"}"#), (Kind::MalformedJson, None));
        assert_eq!(refused(&format!(r#"{{"x":{}"#, "[".repeat(10_000))), (Kind::MalformedJson, None));
        assert_eq!(refused(r#"{"model":"a","model":"b"}"#), (Kind::DuplicateKey, some("model")));
        assert_eq!(refused(r#"{"messages":[]}"#), (Kind::MissingParameter, some("model")));
        assert_eq!(refused(r#"{"model":"a"}"#), (Kind::MissingParameter, some("messages")));
        assert_eq!(refused(r#"{"model":"a","messages":"x"}"#), (Kind::InvalidType, some("messages")));
        assert_eq!(refused(r#"{"model":"a","messages":[1]}"#), (Kind::InvalidType, some("messages[0]")));
        assert_eq!(refused(r#"{"model":"a","messages":[]}"#), (Kind::InvalidValue, some("messages")));
        let with = |field: &str| refused(&format!(r#"{{"model":"a","messages":[{{"role":"user"}}],{field}}}"#));
        assert_eq!(with(r#""temperature":99"#), (Kind::InvalidValue, some("temperature")));
        assert_eq!(with(r#""n":0"#), (Kind::InvalidValue, some("n")));
        assert_eq!(with(r#""stream":"yes""#), (Kind::InvalidType, some("stream")));
        assert_eq!(with(r#""temperature":1e999"#), (Kind::MalformedJson, None));
    }
}
