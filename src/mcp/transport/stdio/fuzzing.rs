//! What must hold of a session whatever bytes its client sends; for the fuzz target, and for a test of its own.

use bytes::BytesMut;
use rmcp::model::{
    ClientJsonRpcMessage, ErrorCode, InitializeResult, JsonRpcMessage, ProtocolVersion, RequestId,
    ServerCapabilities, ServerJsonRpcMessage, ServerResult,
};
use serde_json::Value;
use tokio_util::codec::Decoder;

use super::{Calls, Line, Lines, take};
use crate::mcp::transport::message::{Incoming, read};

/// Short, so that overlong lines are found soon.
const LONGEST: usize = 512;

/// However the bytes are cut into pieces, the same lines come of them. Each is a message or is answered in words that
/// are JSON, and each request that reaches the server gets its one answer. The first byte chooses the pieces and the
/// session's revision.
///
/// # Panics
/// When something of that does not hold.
pub fn framing(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let lines = lines(std::iter::once(bytes));
    let pieces = bytes.chunks(usize::from(choice % 16) + 1);
    assert_eq!(lines, self::lines(pieces), "other pieces, other lines");
    for line in &lines {
        if let Line::Whole(text) = line {
            agrees_with_the_grammar(text);
        }
    }
    session(&lines, *choice);
}

fn lines<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Line> {
    let (mut decoder, mut buffer, mut lines) = (Lines::new(LONGEST), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Ok(Some(line)) = decoder.decode(&mut buffer) {
            lines.push(line);
        }
    }
    while let Ok(Some(line)) = decoder.decode_eof(&mut buffer) {
        lines.push(line);
    }
    lines
}

/// What serde reads as a request is read as one, and what it can't read is a parse error.
fn agrees_with_the_grammar(text: &[u8]) {
    let bare = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text).trim_ascii();
    let incoming = read(text);
    match serde_json::from_slice::<Value>(bare) {
        Err(_) if bare.is_empty() => assert!(matches!(incoming, Incoming::Blank)),
        // The messages of a batch are read one by one.
        Err(_) if bare.starts_with(b"[") => {}
        Err(error) => match incoming {
            Incoming::Refused(refusal) => {
                // Of two faults, that of a member given twice may come first.
                let codes = [ErrorCode::PARSE_ERROR, ErrorCode::INVALID_REQUEST];
                assert!(codes.contains(&refusal.code), "{refusal:?}: {error}");
            }
            // An answer that can't be read is an error for whoever waits for it.
            Incoming::Useless(_) => {}
            Incoming::Message(message) => {
                assert!(matches!(*message, JsonRpcMessage::Error(_)), "{message:?}");
            }
            other => panic!("{other:?}, of what is no JSON: {error}"),
        },
        Ok(value) => {
            let (method, id) = (value["method"].as_str(), value["id"].as_i64());
            let params = value.get("params").is_none_or(Value::is_object);
            let answers = value.get("result").is_some() || value.get("error").is_some();
            let (Some(method), Some(id), true, false, Some("2.0")) =
                (method, id, params, answers, value["jsonrpc"].as_str())
            else {
                return;
            };
            // Written anew it has no member twice.
            match read(value.to_string().as_bytes()) {
                Incoming::Message(message) => match *message {
                    JsonRpcMessage::Request(request) => {
                        assert_eq!((request.id, request.request.method()), (RequestId::Number(id), method));
                    }
                    other => panic!("{other:?}, of a request"),
                },
                other => panic!("{other:?}, of a request"),
            }
        }
    }
}

fn session(lines: &[Line], choice: u8) {
    let revisions = [ProtocolVersion::V_2025_03_26, ProtocolVersion::V_2025_06_18];
    let mut calls = Calls::default();
    let mut written = Vec::new();
    if choice & 128 == 0 {
        open(&mut calls, revisions[usize::from(choice & 64 != 0)].clone());
    }
    // Some are answered at once, and some at the end.
    let mut later = Vec::new();
    for line in lines {
        let (messages, answer) = take(line, &mut calls);
        written.extend(answer);
        for message in messages {
            let JsonRpcMessage::Request(request) = message else { continue };
            if choice & 32 == 0 {
                written.extend(calls.dispatch(&done(request.id)));
            } else {
                later.push(request.id);
            }
        }
    }
    for id in later {
        written.extend(calls.dispatch(&done(id)));
    }
    assert!(calls.is_idle(), "a request is left");
    assert_eq!(calls.abandon("left"), Vec::<String>::new(), "a request is left");
    for line in written.iter().flat_map(|lines| lines.split('\n')) {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let answers = value.as_array().cloned().unwrap_or_else(|| vec![value]);
        assert!(!answers.is_empty(), "an empty batch");
        for answer in answers {
            assert!(answer["jsonrpc"] == "2.0" && answer.get("id").is_some(), "{answer}");
            assert!(answer.get("result").is_some() != answer.get("error").is_some(), "{answer}");
        }
    }
}

fn open(calls: &mut Calls, revision: ProtocolVersion) {
    let initialize = serde_json::json!({"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": {
        "protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "fuzz", "version": "1"}}});
    let message: Result<ClientJsonRpcMessage, _> = serde_json::from_value(initialize);
    let admitted = message.map(|message| calls.admit(message));
    assert!(matches!(admitted, Ok(Ok(_))), "{admitted:?}");
    let mut result = InitializeResult::new(ServerCapabilities::default());
    result.protocol_version = revision;
    let answer = ServerJsonRpcMessage::response(
        ServerResult::InitializeResult(result),
        RequestId::String("open".into()),
    );
    assert!(calls.dispatch(&answer).is_some());
}

fn done(id: RequestId) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::response(ServerResult::empty(()), id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines that a client might send, and some that it might send by mistake.
    fn line() -> impl Strategy<Value = String> {
        let id =
            prop_oneof!["[0-3]", "\"[a-b]\"", Just("null".to_owned()), Just("1.5".to_owned()), "[{\\[]{1,3}"];
        let params = prop_oneof![
            Just("{}".to_owned()),
            Just("[]".to_owned()),
            Just("{\"requestId\":1}".to_owned()),
            Just("{\"a\":\"\\ud83d\"}".to_owned()),
            Just("{\"a\":1,\"a\":1}".to_owned()),
            ".{0,5}",
        ];
        let method = prop_oneof![
            Just("ping"),
            Just("initialize"),
            Just("subscriptions/listen"),
            Just("notifications/cancelled"),
            Just("tools/call"),
        ];
        let request = (id, method, params).prop_flat_map(|(id, method, params)| {
            prop_oneof![
                Just(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)),
                Just(format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)),
                Just(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{params}}}"#)),
            ]
        });
        let batch =
            prop::collection::vec(request.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(",")));
        prop_oneof![4 => request, 2 => batch, 1 => ".{0,20}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn whatever_lines_come_each_request_gets_its_one_answer(choice in any::<u8>(), lines in prop::collection::vec(line(), 0..12)) {
            framing(&[&[choice], lines.join("\n").as_bytes()].concat());
        }
    }
}
