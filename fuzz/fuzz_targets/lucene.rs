//! What the embedded index finds for a query, and what is found by looking at each document.
#![no_main]

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    ops::{Bound, RangeBounds},
    sync::LazyLock,
};

use chrono::{DateTime, TimeDelta, Utc};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use sluice::{
    domain::{Catalog, Json, SourceRow, Table},
    fuzzing,
    index::{
        Field, FieldKind, Index, IndexName, SearchRequest, Sort,
        query::{Part, Query, Test},
        tantivy::TantivyIndex,
    },
    log::Position,
    sink::{Sink, SinkBatch, SinkEvent},
};
use tokio::runtime::Runtime;
use uuid::Uuid;

fuzz_target!(|text: &str| {
    let bench = &*BENCH;
    for table in ["leads", "chat_sessions"] {
        let index = IndexName::Entities(self::table(table));
        let Some(read) = fuzzing::lucene(text, index, Utc::now().with_timezone(&chrono_tz::Tz::UTC)) else { continue };
        let found = bench.found(index, text);
        let Some(expected) = bench.expected(index, &read) else { continue };
        assert_eq!(found, expected, "{index}, {text:?} was read as {read:?}");
    }
});

static BENCH: LazyLock<Bench> = LazyLock::new(Bench::new);

struct Bench {
    index: TantivyIndex,
    runtime: Runtime,
    leads: Vec<Map<String, Value>>,
    sessions: Vec<Map<String, Value>>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let index = TantivyIndex::new(folder.path(), Catalog::built_in());
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let rows = leads().into_iter().map(|row| (table("leads"), row));
        let rows = rows.chain(sessions().into_iter().map(|row| (table("chat_sessions"), row)));
        let events = (0..).zip(rows).map(|(n, (table, mut row))| {
            row.insert("id".to_owned(), json!(Uuid::from_u128(n as u128 + 1)));
            let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(1_000_000 + n * 50_000);
            row.insert("updated_at".to_owned(), json!(at));
            let row = SourceRow::read(table, Json::from(&row)).expect("a row");
            let event = row.event(at, 1).0;
            let position = Position { partition: 0, offset: n };
            SinkEvent { position, raw: event.encode(), event, table: Some(table) }
        });
        let batch = SinkBatch { events: events.collect(), spans: Vec::new() };
        let mut bench = Self { index, runtime, leads: Vec::new(), sessions: Vec::new(), _folder: folder };
        bench.runtime.block_on(async {
            bench.index.prepare().await.expect("prepared");
            bench.index.apply("fuzz", &batch).await.expect("applied");
        });
        bench.leads = bench.hits(IndexName::Entities(table("leads")), "*");
        bench.sessions = bench.hits(IndexName::Entities(table("chat_sessions")), "*");
        bench
    }

    fn hits(&self, index: IndexName, query: &str) -> Vec<Map<String, Value>> {
        let request = SearchRequest {
            index,
            query: Some(query.to_owned()),
            sort: Sort::Relevance,
            from: 0,
            size: 100,
            count_by: Vec::new(),
            count_by_day: false,
            zone: chrono_tz::Tz::UTC,
        };
        let answer = self.runtime.block_on(self.index.search(&request));
        let answer = answer.unwrap_or_else(|error| panic!("{query:?} was read, but {error}"));
        assert_eq!(answer.total, answer.hits.len() as u64, "{query:?}");
        answer.hits.into_iter().map(|hit| hit.source).collect()
    }

    fn found(&self, index: IndexName, query: &str) -> BTreeSet<String> {
        self.hits(index, query).iter().map(id).collect()
    }

    /// `None` where it takes more to tell.
    fn expected(&self, index: IndexName, query: &Query) -> Option<BTreeSet<String>> {
        let documents = if index.as_str() == "leads" { &self.leads } else { &self.sessions };
        let mut found = BTreeSet::new();
        for document in documents {
            if matches(query, document)? {
                found.insert(id(document));
            }
        }
        Some(found)
    }
}

fn table(name: &str) -> Table {
    Catalog::built_in().get(name).expect("a built-in table")
}

fn id(document: &Map<String, Value>) -> String {
    document["id"].to_string()
}

fn rows(rows: Value) -> Vec<Map<String, Value>> {
    rows.as_array().expect("rows").iter().map(|row| row.as_object().expect("a row").clone()).collect()
}

fn leads() -> Vec<Map<String, Value>> {
    rows(json!([
        {"nome": "João Conceição", "nome_empresa": "Padaria São João", "origem": "indicação", "score_qualificacao": 80, "interesse": ["casa", "apartamento novo"]},
        {"nome": "Ana Souza", "email": "ana@exemplo.com.br", "origem": "site", "score_qualificacao": 20, "interesse": ["casa"]},
        {"nome": "Joana D'Ávila (SP)", "score_qualificacao": 50, "origem": ""},
        {"nome": "ana", "origem": "Site", "score_qualificacao": 0, "nome_empresa": "A&B || C"},
        {"nome": "AND", "origem": "NOT", "score_qualificacao": -5},
        {"nome": "not or and to", "origem": "a/b", "score_qualificacao": i64::MAX},
        {"nome": "x".repeat(300), "origem": "a*b?c", "score_qualificacao": i64::MIN},
        {"nome": "casa a b c casa", "origem": "a\\b \"c\"", "interesse": ["b a", "a", "b"]},
        {"nome": "日本 語 ไทย ½ ⑴", "origem": "💥", "nome_empresa": "São-Paulo_2 1.000,5"},
        {"telefone": "y".repeat(1025)},
        {},
    ]))
}

fn sessions() -> Vec<Map<String, Value>> {
    rows(json!([
        {"ip_address": "10.1.2.3", "total_messages": 60, "is_active": true, "started_at": "2026-11-24T10:20:30Z", "pages_visited": ["/", "/contato"]},
        {"ip_address": "2001:db8::1", "total_messages": 3, "is_active": false, "started_at": "2026-11-25T00:00:00Z"},
        {"ip_address": "::", "is_active": true, "started_at": "0000-01-01T00:00:00Z", "perguntas_feitas": ["Qual o preço?"]},
        {"ip_address": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "started_at": "9999-12-31T23:59:59.999Z"},
        {"lead_id": "a", "duration_seconds": 0},
    ]))
}

fn matches(query: &Query, document: &Map<String, Value>) -> Option<bool> {
    let all =
        |queries: &[Query]| queries.iter().map(|query| matches(query, document)).collect::<Option<Vec<_>>>();
    Some(match query {
        Query::All => true,
        Query::Field(field, test) => passes(field, test, document)?,
        Query::Any(choices) => all(choices)?.contains(&true),
        Query::Bool(clauses) => {
            let (must, should, must_not) =
                (all(&clauses.must)?, all(&clauses.should)?, all(&clauses.must_not)?);
            !must.contains(&false)
                && !must_not.contains(&true)
                && (!must.is_empty() || should.contains(&true))
        }
        Query::Boosted(query, _) => matches(query, document)?,
    })
}

fn passes(field: &Field, test: &Test, document: &Map<String, Value>) -> Option<bool> {
    let mut values = Vec::new();
    gather(document.get_path(&field.source), &mut values);
    let texts: Vec<String> =
        values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
    let keywords = || texts.iter().filter(|text| text.encode_utf16().count() <= 1024);
    let words = || texts.iter().map(|text| fuzzing::words(text));
    let longs = || values.iter().filter_map(|value| value.as_i64());
    let dates = || {
        let of = |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|date| date.timestamp_millis());
        values.iter().filter_map(move |value| of(value.as_str()?))
    };
    let addresses = || {
        texts.iter().filter_map(|text| text.parse::<IpAddr>().ok()).map(|address| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        })
    };
    let terms = || -> Vec<String> {
        if field.kind == FieldKind::Text {
            words().flatten().collect()
        } else {
            keywords().cloned().collect()
        }
    };
    Some(match test {
        Test::Exists => match field.kind {
            FieldKind::Text => !texts.is_empty(),
            FieldKind::Keyword => keywords().count() > 0,
            FieldKind::Date => dates().count() > 0,
            FieldKind::Ip => addresses().count() > 0,
            _ => !values.is_empty(),
        },
        Test::Words(asked) => words().flatten().any(|word| asked.words.contains(&word)),
        Test::Phrase(asked, 0) => {
            words().any(|words| words.windows(asked.words.len()).any(|at| at == asked.words))
        }
        Test::Phrase(..) => return None,
        Test::Is(text) => keywords().any(|value| value == text),
        Test::Shape(parts) => terms().iter().any(|term| fits(parts, term)),
        Test::Like(word, edits) => {
            terms().iter().any(|term| strsim::osa_distance(term, word) <= usize::from(*edits))
        }
        Test::Texts(low, high) => keywords().any(|text| RangeBounds::<String>::contains(&(low.as_ref(), high.as_ref()), text)),
        Test::Longs(low, high) => longs().any(|long| (*low, *high).contains(&long)),
        Test::Doubles(low, high) => {
            values.iter().filter_map(|value| value.as_f64()).any(|double| within(double, low, high))
        }
        Test::Dates(low, high) => dates().any(|date| (*low, *high).contains(&date)),
        Test::Boolean(asked) => values.iter().any(|value| value.as_bool() == Some(*asked)),
        Test::Addresses(low, high) => addresses().any(|address: Ipv6Addr| (*low, *high).contains(&address)),
    })
}

/// As numbers are: -0 is 0.
fn within(double: f64, low: &Bound<f64>, high: &Bound<f64>) -> bool {
    (match low {
        Bound::Included(low) => double >= *low,
        Bound::Excluded(low) => double > *low,
        Bound::Unbounded => true,
    }) && match high {
        Bound::Included(high) => double <= *high,
        Bound::Excluded(high) => double < *high,
        Bound::Unbounded => true,
    }
}

trait Path {
    fn get_path(&self, path: &str) -> Option<&Value>;
}

impl Path for Map<String, Value> {
    fn get_path(&self, path: &str) -> Option<&Value> {
        match path.split_once('.') {
            None => self.get(path),
            Some((head, tail)) => self.get(head)?.as_object()?.get_path(tail),
        }
    }
}

fn gather<'a>(value: Option<&'a Value>, into: &mut Vec<&'a Value>) {
    match value {
        Some(Value::Array(items)) => items.iter().for_each(|item| gather(Some(item), into)),
        None | Some(Value::Null | Value::Object(_)) => {}
        Some(scalar) => into.push(scalar),
    }
}

/// Whether a term has the shape of a pattern: after each piece, the beginnings of the term that it may have taken.
fn fits(parts: &[Part], term: &str) -> bool {
    let term: Vec<char> = term.chars().collect();
    let mut taken = BTreeSet::from([0]);
    for part in parts {
        taken = match part {
            Part::One => taken.into_iter().filter(|at| *at < term.len()).map(|at| at + 1).collect(),
            Part::Many => taken.first().map_or_else(BTreeSet::new, |first| (*first..=term.len()).collect()),
            Part::Text(text) => {
                let text: Vec<char> = text.chars().collect();
                taken
                    .into_iter()
                    .filter(|at| term[*at..].starts_with(&text))
                    .map(|at| at + text.len())
                    .collect()
            }
        };
    }
    taken.contains(&term.len())
}
