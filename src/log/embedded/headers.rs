//! Headers as they stand in the file: a JSON list of names and values, readable where they are text.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Binary(Vec<u8>),
}

pub(super) fn encode(headers: &[(&'static str, Bytes)]) -> String {
    let headers: Vec<(&str, Value)> = headers
        .iter()
        .map(|(name, value)| {
            let text = String::from_utf8(value.to_vec()).map(Value::Text);
            (*name, text.unwrap_or_else(|binary| Value::Binary(binary.into_bytes())))
        })
        .collect();
    // Texts and numbers always serialize.
    serde_json::to_string(&headers).unwrap_or_default()
}

pub(super) fn decode(text: &str) -> Vec<(String, Bytes)> {
    let headers: Vec<(String, Value)> = serde_json::from_str(text).unwrap_or_default();
    headers
        .into_iter()
        .map(|(name, value)| match value {
            Value::Text(text) => (name, Bytes::from(text)),
            Value::Binary(bytes) => (name, Bytes::from(bytes)),
        })
        .collect()
}
