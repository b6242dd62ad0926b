//! What every index promises, on each adapter: the embedded one, which needs nothing, and Elasticsearch or OpenSearch.

use serde_json::{Value, json};
use sluice::{
    index::{Index, IndexName, SearchError, Sort},
    log::Position,
    sink::{Applied, ApplyError, SinkEvent},
};
use uuid::Uuid;

use crate::support::{
    elasticsearch::Corner,
    events::{LOG, applied, batch, lead, manual, session},
    indices::{Embedded, IndexBench, request, search},
    on_each_adapter,
};

on_each_adapter! {
    embedded: Embedded, elasticsearch: Corner;
    an_applied_batch_is_visible_after_make_visible,
    the_same_batch_again_changes_nothing_not_even_after_reopening,
    a_stale_version_never_goes_back_within_a_batch_or_across_reopening,
    the_same_event_twice_in_a_batch_is_one_document_and_one_duplicate,
    poison_is_rejected_by_place_and_its_neighbours_are_applied,
    unknown_columns_of_any_name_and_type_are_kept_and_never_rejected,
    every_query_finds_what_the_search_servers_find,
    a_query_that_is_not_understood_is_refused_and_never_answered_with_zero,
    values_are_counted_by_field_and_by_day,
    hits_are_sorted_and_paged_without_gap_or_repeat,
    a_rebuild_serves_only_when_it_is_told_to_and_leaves_nothing_behind,
    a_rebuild_is_joined_by_whoever_begins_it_again_and_can_be_given_up,
}

const NEVER: Applied = Applied { inserted: 0, duplicates: 0, entities: 0, stale: 0, replaced: 0 };

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x5f0c_2f6e_7f0a_4f7a_9a55_0000_0000_0000 + n)
}

async fn hits(index: &dyn Index, of: IndexName, query: &str) -> u64 {
    index.make_visible().await.expect("visible");
    search(index, of, query).await.total
}

/// The only document that matches.
async fn only(index: &dyn Index, of: IndexName, query: &str) -> Value {
    index.make_visible().await.expect("visible");
    let mut answer = search(index, of, query).await;
    assert_eq!((answer.total, answer.hits.len()), (1, 1), "{query}");
    Value::Object(answer.hits.remove(0).source)
}

// --- what every sink promises ---------------------------------------------------------------------------------------

async fn an_applied_batch_is_visible_after_make_visible<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let events = vec![
        lead(1, id(1), 1, json!({"nome": "Ana", "status_lead": "novo"})),
        lead(2, id(1), 2, json!({"nome": "Ana", "status_lead": "qualificado", "corretor": "Bia"})),
        session(3, json!({"id": id(2), "total_messages": 4, "ip_address": "10.0.0.1"})),
        manual(4, json!({"nota": 1})),
    ];
    let outcome = applied(&*index, events.clone()).await;
    assert_eq!(outcome, Applied { inserted: 4, entities: 2, ..NEVER });
    index.make_visible().await.expect("visible");
    let health = index.health().await.expect("health");
    let counts = [("eventos".to_owned(), 4), ("leads".to_owned(), 1), ("chat_sessions".to_owned(), 1)];
    assert_eq!(health.counts, counts);
    let stored = only(&*index, IndexName::Leads, "*").await;
    assert_eq!(stored["status_lead"], "qualificado");
    assert_eq!(stored["metadata"]["corretor"], "Bia");
    assert_eq!(stored["evento_id"], json!(events[1].event.id));
    let envelope: Value = serde_json::from_slice(&events[3].raw).expect("JSON");
    assert_eq!(only(&*index, IndexName::Eventos, "tipo_evento:manual").await, envelope);
}

async fn the_same_batch_again_changes_nothing_not_even_after_reopening<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let events = vec![lead(1, id(1), 1, json!({"nome": "Ana"})), manual(2, json!({}))];
    applied(&*index, events.clone()).await;
    let before = only(&*index, IndexName::Leads, "*").await;
    let again = applied(&*index, events.clone()).await;
    assert_eq!(again, Applied { duplicates: 2, stale: 1, ..NEVER });
    drop(index);
    let index = bench.prepared().await;
    assert_eq!(applied(&*index, events).await, Applied { duplicates: 2, stale: 1, ..NEVER });
    assert_eq!(only(&*index, IndexName::Leads, "*").await, before);
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 2);
}

async fn a_stale_version_never_goes_back_within_a_batch_or_across_reopening<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let unordered =
        vec![lead(5, id(1), 9, json!({"nome": "nova"})), lead(6, id(1), 8, json!({"nome": "velha"}))];
    assert_eq!(applied(&*index, unordered).await, Applied { inserted: 2, entities: 1, ..NEVER });
    drop(index);
    let index = bench.prepared().await;
    let stale = applied(&*index, vec![lead(3, id(1), 4, json!({"nome": "mais velha"}))]).await;
    assert_eq!(stale, Applied { inserted: 1, stale: 1, ..NEVER });
    assert_eq!(only(&*index, IndexName::Leads, "*").await["nome"], "nova");
    let newer = applied(&*index, vec![lead(7, id(1), 10, json!({"nome": "mais nova"}))]).await;
    assert_eq!(newer, Applied { inserted: 1, entities: 1, ..NEVER });
    assert_eq!(only(&*index, IndexName::Leads, "*").await["nome"], "mais nova");
    assert_eq!(hits(&*index, IndexName::Leads, "nome:velha").await, 0);
}

async fn the_same_event_twice_in_a_batch_is_one_document_and_one_duplicate<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let event = lead(1, id(1), 1, json!({}));
    let mut copy = event.clone();
    copy.position.offset = 2;
    let outcome = applied(&*index, vec![event, copy]).await;
    assert_eq!(outcome, Applied { inserted: 1, duplicates: 1, entities: 1, ..NEVER });
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 1);
}

async fn poison_is_rejected_by_place_and_its_neighbours_are_applied<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let neighbours = [lead(6, id(1), 1, json!({})), lead(8, id(2), 1, json!({}))];
    // A version before 1970.
    let poison = lead(7, id(3), -2_000_000, json!({"nome": "segredo"}));
    let events = vec![neighbours[0].clone(), poison, neighbours[1].clone()];
    let Err(ApplyError::Rejected(rejections)) = index.apply(LOG, &batch(events)).await else {
        panic!("the poison was taken");
    };
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].position, Position { partition: 0, offset: 7 });
    assert!(!rejections[0].reason.contains("segredo"), "{}", rejections[0].reason);
    let outcome = applied(&*index, neighbours.to_vec()).await;
    assert_eq!((outcome.inserted + outcome.duplicates, outcome.entities + outcome.stale), (2, 2));
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 2);
    assert_eq!(hits(&*index, IndexName::Leads, "*").await, 2);
}

async fn unknown_columns_of_any_name_and_type_are_kept_and_never_rejected<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let odd = [
        json!({"extra": 1}),
        json!({"extra": "texto"}),
        json!({"extra": {"a": [1, {"b.": 2}]}}),
        json!({"extra": [{"": 1}, "x", null]}),
        json!({"": 1, " ": 2, ".": 3, "..": 4, "a..b": 5, ".a": 6, "a.": 7, "nome.x": 8}),
        json!({"empresa": {"a": 1}, "projeto": [[{"a": 1}]], "total_messages": "muitas"}),
        json!({"is_active": "talvez", "duration_seconds": {"s": 1}, "localizacao": "São Paulo"}),
        json!({"localizacao": [1, {"": 2}], "extra": "x".repeat(100_000)}),
    ];
    let mut events = Vec::new();
    for (i, columns) in (0..).zip(&odd) {
        events.push(lead(i, Uuid::new_v4(), 1, columns.clone()));
        events.push(manual(100 + i, columns.clone()));
    }
    let outcome = applied(&*index, events.clone()).await;
    assert_eq!(outcome, Applied { inserted: 16, entities: 8, ..NEVER });
    let of_row = format!("id:\"{}\"", events[10].event.entidade.id);
    let stored = only(&*index, IndexName::Leads, &of_row).await;
    assert_eq!(stored["metadata"]["coluna_empresa"], json!({"a": 1}));
    // What does not fit its field is kept beside it, and can't be asked for under that name.
    let far = json!({"id": id(1), "started_at": "9999-12-31T23:59:59-12:00", "ip_address": "oculto"});
    applied(&*index, vec![session(200, far)]).await;
    assert_eq!(only(&*index, IndexName::ChatSessions, "*").await["ip_address"], "oculto");
    assert_eq!(hits(&*index, IndexName::ChatSessions, "_exists_:ip_address").await, 0);
}

// --- what every index promises --------------------------------------------------------------------------------------

/// Three leads, two sessions and a manual event; versions are seconds after 1970-01-12T13:46:40Z.
fn documents() -> Vec<SinkEvent> {
    vec![
        lead(
            1,
            id(1),
            1,
            json!({"nome": "João Conceição", "email": "joao@exemplo.com.br", "status_lead": "qualificado",
                   "score_qualificacao": 80, "nome_empresa": "Padaria São João", "origem": "indicação",
                   "interesse": ["casa", "apartamento novo", "casa"]}),
        ),
        lead(
            2,
            id(2),
            100_000,
            json!({"nome": "Ana Souza", "email": "ana@exemplo.com.br", "status_lead": "novo",
                   "score_qualificacao": 20, "origem": "site", "interesse": ["casa"]}),
        ),
        lead(
            3,
            id(3),
            200_000,
            json!({"nome": "Joana D'Ávila (SP)", "score_qualificacao": 50, "origem": ""}),
        ),
        session(
            4,
            json!({"id": id(4), "total_messages": 60, "is_active": true, "ip_address": "10.1.2.3",
                   "started_at": "2026-11-24T10:20:30Z", "pages_visited": ["/", "/contato"],
                   "perguntas_feitas": ["Qual o preço?", "Aceita permuta?"]}),
        ),
        session(
            5,
            json!({"id": id(5), "total_messages": 3, "is_active": false, "ip_address": "2001:db8::1",
                   "started_at": "2026-11-25T00:00:00Z"}),
        ),
        manual(6, json!({"nota": 1})),
    ]
}

async fn every_query_finds_what_the_search_servers_find<B: IndexBench>() {
    use IndexName::{ChatSessions, Eventos, Leads};
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
        (Eventos, "usuario:joao@exemplo.com.br", 2),
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
        (Leads, "nome:joao AND nome:CONCEICAO", 1),
        (Leads, "nome:conc*", 1),
        (Leads, "nome:CONCEIÇ*", 1),
        (Leads, "nome:jo?o", 1),
        (Leads, "nome:*oa*", 2),
        (Leads, "nome.keyword:Jo*", 2),
        (Leads, "nome.keyword:jo*", 0),
        (Leads, "nome.keyword:*\\(SP\\)", 1),
        (Leads, "nome:joao~1", 1),
        (Leads, "nome:joao~", 1),
        (Leads, "nome:jaoo~1", 1),
        (Leads, "nome:joana~", 1),
        (Leads, "nome:joao~2", 2),
        (Leads, "nome:\"joao conceicao\"", 1),
        (Leads, "nome:\"conceicao joao\"", 0),
        (Leads, "nome:\"conceicao joao\"~2", 1),
        (Leads, "nome:(joao OR ana)", 2),
        (Leads, "nome:(+joao -ana)", 1),
        (Leads, "nome:joao^3 OR nome:ana", 2),
        (Leads, "status_lead.keyword:novo AND score_qualificacao:<50", 1),
        (Leads, "score_qualificacao:80", 1),
        (Leads, "score_qualificacao:[20 TO 80}", 2),
        (Leads, "score_qualificacao:{20 TO 80]", 2),
        (Leads, "score_qualificacao:[20.5 TO *]", 2),
        (Leads, "NOT status_lead:novo", 2),
        (Leads, "NOT categoria:engajamento", 3),
        (Leads, "_exists_:email", 2),
        (Leads, "email:*", 2),
        (Leads, "NOT _exists_:email", 1),
        (Leads, "_exists_:origem.keyword", 3),
        (Leads, "_exists_:metadata", 3),
        (Leads, "origem:indicacao OR origem:site AND score_qualificacao:20", 1),
        (Leads, "(origem:indicacao OR origem:site) AND score_qualificacao:>0", 2),
        (Leads, "interesse:casa", 2),
        (Leads, "interesse.keyword:\"apartamento novo\"", 1),
        (Leads, "interesse:\"casa apartamento\"", 0),
        (Leads, "nome.keyword:[A TO Jo]", 1),
        (Leads, "updated_at:\"1970-01-12T13:46:41Z\"", 1),
        (Leads, "valor:80.0", 1),
        (Leads, "nome:zzz", 0),
        (ChatSessions, "ip_address:10.1.2.3", 1),
        (ChatSessions, "ip_address:\"10.0.0.0/8\"", 1),
        (ChatSessions, "ip_address:\"2001:db8::/32\"", 1),
        (ChatSessions, "ip_address:[10.0.0.0 TO 10.255.255.255]", 1),
        (ChatSessions, "is_active:false", 1),
        (ChatSessions, "started_at:2026-11-24", 1),
        (ChatSessions, "started_at:[2026-11-24T10:20:30Z TO 2026-11-25T00:00:00Z}", 1),
        (ChatSessions, "started_at:[2026-11-24||/M TO 2026-11-24||/M]", 2),
        (ChatSessions, "started_at:>now+100y", 0),
        (ChatSessions, "perguntas_feitas:preco", 1),
        (ChatSessions, "pages_visited.keyword:\"/contato\"", 1),
        (ChatSessions, "perguntas_feitas:\"preco aceita\"", 0),
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
    // A month is all of it, where the servers' own reading is its first day.
    assert_eq!(search(&*index, ChatSessions, "started_at:2026-11").await.total, 2);
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
    let mut asked = request(IndexName::Leads, "*");
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
            json!([[20, 1], [50, 1], [80, 1]]),
            json!([[20.0, 1], [50.0, 1], [80.0, 1]]),
            json!([["novo", 1], ["qualificado", 1]]),
        ]
    );
    let days: Vec<(&str, u64)> = answer.days.iter().map(|day| (day.day.as_str(), day.count)).collect();
    assert_eq!(days, [("1970-01-12", 1), ("1970-01-13", 1), ("1970-01-14", 1)]);

    let mut asked = request(IndexName::ChatSessions, "total_messages:>0");
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
        let mut asked = request(IndexName::Leads, "nome:ana");
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
    }
    // The rare word decides.
    let named =
        vec![lead(200, id(1), 1, json!({"nome": "Zuleica"})), lead(201, id(2), 9, json!({"nome": "Ana"}))];
    applied(&*index, named).await;
    index.make_visible().await.expect("visible");
    let mut asked = request(IndexName::Leads, "nome:ana nome:zuleica");
    asked.sort = Sort::Relevance;
    assert_eq!(index.search(&asked).await.expect("an answer").hits[0].id, id(1));
}

// --- rebuilding -----------------------------------------------------------------------------------------------------

async fn a_rebuild_serves_only_when_it_is_told_to_and_leaves_nothing_behind<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    let documents = documents();
    applied(&*index, documents.clone()).await;
    let rebuild = index.begin_rebuild(IndexName::Leads).await.expect("a rebuild");
    let sink = index.rebuild_sink(&rebuild);
    let outcome = applied(&*sink, documents[..1].to_vec()).await;
    assert_eq!(outcome, Applied { entities: 1, ..NEVER }, "only what is rebuilt is written");
    assert_eq!(hits(&*index, IndexName::Leads, "*").await, 3, "the old one serves");

    index.serve_rebuilt(&rebuild).await.expect("swapped");
    index.serve_rebuilt(&rebuild).await.expect("swapped already");
    assert!(index.rebuilds().await.expect("rebuilds")[0].serves);
    assert_eq!(hits(&*index, IndexName::Leads, "*").await, 1, "the new one serves");
    assert_eq!(applied(&*sink, documents[..2].to_vec()).await, Applied { entities: 1, stale: 1, ..NEVER });
    assert_eq!(applied(&*index, documents).await, Applied { duplicates: 6, entities: 1, stale: 4, ..NEVER });

    index.end_rebuild(&rebuild).await.expect("ended");
    index.end_rebuild(&rebuild).await.expect("ended already");
    assert_eq!(index.rebuilds().await.expect("rebuilds"), []);
    assert_eq!(hits(&*index, IndexName::Leads, "*").await, 3);
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 6);
    drop((index, sink));
    let again = bench.prepared().await;
    assert_eq!(hits(&*again, IndexName::Leads, "*").await, 3);
    let next = again.begin_rebuild(IndexName::Leads).await.expect("another");
    assert_ne!(next.id, rebuild.id);
}

async fn a_rebuild_is_joined_by_whoever_begins_it_again_and_can_be_given_up<B: IndexBench>() {
    let bench = B::new();
    let index = bench.prepared().await;
    applied(&*index, documents()).await;
    let rebuild = index.begin_rebuild(IndexName::Eventos).await.expect("a rebuild");
    drop(index);
    let index = bench.prepared().await;
    assert_eq!(index.rebuilds().await.expect("rebuilds"), std::slice::from_ref(&rebuild));
    assert_eq!(index.begin_rebuild(IndexName::Eventos).await.expect("the same"), rebuild);
    index.end_rebuild(&rebuild).await.expect("given up");
    assert_eq!(index.rebuilds().await.expect("rebuilds"), []);
    assert_eq!(hits(&*index, IndexName::Eventos, "*").await, 6, "the old one was never touched");
}
