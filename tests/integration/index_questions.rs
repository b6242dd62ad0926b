//! Questions nobody wrote: both indices find the same, and what a search server itself finds where it reads them alike.

use proptest::{prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};
use sluice::{
    index::{Index, IndexName, SearchError},
    sink::SinkEvent,
};
use uuid::Uuid;

use crate::support::{
    elasticsearch::Corner,
    events::{applied, lead},
    indices::{Embedded, IndexBench, request},
    table,
};

/// Questions asked, the same in every run; TEST_QUESTIONS asks more.
fn questions() -> usize {
    std::env::var("TEST_QUESTIONS").ok().and_then(|number| number.parse().ok()).unwrap_or(400)
}

fn documents() -> Vec<SinkEvent> {
    let rows = [
        json!({"nome": "João Conceição", "nome_empresa": "Padaria São João", "origem": "indicação", "score_qualificacao": 80, "interesse": ["casa", "apartamento novo"]}),
        json!({"nome": "Ana Souza", "origem": "site", "score_qualificacao": 20, "interesse": ["casa"]}),
        json!({"nome": "Joana D'Ávila (SP)", "score_qualificacao": 50, "origem": ""}),
        json!({"nome": "ana", "origem": "Site", "score_qualificacao": 0, "nome_empresa": "A&B || C"}),
        json!({"nome": "AND", "origem": "NOT", "score_qualificacao": -5}),
        json!({"nome": "not or and to", "origem": "a/b", "score_qualificacao": 1_000_000_000}),
        json!({"nome": "x".repeat(300), "origem": "a*b?c", "score_qualificacao": 51}),
        json!({"nome": "casa a b c casa", "origem": "a\\b \"c\"", "interesse": ["b a", "a", "b"]}),
        json!({"nome": "日本 語", "origem": "💥", "nome_empresa": "São-Paulo_2 1.000,5"}),
        json!({}),
    ];
    (1..)
        .zip(rows)
        .map(|(n, row)| lead(n, Uuid::from_u128(n.unsigned_abs().into()), n * 50_000, row))
        .collect()
}

fn one_of(words: &'static str) -> impl Strategy<Value = &'static str> + Clone {
    select(words.split_whitespace().collect::<Vec<_>>())
}

fn word() -> impl Strategy<Value = String> {
    let plain = one_of(
        "joao João JOAO ana casa site a b c sao padaria novo nada AND NOT OR not TO 日本 💥 1.000 São-Paulo_2 d'ávila x",
    );
    let odd = one_of(r#"a\*b?c a\/b a\\b* a\\b \"c\" * ? ** *? \* "" && || \u0061 [a TO b]"#);
    let phrase =
        proptest::collection::vec(plain.clone(), 1..4).prop_map(|words| format!("\"{}\"", words.join(" ")));
    prop_oneof![
        6 => plain.clone().prop_map(str::to_owned),
        1 => plain.clone().prop_map(|word| format!("{word}*")),
        1 => plain.clone().prop_map(|word| format!("*{word}")),
        1 => plain.clone().prop_map(|word| word.replacen('a', "?", 1)),
        1 => (plain.clone(), one_of("~ ~0 ~1 ~2")).prop_map(|(word, edits)| format!("{word}{edits}")),
        1 => phrase.clone(),
        2 => (phrase, 0..5).prop_map(|(phrase, slop)| format!("{phrase}~{slop}")),
        1 => plain.prop_map(|word| format!("\\{word}")),
        1 => odd.prop_map(str::to_owned),
        1 => select(vec!["[a TO b]", "{a TO *}", "[\"João\" TO casa}"]).prop_map(str::to_owned),
    ]
    .prop_map(|word| {
        if SEVERAL_WORDS.contains(&word.trim_start_matches('\\')) { format!("«{word}»") } else { word }
    })
}

/// Terms that are cut into several words: for sluice a phrase, for a server any of the words where no quotes stand around
/// them. « and » are those that only the server is given.
const SEVERAL_WORDS: [&str; 4] = ["São-Paulo_2", "日本", r"a\/b", r"a\\b"];

/// Without what only sluice reads: a sign where Lucene wants it escaped, and zeros that have one.
fn number() -> impl Strategy<Value = String> {
    let plain = one_of("0 20 50 50.5 80 1e1 1000000000 9223372036854775807 1e15 x");
    let bound = one_of("0 -5 20 50.5 80 1000000000 *");
    prop_oneof![
        2 => plain.clone().prop_map(str::to_owned),
        1 => plain.clone().prop_map(|number| format!("\"{number}\"")),
        2 => (one_of("> >= < <="), plain).prop_map(|(op, number)| format!("{op}{number}")),
        2 => (one_of("[ {"), bound.clone(), bound, one_of("] }")).prop_map(|(from, a, b, to)| format!("{from}{a} TO {b}{to}")),
        1 => Just("*".to_owned()),
    ]
}

/// Bounds that are whole instants: of a year or a month sluice means all, and a server the first day.
fn date() -> impl Strategy<Value = String> {
    let plain = one_of(
        "1970-01-13T00:00:00Z 1970-01-15T01:02:03.004-03:00 now now-1d 1970-01-12T00:00:00Z||+1d 2999-01-01T00:00:00Z",
    );
    (one_of("[ {"), plain.clone(), plain, one_of("] }"))
        .prop_map(|(from, a, b, to)| format!("{from}\"{a}\" TO \"{b}\"{to}"))
}

fn clause() -> impl Strategy<Value = String> {
    let text = one_of("nome origem nome_empresa interesse");
    let exact = one_of("nome.keyword origem.keyword interesse.keyword id");
    prop_oneof![
        4 => (text.clone(), word()).prop_map(|(field, word)| format!("{field}:{word}")),
        2 => (exact, word()).prop_map(|(field, word)| format!("{field}:{word}")),
        // Of exact values a server takes two words in a row for one value.
        1 => (text, word(), word()).prop_map(|(field, a, b)| format!("{field}:({a} {b})")),
        2 => (one_of("score_qualificacao valor"), number()).prop_map(|(field, number)| format!("{field}:{number}")),
        1 => date().prop_map(|date| format!("updated_at:{date}")),
        1 => one_of("_exists_:nome _exists_:score_qualificacao *:* *").prop_map(str::to_owned),
    ]
}

fn question() -> impl Strategy<Value = String> {
    let modifier = select(vec!["", "", "", "", "+", "-", "!", "NOT ", "NOT NOT ", "+NOT ", "NOT -"]);
    let with_modifier = (modifier, clause(), select(vec!["", "", "", "^2", "^0", "^0.5"]))
        .prop_map(|(modifier, clause, weight)| format!("{modifier}{clause}{weight}"));
    with_modifier.prop_recursive(3, 12, 3, |inner| {
        let joint = select(vec![
            " ",
            " AND ",
            " OR ",
            " && ",
            " || ",
            " AND NOT ",
            " OR NOT ",
            " AND OR ",
            " && || ",
        ]);
        prop_oneof![
            (inner.clone(), joint, inner.clone()).prop_map(|(a, joint, b)| format!("{a}{joint}{b}")),
            inner.prop_map(|inner| format!("({inner})")),
        ]
    })
}

/// What an index finds; `None` where it refuses the question.
async fn found(index: &dyn Index, question: &str) -> Option<Vec<String>> {
    match index.search(&request(IndexName::Entities(table("leads")), question)).await {
        Ok(answer) => Some(answer.hits.into_iter().map(|hit| hit.id).collect()),
        Err(SearchError::Query(_)) => None,
        Err(error) => panic!("{question}: {error}"),
    }
}

/// What the server finds when it reads the question itself; `None` where it can't.
async fn found_by_itself(corner: &Corner, question: &str) -> Option<Vec<String>> {
    let body = json!({
        "size": 100, "query": {"query_string": {"query": question, "fuzzy_max_expansions": 1000}}, "sort": [{"timestamp": "asc"}, {"id": "asc"}],
    });
    let (status, answer) =
        corner.ask("POST", &format!("{}/_search", corner.alias("leads")), Some(body)).await;
    let id = |hit: &Value| hit["_id"].as_str().expect("an id").to_owned();
    (status == 200).then(|| answer["hits"]["hits"].as_array().expect("hits").iter().map(id).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_questions_find_the_same_in_both_indices_and_by_the_server_s_own_reading() {
    let (corner, servers) = Corner::prepared().await;
    let folder = Embedded::new();
    let embedded = folder.prepared().await;
    for index in [&servers as &dyn Index, &*embedded] {
        applied(index, documents()).await;
        index.make_visible().await.expect("visible");
    }
    let mut runner = TestRunner::deterministic();
    let (mut wrong, mut answered) = (Vec::new(), 0);
    for _ in 0..questions() {
        let generated = question().new_tree(&mut runner).expect("a question").current();
        let question = generated.replace(['«', '»'], "");
        let here = found(&*embedded, &question).await;
        let there = found(&servers, &question).await;
        if here != there {
            wrong.push(format!("{question}: embedded {here:?}, server {there:?}"));
        }
        let Some(there) = there else { continue };
        answered += 1;
        match found_by_itself(&corner, &generated.replace(['«', '»'], "\"")).await {
            Some(itself) if itself == there => {}
            other => wrong.push(format!("{question}: asked {there:?}, the server by itself {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {answered}: {wrong:#?}", wrong.len());
    assert!(answered > questions() / 4, "only {answered} of {} were understood", questions());
}
