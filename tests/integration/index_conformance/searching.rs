//! Queries, counts, sorting and paging.

use chrono::DateTime;
use serde_json::{Value, json};
use sluice::domain::Event;
use sluice::index::{Index, IndexName, SearchError, SearchRequest, Sort};

use super::{documents, id};
use crate::support::{
    elasticsearch::Corner,
    events::{applied, lead, manual},
    indices::{Embedded, IndexBench, entities, request, search},
    on_each_adapter, table,
};

on_each_adapter! {
    embedded: Embedded, elasticsearch: Corner;
    every_query_finds_what_the_search_servers_find,
    a_query_that_is_not_understood_is_refused_and_never_answered_with_zero,
    values_are_counted_by_field_and_by_day,
    days_are_those_of_the_zone_and_what_has_no_value_is_counted,
    hits_are_sorted_and_paged_without_gap_or_repeat,
}

#[allow(clippy::too_many_lines)]
async fn every_query_finds_what_the_search_servers_find<B: IndexBench>() {
    use IndexName::Eventos;
    let (leads, sessions) = (entities("leads"), entities("chat_sessions"));
    let bench = B::new();
    let index = bench.prepared().await;
    applied(&*index, documents()).await;
    index.make_visible().await.expect("visible");
    let mut wrong = Vec::new();
    for (of, query, expected) in [
        (Eventos, "*", 6),
        (Eventos, "*:*", 6),
        (Eventos, "categoria:vendas AND valor:>50", 1),
        (Eventos, "categoria:vendas AND valor:>=50", 2),
        (Eventos, "categoria:vendas && !valor:<50", 2),
        (Eventos, "categoria.keyword:engajamento", 2),
        (Eventos, "evento.keyword:lead_qualificado OR evento:chat_session", 3),
        (Eventos, "usuario.keyword:\"joao@exemplo.com.br\"", 1),
        (Eventos, "joao", 1),
        (Eventos, "JOÃO", 1),
        (Eventos, "joao souza", 2),
        (Eventos, "+joao souza", 1),
        (Eventos, "joao -souza", 1),
        (Eventos, "\"sao joao\"", 1),
        (Eventos, "metadata.empresa:padaria AND metadata.empresa.keyword:\"Padaria São João\"", 1),
        (Eventos, "metadata.total_messages:[50 TO *] AND metadata.is_active:true", 1),
        (Eventos, "timestamp:[1970-01-01 TO 1970-12-31]", 4),
        (Eventos, "timestamp:[1970-01-12 TO 1970-01-12]", 1),
        (Eventos, "timestamp:>1970-01-12", 4),
        (Eventos, "timestamp:>=1970-01-12", 5),
        (Eventos, "timestamp:{* TO 1970-01-13}", 2),
        (Eventos, "tipo_evento:lead", 3),
        (Eventos, "evento:lead_*", 3),
        (Eventos, "entidade.id:5f0c2f6e-7f0a-4f7a-9a55-000000000001", 1),
        (leads, "nome:joao AND nome:CONCEICAO", 1),
        (leads, "nome:conc*", 1),
        (leads, "nome:CONCEIÇ*", 1),
        (leads, "nome:jo?o", 1),
        (leads, "nome:*oa*", 2),
        (leads, "nome.keyword:Jo*", 2),
        (leads, "nome.keyword:jo*", 0),
        (leads, "nome.keyword:*\\(SP\\)", 1),
        (leads, "nome:joao~1", 1),
        (leads, "nome:joao~", 1),
        (leads, "nome:jaoo~1", 1),
        (leads, "nome:joana~", 1),
        (leads, "nome:joao~2", 2),
        (leads, "nome:\"joao conceicao\"", 1),
        (leads, "nome:\"conceicao joao\"", 0),
        (leads, "nome:\"conceicao joao\"~2", 1),
        (leads, "nome:(joao OR ana)", 2),
        (leads, "nome:(+joao -ana)", 1),
        (leads, "nome:joao^3 OR nome:ana", 2),
        (leads, "status_lead.keyword:novo AND score_qualificacao:<50", 1),
        (leads, "score_qualificacao:80", 1),
        (leads, "score_qualificacao:[20 TO 80}", 2),
        (leads, "score_qualificacao:{20 TO 80]", 2),
        (leads, "score_qualificacao:[20.5 TO *]", 2),
        (leads, "NOT status_lead:novo", 2),
        (leads, "NOT categoria:engajamento", 3),
        (leads, "_exists_:email", 2),
        (leads, "email:*", 2),
        (leads, "NOT _exists_:email", 1),
        (leads, "_exists_:origem.keyword", 3),
        (leads, "_exists_:metadata", 3),
        (leads, "origem:indicacao OR origem:site AND score_qualificacao:20", 1),
        (leads, "(origem:indicacao OR origem:site) AND score_qualificacao:>0", 2),
        (leads, "interesse:casa", 2),
        (leads, "interesse.keyword:\"apartamento novo\"", 1),
        (leads, "interesse:\"casa apartamento\"", 0),
        (leads, "nome.keyword:[A TO Jo]", 1),
        (leads, "updated_at:\"1970-01-12T13:46:41Z\"", 1),
        (leads, "valor:80.0", 1),
        (leads, "processado_em:>=now-1d", 3),
        (leads, "metadata.status_lead.keyword:novo", 1),
        (Eventos, "metadata.origem.keyword:site", 1),
        (Eventos, "processado_em:[now-1h TO now+1h]", 6),
        (leads, "nome:zzz", 0),
        (sessions, "ip_address:10.1.2.3", 1),
        (sessions, "ip_address:\"10.0.0.0/8\"", 1),
        (sessions, "ip_address:\"2001:db8::/32\"", 1),
        (sessions, "ip_address:[10.0.0.0 TO 10.255.255.255]", 1),
        (sessions, "is_active:false", 1),
        (sessions, "started_at:2026-11-24", 1),
        (sessions, "started_at:[2026-11-24T10:20:30Z TO 2026-11-25T00:00:00Z}", 1),
        (sessions, "started_at:[2026-11-24||/M TO 2026-11-24||/M]", 2),
        (sessions, "started_at:>now+100y", 0),
        (sessions, "perguntas_feitas:preco", 1),
        (sessions, "pages_visited.keyword:\"/contato\"", 1),
        (sessions, "perguntas_feitas:\"preco aceita\"", 0),
    ] {
        let found = search(&*index, of, query).await.total;
        let theirs = bench.asked_itself(of, query).await.unwrap_or(expected);
        if (found, theirs) != (expected, expected) {
            wrong.push(format!(
                "{of}: {query}: expected {expected}, found {found}, the server itself {theirs}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A term is one value, where the servers' own reading is any of its words.
    for (of, query, expected) in [
        (Eventos, "usuario:joao@exemplo.com.br", 1),
        (Eventos, "joao@exemplo.com.br", 1),
        (Eventos, "joao@exemplo.com.br OR ana@exemplo.com.br", 2),
        (Eventos, "ninguem@exemplo.com.br", 0),
        (leads, "email:ninguem@exemplo.com.br", 0),
        (leads, "email:ANA@exemplo.com.br", 1),
        (leads, "email:exemplo.com.br", 2),
        (leads, "nome:joao-conceicao", 1),
        (leads, "nome:joao-souza", 0),
    ] {
        assert_eq!(search(&*index, of, query).await.total, expected, "{of}: {query}");
    }
    // A month is all of it, where the servers' own reading is its first day.
    assert_eq!(search(&*index, sessions, "started_at:2026-11").await.total, 2);
}

async fn a_query_that_is_not_understood_is_refused_and_never_answered_with_zero<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    for query in
        ["origem:site", "valor:muito", "/jo.*/", "a AND", "(a", "usuario:*@exemplo.com", "a and b", "dados:x"]
    {
        let refused = index.search(&request(IndexName::Eventos, query)).await;
        assert!(matches!(refused, Err(SearchError::Query(_))), "{query}: {refused:?}");
    }
    let mut far = request(IndexName::Eventos, "*");
    far.from = 9_950;
    let refused = index.search(&far).await;
    assert!(matches!(refused, Err(SearchError::Request { field: "from", .. })), "{refused:?}");
    let mut uncountable = request(IndexName::Eventos, "*");
    uncountable.count_by = vec!["dados".into()];
    let refused = index.search(&uncountable).await;
    assert!(matches!(refused, Err(SearchError::Request { field: "count_by", .. })), "{refused:?}");
}

async fn values_are_counted_by_field_and_by_day<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    applied(&*index, documents()).await;
    index.make_visible().await.expect("visible");
    let mut asked = request(entities("leads"), "*");
    asked.size = 0;
    asked.count_by =
        ["interesse", "score_qualificacao", "valor", "status_lead.keyword"].map(str::to_owned).into();
    asked.count_by_day = true;
    let answer = index.search(&asked).await.expect("an answer");
    assert_eq!((answer.total, answer.hits.len()), (3, 0));
    let counted: Vec<Value> = answer
        .counts
        .iter()
        .map(|counts| counts.values.iter().map(|value| json!([value.value, value.count])).collect())
        .collect();
    assert_eq!(
        counted,
        [
            json!([["casa", 2], ["apartamento novo", 1]]),
            json!([[20.0, 1], [50.0, 1], [80.0, 1]]),
            json!([[20.0, 1], [50.0, 1], [80.0, 1]]),
            json!([["novo", 1], ["qualificado", 1]]),
        ]
    );
    let days: Vec<(&str, u64)> = answer.days.iter().map(|day| (day.day.as_str(), day.count)).collect();
    assert_eq!(days, [("1970-01-12", 1), ("1970-01-13", 1), ("1970-01-14", 1)]);

    let mut asked = request(entities("chat_sessions"), "total_messages:>0");
    asked.count_by = ["is_active", "started_at", "ip_address"].map(str::to_owned).into();
    let answer = index.search(&asked).await.expect("an answer");
    let first = |i: usize| answer.counts[i].values[0].value.clone();
    assert_eq!(first(0), json!(false));
    assert_eq!(first(1), json!("2026-11-24T10:20:30.000Z"));
    assert_eq!(first(2), json!("10.1.2.3"));

    let many = (0..30).map(|n| manual(100 + n, json!({"origem": format!("o{n:02}")}))).collect();
    applied(&*index, many).await;
    index.make_visible().await.expect("visible");
    let mut asked = request(IndexName::Eventos, "tipo_evento:manual");
    asked.count_by = vec!["metadata.origem".into()];
    let counts = index.search(&asked).await.expect("an answer").counts.remove(0);
    assert_eq!((counts.values.len(), counts.others), (20, 10));
    assert_eq!(counts.values[19].value, "o19", "equally frequent values are in order");
}

async fn days_are_those_of_the_zone_and_what_has_no_value_is_counted<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    // 22:00 of the 13th in São Paulo is the 14th in UTC.
    let late = "1970-01-14T01:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().expect("an instant");
    let versao = late.timestamp() - 1_000_000;
    let events = vec![
        lead(1, id(1), versao, json!({"nome": "Ana", "origem": "site"})),
        lead(
            2,
            id(2),
            versao + 2 * 3600,
            json!({"nome": "Bia", "last_interaction_at": "1970-01-10T12:00:00Z"}),
        ),
        lead(
            3,
            id(3),
            versao + 2 * 3600,
            json!({"nome": "Caio", "last_interaction_at": "1970-01-13T12:00:00Z"}),
        ),
    ];
    applied(&*index, events).await;
    index.make_visible().await.expect("visible");
    let mut asked = request(entities("leads"), "*");
    (asked.count_by_day, asked.count_by) =
        (true, ["origem", "last_interaction_at"].map(str::to_owned).into());
    for (zone, expected) in [
        (chrono_tz::Tz::UTC, vec![("1970-01-14", 3)]),
        (chrono_tz::Tz::America__Sao_Paulo, vec![("1970-01-13", 1), ("1970-01-14", 2)]),
    ] {
        asked.zone = zone;
        let answer = index.search(&asked).await.expect("an answer");
        let days: Vec<(&str, u64)> = answer.days.iter().map(|day| (day.day.as_str(), day.count)).collect();
        assert_eq!(days, expected, "{zone}");
        let missing: Vec<u64> = answer.counts.iter().map(|counts| counts.missing).collect();
        assert_eq!(missing, [2, 1]);
    }
    for (query, found) in [
        ("timestamp:1970-01-13", 1),
        ("timestamp:\"1970-01-13T22:00\"", 1),
        ("timestamp:[1970-01-14 TO *]", 2),
        ("+(last_interaction_at:<\"1970-01-13\" OR (*:* AND NOT _exists_:last_interaction_at))", 2),
    ] {
        asked.query = Some(query.to_owned());
        assert_eq!(index.search(&asked).await.expect("an answer").total, found, "{query}");
    }
}

/// Times and ids of every document that a search finds, as its end and its total agree on.
async fn scanned(index: &dyn Index, request: &SearchRequest) -> Vec<(String, String)> {
    let mut found = index.scan(request).await.expect("a scan");
    let mut scanned = Vec::new();
    while let Some(document) = found.documents.next().await.expect("a document") {
        let document: Value = serde_json::from_str(&document).expect("JSON");
        let id = document["id"].as_str().expect("an id").to_owned();
        scanned.push((document["timestamp"].to_string(), id));
    }
    assert_eq!(scanned.len() as u64, found.total);
    scanned
}

async fn hits_are_sorted_and_paged_without_gap_or_repeat<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    // Many with the same instant: only the id tells them apart.
    let events =
        (0..95).map(|n| lead(n, id(1000 + u128::from(n.unsigned_abs())), n / 30, json!({"nome": "Ana"})));
    applied(&*index, events.collect()).await;
    index.make_visible().await.expect("visible");
    for sort in [Sort::Oldest, Sort::Newest, Sort::Relevance] {
        let mut seen = Vec::new();
        let mut asked = request(entities("leads"), "nome:ana");
        (asked.sort, asked.size) = (sort, 10);
        while asked.from < 100 {
            let answer = index.search(&asked).await.expect("an answer");
            assert_eq!(answer.total, 95);
            seen.extend(answer.hits.into_iter().map(|hit| (hit.source["timestamp"].to_string(), hit.id)));
            asked.from += 10;
        }
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), 95, "{sort:?}");
        match sort {
            Sort::Oldest => assert_eq!(seen, sorted),
            Sort::Newest => assert!(seen.is_sorted_by(|a, b| a.0 > b.0 || (a.0 == b.0 && a.1 < b.1))),
            Sort::Relevance => {}
        }
        // What is scanned is the same, whole and in order.
        let mut scanned = scanned(&*index, &asked).await;
        match sort {
            Sort::Oldest => assert!(scanned.is_sorted_by_key(|(time, _)| time.clone())),
            _ => assert!(scanned.is_sorted_by(|a, b| a.0 >= b.0)),
        }
        scanned.sort();
        assert_eq!(scanned, sorted);
    }
    // What was removed is in no scan either, whatever is asked for.
    let there = lead(300, id(2000), 1, json!({"nome": "Ana"}));
    let mut gone = there.clone();
    gone.position.offset = 301;
    gone.event = Event::removal(table("leads"), &id(2000).to_string(), id(2001), DateTime::UNIX_EPOCH, 2);
    applied(&*index, vec![there]).await;
    applied(&*index, vec![gone]).await;
    index.make_visible().await.expect("visible");
    let everything = SearchRequest { query: None, ..request(entities("leads"), "") };
    assert_eq!(scanned(&*index, &everything).await.len(), 95);
    // The rare word decides.
    let named =
        vec![lead(200, id(1), 1, json!({"nome": "Zuleica"})), lead(201, id(2), 9, json!({"nome": "Ana"}))];
    applied(&*index, named).await;
    index.make_visible().await.expect("visible");
    let mut asked = request(entities("leads"), "nome:ana nome:zuleica");
    asked.sort = Sort::Relevance;
    assert_eq!(index.search(&asked).await.expect("an answer").hits[0].id, id(1).to_string());
}
