use proptest::prelude::*;

use super::{jsonb::MAX_JSONB_DEPTH, *};

fn canonical(json: &str) -> String {
    let mut out = Vec::new();
    write_canonical(json, &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn members_are_found_whatever_their_values_and_names_hold() {
    let object = r#" {"a": 1e999, "b\u00e9": "\ud800", "\ud800": 1, "n": null, "a": 2.50 } "#;
    let members = Members::of(object).expect("an object");
    assert_eq!(members.get("a"), Some("2.50"), "the last of a name counts");
    assert_eq!(members.get("bé"), Some(r#""\ud800""#));
    assert_eq!(members.get("\u{fffd}"), Some("1"));
    assert_eq!(members.get("n"), None);
    assert!(Members::of("[1]").is_none());
}

#[test]
fn a_beginning_has_the_members_that_stand_whole_in_it() {
    let object = r#"{"a":"x","b":{"c":[1,2]},"d":123}"#;
    let found =
        |end: usize| Members::of_beginning(&object[..end]).iter().map(|one| one.value).collect::<Vec<_>>();
    assert_eq!(found(object.len()), ["\"x\"", "{\"c\":[1,2]}", "123"]);
    for end in [object.len() - 1, object.len() - 2] {
        assert_eq!(found(end), ["\"x\"", "{\"c\":[1,2]}"], "more digits may follow: {end}");
    }
    let behind = |value: &str| object.find(value).expect("it is there") + value.len();
    assert_eq!(found(behind("[1,2]}")).len(), 2);
    assert_eq!(found(behind("[1,2]")), ["\"x\""]);
    assert_eq!(found(behind("\"x\"")), ["\"x\""]);
    assert_eq!((found(behind("\"x")), found(0)), (Vec::new(), Vec::new()));
    assert_eq!(Members::of_beginning("[1").iter().count(), 0);
}

#[test]
fn depth_is_no_problem() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(Members::of(&deep).expect("an object").iter().count(), 1);
    assert_eq!(canonical(&deep), deep);
}

#[test]
fn text_replaces_lone_surrogates_and_keeps_pairs() {
    assert_eq!(text(r#""a\ud83d\ude00b""#).as_deref(), Some("a😀b"));
    assert_eq!(text(r#""a\ud83db""#).as_deref(), Some("a\u{fffd}b"));
    assert_eq!(text(r#""\ude00\\ud83d""#).as_deref(), Some("\u{fffd}\\ud83d"));
    assert_eq!(text("1"), None);
}

#[test]
fn jsonb_gets_what_it_can_hold_and_the_rest_is_counted() {
    let (clean, replaced) =
        for_jsonb(r#"{"a":"x\u0000","b\u0000":"\ud800","c":"\\u0000","d":"\ud83d\ude00"}"#);
    assert_eq!(clean, r#"{"a":"x\ufffd","b\ufffd":"\ufffd","c":"\\u0000","d":"\ud83d\ude00"}"#);
    assert_eq!(replaced, 3);
    let (clean, replaced) = for_jsonb(r#"{"a":1e999,"b":1e200000,"c":-1E-99999}"#);
    assert_eq!((&*clean, replaced), (r#"{"a":1e999,"b":"1e200000","c":"-1E-99999"}"#, 2));
    assert!(matches!(for_jsonb(r#"{"a": "\u00e9"}"#), (Cow::Borrowed(_), 0)));
    // Each side of the point counts: numeric holds 16,383 digits behind it.
    assert!(fits_numeric("1.5e-15000") && !fits_numeric(&format!("0.{}e-9000", "1".repeat(9_000))));
    let many = format!("[{}0]", "1e9999,".repeat(2_000));
    let (clean, replaced) = for_jsonb(&many);
    assert_eq!(replaced, 323, "not more than what can be read again");
    assert!(clean.starts_with("[1e9999,") && clean.ends_with("\"1e9999\",0]"), "the first ones fit");
}

#[test]
fn nesting_deeper_than_postgres_takes_stands_there_as_text() {
    let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert!(matches!(for_jsonb(&nested(MAX_JSONB_DEPTH)), (Cow::Borrowed(_), 0)));
    for depth in [MAX_JSONB_DEPTH + 1, 20_000, 1_000_000] {
        let deep = nested(depth);
        let (clean, replaced) = for_jsonb(&deep);
        assert_eq!(replaced, 1, "{depth}");
        assert!(matches!(for_jsonb(&clean), (Cow::Borrowed(_), 0)), "{depth}");
        let rest = depth - MAX_JSONB_DEPTH;
        let text = format!("\"{}1{}\"", "[".repeat(rest), "]".repeat(rest));
        assert!(clean.contains(&text), "{depth}");
    }
    let two = format!("{}[\"x\\u0000\"],2,{{}}{}", "[".repeat(MAX_JSONB_DEPTH), "]".repeat(MAX_JSONB_DEPTH));
    let (clean, replaced) = for_jsonb(&two);
    assert_eq!(replaced, 2);
    assert!(clean.contains(r#"["[\"x\\u0000\"]",2,"{}"]"#), "{clean}");
}

#[test]
fn what_is_shown_loses_no_digit_and_no_depth() {
    let value = to_value(
        r#"{"a": 72.50, "b": 0.1, "c": 1e999, "d": 1234567890123456789012, "e": 0.10000000000000000555,
            "f": -0.0, "g": 18446744073709551615, "h": "a\ud800", "i": [1e2, null, true], "j": 1, "j": 2}"#,
    );
    let expected = serde_json::json!({
        "a": 72.5, "b": 0.1, "c": "1e999", "d": "1234567890123456789012", "e": "0.10000000000000000555",
        "f": -0.0, "g": u64::MAX, "h": "a\u{fffd}", "i": [100.0, null, true], "j": 2
    });
    assert_eq!(value, expected);
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let shown = to_value(&deep).to_string();
    assert_eq!(shown.len(), deep.len() + 2, "the rest stands in quotes");
}

#[test]
fn canonical_text_has_one_spelling_of_strings_and_every_digit() {
    assert_eq!(canonical(r#"{ "a" : [ 1.50 , "\u00e9\/" ] }"#), r#"{"a":[1.50,"é/"]}"#);
    assert_eq!(canonical(r#""\ud800""#), r#""\ud800""#);
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_text_means_the_same_however_it_was_laid_out(value in any_json()) {
        let pretty = serde_json::to_string_pretty(&value).expect("JSON");
        let compact = serde_json::to_string(&value).expect("JSON");
        prop_assert_eq!(canonical(&pretty), canonical(&compact));
        let tokens_back: serde_json::Value = serde_json::from_str(&canonical(&pretty)).expect("JSON");
        prop_assert!(!tokens_back.to_string().is_empty());
    }

    #[test]
    fn what_a_value_holds_is_shown_as_it_is(value in any_json()) {
        prop_assert_eq!(to_value(&value.to_string()), value);
    }

    #[test]
    fn a_text_that_jsonb_holds_is_not_touched(text in "[^\u{0}]*") {
        let json = serde_json::to_string(&text).expect("JSON");
        prop_assert_eq!(for_jsonb(&json), (Cow::Borrowed(json.as_str()), 0));
        let read = super::text(&json);
        prop_assert_eq!(read.as_deref(), Some(text.as_str()));
    }
}
