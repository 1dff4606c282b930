//! `POST /v1/embeddings` of the demo: vectors made by hashing words, so that texts with words in common are near each other.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::mention::words;
use super::{Response, field, fingerprint, model, whole};
use crate::error::{Error, Kind, Result};

/// The length of a vector when the request names none, and the longest that it may name.
const DIMENSIONS: u64 = 256;
const MAX_DIMENSIONS: u64 = 4096;

/// Answers one request.
pub(super) fn embed(body: &Value) -> Result<Response> {
    let model = model(body)?;
    let inputs = inputs(body)?;
    let dimensions = match field(body, "dimensions").map(Value::as_u64) {
        None => DIMENSIONS,
        Some(Some(n @ 1..=MAX_DIMENSIONS)) => n,
        Some(_) => {
            return Err(Error::new(Kind::InvalidValue, format!("`dimensions` must be from 1 to {MAX_DIMENSIONS}.")).param("dimensions"));
        }
    };
    let base64 = match field(body, "encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => true,
        Some(_) => return Err(Error::new(Kind::InvalidValue, "`encoding_format` must be float or base64.").param("encoding_format")),
    };
    let embedding = |(index, words): (usize, &Vec<String>)| {
        let vector = vector(words, dimensions);
        let packed = || BASE64_STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        json!({ "object": "embedding", "index": index, "embedding": if base64 { json!(packed()) } else { json!(vector) } })
    };
    let n_words: usize = inputs.iter().map(|words| words.len().max(1)).sum();
    Ok(whole(&json!({
        "object": "list", "model": model.id, "data": inputs.iter().enumerate().map(embedding).collect::<Vec<_>>(),
        "usage": { "prompt_tokens": n_words, "total_tokens": n_words },
    })))
}

/// The words of each input: a text, a list of texts, a list of token numbers, or a list of such lists.
fn inputs(body: &Value) -> Result<Vec<Vec<String>>> {
    let wrong = || Error::new(Kind::InvalidType, "`input` must be a string, or an array of strings or of token numbers.").param("input");
    let tokens = |list: &[Value]| list.iter().map(|token| token.as_u64().map(|token| token.to_string())).collect::<Option<Vec<_>>>();
    match field(body, "input") {
        None => Err(Error::new(Kind::MissingParameter, "Missing required parameter: `input`.").param("input")),
        Some(Value::String(text)) => Ok(vec![words(text)]),
        Some(Value::Array(list)) if list.is_empty() => Err(Error::new(Kind::InvalidValue, "`input` is empty.").param("input")),
        Some(Value::Array(list)) if list[0].is_number() => Ok(vec![tokens(list).ok_or_else(wrong)?]),
        Some(Value::Array(list)) => list
            .iter()
            .map(|one| match one {
                Value::String(text) => Ok(words(text)),
                Value::Array(list) => tokens(list).ok_or_else(wrong),
                _ => Err(wrong()),
            })
            .collect(),
        Some(_) => Err(wrong()),
    }
}

/// A vector of length 1: each word adds to one direction, up or down. A text without words points in the first direction.
fn vector(words: &[String], dimensions: u64) -> Vec<f32> {
    let mut vector = vec![0.0_f32; usize::try_from(dimensions).unwrap_or(1)];
    for word in words {
        let hash = fingerprint(word);
        let at = usize::try_from(hash % dimensions).unwrap_or(0);
        vector[at] += if hash >> 63 == 0 { 1.0 } else { -1.0 };
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length == 0.0 {
        vector.fill(0.0);
        vector[0] = 1.0;
        return vector;
    }
    vector.iter().map(|x| x / length).collect()
}
