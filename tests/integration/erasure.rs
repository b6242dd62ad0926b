//! Erasing a person, on the embedded parts and on the real ones: nothing of them is left, and nothing brings them back.

use std::sync::Arc;

use serde_json::{Value, json};
use sluice::{
    domain::JsonObject,
    engine::{
        Engine, EngineError, EntityKey, ErasureReport, ErasureRequest, LetterFilter, Selection, SyncPhase,
    },
    index::IndexName,
    source::Condition,
    store::{Reconciliation, SyncRequest},
};

use crate::{
    mcp::{answer, call, connect_to, text},
    support::{
        eventually, finished, on_each_adapter,
        place::{Embedded, Place, Real, documents, rows, value},
        request,
        rows::{id, lead, leads, session},
        sync, table,
    },
};

mod again;
mod by_email;
mod earlier_key;
mod in_flight;
mod ledger;
mod parked;
mod related;

on_each_adapter! {
    embedded: Embedded, real: Real;
    an_erased_lead_is_found_nowhere_and_nobody_else_is_touched,
    nothing_brings_an_erased_lead_back,
    a_record_in_flight_while_another_process_erases_is_left_out,
    an_unknown_key_is_told_and_may_come_later,
    the_command_erases_when_it_is_told_to_and_says_what_remains,
    the_tool_erases_when_the_user_agreed,
}

/// Whom the tests erase: what names her is in nobody else's row.
const NAME: &str = "Zuleica Apagada";
const EMAIL: &str = "zuleica@apagar.example";
const OLD_EMAIL: &str = "zuleica.antiga@apagar.example";
const PHONE: &str = "+55 61 98888-7777";

fn zuleica() -> JsonObject {
    let mut row = lead(700, 2);
    row.insert("nome".to_owned(), json!(NAME));
    row.insert("email".to_owned(), json!(EMAIL));
    row.insert("telefone".to_owned(), json!(PHONE));
    row
}

fn by_key() -> ErasureRequest {
    ErasureRequest { table: table("leads"), who: EntityKey::Key(id(700)), related: true }
}

fn by_email(email: &str) -> ErasureRequest {
    let who = EntityKey::Lookup { column: "email".to_owned(), value: email.to_owned() };
    ErasureRequest { table: table("leads"), who, related: true }
}

/// Ten leads, of whom each has a chat session, and Zuleica with hers.
async fn with_zuleica<P: Place>() -> (P, Arc<Engine>) {
    with_zuleica_in(P::new().await).await
}

async fn with_zuleica_in<P: Place>(place: P) -> (P, Arc<Engine>) {
    let mut before = zuleica();
    before.insert("email".to_owned(), json!(OLD_EMAIL));
    place.source().set_rows(table("leads"), leads(10));
    place.source().upsert(table("leads"), vec![before]);
    place.source().set_rows(table("chat_sessions"), (1..=10).map(|n| session(n, 5, 4)).collect());
    let mut hers = session(800, 5, 9);
    hers.insert("lead_id".to_owned(), json!(id(700)));
    place.source().upsert(table("chat_sessions"), vec![hers]);
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 11);
    place.source().upsert(table("leads"), vec![zuleica()]);
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 1);
    assert_eq!(sync(&engine, request(table("chat_sessions"))).await.appended, 11);
    (place, engine)
}

/// Her row and her session are not at the source any more.
fn delete_at_source(place: &impl Place) {
    for (table, gone) in [(table("leads"), id(700)), (table("chat_sessions"), id(800))] {
        let mut rows = place.source().rows(table);
        rows.retain(|row| row["id"] != json!(gone));
        place.source().set_rows(table, rows);
    }
}

/// Whatever names her is in no table, no document and no letter.
async fn assert_nothing_of_her(place: &impl Place, engine: &Engine) {
    let dump = place.dump().await.to_lowercase();
    let letters = engine.letters.page(&LetterFilter::default(), None, 100).await.expect("the letters");
    let letters = format!("{:?}", letters.letters).to_lowercase();
    let (lead, session) = (id(700), id(800));
    for value in [NAME, EMAIL, OLD_EMAIL, "98888-7777", "988887777", &lead, &session] {
        let value = value.to_lowercase();
        for held in [&dump, &letters] {
            let at = held.find(&value);
            let around = at.map(|at| held[..at].chars().rev().take(300).collect::<Vec<_>>());
            let around = around.map(|around| around.into_iter().rev().collect::<String>());
            assert_eq!(around, None, "{value} is left behind this");
        }
    }
    assert!(dump.contains(&id(3)), "the others are there");
}

async fn assert_rollup_equals_a_recount(engine: &Engine) {
    let counted = |from: &str, total: &str, sum: &str| {
        format!(
            "SELECT categoria, evento, CAST({total} AS bigint), CAST({sum} AS bigint) FROM {from}
             GROUP BY categoria, evento ORDER BY categoria, evento"
        )
    };
    let rolled_up = rows(engine, &counted("eventos_agregados", "sum(total)", "sum(soma_valor)")).await;
    assert_eq!(rolled_up, rows(engine, &counted("eventos_raw", "count(*)", "sum(valor)")).await);
}

async fn erased(engine: &Engine, request: &ErasureRequest) -> ErasureReport {
    let report = engine.erasures.erase(request, "a test").await.expect("erased");
    assert!(report.complete, "{report:?}");
    report
}

async fn an_erased_lead_is_found_nowhere_and_nobody_else_is_touched<P: Place>() {
    let (place, engine) = with_zuleica::<P>().await;
    // A version of hers that the store refuses is a dead letter.
    place.refuse_a_name().await;
    let mut refused = zuleica();
    refused.insert("nome".to_owned(), json!("proibida"));
    refused.insert("updated_at".to_owned(), json!(crate::support::rows::minutes_ago(0)));
    place.source().upsert(table("leads"), vec![refused, lead(11, 0)]);
    sync(&engine, request(table("leads"))).await;
    eventually("her letter is parked", async || engine.letters.open_count().await.expect("a count") == 1)
        .await;
    let by = |text: &str| vec![Condition::parse(text).expect("a condition")];
    let of_hers = SyncRequest { conditions: by(&format!("email={EMAIL}")), ..request(table("leads")) };
    sync(&engine, of_hers).await;
    let of_another = SyncRequest { conditions: by("nome=Ana"), ..request(table("leads")) };
    engine.schedules.put(&of_another, 3600.0, "a test").await.expect("scheduled");
    delete_at_source(&place);
    let others: Vec<Value> = rows(
        &engine,
        &format!("SELECT id, nome, email, versao FROM leads WHERE id <> '{}' ORDER BY id", id(700)),
    )
    .await
    .into_iter()
    .flatten()
    .collect();
    assert_eq!(others.len(), 11 * 4);

    // The address she had before leads to her, too, however it is written.
    let report = erased(&engine, &by_email(&format!(" {}", OLD_EMAIL.to_uppercase()))).await;
    assert_eq!((report.keys.as_slice(), report.related), ([id(700)].as_slice(), 1), "{report:?}");
    let count = |place: &str| report.removed.iter().find(|one| one.place == place).map(|one| one.count);
    assert_eq!(count("dead letters"), Some(1), "{report:?}");
    assert!(!report.remains.iter().any(|one| one.what.contains("still stand")), "{report:?}");
    assert!(report.remains.iter().any(|one| one.place == "backups"), "{report:?}");
    let standing = |one: &str| one.starts_with("the schedule of leads asks by nome: look");
    assert!(report.remains.iter().any(|one| standing(&one.what)), "{report:?}");

    assert_nothing_of_her(&place, &engine).await;
    assert_eq!(engine.letters.open_count().await.expect("a count"), 0);
    assert_rollup_equals_a_recount(&engine).await;
    let kept: Vec<Value> = rows(&engine, "SELECT id, nome, email, versao FROM leads ORDER BY id")
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(kept, others);
    assert_eq!(value(&engine, "SELECT count(*) FROM chat_sessions").await, json!(10));
    assert_eq!(documents(&engine, IndexName::Entities(table("leads")), None).await.len(), 11);
    assert_eq!(documents(&engine, IndexName::Entities(table("chat_sessions")), None).await.len(), 10);
    assert_eq!(documents(&engine, IndexName::Eventos, None).await.len(), 21);
    // Erasing once more changes nothing.
    erased(&engine, &by_key()).await;
    assert_nothing_of_her(&place, &engine).await;
    engine.shut_down().await;
    place.clean_up().await;
}

async fn nothing_brings_an_erased_lead_back<P: Place>() {
    let (mut place, engine) = with_zuleica::<P>().await;
    place.refuse_a_name().await;
    let mut refused = zuleica();
    refused.insert("nome".to_owned(), json!("proibida"));
    place.source().upsert(table("leads"), vec![refused]);
    sync(&engine, request(table("leads"))).await;
    eventually("her letter is parked", async || engine.letters.open_count().await.expect("a count") == 1)
        .await;
    let letters = engine.letters.page(&LetterFilter::default(), None, 10).await.expect("the letters").letters;
    let report = erased(&engine, &by_key()).await;
    let still = report.remains.iter().find(|one| one.what.contains("still stand")).expect("told");
    assert!(still.what.starts_with("2 of these rows"), "{report:?}");

    // Syncs, even of what was appended before, and a reconciliation leave her out, and say so.
    let again = sync(&engine, sluice::store::SyncRequest { reappend: true, ..request(table("leads")) }).await;
    assert_eq!((again.state, again.erased, again.appended), (SyncPhase::Done, 1, 10), "{again:?}");
    let reconciled = engine.syncs.reconcile(&table("leads").into(), Reconciliation::default()).await;
    let reconciled = finished(&engine, reconciled.expect("a reconciliation")).await;
    let proof = reconciled.reconcile.clone().expect("a report");
    assert_eq!(
        (reconciled.state, reconciled.erased, reconciled.appended),
        (SyncPhase::Done, 1, 0),
        "{reconciled:?}"
    );
    assert!(proof.sinks.iter().all(|sink| sink.proven) && proof.gone == 0, "{proof:?}");

    // Her letter is not replayed.
    let at = |letter: &sluice::engine::Letter| sluice::log::Position {
        partition: letter.record.partition,
        offset: letter.record.offset,
    };
    let replayed = engine.letters.replay(&Selection::These(letters.iter().map(at).collect()), "a test").await;
    let replayed = replayed.expect("an outcome");
    assert!(replayed.settled.is_empty() && replayed.left.len() == 1, "{replayed:?}");

    // Nor is she in an index that is made anew.
    let indices: Vec<IndexName> = IndexName::all(engine.catalog).collect();
    engine.rebuilds.begin(&indices).await.expect("begun");
    let rebuilt = engine.rebuilds.wait_for(&indices, std::time::Duration::from_mins(1)).await;
    assert!(rebuilt.iter().all(|one| one.phase == sluice::engine::RebuildPhase::Done), "{rebuilt:?}");
    assert_nothing_of_her(&place, &engine).await;
    engine.shut_down().await;
    drop(engine);

    // Another process is delivered everything from the beginning, for both sinks.
    place.execute("DELETE FROM sluice_offsets").await;
    place.set("SLUICE_GROUP_PREFIX", &format!("t-{}", uuid::Uuid::new_v4().simple()));
    let engine = place.engine().await;
    engine.start_drains().await;
    place.source().upsert(table("leads"), vec![lead(12, 0)]);
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 1);
    assert_nothing_of_her(&place, &engine).await;
    assert_rollup_equals_a_recount(&engine).await;
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_record_in_flight_while_another_process_erases_is_left_out<P: Place>() {
    let (place, engine) = with_zuleica::<P>().await;
    let sinks: Vec<String> = engine.drains.reports().into_iter().map(|report| report.sink).collect();
    for sink in &sinks {
        engine.drains.pause(sink, "a test").await.expect("paused");
    }
    let mut changed = zuleica();
    changed.insert("origem".to_owned(), json!("google"));
    place.source().upsert(table("leads"), vec![changed, lead(11, 0)]);
    let id = engine.syncs.start(request(table("leads"))).await.expect("a sync");
    eventually("it is in the log", async || {
        engine.syncs.status(id).await.expect("a status").state == SyncPhase::Draining
    })
    .await;
    let report = engine.erasures.erase(&by_key(), "a test").await.expect("erased");
    let waits = report.removed.iter().filter_map(|one| one.error.as_deref());
    let waits: Vec<&str> = waits.collect();
    assert!(
        matches!(waits[..], [one] if one.starts_with("2 records that it has not applied"))
            && !report.complete,
        "others may refer to her: {report:?}"
    );
    for sink in &sinks {
        engine.drains.resume(sink).await.expect("resumed");
    }
    let synced = finished(&engine, id).await;
    assert_eq!(synced.state, SyncPhase::Done, "her record holds nobody up");
    assert_nothing_of_her(&place, &engine).await;
    erased(&engine, &by_key()).await;
    assert_nothing_of_her(&place, &engine).await;
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, json!(11));
    assert_rollup_equals_a_recount(&engine).await;
    engine.shut_down().await;
    place.clean_up().await;
}

async fn an_unknown_key_is_told_and_may_come_later<P: Place>() {
    let (place, engine) = with_zuleica::<P>().await;
    let unknown = ErasureRequest { who: EntityKey::Key(id(999)), ..by_key() };
    for request in [&unknown, &by_email("ninguem@apagar.example")] {
        let error = engine.erasures.erase(request, "a test").await.expect_err("nobody");
        assert!(matches!(error, EngineError::UnknownEntity { .. }), "{error}");
        assert!(!error.to_string().contains("999") && !error.to_string().contains("ninguem"), "{error}");
    }
    let wrong = ErasureRequest { who: EntityKey::Key("7".to_owned()), ..by_key() };
    assert!(
        engine
            .erasures
            .erase(&wrong, "a test")
            .await
            .expect_err("no key")
            .to_string()
            .contains("of the type uuid")
    );
    let keyed = ErasureRequest { table: table("chat_sessions"), ..by_email(EMAIL) };
    let error = engine.erasures.erase(&keyed, "a test").await.expect_err("no such column").to_string();
    assert!(error.contains("give the key"), "{error}");
    place.source().upsert(table("leads"), vec![lead(999, 0)]);
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 1, "it was not written down as erased");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn the_command_erases_when_it_is_told_to_and_says_what_remains<P: Place>() {
    let (place, engine) = with_zuleica::<P>().await;
    engine.shut_down().await;
    drop(engine);
    let run = async |arguments: &[&str]| {
        let output = place.command(arguments).output().await.expect("the program runs");
        let told =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), told)
    };
    let (done, told) = run(&["erase", "leads", "--email", EMAIL]).await;
    assert!(!done && told.contains("--yes") && !told.contains(EMAIL), "{told}");
    assert!(told.contains(&format!("removes 1 of leads (key \"{}\")", id(700))), "{told}");
    let (done, told) = run(&["erase", "leads", "--email", EMAIL, "--related", "--yes"]).await;
    assert!(
        done && told.contains("1 entities, 1 related") && told.contains("still stand at the source"),
        "{told}"
    );
    assert!(told.contains("backups") && !told.contains(EMAIL) && !told.contains(NAME), "{told}");
    let (done, told) = run(&["sync", "leads", "--hours", "24", "--wait"]).await;
    assert!(done && told.contains("1 rows of erased entities still stand at the source"), "{told}");
    let (done, told) = run(&["erase", "leads", "--email", "ninguem@apagar.example", "--yes"]).await;
    assert!(!done && told.contains("no such lead is stored"), "{told}");
    let engine = place.engine().await;
    assert_nothing_of_her(&place, &engine).await;
    engine.shut_down().await;
    place.clean_up().await;
}

async fn the_tool_erases_when_the_user_agreed<P: Place>() {
    let (place, engine) = with_zuleica::<P>().await;
    engine.shut_down().await;
    drop(engine);
    let (client, _) = connect_to(place.command(&[])).await;
    let asked = json!({"table": "leads", "email": EMAIL, "related": true});
    let refused = call(&client, "erase_entity", asked).await;
    let whom =
        format!("removes 1 of leads (key \"{}\") and 1 of chat_sessions that refer to them from", id(700));
    assert!(refused.is_error == Some(true) && text(&refused).contains(&whom), "{}", text(&refused));
    let nobodys =
        [json!({"table": "leads", "key": id(999)}), json!({"table": "leads", "email": "x@y.example"})];
    for nobody in nobodys {
        let refused = call(&client, "erase_entity", nobody).await;
        assert!(text(&refused).contains("no such lead is stored"), "nobody is asked: {}", text(&refused));
    }
    let agreed = json!({"table": "leads", "email": EMAIL, "related": true, "confirm": true});
    let report = answer(&client, "erase_entity", agreed.clone()).await;
    assert_eq!((&report["complete"], &report["keys"]), (&json!(true), &json!([id(700)])), "{report}");
    let gone = call(&client, "get_lead", json!({"id": id(700)})).await;
    assert!(gone.is_error == Some(true), "{}", text(&gone));
    let neither = call(&client, "erase_entity", json!({"table": "leads", "confirm": true})).await;
    assert!(neither.is_error == Some(true) && text(&neither).contains("key"), "{}", text(&neither));
    client.cancel().await.expect("the session closes");
    let engine = place.engine().await;
    assert_nothing_of_her(&place, &engine).await;
    engine.shut_down().await;
    place.clean_up().await;
}
