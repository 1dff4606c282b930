//! The form that a client wants an agent's answer in (`response_format`): the text is kept back until it has it, and asked for again once.

use std::borrow::Cow;

use serde_json::Value;

use super::run::Run;
use crate::chat::{Choice, Delta, Message, Object, Prompt, forget_tools, outgoing};
use crate::error::{Error, Kind, Result};
use crate::tools::schema::Schema;

/// The request's field.
const FIELD: &str = "response_format";

/// How much of what does not fit is said of it, in bytes.
const MAX_WHY: usize = 500;

/// A form in JSON.
pub(super) struct Format {
    /// As the client wrote it.
    value: Value,
    schema: Schema,
    /// Any JSON will not do: it must be an object.
    object: bool,
}

impl Format {
    /// The form among a request's fields. `None` for text, and for forms that only servers know.
    pub(super) fn read(fields: &Object) -> Result<Option<Format>> {
        let Some(value) = fields.get(FIELD).filter(|value| !value.is_null()) else { return Ok(None) };
        let schema = match value.get("type").and_then(Value::as_str) {
            Some("json_schema") => value.pointer("/json_schema/schema").filter(|schema| !schema.is_null()),
            Some("json_object") => return Ok(Some(Format { value: value.clone(), schema: Schema::any(), object: true })),
            _ => return Ok(None),
        };
        let compiled = schema.map_or_else(|| Ok(Schema::any()), Schema::compile);
        let schema = compiled.map_err(|why| {
            let message = format!("Invalid schema for 'response_format': {why}.");
            Error::new(Kind::InvalidValue, message).param(FIELD)
        })?;
        Ok(Some(Format { value: value.clone(), schema, object: false }))
    }

    /// The JSON that a text is; a fence around it, as models write it, is taken away. `Err` says why it does not fit.
    fn fit<'a>(&self, text: &'a str) -> Result<&'a str, String> {
        let text = within_fence(text.trim());
        let value: Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
        if self.object && !value.is_object() {
            return Err("it is not a JSON object".into());
        }
        self.schema.check(&value).map(|()| text)
    }

    /// What the model reads when its answer did not fit.
    fn again(&self) -> String {
        let schema = self.value.pointer("/json_schema/schema");
        let which = schema.map_or_else(String::new, |schema| format!(" that fits this JSON Schema: {schema}"));
        format!("Give this answer again as one JSON value{which}. Write nothing else.")
    }
}

/// The text between the lines of three backticks.
fn within_fence(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let body = inner.and_then(|inner| inner.split_once('\n'));
    body.filter(|(language, _)| language.trim().chars().all(char::is_alphanumeric)).map_or(text, |(_, body)| body.trim())
}

impl Run {
    /// Before a hop: the form goes to the model beside tools only where the server can hold to both.
    pub(super) fn apply_format(&self, prompt: &mut Prompt) {
        let Some(format) = &self.format else { return };
        let upstream = &self.scene.agent.upstream;
        if prompt.tools.is_empty() || outgoing::takes_format_with_tools(&upstream.settings.repair, upstream.host()) {
            prompt.rest.insert(FIELD.into(), format.value.clone());
        } else {
            prompt.rest.shift_remove(FIELD);
        }
    }

    /// The reply ends the run: its text leaves, once it has the form that the client wants. One that has not, and came from a call to
    /// which the form was not sent, is asked for once more, without tools.
    pub async fn settle(&mut self, prompt: &mut Prompt, mut reply: Choice) -> Result<Choice> {
        let Some(format) = self.format.take() else { return Ok(reply) };
        let mut fitted = format.fit(text(&reply)).map(str::to_owned);
        if fitted.is_err() && !says_why(&reply) && !prompt.rest.contains_key(FIELD) {
            if !text(&reply).is_empty() {
                prompt.messages.push(Message::text("assistant", text(&reply)));
            }
            prompt.messages.push(Message::text("user", format.again()));
            prompt.tools.clear();
            forget_tools(&mut prompt.rest);
            self.format = Some(format);
            self.apply_format(prompt);
            self.last_call = true;
            reply = Box::pin(self.ask_model(Cow::Borrowed(prompt))).await?.choices.into_iter().next().unwrap_or_default();
            // A hook that answered in the model's place has said it all.
            let Some(format) = self.format.take() else { return Ok(reply) };
            fitted = format.fit(text(&reply)).map(str::to_owned);
        }
        let leaving = match fitted {
            Ok(text) => text,
            Err(_) if says_why(&reply) => text(&reply).to_owned(),
            Err(why) => {
                let why = &why[..why.floor_char_boundary(MAX_WHY)];
                return Err(Error::new(Kind::UpstreamError, format!("The model's answer does not fit 'response_format': {why}")));
            }
        };
        self.say(Delta { logprobs: reply.logprobs.clone(), ..Delta::text(leaving) }).await?;
        Ok(reply)
    }

    /// The reply is no answer yet, and nobody will look at its form: its text leaves.
    pub(super) async fn release(&mut self, text: Option<&str>) -> Result<()> {
        match self.format.take().and(text) {
            Some(text) => self.say(Delta::text(text)).await,
            None => Ok(()),
        }
    }
}

fn text(reply: &Choice) -> &str {
    reply.content.as_deref().unwrap_or_default()
}

/// Whether the client reads elsewhere why there is no whole answer: it was cut, or refused.
fn says_why(reply: &Choice) -> bool {
    matches!(reply.finish.as_deref(), Some("length" | "content_filter")) || reply.refusal.as_ref().is_some_and(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn format(value: Value) -> Result<Option<Format>> {
        Format::read(json!({ FIELD: value }).as_object().unwrap())
    }

    #[test]
    fn text_fits_with_and_without_its_fence() {
        let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] });
        let format = format(json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } })).unwrap().unwrap();
        for text in ["{\"a\":1}", " {\"a\":1}\n", "```json\n{\"a\":1}\n```", "```\n{\"a\":1}```"] {
            assert_eq!(format.fit(text), Ok("{\"a\":1}"), "{text}");
        }
        for text in ["", "one", "{\"a\":\"1\"}", "[1]", "```{\"a\":1}", "{\"a\":1} as asked"] {
            assert!(format.fit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn forms_of_any_kind() {
        let object = format(json!({ "type": "json_object" })).unwrap().unwrap();
        assert!(object.fit("{}").is_ok() && object.fit("[]").is_err());
        assert!(format(json!({ "type": "text" })).unwrap().is_none());
        assert!(format(Value::Null).unwrap().is_none());
        let any = format(json!({ "type": "json_schema", "json_schema": { "name": "n" } })).unwrap().unwrap();
        assert!(any.fit("[]").is_ok() && any.fit("x").is_err());
        let wrong = format(json!({ "type": "json_schema", "json_schema": { "schema": { "type": "objekt" } } })).err().unwrap();
        assert_eq!((wrong.kind, wrong.param.as_deref()), (Kind::InvalidValue, Some(FIELD)));
    }
}
