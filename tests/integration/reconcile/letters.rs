//! What a dead letter explains, and for how long.

use serde_json::json;
use sluice::engine::Selection;

use super::{found, is_proven, leads_index, reconcile, report, stored, with_leads};
use crate::support::{
    eventually, on_each_adapter,
    place::{Embedded, Place, Real},
    request,
    rows::{id, lead, leads},
    sync, table,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    a_letter_explains_its_own_sink_alone_and_only_as_long_as_it_is_open,
    letters_of_a_row_that_is_gone_are_settled_by_a_reconciliation_that_finds_it_gone,
    a_letter_of_a_row_that_no_guard_counts_stays_open_when_the_row_is_not_shown,
    a_discarded_letter_of_a_row_that_made_no_event_leaves_its_table_healthy_while_the_row_is_there,
    a_letter_of_an_unusable_key_that_the_definition_takes_by_now_is_settled,
}

async fn a_letter_explains_its_own_sink_alone_and_only_as_long_as_it_is_open<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(5)).await;
    place.refuse_a_name().await;
    let mut refused = lead(9, 2);
    refused.insert("nome".to_owned(), json!("proibida"));
    place.source().upsert(table("leads"), vec![refused]);
    let status = sync(&engine, request(table("leads"))).await;
    assert_eq!((status.appended, status.dead_letters, status.parked), (1, 0, Some(1)), "{status:?}");
    engine.shut_down().await;
    drop(engine);
    place.delete_all(leads_index()).await;
    let engine = place.engine().await;
    engine.start_drains().await;
    let counts = async || (stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await);
    let open = async || engine.letters.open_count().await.expect("a count");

    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!((report(&status).parked, report(&status).repaired), (1, 6), "{status:?}");
    eventually("the index has it again, the store refused it twice", async || {
        (counts().await, open().await) == ((5, 6), 2)
    })
    .await;

    let every = Selection::Open { sink: None, from: None, limit: 10 };
    engine.letters.discard(&every, "ana").await.expect("discarded");
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!((report(&status).parked, report(&status).repaired), (1, 1), "{status:?}");
    eventually("it was tried, and there is a letter that tells", async || {
        (counts().await, open().await) == ((5, 6), 1)
    })
    .await;

    place.refuse_no_name().await;
    let replayed = engine.letters.replay(&every, "ana").await.expect("replayed");
    assert_eq!(replayed.settled.len(), 1);
    eventually("the store has it", async || counts().await == (6, 6)).await;
    place.execute(&format!("DELETE FROM leads WHERE id = '{}'", id(9))).await;
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!((report(&status).parked, report(&status).repaired), (0, 1), "{status:?}");
    assert_eq!((counts().await, open().await), ((6, 6), 0));
    engine.shut_down().await;
    place.clean_up().await;
}

async fn letters_of_a_row_that_is_gone_are_settled_by_a_reconciliation_that_finds_it_gone<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(5)).await;
    place.refuse_a_name().await;
    let mut refused = lead(9, 2);
    refused.insert("nome".to_owned(), json!("proibida"));
    let mut too_large = lead(10, 2);
    too_large.insert("nome".to_owned(), json!("x".repeat(9 << 20)));
    place.source().upsert(table("leads"), vec![refused, too_large]);
    sync(&engine, request(table("leads"))).await;
    let open = async || engine.letters.open_count().await.expect("a count");
    eventually("both are parked", async || open().await == 2).await;
    let told = engine.inspection.status().await.warnings;
    let told = told.iter().map(ToString::to_string).find(|told| told.contains("dead letters")).expect("told");
    let store = if told.contains("postgres") { "postgres" } else { "sqlite" };
    assert!(
        told.contains(&format!("{store} could not take 1, 1 are of rows that made no event"))
            || told.contains(&format!("1 are of rows that made no event, {store} could not take 1")),
        "{told}"
    );

    let status = reconcile(&engine).await;
    assert!(is_proven(&status) && open().await >= 2, "as long as they are there: {status:?}");
    place.source().set_rows(table("leads"), leads(5));
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!(open().await, 0);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_letter_of_a_row_that_no_guard_counts_stays_open_when_the_row_is_not_shown<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(5)).await;
    let mut too_large = lead(10, 2);
    too_large.insert("nome".to_owned(), json!("x".repeat(9 << 20)));
    place.source().upsert(table("leads"), vec![too_large]);
    sync(&engine, request(table("leads"))).await;
    let open = async || engine.letters.open_count().await.expect("a count");
    assert_eq!(open().await, 1);
    // As a key that row-level security blinds would: the row is hidden, and nothing is known of it but its letter.
    place.execute(&format!("DELETE FROM sluice_appended WHERE entity = '{}'", id(10))).await;
    place.source().set_rows(table("leads"), leads(5));
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!(open().await, 1, "all that tells of the row is its letter");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_discarded_letter_of_a_row_that_made_no_event_leaves_its_table_healthy_while_the_row_is_there<
    P: Place,
>() {
    let (place, engine) = with_leads::<P>(leads(5)).await;
    let mut too_large = lead(10, 2);
    too_large.insert("nome".to_owned(), json!("x".repeat(9 << 20)));
    place.source().upsert(table("leads"), vec![too_large.clone()]);
    sync(&engine, request(table("leads"))).await;
    let all = Selection::Open { sink: None, from: None, limit: 10 };
    let discarded = engine.letters.discard(&all, "ana").await.expect("discarded");
    assert_eq!(discarded.settled.len(), 1, "{discarded:?}");
    let is_healthy = async || {
        let status = engine.inspection.status().await;
        status.healthy && (status.tables[0].source, status.tables[0].parked) == (Some(6), Some(0))
    };
    eventually("nothing is wrong, as a reconciliation would say", is_healthy).await;

    let mut keyless = lead(11, 2);
    keyless.insert("id".to_owned(), json!("A-17"));
    place.source().upsert(table("leads"), vec![keyless.clone()]);
    assert_eq!(sync(&engine, request(table("leads"))).await.dead_letters, 1);
    let discarded = engine.letters.discard(&all, "ana").await.expect("discarded");
    assert_eq!(discarded.settled.len(), 1, "{discarded:?}");
    place.source().set_rows(table("leads"), leads(5).into_iter().chain([too_large]).collect());
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    eventually("the letter of the row that is there still tells of it", is_healthy).await;
    place.source().upsert(table("leads"), vec![keyless]);
    let status = sync(&engine, request(table("leads"))).await;
    assert_eq!(status.dead_letters, 1, "the other was forgotten, so that its row is new: {status:?}");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_letter_of_an_unusable_key_that_the_definition_takes_by_now_is_settled<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(5)).await;
    let mut keyless = lead(10, 2);
    keyless.insert("id".to_owned(), json!("A-17"));
    place.source().upsert(table("leads"), vec![keyless]);
    sync(&engine, request(table("leads"))).await;
    let open = async || engine.letters.open_count().await.expect("a count");
    assert_eq!(open().await, 1);
    // As though another column had been the key: what that held is a key of the present one's type.
    place.execute(&format!("UPDATE sluice_parked_letters SET entity = '{}'", id(10))).await;
    place.source().set_rows(table("leads"), leads(5));
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!(open().await, 0, "no row has that key");
    engine.shut_down().await;
    place.clean_up().await;
}
