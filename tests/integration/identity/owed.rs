//! Debts: what a log lost is read again without anybody asking for it, each table by itself.

use serde_json::json;
use sluice::{
    engine::SyncPhase,
    source::sample::{Failure, Fault},
    store::Reconciliation,
};

use super::after_its_own;
use crate::support::{
    eventually, on_each_adapter,
    place::{Embedded, Place, Real, value},
    request,
    rows::{lead, session},
    table,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    a_table_that_cannot_be_read_holds_up_no_other_and_its_debt_is_settled_by_a_reconciliation,
}

async fn a_table_that_cannot_be_read_holds_up_no_other_and_its_debt_is_settled_by_a_reconciliation<
    P: Place,
>() {
    let place = P::new().await;
    // Only a debt reaches so far back.
    let minutes = 20 * 24 * 60;
    let mut ended = session(1, minutes, 3);
    ended.insert("is_active".to_owned(), json!(false));
    place.source().set_rows(table("chat_sessions"), vec![ended]);
    place.source().set_rows(table("leads"), vec![lead(1, minutes)]);
    let engine = place.engine().await;
    engine.prepare().await.expect("prepared");
    for name in ["chat_sessions", "leads"] {
        let times = "'1970-01-01T00:00:00.000000Z', '2026-05-01T12:00:00.000000Z'";
        let owed = "INSERT INTO sluice_owed (table_name, owed_from, since)";
        place.execute(&format!("{owed} VALUES ('{name}', {times})")).await;
    }
    // The first that is asked for is the first of the alphabet.
    place.source().script([Fault::Refuse(Failure::new(401, "", "Invalid API key", None))]);
    engine.start_drains().await;
    eventually("the other one is read", async || value(&engine, "SELECT count(*) FROM leads").await == 1)
        .await;

    let chats = table("chat_sessions");
    let reconcile = async || engine.syncs.reconcile(&chats.into(), Reconciliation::default()).await;
    let reconciled = after_its_own(&engine, reconcile).await;
    assert_eq!(reconciled.state, SyncPhase::Done, "{reconciled:?}");
    assert_eq!(value(&engine, "SELECT count(*) FROM chat_sessions").await, 1);
    let read = after_its_own(&engine, async || engine.syncs.start(request(chats)).await).await;
    assert_eq!(read.rows_read, 0, "nothing is owed any more: {read:?}");
    engine.shut_down().await;
    place.clean_up().await;
}
