//! Rows as they are: whatever JSON a project sends comes out of a store as it went in.

use std::{collections::BTreeMap, fmt::Write as _};

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use sluice::{
    domain::Event,
    store::{EventFilter, EventOrder, Store},
};
use uuid::Uuid;

use crate::support::{
    on_each_adapter,
    stores::{Embedded, Postgres, StoreBench, apply, from_row, verbatim},
    table,
};

on_each_adapter! {
    embedded: Embedded, postgres: Postgres;
    any_row_comes_out_with_every_key_digit_and_escape,
    what_jsonb_can_t_hold_is_replaced_and_counted_and_parks_no_row,
}

/// What an adapter makes of a row's text.
trait Keeps: StoreBench {
    /// Whether the text itself is kept; otherwise what it means, as far as jsonb can hold it.
    const TEXT: bool;
}

impl Keeps for Embedded {
    const TEXT: bool = true;
}

impl Keeps for Postgres {
    const TEXT: bool = false;
}

/// What JSON means, as jsonb sees it: of a name that stands twice the last member counts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Word(String),
    /// Sign, digits without zeros around them, power of ten of the last digit.
    Number(bool, String, i64),
    Text(String),
    List(Vec<Meaning>),
    Object(BTreeMap<String, Meaning>),
}

/// Reads JSON, and counts what jsonb can't hold.
struct Reader<'a> {
    rest: &'a [u8],
    replaced: u64,
}

fn meaning(json: &str) -> (Meaning, u64) {
    let mut reader = Reader { rest: json.as_bytes(), replaced: 0 };
    let meaning = reader.value();
    reader.blank();
    assert!(reader.rest.is_empty(), "{json}");
    (meaning, reader.replaced)
}

impl Reader<'_> {
    fn blank(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn next(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().expect("more JSON");
        self.rest = rest;
        *first
    }

    fn is_next(&mut self, byte: u8) -> bool {
        self.blank();
        let is_next = self.rest.first() == Some(&byte);
        if is_next {
            self.next();
        }
        is_next
    }

    fn value(&mut self) -> Meaning {
        self.blank();
        match self.rest[0] {
            b'{' => {
                self.next();
                let mut members = BTreeMap::new();
                while !self.is_next(b'}') {
                    self.is_next(b',');
                    self.blank();
                    let name = self.text();
                    assert!(self.is_next(b':'));
                    let value = self.value();
                    members.insert(name, value);
                }
                Meaning::Object(members)
            }
            b'[' => {
                self.next();
                let mut items = Vec::new();
                while !self.is_next(b']') {
                    self.is_next(b',');
                    items.push(self.value());
                }
                Meaning::List(items)
            }
            b'"' => Meaning::Text(self.text()),
            b'a'..=b'z' => Meaning::Word(self.while_in(|byte| byte.is_ascii_lowercase())),
            _ => {
                let number = self.while_in(|byte| b"+-.eE0123456789".contains(&byte));
                self.number(&number)
            }
        }
    }

    fn while_in(&mut self, is_in: impl Fn(u8) -> bool) -> String {
        let end = self.rest.iter().position(|byte| !is_in(*byte)).unwrap_or(self.rest.len());
        let (part, rest) = self.rest.split_at(end);
        self.rest = rest;
        String::from_utf8(part.to_vec()).expect("ASCII")
    }

    fn number(&mut self, number: &str) -> Meaning {
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let exponent: i64 = exponent.parse().expect("a small exponent");
        if exponent.abs() > 100_000 {
            self.replaced += 1;
            return Meaning::Text(number.to_owned());
        }
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
        let kept = digits.trim_end_matches('0');
        let zeros = i64::try_from(digits.len() - kept.len()).expect("a short number");
        let power = exponent - i64::try_from(fraction.len()).expect("a short number") + zeros;
        let kept = kept.trim_start_matches('0');
        if kept.is_empty() {
            return Meaning::Number(false, String::new(), 0);
        }
        Meaning::Number(number.starts_with('-'), kept.to_owned(), power)
    }

    fn text(&mut self) -> String {
        assert_eq!(self.next(), b'"');
        let mut units: Vec<u16> = Vec::new();
        loop {
            match self.next() {
                b'"' => break,
                b'\\' => units.push(match self.next() {
                    b'u' => {
                        let (hex, rest) = self.rest.split_at(4);
                        self.rest = rest;
                        let hex = std::str::from_utf8(hex).expect("ASCII");
                        match u16::from_str_radix(hex, 16).expect("four digits") {
                            0 => {
                                self.replaced += 1;
                                0xFFFD
                            }
                            unit => unit,
                        }
                    }
                    b'n' => 0x0A,
                    b't' => 0x09,
                    b'r' => 0x0D,
                    b'b' => 0x08,
                    b'f' => 0x0C,
                    other => other.into(),
                }),
                first => {
                    let length = [0xC0, 0xE0, 0xF0].iter().filter(|least| first >= **least).count();
                    let mut bytes = vec![first];
                    bytes.extend((0..length).map(|_| self.next()));
                    units.extend(String::from_utf8(bytes).expect("UTF-8").encode_utf16());
                }
            }
        }
        let decoded = char::decode_utf16(units).map(|unit| {
            unit.unwrap_or_else(|_| {
                self.replaced += 1;
                char::REPLACEMENT_CHARACTER
            })
        });
        decoded.collect()
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no others", |number| number.is_finite())
            .prop_map(|number| format!("{number:e}")),
        "-?[1-9][0-9]{0,60}",
        "-?0\\.[0-9]{1,60}",
        "-?[1-9][0-9]{0,3}\\.[0-9]{1,20}[eE][+-]?[0-9]{1,3}",
        Just("1e999".to_owned()),
        Just("-0".to_owned()),
        Just("0.0e-5".to_owned()),
        Just("1E+400000".to_owned()),
        Just("-1.5e-300000".to_owned()),
    ]
}

/// A string's pieces as a server may spell them.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[^\"\\\\\u{0}-\u{1f}]{0,8}",
        "\\\\[nrtbf/\\\\\"]",
        any::<u16>().prop_map(|unit| format!("\\u{unit:04x}")),
        any::<u16>().prop_map(|unit| format!("\\u{unit:04X}")),
        any::<char>().prop_map(|character| {
            character.encode_utf16(&mut [0; 2]).iter().fold(String::new(), |mut out, unit| {
                let _ = write!(out, "\\u{unit:04x}");
                out
            })
        }),
        Just("\\u0000".to_owned()),
        Just("\\ud83d".to_owned()),
        Just("\\\\u0000".to_owned()),
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn blank() -> impl Strategy<Value = String> {
    "[ \t\n\r]{0,2}"
}

fn any_json() -> impl Strategy<Value = String> {
    let words = prop_oneof![Just("null"), Just("true"), Just("false")].prop_map(str::to_owned);
    let leaf = prop_oneof![words, number(), text()];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            (proptest::collection::vec(inner.clone(), 0..6), blank()).prop_map(|(items, blank)| {
                format!("[{blank}{}{blank}]", items.join(&format!("{blank},")))
            }),
            object(inner),
        ]
    })
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let name = prop_oneof![text(), Just("\"a\"".to_owned()), Just("\"\"".to_owned())];
    (proptest::collection::vec((name, value), 0..6), blank()).prop_map(|(members, blank)| {
        let members: Vec<String> =
            members.into_iter().map(|(name, value)| format!("{name}{blank}:{blank}{value}")).collect();
        format!("{{{}{blank}}}", members.join(&format!("{blank},{blank}")))
    })
}

/// Rows of a lead whose columns, listed or not, hold anything.
fn rows(count: u128) -> Vec<String> {
    const COLUMNS: [&str; 8] = [
        "nome",
        "email",
        "localizacao",
        "interesse",
        "score_qualificacao",
        "created_at",
        "corretor",
        "outra",
    ];
    let column = (proptest::sample::select(&COLUMNS[..]), any_json());
    let any_row = (proptest::collection::vec(column, 0..6), object(any_json()), blank());
    let mut runner = TestRunner::default();
    let row = |id: u128| {
        let (listed, others, blank) = any_row.new_tree(&mut runner).expect("a row").current();
        let mut row = format!("{{{blank}\"id\"{blank}:\"{}\"", Uuid::from_u128(id));
        for (name, value) in listed {
            let _ = write!(row, "{blank},\"{name}\":{value}");
        }
        let others = others.trim().trim_start_matches('{').trim();
        if others != "}" {
            row.push(',');
        }
        row + others
    };
    (1..=count).map(row).collect()
}

async fn any_row_comes_out_with_every_key_digit_and_escape<B: Keeps>() {
    let bench = B::new().await;
    let store = &*bench.open();
    let mut sent = rows(300);
    let (begins, ends) = ("[{\"a\":".repeat(100), "}]".repeat(100));
    let deep = format!("{begins}1{ends}");
    for (id, more) in [
        (301, format!("\"localizacao\":{deep},\"corretor\":{deep}")),
        (302, format!("\"nome\":\"{}\",\"nome\":\"último\"", "x".repeat(300_000))),
        (303, format!("\"corretor\":{}", "9".repeat(5_000))),
    ] {
        sent.push(format!("{{\"id\":\"{}\",{more}}}", Uuid::from_u128(id)));
    }
    let leads = table("leads");
    let events: Vec<Event> = sent.iter().map(|row| from_row(leads, &verbatim(row.clone()), 1)).collect();
    let expected: Vec<(Meaning, u64)> = sent.iter().map(|row| meaning(row)).collect();
    let applied = apply(store, events.clone()).await;
    assert_eq!((applied.inserted, applied.entities), (303, 303), "every row is taken");
    let replaced: u64 = expected.iter().map(|(_, replaced)| replaced).sum();
    assert_eq!(applied.replaced, if B::TEXT { 0 } else { replaced }, "what can't be held is counted");

    for (i, event) in events.iter().enumerate() {
        let filter = EventFilter { entidade: Some(event.entidade.id.clone()), ..EventFilter::default() };
        let page = store.events(&filter, EventOrder::Newest, None, 9).await.expect("events");
        let [stored] = &*page.events else { panic!("{} events of {}", page.events.len(), sent[i]) };
        let entity = store.entity(leads, &event.entidade.id).await.expect("it answers").expect("an entity");
        assert_eq!(entity.evento_id, event.id);
        assert_eq!(entity.metadata, stored.metadata);
        if B::TEXT {
            assert_eq!(stored.dados.as_str(), sent[i]);
            assert_eq!(stored.metadata.as_str(), event.metadata.as_str());
        } else {
            assert_eq!(meaning(stored.dados.as_str()).0, expected[i].0, "{}", sent[i]);
            assert_eq!(
                meaning(stored.metadata.as_str()).0,
                meaning(event.metadata.as_str()).0,
                "{}",
                sent[i]
            );
        }
    }
}

#[allow(clippy::similar_names)]
async fn what_jsonb_can_t_hold_is_replaced_and_counted_and_parks_no_row<B: Keeps>() {
    let bench = B::new().await;
    let store = &*bench.open();
    let row = r#"{"id":"00000000-0000-0000-0000-000000000001","nome":"a\u0000b","email":"\ud800@x",
        "interesse":["\u0000","\udc00"],"localizacao":{"\u0000":1e300000},"corretor":"\u0000","telefone":"\\u0000"}"#;
    let applied = apply(store, vec![from_row(table("leads"), &verbatim(row), 1)]).await;
    assert_eq!((applied.inserted, applied.entities), (1, 1));
    assert_eq!(applied.replaced, if B::TEXT { 0 } else { 7 });
    let entity = entity(store).await;
    // Of columns every sink has the same, also one that could hold more.
    assert_eq!(entity["nome"], "a\u{fffd}b");
    assert_eq!((&entity["email"], &entity["telefone"]), (&"\u{fffd}@x".into(), &"\\u0000".into()));
    assert_eq!(entity["interesse"], serde_json::json!(["\u{fffd}", "\u{fffd}"]));
    assert_eq!(entity["localizacao"], serde_json::json!({"\u{fffd}": "1e300000"}));
}

async fn entity(store: &dyn Store) -> serde_json::Map<String, serde_json::Value> {
    let key = Uuid::from_u128(1).to_string();
    store.entity(table("leads"), &key).await.expect("it answers").expect("an entity").row
}
