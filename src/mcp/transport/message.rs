//! Reads JSON-RPC messages out of bytes, and tells what is wrong with those that are none.
//!
//! Every text that is not blank leads to exactly one [`Incoming`], so that whoever sent it is answered. A refusal
//! carries the request's id wherever the text's grammar tells it: a string cut in the middle of an emoji, a number
//! beyond any double or too many brackets leave the members beside them readable, and a client that waits for id 7
//! learns nothing from an answer to `null`.

use std::borrow::Cow;

use rmcp::model::{ClientJsonRpcMessage, ErrorCode, ErrorData, JsonRpcError, JsonRpcMessage, RequestId};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::strict::Strict;

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
    let Strict(mut value) = serde_json::from_str(text).map_err(|error| {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refused(text: impl AsRef<[u8]>) -> (i32, Value, String) {
        let text = text.as_ref();
        match read(text) {
            Incoming::Refused(refusal) => {
                let response: Value = serde_json::from_str(&refusal.to_json()).expect("JSON");
                assert_eq!(response["jsonrpc"], "2.0");
                let code = response["error"]["code"].as_i64().and_then(|code| i32::try_from(code).ok());
                (code.expect("a code"), response["id"].clone(), refusal.problem.into_owned())
            }
            other => panic!("{}: {other:?}", String::from_utf8_lossy(text)),
        }
    }

    fn request(id: &str, params: &str) -> String {
        format!(r#"{{"method":"tools/call","params":{params},"jsonrpc":"2.0","id":{id}}}"#)
    }

    #[test]
    fn what_is_no_json_is_a_parse_error_of_nobody_s_request() {
        for text in [
            "hello",
            "{",
            "\0\0",
            "{\"id\":7",
            "{\"jsonrpc\":\"2.0\",\"id\":7,}",
            "[1,",
            "{} {}",
            "\"\\ud83d\"",
        ] {
            let (code, id, problem) = refused(text);
            assert_eq!((code, id), (-32700, Value::Null), "{text}: {problem}");
        }
        let utf16: Vec<u8> = "{\"id\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(refused(&utf16).0, -32700);
        assert_eq!(refused([b"\xFF\xFE".as_slice(), &utf16].concat()).0, -32700);
    }

    #[test]
    fn a_text_that_can_t_be_read_to_the_end_is_a_parse_error_of_the_request_it_is() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        for params in [r#"{"a":"\ud83d"}"#, r#"{"a":"\udc00x"}"#, r#"{"a":1e999}"#, r#"{"a":-1e999}"#, &deep]
        {
            for (id, expected) in [("7", json!(7)), ("\"x\"", json!("x")), ("1.5", json!(1.5))] {
                let (code, told, problem) = refused(request(id, params));
                assert_eq!((code, told), (-32700, expected), "{params}: {problem}");
            }
        }
        let latin =
            [br#"{"jsonrpc":"2.0","method":"x","params":{"a":"S"#.as_slice(), b"\xE3o\"},\"id\":7}"].concat();
        let (code, id, problem) = refused(latin);
        assert_eq!((code, id), (-32700, json!(7)));
        assert_eq!(problem, "not UTF-8 from byte 47 on");
        let mut broken_id = request("\"x\"", "{}").into_bytes();
        let at = broken_id.iter().rposition(|byte| *byte == b'x').expect("the id");
        broken_id[at] = 0xFF;
        assert_eq!(refused(broken_id).1, Value::Null, "an id that can't be read is not told");
    }

    #[test]
    fn json_that_is_no_message_is_an_invalid_request() {
        for (text, id) in [
            ("7", Value::Null),
            ("null", Value::Null),
            ("\"x\"", Value::Null),
            ("{}", Value::Null),
            (r#"{"id":7,"method":"ping"}"#, json!(7)),
            (r#"{"jsonrpc":2.0,"id":7,"method":"ping"}"#, json!(7)),
            (r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7,"method":7}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7,"method":"ping","error":null}"#, json!(7)),
        ] {
            let (code, told, problem) = refused(text);
            assert_eq!((code, told), (-32600, id), "{text}: {problem}");
        }
    }

    #[test]
    fn an_id_of_an_odd_kind_is_refused_and_repeated_where_json_rpc_can() {
        for id in ["1.5", "-0.5", "12345678901234567890123", "9223372036854775808", "1e300"] {
            match read(request(id, "{}").as_bytes()) {
                Incoming::Refused(refusal) => {
                    assert!([-32600, -32700].contains(&refusal.code.0), "{id}");
                    assert_eq!(refusal.id.expect("an id").get(), id, "not rounded to another");
                }
                other => panic!("{id}: {other:?}"),
            }
        }
        for id in ["null", "true", "{}", "[7]", "{\"a\":1}", "1e400"] {
            assert_eq!(refused(request(id, "{}")).1, Value::Null, "{id}");
        }
        for (id, expected) in [("7.0", json!(7)), ("1e2", json!(100)), ("-1", json!(-1)), ("\"\"", json!(""))]
        {
            match read(request(id, r#"{"name":"x"}"#).as_bytes()) {
                Incoming::Message(message) => {
                    assert_eq!(serde_json::to_value(message).expect("JSON")["id"], expected, "{id}");
                }
                other => panic!("{id}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_member_given_twice_is_refused_at_any_depth() {
        let twice = r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#;
        assert_eq!((refused(twice).0, refused(twice).1), (-32600, Value::Null), "which of the two?");
        for text in [
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/list"}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","arguments":{"a":[{"b":1,"b":2}]}}}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","na\u006de":"y"}}"#,
        ] {
            let (code, id, problem) = refused(text);
            assert_eq!((code, id), (-32600, json!(7)), "{text}");
            assert!(problem.contains("twice"), "{problem}");
        }
    }

    #[test]
    fn parameters_are_an_object_and_nothing_may_be_written_as_null_or_an_empty_list() {
        for params in ["[1]", "7", "\"{}\"", "true", "[[]]"] {
            let (code, id, _) = refused(request("7", params));
            assert_eq!((code, id), (-32602, json!(7)), "{params}");
        }
        for params in ["null", "[]", "[ ]", "{}"] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{params}}}"#);
            assert!(matches!(read(text.as_bytes()), Incoming::Message(_)), "{params}");
        }
    }

    #[test]
    fn blank_lines_line_ends_and_a_mark_of_byte_order_mean_nothing() {
        for text in ["", " ", "\r", "\t \r", "\u{feff}", "\u{feff}\r"] {
            assert!(matches!(read(text.as_bytes()), Incoming::Blank), "{text:?}");
        }
        let ping = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;
        for text in [format!("\u{feff}{ping}"), format!("{ping}\r"), format!("  {ping}  ")] {
            assert!(matches!(read(text.as_bytes()), Incoming::Message(_)), "{text:?}");
        }
    }

    #[test]
    fn an_answer_that_can_t_be_read_is_not_answered_but_told_to_whoever_waits_for_it() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for result in ["\"\\ud83d\"", "1e999", &deep] {
            match read(format!(r#"{{"jsonrpc":"2.0","id":3,"result":{{"a":{result}}}}}"#).as_bytes()) {
                Incoming::Message(message) => match *message {
                    JsonRpcMessage::Error(error) => {
                        assert_eq!(error.id, Some(RequestId::Number(3)));
                        assert!(error.error.message.starts_with("the answer is not JSON"), "{error:?}");
                    }
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
        for text in [
            r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
            r#"{"jsonrpc":"2.0","result":{"a":"\ud83d"}}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"error":{}}"#,
        ] {
            assert!(matches!(read(text.as_bytes()), Incoming::Useless(_)), "{text}");
        }
        let own = Refusal::new(ErrorCode::PARSE_ERROR, "x").to_json();
        match read(own.as_bytes()) {
            Incoming::Message(message) => {
                assert!(matches!(*message, JsonRpcMessage::Error(_)), "{message:?}");
            }
            other => panic!("an echo of what the server says is answered: {other:?}"),
        }
    }

    #[test]
    fn each_message_of_a_batch_is_read_by_itself() {
        let text = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}, 7, [],
            {"jsonrpc":"2.0","id":2,"method":"x","params":{"a":"\ud83d"}}, {"jsonrpc":"2.0","id":null,"result":{}}]"#;
        let Incoming::Batch(items) = read(text.as_bytes()) else { panic!("no batch") };
        let told: Vec<_> =
            items.iter().map(|item| item.as_ref().map_err(|refusal| refusal.code.0).is_ok()).collect();
        assert_eq!(told, [true, false, false, false], "an answer to nothing is none of it");
        let codes: Vec<i32> = items.iter().filter_map(|item| Some(item.as_ref().err()?.code.0)).collect();
        assert_eq!(codes, [-32600, -32600, -32700]);
        assert_eq!(refused("[]").0, -32600);
        assert_eq!(refused(format!("[{}]", vec!["1"; MAX_BATCH + 1].join(","))).0, -32600);
        assert_eq!(refused("[1,]").0, -32700);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_answered_in_one_line_or_is_a_message(bytes in any::<Vec<u8>>(), text in "[\\[\\]{}:,\"a-z0-9\\\\. -]{0,60}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                if let Incoming::Refused(refusal) = read(bytes) {
                    let json = refusal.to_json();
                    prop_assert!(!json.contains('\n'));
                    prop_assert!(serde_json::from_str::<Value>(&json).is_ok());
                }
            }
        }

        #[test]
        fn a_request_is_read_whatever_its_arguments_say(text in any::<String>(), number in any::<f64>(), id in any::<i64>()) {
            let line = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                "params": {"name": "x", "arguments": {"text": text, "number": number}}}).to_string();
            match read(line.as_bytes()) {
                Incoming::Message(message) => {
                    let read = serde_json::to_value(message).expect("JSON");
                    prop_assert_eq!(&read["params"]["arguments"]["text"], &json!(text));
                    prop_assert_eq!(&read["id"], &json!(id));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
