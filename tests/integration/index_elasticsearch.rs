//! The Elasticsearch index against a real server.

use futures::future::join_all;
use serde_json::{Value, json};
use sluice::{
    fault::FaultKind,
    log::Position,
    sink::{Applied, ApplyError, Sink},
};
use uuid::Uuid;

use crate::support::{
    elasticsearch::Corner,
    events::{LOG, applied, batch, fault, lead, manual, poison, session},
    fake_http::{FakeHttp, Reply},
};

// --- indices ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn preparing_twice_and_by_many_at_once_leaves_one_index_behind_each_alias() {
    let corner = Corner::new();
    let racers: Vec<_> = (0..8).map(|_| corner.index()).collect();
    for outcome in join_all(racers.iter().map(Sink::prepare)).await {
        outcome.expect("every racer ends well");
    }
    corner.index().prepare().await.expect("again");
    for table in ["eventos", "leads", "chat_sessions"] {
        let alias = corner.alias(table);
        let (_, indices) = corner.ask("GET", &format!("_alias/{alias}"), None).await;
        let expected = json!({ format!("{alias}-000001"): {"aliases": { alias: {"is_write_index": true}}}});
        assert_eq!(indices, expected);
    }
}

#[tokio::test]
async fn an_alias_that_was_moved_to_a_rebuilt_index_is_left_where_it_is() {
    let (corner, index) = Corner::prepared().await;
    let alias = corner.alias("leads");
    let (status, _) = corner.ask("PUT", &format!("{alias}-000002"), None).await;
    assert_eq!(status, 200);
    let actions = json!({"actions": [
        {"remove_index": {"index": format!("{alias}-000001")}},
        {"add": {"index": format!("{alias}-000002"), "alias": alias}}
    ]});
    assert_eq!(corner.ask("POST", "_aliases", Some(actions)).await.0, 200);
    corner.index().prepare().await.expect("prepared");
    let (_, indices) = corner.ask("GET", &format!("_alias/{alias}"), None).await;
    assert_eq!(
        indices.as_object().expect("indices").keys().collect::<Vec<_>>(),
        [&format!("{alias}-000002")]
    );
    let (_, mapping) = corner.ask("GET", &format!("{alias}/_mapping"), None).await;
    let made = &mapping[format!("{alias}-000002")]["mappings"]["dynamic"];
    assert_eq!(made, "false", "the template made the rebuilt index");
    assert_eq!(applied(&index, vec![lead(1, Uuid::new_v4(), 1, json!({}))]).await.entities, 1);
}

#[tokio::test]
async fn an_index_that_bears_the_aliass_name_is_a_matter_for_a_person() {
    let corner = Corner::new();
    corner.ask("PUT", &corner.alias("leads"), None).await;
    let fault = corner.index().prepare().await.expect_err("the name is taken");
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(fault.advice.contains("index prefix"), "{fault}");
}

#[tokio::test]
async fn a_missing_alias_is_no_poison_and_its_index_is_made_again_with_its_mapping() {
    let (corner, index) = Corner::prepared().await;
    let alias = corner.alias("leads");
    corner.ask("DELETE", &format!("{alias}-000001"), None).await;
    let events = vec![lead(1, Uuid::new_v4(), 1, json!({"nome": "Ana"}))];
    let told = fault(&index, events.clone()).await;
    assert_eq!(told.kind, FaultKind::Transient);
    assert_eq!(corner.ask("GET", &alias, None).await.0, 404, "nothing was made up");
    let outcome = applied(&index, events).await;
    assert_eq!(outcome, Applied { duplicates: 1, entities: 1, ..Applied::default() });
    let (_, mapping) = corner.ask("GET", &format!("{alias}/_mapping"), None).await;
    assert_eq!(mapping[format!("{alias}-000001")]["mappings"]["dynamic"], "false");
}

#[tokio::test]
async fn an_index_that_lost_its_alias_is_not_guessed_to_be_the_right_one() {
    let (corner, index) = Corner::prepared().await;
    let alias = corner.alias("leads");
    corner.ask("DELETE", &format!("{alias}-000001/_alias/{alias}"), None).await;
    let events = vec![lead(1, Uuid::new_v4(), 1, json!({}))];
    assert_eq!(fault(&index, events.clone()).await.kind, FaultKind::Transient);
    let told = fault(&index, events).await;
    assert_eq!(told.kind, FaultKind::Misconfigured);
    assert!(told.advice.contains("alias"), "{told}");
}

#[tokio::test]
async fn a_write_block_is_no_poison_and_passes_when_it_is_removed() {
    let (corner, index) = Corner::prepared().await;
    let path = format!("{}-000001/_settings", corner.alias("leads"));
    let events = vec![lead(1, Uuid::new_v4(), 1, json!({}))];
    corner.ask("PUT", &path, Some(json!({"index.blocks.write": true}))).await;
    assert_eq!(fault(&index, events.clone()).await.kind, FaultKind::Misconfigured);
    corner.ask("PUT", &path, Some(json!({"index.blocks.write": null}))).await;
    assert_eq!(applied(&index, events).await.entities, 1);
}

#[tokio::test]
async fn a_full_disk_is_no_poison_and_passes_by_itself() {
    let (corner, index) = Corner::prepared().await;
    let path = format!("{}-000001/_settings", corner.alias("eventos"));
    corner.ask("PUT", &path, Some(json!({"index.blocks.read_only_allow_delete": true}))).await;
    let told = fault(&index, vec![manual(1, json!({}))]).await;
    assert_eq!(told.kind, FaultKind::Transient);
    assert!(told.advice.contains("disk"), "{told}");
}

// --- documents --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_applied_batch_is_visible_after_make_visible() {
    let (corner, index) = Corner::prepared().await;
    let id = Uuid::new_v4();
    let events = vec![
        lead(1, id, 1, json!({"nome": "Ana", "status_lead": "novo"})),
        lead(2, id, 2, json!({"nome": "Ana", "status_lead": "qualificado", "corretor": "Bia"})),
        session(3, json!({"id": Uuid::new_v4(), "total_messages": 4, "ip_address": "10.0.0.1"})),
        manual(4, json!({"nota": 1})),
    ];
    let outcome = applied(&index, events.clone()).await;
    assert_eq!(outcome, Applied { inserted: 4, entities: 2, ..Applied::default() });
    index.make_visible().await.expect("visible");
    let health = index.health().await.expect("health");
    let counts = [("eventos".to_owned(), 4), ("leads".to_owned(), 1), ("chat_sessions".to_owned(), 1)];
    assert_eq!(health.counts, counts);
    assert!(health.version.starts_with("elasticsearch ") || health.version.starts_with("opensearch "));
    let stored = corner.document("leads", id).await;
    assert_eq!(stored["_version"], events[1].event.entidade.versao);
    assert_eq!(stored["_source"]["status_lead"], "qualificado");
    assert_eq!(stored["_source"]["metadata"]["corretor"], "Bia");
    assert_eq!(stored["_source"]["evento_id"], json!(events[1].event.id));
    let envelope: Value = serde_json::from_slice(&events[3].raw).expect("JSON");
    assert_eq!(corner.document("eventos", events[3].event.id).await["_source"], envelope);
}

#[tokio::test]
async fn the_same_batch_again_changes_nothing() {
    let (corner, index) = Corner::prepared().await;
    let id = Uuid::new_v4();
    let events = vec![lead(1, id, 1, json!({"nome": "Ana"})), manual(2, json!({}))];
    applied(&index, events.clone()).await;
    let before = [corner.document("leads", id).await, corner.document("eventos", events[0].event.id).await];
    let again = applied(&corner.index(), events.clone()).await;
    assert_eq!(again, Applied { duplicates: 2, stale: 1, ..Applied::default() });
    let after = [corner.document("leads", id).await, corner.document("eventos", events[0].event.id).await];
    assert_eq!(before, after, "_version and _seq_no included");
}

#[tokio::test]
async fn a_stale_version_never_goes_back() {
    let (corner, index) = Corner::prepared().await;
    let id = Uuid::new_v4();
    applied(&index, vec![lead(5, id, 9, json!({"nome": "nova"}))]).await;
    let outcome = applied(&index, vec![lead(3, id, 4, json!({"nome": "velha"}))]).await;
    assert_eq!(outcome, Applied { inserted: 1, stale: 1, ..Applied::default() });
    assert_eq!(corner.document("leads", id).await["_source"]["nome"], "nova");
}

#[tokio::test]
async fn the_same_event_twice_in_a_batch_is_one_document_and_one_duplicate() {
    let (_corner, index) = Corner::prepared().await;
    let event = lead(1, Uuid::new_v4(), 1, json!({}));
    let mut copy = event.clone();
    copy.position.offset = 2;
    let outcome = applied(&index, vec![event, copy]).await;
    assert_eq!(outcome, Applied { inserted: 1, duplicates: 1, entities: 1, ..Applied::default() });
}

#[tokio::test]
async fn poison_is_rejected_by_place_and_without_its_values_while_its_neighbours_are_applied() {
    let (corner, index) = Corner::prepared().await;
    let neighbours = [lead(6, Uuid::new_v4(), 1, json!({})), lead(8, Uuid::new_v4(), 1, json!({}))];
    let events = vec![neighbours[0].clone(), poison(7), neighbours[1].clone()];
    let Err(ApplyError::Rejected(rejections)) = index.apply(LOG, &batch(events)).await else {
        panic!("the poison was taken");
    };
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].position, Position { partition: 0, offset: 7 });
    assert!(!rejections[0].reason.contains("segredo"), "{}", rejections[0].reason);
    assert!(rejections[0].reason.contains("json_parse_exception"), "{}", rejections[0].reason);
    for neighbour in &neighbours {
        assert_eq!(corner.document("eventos", neighbour.event.id).await["found"], true);
        assert_eq!(corner.document("leads", neighbour.event.entidade.id).await["found"], true);
    }
    let outcome = applied(&index, neighbours.to_vec()).await;
    assert_eq!(outcome, Applied { duplicates: 2, stale: 2, ..Applied::default() });
}

#[tokio::test]
async fn unknown_columns_of_any_name_and_type_are_kept_and_never_rejected() {
    let (corner, index) = Corner::prepared().await;
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
    let outcome = applied(&index, events.clone()).await;
    assert_eq!(outcome, Applied { inserted: 16, entities: 8, ..Applied::default() });
    let stored = corner.document("leads", events[10].event.entidade.id).await;
    assert_eq!(stored["_source"]["metadata"]["coluna_empresa"], json!({"a": 1}));
    let (_, mapping) = corner.ask("GET", &format!("{}/_mapping", corner.alias("eventos")), None).await;
    let index_name = format!("{}-000001", corner.alias("eventos"));
    let members = &mapping[index_name]["mappings"]["properties"]["metadata"]["properties"];
    assert!(members.get("extra").is_none(), "no unknown column entered the mapping");
}

#[tokio::test]
async fn instants_beyond_what_the_server_dates_do_not_reject_a_document() {
    let (corner, index) = Corner::prepared().await;
    let far =
        json!({"id": Uuid::new_v4(), "started_at": "9999-12-31T23:59:59-12:00", "ip_address": "oculto"});
    let event = session(1, far);
    applied(&index, vec![event.clone()]).await;
    let stored = corner.document("chat_sessions", event.event.entidade.id).await;
    assert_eq!(stored["_source"]["ip_address"], "oculto");
}

#[tokio::test]
async fn dashboards_query_text_keywords_numbers_and_dates_as_before() {
    let (corner, index) = Corner::prepared().await;
    let events = vec![
        lead(
            1,
            Uuid::new_v4(),
            1,
            json!({"nome": "João Conceição", "email": "joao@exemplo.com.br", "status_lead": "qualificado",
                   "score_qualificacao": 80, "nome_empresa": "Padaria São João"}),
        ),
        lead(2, Uuid::new_v4(), 1, json!({"nome": "Ana", "status_lead": "novo", "score_qualificacao": 20})),
        session(3, json!({"id": Uuid::new_v4(), "total_messages": 60, "is_active": true})),
    ];
    applied(&index, events).await;
    index.make_visible().await.expect("visible");
    for (table, q, hits) in [
        ("eventos", "categoria:vendas AND valor:>50", 1),
        ("eventos", "categoria.keyword:engajamento", 1),
        ("eventos", "evento.keyword:lead_qualificado OR evento:chat_session", 2),
        ("eventos", "usuario.keyword:\"joao@exemplo.com.br\"", 1),
        ("eventos", "joao", 1),
        ("eventos", "metadata.empresa:padaria AND metadata.empresa.keyword:\"Padaria São João\"", 1),
        ("eventos", "metadata.total_messages:[50 TO *] AND metadata.is_active:true", 1),
        ("eventos", "timestamp:[1970-01-01 TO 1970-12-31]", 3),
        ("eventos", "tipo_evento:lead", 2),
        ("leads", "nome:joao AND nome:CONCEICAO", 1),
        ("leads", "nome:conc*", 1),
        ("leads", "status_lead.keyword:novo AND score_qualificacao:<50", 1),
        ("leads", "NOT categoria:engajamento", 2),
    ] {
        assert_eq!(corner.search(table, q).await.len(), hits, "{table}: {q}");
    }
    let path = format!("{}/_search?q=categoria:vendas%20AND%20valor:%3E50", corner.alias("eventos"));
    let body = json!({"size": 0, "aggs": {"por": {"terms": {"field": "evento.keyword"}}}});
    let (status, found) = corner.ask("POST", &path, Some(body)).await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["aggregations"]["por"]["buckets"][0]["key"], "lead_qualificado");
}

#[tokio::test]
async fn a_large_batch_goes_in_several_requests_of_bounded_size() {
    let (corner, _) = Corner::prepared().await;
    let real = corner.url.clone();
    let proxy = FakeHttp::start(move |_, _| Reply::Forward(real.clone())).await;
    let index = corner.index_at(&proxy.url);
    let events = (0..20).map(|i| manual(i, json!({"texto": "x".repeat(1024 * 1024)}))).collect();
    assert_eq!(applied(&index, events).await.inserted, 20);
    let sizes: Vec<_> = proxy.requests().iter().map(|request| request.body.len()).collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 8 * 1024 * 1024), "{sizes:?}");
}
