//! The Elasticsearch index against a real server: what is its own, beside what every index promises.

use futures::future::join_all;
use serde_json::json;
use sluice::{
    fault::FaultKind,
    index::{Index, IndexName},
    log::Position,
    sink::{Applied, ApplyError, Sink},
};
use uuid::Uuid;

use crate::support::{
    elasticsearch::Corner,
    events::{LOG, applied, batch, fault, lead, manual},
    fake_http::{FakeHttp, Reply},
    table,
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
        let is_events = table == "eventos";
        let indices = indices.as_object().expect("indices");
        assert_eq!(indices.keys().collect::<Vec<_>>(), [&format!("{alias}-000001")]);
        let properties = &indices[&format!("{alias}-000001")]["aliases"][&alias];
        assert_eq!(properties["is_write_index"], true);
        assert_eq!(
            properties["filter"].is_null(),
            is_events,
            "entities that were removed are hidden: {properties}"
        );
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
async fn an_alias_that_leads_to_several_indices_is_refused_by_name_until_it_leads_to_one() {
    let (corner, index) = Corner::prepared().await;
    let (alias, copy) = (corner.alias("leads"), format!("{}-copia", corner.alias("leads")));
    let written = format!("{alias}-000001");
    assert_eq!(corner.ask("PUT", &copy, None).await.0, 200);
    let add = |index: &str, is_written: bool| json!({"add": {"index": index, "alias": alias, "is_write_index": is_written}});
    for first_is_written in [true, false] {
        let actions = json!({"actions": [add(&written, false), add(&copy, false)]});
        assert_eq!(corner.ask("POST", "_aliases", Some(actions)).await.0, 200);
        let actions = json!({"actions": [add(&written, first_is_written), add(&copy, !first_is_written)]});
        assert_eq!(corner.ask("POST", "_aliases", Some(actions)).await.0, 200);
        let met = [
            corner.index().prepare().await.expect_err("prepared"),
            index.identities().await.map(drop).expect_err("identified"),
            index.unfilled().await.map(drop).expect_err("looked at"),
        ];
        for fault in met {
            assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault}");
            let told = format!("leads to 2 indices, {written}, {copy}");
            assert!(
                fault.message.contains(&told) && fault.advice.to_string().contains("POST _aliases"),
                "{fault}"
            );
        }
    }
    let advised = json!({"actions": [{"remove": {"index": copy, "alias": alias}}]});
    assert_eq!(corner.ask("POST", "_aliases", Some(advised)).await.0, 200);
    let told = corner.index().prepare().await.expect_err("its only index was said not to be written");
    assert!(told.to_string().contains("is_write_index"), "{told}");
    let actions = json!({"actions": [add(&written, true)]});
    assert_eq!(corner.ask("POST", "_aliases", Some(actions)).await.0, 200);
    corner.index().prepare().await.expect("prepared");
    assert_eq!(applied(&index, vec![lead(1, Uuid::new_v4(), 1, json!({}))]).await.entities, 1);
}

#[tokio::test]
async fn an_index_of_other_types_parks_nothing_and_a_rebuild_puts_it_right() {
    let corner = Corner::new();
    let leads = corner.alias("leads");
    // Made by somebody, before sluice had a template.
    let foreign = json!({
        "mappings": {"properties": {"nome": {"type": "integer"}, "score_qualificacao": {"type": "boolean"}}},
        "aliases": {(leads.clone()): {}},
    });
    assert_eq!(corner.ask("PUT", &format!("{leads}-000007"), Some(foreign)).await.0, 200);
    let advised = |told: &sluice::fault::Fault| told.advice.to_string().contains("rebuild the index leads");
    let told = corner.index().prepare().await.expect_err("a type can't be changed");
    assert!(told.kind == FaultKind::Misconfigured && advised(&told), "{told}");

    // As for a drain that was prepared before somebody moved the alias.
    let (made, index) = Corner::prepared().await;
    let moved = json!({"actions": [
        {"remove_index": {"index": format!("{}-000001", made.alias("leads"))}},
        {"add": {"index": format!("{leads}-000007"), "alias": made.alias("leads"), "is_write_index": true}},
    ]});
    assert_eq!(made.ask("POST", "_aliases", Some(moved)).await.0, 200);
    let events = |count: i64| -> Vec<_> {
        (0..count)
            .map(|i| lead(i, Uuid::new_v4(), 1, json!({"nome": "Ana", "score_qualificacao": 9})))
            .collect()
    };
    let told = fault(&index, events(20)).await;
    assert_eq!(told.kind, FaultKind::Misconfigured);
    assert!(
        told.message.contains("leads takes none of the documents of 20 entities") && advised(&told),
        "{told}"
    );

    // Of fewer, or of one whose versions come one after the other, the rows are to blame.
    let one = Uuid::new_v4();
    let versions =
        (0..20).map(|i| lead(i, one, i, json!({"nome": "Ana", "score_qualificacao": 9}))).collect();
    for few in [events(7), versions] {
        let outcome = index.apply(LOG, &batch(few)).await;
        assert!(matches!(outcome, Err(ApplyError::Rejected(_))), "{outcome:?}");
    }

    // The advice, from where nothing could be prepared.
    let index = corner.index();
    let rebuild = index.begin_rebuild(IndexName::Entities(table("leads")), Uuid::nil()).await.expect("begun");
    index.serve_rebuilt(&rebuild).await.expect("swapped");
    index.end_rebuild(&rebuild).await.expect("ended");
    let index = corner.index();
    index.prepare().await.expect("prepared");
    assert_eq!(applied(&index, events(20)).await.entities, 20);
}

#[tokio::test]
async fn a_rebuild_takes_the_place_of_the_index_that_serves_though_another_served_when_it_was_begun() {
    let (corner, index) = Corner::prepared().await;
    let (leads, of) = (corner.alias("leads"), IndexName::Entities(table("leads")));
    let first = index.begin_rebuild(of, Uuid::nil()).await.expect("begun");
    index.serve_rebuilt(&first).await.expect("swapped");
    index.end_rebuild(&first).await.expect("ended");
    let rebuild = index.begin_rebuild(of, Uuid::nil()).await.expect("begun");
    // It is made anew under its first name, as for a drain that finds none.
    assert_eq!(corner.ask("DELETE", &format!("{leads}-000002"), None).await.0, 200);
    corner.index().prepare().await.expect("prepared");
    let identities = async || index.identities().await.expect("identities");
    let before = identities().await;

    index.serve_rebuilt(&rebuild).await.expect("swapped");
    index.serve_rebuilt(&rebuild).await.expect("swapped already");
    index.end_rebuild(&rebuild).await.expect("ended");
    assert_eq!(index.rebuilds().await.expect("rebuilds"), []);
    assert_eq!(identities().await, before, "it stands for that one");
    let (_, indices) = corner.ask("GET", &format!("{leads}-*/_alias"), None).await;
    let names = indices.as_object().expect("indices").keys().collect::<Vec<_>>();
    assert_eq!(names, [&format!("{leads}-000003")], "and nothing else is left");
}

#[tokio::test]
async fn an_index_that_bears_the_aliass_name_is_a_matter_for_a_person() {
    let corner = Corner::new();
    corner.ask("PUT", &corner.alias("leads"), None).await;
    let fault = corner.index().prepare().await.expect_err("the name is taken");
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(fault.advice.to_string().contains("index prefix"), "{fault}");
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
    assert!(told.advice.to_string().contains("alias"), "{told}");
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
    assert!(told.advice.to_string().contains("disk"), "{told}");
}

#[tokio::test]
async fn documents_leave_an_index_of_any_name_that_somebody_put_behind_the_alias() {
    let (corner, index) = Corner::prepared().await;
    for table in ["eventos", "leads"] {
        let (alias, first) = (corner.alias(table), format!("{}-000001", corner.alias(table)));
        let copy = format!("{alias}-copia");
        assert_eq!(corner.ask("PUT", &copy, None).await.0, 200);
        let moved = json!({"actions": [
            {"remove_index": {"index": first}},
            {"add": {"index": copy, "alias": alias, "is_write_index": true}},
        ]});
        assert_eq!(corner.ask("POST", "_aliases", Some(moved)).await.0, 200);
    }
    index.prepare().await.expect("prepared");
    let events = [lead(1, Uuid::new_v4(), 1, json!({})), lead(2, Uuid::new_v4(), 1, json!({}))];
    assert_eq!(applied(&index, events.to_vec()).await.entities, 2);
    let left = async || {
        index.make_visible().await.expect("visible");
        [corner.search("eventos", "*").await.len(), corner.search("leads", "*").await.len()]
    };
    assert_eq!(left().await, [2, 2]);
    index.remove_events(&[events[0].event.id]).await.expect("removed");
    assert_eq!(left().await, [1, 2], "an event that went for its age");
    let keys = events.map(|event| event.event.entidade.id);
    assert_eq!(index.erase(table("leads"), &keys).await.expect("erased"), 3);
    assert_eq!(left().await, [0, 0]);

    // Where there is nothing of that name, nobody can tell that nothing is left.
    assert_eq!(corner.ask("DELETE", &format!("{}-copia", corner.alias("leads")), None).await.0, 200);
    let told = index.erase(table("leads"), &keys).await.expect_err("there is no index of the leads");
    assert!(told.message.contains("neither an index nor its alias is there"), "{told}");
    assert_eq!(corner.ask("DELETE", &format!("{}-copia", corner.alias("eventos")), None).await.0, 200);
    let told = index.remove_events(&[Uuid::new_v4()]).await.expect_err("nor of the events");
    assert!(told.message.contains("neither an index nor its alias is there"), "{told}");
}

// --- documents --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn the_same_batch_again_writes_no_document_neither_an_events_nor_an_entitys() {
    let (corner, index) = Corner::prepared().await;
    let id = Uuid::new_v4();
    let events = vec![lead(1, id, 1, json!({"nome": "Ana"})), manual(2, json!({}))];
    applied(&index, events.clone()).await;
    let documents =
        async || [corner.document("leads", id).await, corner.document("eventos", events[0].event.id).await];
    let before = documents().await;
    assert!(before.iter().all(|document| document["_seq_no"].is_i64()), "{before:?}");
    let again = applied(&corner.index(), events.clone()).await;
    assert_eq!(again, Applied { duplicates: 2, stale: 1, ..Applied::default() });
    assert_eq!(documents().await, before, "_version and _seq_no included");
}

#[tokio::test]
async fn of_many_ties_only_those_of_other_events_are_written_again() {
    let (corner, index) = Corner::prepared().await;
    let ids: Vec<Uuid> = (0..40).map(|_| Uuid::new_v4()).collect();
    let named = |offset: i64, name: &str| -> Vec<_> {
        ids.iter().zip(offset..).map(|(id, offset)| lead(offset, *id, 7, json!({"nome": name}))).collect()
    };
    let (first, later) = (named(0, "primeira"), named(100, "segunda"));
    applied(&index, first.clone()).await;
    let mixed: Vec<_> = first[..20].iter().chain(&later[20..]).cloned().collect();
    let expected = Applied { inserted: 20, duplicates: 20, entities: 20, stale: 20, ..Applied::default() };
    assert_eq!(applied(&index, mixed).await, expected);
    for (at, id) in ids.iter().enumerate() {
        let document = corner.document("leads", id).await;
        assert_eq!(document["_version"], 7);
        assert_eq!(document["_source"]["nome"], if at < 20 { "primeira" } else { "segunda" });
    }
}

#[tokio::test]
async fn poison_is_rejected_by_place_and_without_its_values_while_its_neighbours_are_applied() {
    let (corner, index) = Corner::prepared().await;
    let neighbours = [lead(6, Uuid::new_v4(), 1, json!({})), lead(8, Uuid::new_v4(), 1, json!({}))];
    // Nothing that a row can hold is refused; somebody who closes the mapping makes it so.
    let strict = json!({"properties": {"metadata": {"type": "object", "dynamic": "strict"}}});
    let path = format!("{}/_mapping", corner.alias("eventos"));
    assert_eq!(corner.ask("PUT", &path, Some(strict)).await.0, 200);
    let poison = manual(7, json!({"chave": "segredo"}));
    let events = vec![neighbours[0].clone(), poison, neighbours[1].clone()];
    let Err(ApplyError::Rejected(rejections)) = index.apply(LOG, &batch(events)).await else {
        panic!("the poison was taken");
    };
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].position, Position { partition: 0, offset: 7 });
    assert!(!rejections[0].reason.contains("segredo"), "{}", rejections[0].reason);
    assert!(rejections[0].reason.contains("strict_dynamic_mapping_exception"), "{}", rejections[0].reason);
    for neighbour in &neighbours {
        assert_eq!(corner.document("eventos", neighbour.event.id).await["found"], true);
        assert_eq!(corner.document("leads", &neighbour.event.entidade.id).await["found"], true);
    }
    let outcome = applied(&index, neighbours.to_vec()).await;
    assert_eq!(outcome, Applied { duplicates: 2, stale: 2, ..Applied::default() });
}

#[tokio::test]
async fn no_unknown_column_enters_the_mapping() {
    let (corner, index) = Corner::prepared().await;
    applied(&index, vec![lead(1, Uuid::new_v4(), 1, json!({"extra": {"a": [1, {"b.": 2}]}}))]).await;
    for table in ["eventos", "leads"] {
        let (_, mapping) = corner.ask("GET", &format!("{}/_mapping", corner.alias(table)), None).await;
        let index_name = format!("{}-000001", corner.alias(table));
        let members = &mapping[index_name]["mappings"]["properties"]["metadata"]["properties"];
        assert!(members.get("nome").is_some() && members.get("extra").is_none(), "{members}");
    }
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
    assert_eq!(sizes.len(), 6, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 5 * 1024 * 1024), "{sizes:?}");
}
