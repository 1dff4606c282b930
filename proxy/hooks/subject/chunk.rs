//! `on_chunk`'s argument: a piece of the reply's text.

use std::convert::Infallible;

use serde_json::Value;

use super::super::point::Point;
use super::{Subject, fixed, number, text};
use crate::chat::Object;

/// A piece of content as `on_chunk` sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkView {
    /// The text; changed to nothing, the piece does not leave.
    pub text: String,
    /// Which of the choices it belongs to, from 0; above it only for an alias asked with `n`. Not changeable.
    pub choice: u32,
    /// No more text of this model call follows: the moment for what a script kept back. Its own text is empty. Not changeable.
    pub last: bool,
}

impl Subject for ChunkView {
    type Answer = Infallible;

    const POINT: Point = Point::OnChunk;

    fn into_fields(self) -> Object {
        let mut fields = Object::with_capacity(3);
        fields.insert("text".into(), Value::String(self.text));
        fields.insert("choice".into(), self.choice.into());
        fields.insert("last".into(), Value::Bool(self.last));
        fields
    }

    fn from_fields(mut fields: Object) -> Self {
        let last = fields.get("last").and_then(Value::as_bool).unwrap_or_default();
        ChunkView { choice: number(fields.get("choice")), text: text(fields.shift_remove("text")), last }
    }

    fn check(name: &str, value: Option<&Value>) -> Result<(), String> {
        match (name, value) {
            ("text", Some(Value::String(_))) => Ok(()),
            ("text", _) => Err("chunk.text must be text; make it \"\" to drop the piece".into()),
            _ => Err(fixed("chunk", name, &["choice", "last"])),
        }
    }

    fn answer(_: Value) -> Result<Infallible, String> {
        Err("run:answer means nothing in `on_chunk`".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_the_way_there_and_back() {
        let chunk = ChunkView { text: "t".into(), choice: 2, last: true };
        assert_eq!(ChunkView::from_fields(chunk.clone().into_fields()), chunk);
        assert!(ChunkView::check("text", Some(&Value::Null)).is_err());
    }
}
