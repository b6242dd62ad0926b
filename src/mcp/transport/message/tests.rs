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
    for text in
        ["hello", "{", "\0\0", "{\"id\":7", "{\"jsonrpc\":\"2.0\",\"id\":7,}", "[1,", "{} {}", "\"\\ud83d\""]
    {
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
    for params in [r#"{"a":"\ud83d"}"#, r#"{"a":"\udc00x"}"#, r#"{"a":1e999}"#, r#"{"a":-1e999}"#, &deep] {
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
fn a_text_refused_by_its_beginning_is_answered_by_the_id_that_stands_there() {
    let long = "x".repeat(100);
    for (beginning, id) in [
        (format!(r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{{"a":"{long}"#), json!(9)),
        ("\u{feff}".to_owned() + &format!(r#"{{"id":"á","params":{{"a":"{long}"#), json!("á")),
        (format!(r#"{{"id":1.5,"method":"{long}"#), json!(1.5)),
        (format!(r#"{{"method":"x","params":{{"id":7,"a":"{long}"#), Value::Null),
        (format!(r#"{{"id":1,"id":2,"params":{{"a":"{long}"#), Value::Null),
        (format!(r#"{{"id":{{}},"params":{{"a":"{long}"#), Value::Null),
        (format!(r#"[{{"id":1,"a":"{long}"#), Value::Null),
        (long.clone(), Value::Null),
    ] {
        match refuse_beginning(beginning.as_bytes(), "too long".to_owned()) {
            Incoming::Refused(refusal) => {
                let told: Value = serde_json::from_str(&refusal.to_json()).expect("JSON");
                assert_eq!((&told["id"], &told["error"]["code"]), (&id, &json!(-32700)), "{beginning}");
            }
            other => panic!("{beginning}: {other:?}"),
        }
    }
    let cut = [br#"{"id":3,"params":{"a":"S"#.as_slice(), b"\xE3"].concat();
    assert!(
        matches!(refuse_beginning(&cut, String::new()), Incoming::Refused(refusal) if refusal.id.is_some())
    );
    let answer = format!(r#"{{"id":4,"result":{{"a":"{long}"#);
    match refuse_beginning(answer.as_bytes(), "too long".to_owned()) {
        Incoming::Message(message) => assert!(
            matches!(&*message, JsonRpcMessage::Error(error) if error.id == Some(RequestId::Number(4)))
        ),
        other => panic!("an answer is answered: {other:?}"),
    }
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
    for (id, expected) in [("7.0", json!(7)), ("1e2", json!(100)), ("-1", json!(-1)), ("\"\"", json!(""))] {
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

#[test]
fn a_number_that_reading_would_change_is_kept_as_text() {
    let line = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"n":12345678901234567890123,"m":0.1000000000000000055,"k":1.50,"t":"1e400"}}}"#;
    let Incoming::Message(message) = read(line) else { panic!("no message") };
    let message = serde_json::to_value(&message).expect("JSON");
    let kept = json!({"n": "12345678901234567890123", "m": "0.1000000000000000055", "k": 1.5, "t": "1e400"});
    assert_eq!(message["params"]["arguments"], kept);
}
