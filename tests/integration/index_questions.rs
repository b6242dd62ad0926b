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
};

/// Questions asked; each is the same in every run.
const QUESTIONS: usize = 400;

fn documents() -> Vec<SinkEvent> {
    let rows = [
        json!({"nome": "João Conceição", "nome_empresa": "Padaria São João", "origem": "indicação", "score_qualificacao": 80, "interesse": ["casa", "apartamento novo"]}),
        json!({"nome": "Ana Souza", "origem": "site", "score_qualificacao": 20, "interesse": ["casa"]}),
        json!({"nome": "Joana D'Ávila (SP)", "score_qualificacao": 50, "origem": ""}),
        json!({"nome": "ana", "origem": "Site", "score_qualificacao": 0, "nome_empresa": "A&B || C"}),
        json!({"nome": "AND", "origem": "NOT", "score_qualificacao": -5}),
        json!({"nome": "not or and to", "origem": "a/b", "score_qualificacao": 9_007_199_254_740_991_i64}),
        json!({"nome": "x".repeat(300), "origem": "a*b?c", "score_qualificacao": 51}),
        json!({"nome": "casa a b c casa", "origem": "a\\b \"c\"", "interesse": ["b a", "a", "b"]}),
        json!({"nome": "日本 語", "origem": "💥", "nome_empresa": "São-Paulo_2 1.000,5"}),
        json!({}),
    ];
    (1..).zip(rows).map(|(n, row)| lead(n, Uuid::from_u128(n as u128), n * 50_000, row)).collect()
}

fn word() -> impl Strategy<Value = String> {
    let plain = select(vec![
        "joao",
        "João",
        "JOAO",
        "ana",
        "casa",
        "site",
        "a",
        "b",
        "sao",
        "padaria",
        "novo",
        "nada",
        "AND",
        "NOT",
        "OR",
        "not",
        "TO",
        "日本",
        "💥",
        "1.000",
        "São-Paulo_2",
        "d'ávila",
        "x",
    ]);
    prop_oneof![
        6 => plain.clone().prop_map(str::to_owned),
        1 => plain.clone().prop_map(|word| format!("{word}*")),
        1 => plain.clone().prop_map(|word| format!("*{word}")),
        1 => plain.clone().prop_map(|word| word.replacen('a', "?", 1)),
        1 => (plain.clone(), 0..3).prop_map(|(word, edits)| format!("{word}~{edits}")),
        1 => plain.clone().prop_map(|word| format!("{word}~")),
        1 => (plain.clone(), plain.clone()).prop_map(|(a, b)| format!("\"{a} {b}\"")),
        1 => (plain.clone(), plain.clone(), 0..4).prop_map(|(a, b, slop)| format!("\"{a} {b}\"~{slop}")),
        1 => plain.prop_map(|word| format!("\\{word}")),
        1 => select(vec![r"a\*b?c", r"a\/b", r"a\\b*", r#"a\\b\ \"c\""#, "*", "?", "**", r"\*", "\"\"", "&&", "||", "\\u0061", "[a TO b]", "{a TO *}"]).prop_map(str::to_owned),
    ]
}

fn number() -> impl Strategy<Value = String> {
    let plain = select(vec![
        "0",
        "-0",
        "20",
        "50",
        "50.5",
        "-5",
        "80",
        "1e1",
        "+5",
        "9007199254740991",
        "9223372036854775807",
        "1e15",
        "x",
    ]);
    prop_oneof![
        2 => plain.clone().prop_map(str::to_owned),
        1 => plain.clone().prop_map(|n| format!("\"{n}\"")),
        2 => (select(vec![">", ">=", "<", "<="]), plain.clone()).prop_map(|(op, n)| format!("{op}{n}")),
        2 => (select(vec!["[", "{"]), plain.clone(), plain, select(vec!["]", "}"])).prop_map(|(from, a, b, to)| format!("{from}{a} TO {b}{to}")),
        1 => Just("*".to_owned()),
    ]
}

fn date() -> impl Strategy<Value = String> {
    let plain = select(vec![
        "1970-01-13",
        "1970",
        "1970-01-13T00:00:00Z",
        "now",
        "now-1d/d",
        "1970-01-12||+1d",
        "1036800000",
        "2999-01-01",
    ]);
    prop_oneof![
        (select(vec![">", ">=", "<", "<="]), plain.clone()).prop_map(|(op, day)| format!("{op}\"{day}\"")),
        (plain.clone(), plain).prop_map(|(a, b)| format!("[\"{a}\" TO \"{b}\"}}")),
    ]
}

fn clause() -> impl Strategy<Value = String> {
    let text = select(vec![
        "nome",
        "nome.keyword",
        "origem",
        "origem.keyword",
        "nome_empresa",
        "interesse",
        "interesse.keyword",
        "id",
    ]);
    prop_oneof![
        5 => (text.clone(), word()).prop_map(|(field, word)| format!("{field}:{word}")),
        1 => (text, word(), word()).prop_map(|(field, a, b)| format!("{field}:({a} {b})")),
        2 => (select(vec!["score_qualificacao", "valor"]), number()).prop_map(|(field, number)| format!("{field}:{number}")),
        1 => date().prop_map(|date| format!("updated_at:{date}")),
        1 => select(vec!["_exists_:nome", "_exists_:score_qualificacao", "*:*", "*"]).prop_map(str::to_owned),
    ]
}

fn question() -> impl Strategy<Value = String> {
    let modified = (
        select(vec!["", "", "", "", "+", "-", "!", "NOT ", "NOT NOT ", "+NOT ", "NOT -"]),
        clause(),
        select(vec!["", "", "", "^2", "^0", "^0.5"]),
    )
        .prop_map(|(modifier, clause, boost)| format!("{modifier}{clause}{boost}"));
    modified.prop_recursive(3, 12, 3, |inner| {
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
async fn found(index: &dyn Index, question: &str) -> Option<Vec<Uuid>> {
    match index.search(&request(IndexName::Leads, question)).await {
        Ok(answer) => Some(answer.hits.iter().map(|hit| hit.id).collect()),
        Err(SearchError::Query(_)) => None,
        Err(error) => panic!("{question}: {error}"),
    }
}

/// What the server finds when it reads the question itself; `None` where it can't.
async fn found_by_itself(corner: &Corner, question: &str) -> Option<Vec<Uuid>> {
    let body = json!({
        "size": 100, "query": {"query_string": {"query": question, "fuzzy_max_expansions": 1000}}, "sort": [{"timestamp": "asc"}, {"id": "asc"}],
    });
    let (status, answer) =
        corner.ask("POST", &format!("{}/_search", corner.alias("leads")), Some(body)).await;
    let id = |hit: &Value| hit["_id"].as_str().and_then(|id| Uuid::try_parse(id).ok()).expect("an id");
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
    for _ in 0..std::env::var("QN").ok().and_then(|n| n.parse().ok()).unwrap_or(QUESTIONS) {
        let question = question().new_tree(&mut runner).expect("a question").current();
        let here = found(&*embedded, &question).await;
        let there = found(&servers, &question).await;
        if here != there {
            wrong.push(format!("{question}: embedded {here:?}, server {there:?}"));
        }
        let Some(there) = there else { continue };
        answered += 1;
        match found_by_itself(&corner, &question).await {
            Some(itself) if itself == there => {}
            other => wrong.push(format!("{question}: asked {there:?}, the server by itself {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {answered}: {wrong:#?}", wrong.len());
    assert!(answered > QUESTIONS / 4, "only {answered} of {QUESTIONS} were understood");
}
