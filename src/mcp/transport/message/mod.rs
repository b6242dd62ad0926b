//! Reads JSON-RPC messages out of bytes, and tells what is wrong with those that are none.
//!
//! Every text that is not blank leads to exactly one [`Incoming`], so that whoever sent it is answered. A refusal
//! carries the request's id wherever the text's grammar tells it: a string cut in the middle of an emoji, a number
//! beyond any double or too many brackets leave the members beside them readable, and a client that waits for id 7
//! learns nothing from an answer to `null`.

mod strict;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use rmcp::model::{ClientJsonRpcMessage, ErrorCode, ErrorData, JsonRpcError, JsonRpcMessage, RequestId};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use self::strict::Strict;
use crate::domain::json::with_exact_numbers;

/// Messages a batch may have.
pub const MAX_BATCH: usize = 100;

/// What a text from a client holds.
#[derive(Debug)]
pub enum Incoming {
    /// Nothing but white space.
    Blank,
    Message(Box<ClientJsonRpcMessage>),
    /// An array of messages, as revision 2025-03-26 has it.
    Batch(Vec<Result<ClientJsonRpcMessage, Refusal>>),
    Refused(Refusal),
    /// An answer that can't be read and does not say to what. Nobody answers an answer.
    Useless(&'static str),
}

/// Why a text is no message, for whoever sent it. The problem repeats nothing of the text.
#[derive(Debug)]
pub struct Refusal {
    pub code: ErrorCode,
    pub problem: Cow<'static, str>,
    /// As the client wrote it; `None` where it can't be told.
    pub id: Option<Box<RawValue>>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { code, problem: problem.into(), id: None }
    }

    pub(super) fn of(id: &RequestId, code: ErrorCode, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { id: serde_json::value::to_raw_value(id).ok(), ..Self::new(code, problem) }
    }

    /// The error response, as JSON on one line.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Response<'a> {
            jsonrpc: &'static str,
            /// JSON-RPC wants `null` where the id is not known.
            id: Option<&'a RawValue>,
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            code: i32,
            message: &'a str,
        }
        let error = Error { code: self.code.0, message: &self.problem };
        let response = Response { jsonrpc: "2.0", id: self.id.as_deref(), error };
        // Nothing of it can fail to be JSON.
        serde_json::to_string(&response).unwrap_or_default()
    }
}

impl From<JsonRpcError> for Refusal {
    fn from(JsonRpcError { id, error, .. }: JsonRpcError) -> Self {
        let id = id.and_then(|id| serde_json::value::to_raw_value(&id).ok());
        Self { id, ..Self::new(error.code, error.message) }
    }
}

/// Reads a text: a line of stdin, or the body of a request.
pub fn read(bytes: &[u8]) -> Incoming {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes).trim_ascii();
    if bytes.is_empty() {
        return Incoming::Blank;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.starts_with('[') => batch(text),
        Ok(text) => match message(text) {
            Ok(message) => Incoming::Message(Box::new(message)),
            Err(problem) => problem.into(),
        },
        Err(error) => {
            let problem = format!("not UTF-8 from byte {} on", error.valid_up_to() + 1);
            // What is wrong stands in some string; the members are where they are all the same.
            let text = String::from_utf8_lossy(bytes);
            let envelope = Envelope::read(&text).unwrap_or_default();
            envelope.refuse(ErrorCode::PARSE_ERROR, problem).into()
        }
    }
}

/// What to do about a text that is refused for its length, by its beginning: whoever waits for an answer is told by the
/// id that stands there.
pub fn refuse_beginning(bytes: &[u8], problem: String) -> Incoming {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let readable = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) => error.valid_up_to(),
    };
    let text = std::str::from_utf8(&bytes[..readable]).unwrap_or_default();
    let mut beginning = Beginning::default();
    // It ends in the middle, and what was read until there counts.
    serde::de::DeserializeSeed::deserialize(&mut beginning, &mut serde_json::Deserializer::from_str(text))
        .ok();
    let envelope = Envelope { id: beginning.id, two_ids: beginning.two_ids, ..Envelope::default() };
    let Problem { refusal, .. } = envelope.refuse(ErrorCode::PARSE_ERROR, problem);
    Problem { refusal, answers: beginning.answers }.into()
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

fn batch(text: &str) -> Incoming {
    let items: Vec<&RawValue> = match serde_json::from_str(text) {
        Ok(items) => items,
        Err(error) => return Incoming::Refused(Refusal::new(ErrorCode::PARSE_ERROR, not_json(&error))),
    };
    if items.is_empty() || items.len() > MAX_BATCH {
        let problem = format!("a batch has 1 to {MAX_BATCH} messages, not {}", items.len());
        return Incoming::Refused(Refusal::new(ErrorCode::INVALID_REQUEST, problem));
    }
    let messages = items.into_iter().filter_map(|item| match message(item.get()).map_err(Incoming::from) {
        Ok(message) => Some(alone_if_it_must(message)),
        Err(Incoming::Message(message)) => Some(Ok(*message)),
        Err(Incoming::Refused(refusal)) => Some(Err(refusal)),
        Err(_) => None,
    });
    Incoming::Batch(messages.collect())
}

fn alone_if_it_must(message: ClientJsonRpcMessage) -> Result<ClientJsonRpcMessage, Refusal> {
    match &message {
        JsonRpcMessage::Request(request) if request.request.method() == "initialize" => {
            let problem = "initialize is no part of a batch; send it by itself";
            Err(Refusal::of(&request.id, ErrorCode::INVALID_REQUEST, problem))
        }
        _ => Ok(message),
    }
}

/// What is wrong with a message.
struct Problem {
    refusal: Refusal,
    /// It answers something that the server asked.
    answers: bool,
}

impl From<Problem> for Incoming {
    fn from(Problem { refusal, answers }: Problem) -> Self {
        if !answers {
            return Self::Refused(refusal);
        }
        // Whoever waits for the answer must not wait for ever.
        let id = refusal.id.as_deref().and_then(|id| serde_json::from_str::<RequestId>(id.get()).ok());
        match id {
            Some(id) => {
                let error = ErrorData::new(refusal.code, format!("the answer is {}", refusal.problem), None);
                Self::Message(Box::new(ClientJsonRpcMessage::error(error, Some(id))))
            }
            None => Self::Useless("an answer without a readable id"),
        }
    }
}

fn message(text: &str) -> Result<ClientJsonRpcMessage, Problem> {
    let envelope = Envelope::read(text).map_err(|error| {
        let nothing = Envelope::default();
        // A line of somebody's log may begin like a number, and be none.
        if error.is_data() && serde_json::from_str::<IgnoredAny>(text).is_ok() {
            return nothing.refuse(ErrorCode::INVALID_REQUEST, "not an object, as every message is");
        }
        nothing.refuse(ErrorCode::PARSE_ERROR, not_json(&error))
    })?;
    // A number that would be changed by reading it reaches the tool as the text it is.
    let exact = with_exact_numbers(text);
    let Strict(mut value) = serde_json::from_str(&exact).map_err(|error| {
        if error.is_data() {
            return envelope.refuse(ErrorCode::INVALID_REQUEST, error.to_string());
        }
        envelope.refuse(ErrorCode::PARSE_ERROR, not_json(&error))
    })?;
    if let Some((code, problem)) = envelope.problem() {
        return Err(envelope.refuse(code, problem));
    }
    if envelope.params.is_some_and(is_nothing)
        && let Value::Object(members) = &mut value
    {
        members.remove("params");
    }
    typed(value).map_err(|_| {
        envelope.refuse(ErrorCode::INVALID_REQUEST, "no message: the server can't tell its kind")
    })
}

/// A message by the members it has. rmcp would find out which it is by copying all of it several times.
fn typed(mut message: Value) -> serde_json::Result<ClientJsonRpcMessage> {
    let mut taken = |name: &str| message.get_mut(name).map(Value::take).filter(|member| !member.is_null());
    let id = taken("id").map(serde_json::from_value::<RequestId>).transpose()?;
    let (result, error) = (taken("result"), taken("error"));
    Ok(match (id, result, error) {
        (Some(id), None, None) => JsonRpcMessage::request(serde_json::from_value(message)?, id),
        (None, None, None) => JsonRpcMessage::notification(serde_json::from_value(message)?),
        (Some(id), Some(result), None) => JsonRpcMessage::response(serde_json::from_value(result)?, id),
        (id, _, error) => JsonRpcMessage::error(serde_json::from_value(error.unwrap_or_default())?, id),
    })
}

fn not_json(error: &serde_json::Error) -> String {
    format!("not JSON that can be read: {error}")
}

/// Some languages have one literal for an empty list and an empty object.
fn is_nothing(params: &RawValue) -> bool {
    let mut characters = params.get().chars().filter(|c| !c.is_ascii_whitespace());
    params.get() == "null" || (characters.by_ref().take(2).eq("[]".chars()) && characters.next().is_none())
}

/// The members of a message, each as it was written: of their insides only the grammar is looked at.
#[derive(Debug, Default)]
struct Envelope<'a> {
    jsonrpc: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    two_ids: bool,
}

impl<'a> Envelope<'a> {
    fn read(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    fn answers(&self) -> bool {
        self.method.is_none() && (self.result.is_some() || self.error.is_some())
    }

    fn refuse(&self, code: ErrorCode, problem: impl Into<Cow<'static, str>>) -> Problem {
        let id = self.id.filter(|id| !self.two_ids && can_be_repeated(id)).map(ToOwned::to_owned);
        Problem { refusal: Refusal { id, ..Refusal::new(code, problem) }, answers: self.answers() }
    }

    fn problem(&self) -> Option<(ErrorCode, &'static str)> {
        let is = |member: Option<&RawValue>, first: char| {
            member.is_some_and(|member| member.get().starts_with(first))
        };
        let problem = if self.jsonrpc.is_none_or(|version| version.get() != r#""2.0""#) {
            r#"no message of JSON-RPC 2.0: jsonrpc must be "2.0""#
        } else if self.id.is_some_and(|id| serde_json::from_str::<RequestId>(id.get()).is_err())
            && !(self.error.is_some() && self.id.is_some_and(|id| id.get() == "null"))
        {
            "no message: id must be a string or a whole number of at most 64 bits"
        } else if self.method.is_some() && !is(self.method, '"') {
            "no message: method must be a string"
        } else if self.method.is_some() == (self.result.is_some() || self.error.is_some()) {
            "no message: it must have either a method, or a result, or an error"
        } else if self.params.is_some() && !is(self.params, '{') && !self.params.is_some_and(is_nothing) {
            return Some((ErrorCode::INVALID_PARAMS, "params must be an object"));
        } else {
            return None;
        };
        Some((ErrorCode::INVALID_REQUEST, problem))
    }
}

/// Whether an answer may carry an id just as the client wrote it: JSON-RPC knows strings and numbers of any kind, and
/// what can't be read here might not be there.
fn can_be_repeated(id: &RawValue) -> bool {
    let text = id.get();
    !text.contains(char::REPLACEMENT_CHARACTER)
        && matches!(serde_json::from_str(text), Ok(Value::String(_) | Value::Number(_)))
}

/// What the beginning of a message tells of it.
#[derive(Default)]
struct Beginning<'a> {
    id: Option<&'a RawValue>,
    two_ids: bool,
    /// It is no request but answers one.
    answers: bool,
}

impl<'de> serde::de::DeserializeSeed<'de> for &mut Beginning<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Beginning<'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON-RPC message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match name.as_ref() {
                "id" => {
                    self.two_ids = self.id.is_some();
                    self.id = Some(map.next_value()?);
                    continue;
                }
                "result" | "error" => self.answers = true,
                _ => {}
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON-RPC message")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    let member = match name.as_ref() {
                        "jsonrpc" => &mut envelope.jsonrpc,
                        "id" => {
                            envelope.two_ids = envelope.id.is_some();
                            &mut envelope.id
                        }
                        "method" => &mut envelope.method,
                        "params" => &mut envelope.params,
                        "result" => &mut envelope.result,
                        "error" => &mut envelope.error,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *member = Some(map.next_value()?);
                }
                Ok(envelope)
            }
        }

        deserializer.deserialize_map(Members)
    }
}
