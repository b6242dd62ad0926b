//! What was appended and could not be remembered.

use std::time::Duration;

use serde_json::json;
use sluice::{
    engine::SyncPhase,
    parts::Parts,
    source::sample::{Failure, Fault},
    store::{Begun, NewSync, Reconciliation, SyncRequest},
};
use uuid::Uuid;

use super::{found, is_proven, reconcile, reconcile_with, report, stored, with_leads};
use crate::support::{
    eventually, on_each_adapter,
    place::{Embedded, Place, Real},
    request,
    rows::{id, lead, leads},
    sync, table,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    a_row_comes_back_though_its_removal_could_not_be_remembered,
    a_reconciliation_appends_nothing_twice_that_a_sync_could_not_remember,
    a_rollup_is_counted_anew_though_two_reconciliations_were_broken_off_before_one_did,
    one_that_was_broken_off_is_gone_on_with_where_that_is_asked_for_and_proves_the_table_as_it_was_then,
    a_source_that_stopped_showing_rows_while_a_reading_was_broken_off_removes_none_when_it_is_gone_on_with,
    rows_that_a_sync_brought_before_the_place_where_it_goes_on_do_not_count_as_deleted,
}

async fn a_row_comes_back_though_its_removal_could_not_be_remembered<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(20)).await;
    let all = place.source().rows(table("leads"));
    place.source().set_rows(table("leads"), all[..16].to_vec());
    place.execute(P::FORGETTING_TRIGGER).await;
    assert_eq!(reconcile(&engine).await.state, SyncPhase::Failed);
    place.execute(P::DROP_FORGETTING_TRIGGER).await;
    place.source().set_rows(table("leads"), all);
    let back = sync(&engine, request(table("leads"))).await;
    assert_eq!((back.state, back.appended, back.unchanged), (SyncPhase::Done, 4, 16), "{back:?}");
    assert_eq!((stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await), (20, 20));
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_reconciliation_appends_nothing_twice_that_a_sync_could_not_remember<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(3)).await;
    place.source().set_rows(table("leads"), leads(20));
    place.execute(P::FORGETTING_TRIGGER).await;
    assert_eq!(sync(&engine, request(table("leads"))).await.state, SyncPhase::Failed);
    place.execute(P::DROP_FORGETTING_TRIGGER).await;
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!((status.appended, report(&status).repaired), (0, 0), "{status:?}");
    assert_eq!(stored(&engine, "SELECT count(*) FROM leads").await, 20);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_rollup_is_counted_anew_though_two_reconciliations_were_broken_off_before_one_did<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(20)).await;
    place.execute(&format!("DELETE FROM eventos_raw WHERE entidade_id <> '{}'", id(1))).await;
    place.execute(P::FORGETTING_TRIGGER).await;
    assert_eq!(reconcile(&engine).await.state, SyncPhase::Failed);
    place.execute(P::DROP_FORGETTING_TRIGGER).await;
    eventually("what it appended is counted a second time", async || {
        stored(&engine, "SELECT sum(total) FROM eventos_agregados").await == 39
    })
    .await;
    engine.shut_down().await;
    drop(engine);
    // The next is killed before it remembers anything.
    let parts = Parts::open(&place.settings()).expect("the parts open");
    let asked = SyncRequest { reconcile: Some(Reconciliation::default()), ..request(table("leads")) };
    let log = parts.log.identity().await.expect("its identity").to_string();
    let new = NewSync { id: Uuid::now_v7(), request: asked, log, owner: "killed".to_owned() };
    let begun = parts.store.begin_sync(new).await.expect("it answers");
    assert!(matches!(begun, Begun::Started { .. }));
    drop((begun, parts));

    let engine = place.engine().await;
    engine.start_drains().await;
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!(stored(&engine, "SELECT sum(total) FROM eventos_agregados").await, 20);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn one_that_was_broken_off_is_gone_on_with_where_that_is_asked_for_and_proves_the_table_as_it_was_then<
    P: Place,
>() {
    let mut place = P::new().await;
    place.set("SUPABASE_PAGE_SIZE", "10");
    place.source().set_rows(table("leads"), leads(60));
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 60);
    let resume = Reconciliation { resume: true, ..Reconciliation::default() };
    let nothing_kept = reconcile_with(&engine, resume).await;
    assert!(is_proven(&nothing_kept) && report(&nothing_kept).resumed_from.is_none(), "{nothing_kept:?}");

    let well = std::iter::repeat_n(Fault::Delay(Duration::ZERO), 5);
    let revoked = Failure::new(401, "PGRST301", "JWT expired", None);
    place.source().script(well.chain([Fault::Refuse(revoked)]));
    let broken_off = reconcile(&engine).await;
    assert_eq!(broken_off.state, SyncPhase::Failed, "{broken_off:?}");
    assert!((10..60).contains(&report(&broken_off).source_rows), "{broken_off:?}");
    // Meanwhile a row that was shown changes and another is deleted, without a word; so does one that was not.
    let mut rows = place.source().rows(table("leads"));
    for n in [0, 59] {
        rows[n].insert("nome".to_owned(), json!("Outra Pessoa"));
    }
    rows.remove(1);
    place.source().set_rows(table("leads"), rows);
    place.source().take_requests();

    let resumed = reconcile_with(&engine, resume).await;
    let began = report(&resumed).resumed_from.expect("it went on");
    assert!(is_proven(&resumed) && began < resumed.started_at, "{resumed:?}");
    assert_eq!((report(&resumed).source_rows, resumed.appended, report(&resumed).deleted), (60, 1, 0));
    assert_eq!(stored(&engine, "SELECT count(*) FROM leads WHERE nome = 'Outra Pessoa'").await, 1);
    let pages = place.source().take_requests();
    let pages =
        pages.iter().filter(|request| request.query.contains(&("limit".to_owned(), "10".to_owned()))).count();
    assert_eq!(pages, 5 + 2, "those that were not shown, their end, and rows without a key");

    let anew = reconcile(&engine).await;
    assert!(is_proven(&anew) && report(&anew).resumed_from.is_none(), "{anew:?}");
    assert_eq!((report(&anew).source_rows, anew.appended, report(&anew).deleted), (59, 2, 1));
    assert_eq!(
        stored(&engine, &format!("SELECT count(*) FROM leads WHERE id = '{}'", id(2))).await,
        0,
        "it is gone"
    );
    engine.shut_down().await;
    place.clean_up().await;
}

async fn rows_that_a_sync_brought_before_the_place_where_it_goes_on_do_not_count_as_deleted<P: Place>() {
    let mut place = P::new().await;
    place.set("SUPABASE_PAGE_SIZE", "10");
    place.source().set_rows(table("leads"), leads(30));
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 30);
    let well = std::iter::repeat_n(Fault::Delay(Duration::ZERO), 3);
    let revoked = Failure::new(401, "PGRST301", "JWT expired", None);
    place.source().script(well.chain([Fault::Refuse(revoked)]));
    assert_eq!(reconcile(&engine).await.state, SyncPhase::Failed);
    // More than may be taken for deleted without asking.
    let early = (1..=15_u32).map(|n| {
        let mut row = lead(500, 0);
        row.insert("id".to_owned(), json!(format!("00000000-0000-4000-8000-{n:012}")));
        row
    });
    place.source().upsert(table("leads"), early.collect());
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 15);
    let resumed = reconcile_with(&engine, Reconciliation { resume: true, ..Reconciliation::default() }).await;
    assert!(is_proven(&resumed) && report(&resumed).resumed_from.is_some(), "{resumed:?}");
    assert_eq!((report(&resumed).gone, resumed.appended), (0, 0), "{resumed:?}");
    assert_eq!((stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await), (45, 45));
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_source_that_stopped_showing_rows_while_a_reading_was_broken_off_removes_none_when_it_is_gone_on_with<
    P: Place,
>() {
    let mut place = P::new().await;
    place.set("SUPABASE_PAGE_SIZE", "10");
    place.source().set_rows(table("leads"), leads(18));
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 18);
    let well = std::iter::repeat_n(Fault::Delay(Duration::ZERO), 2);
    let revoked = Failure::new(401, "PGRST301", "JWT expired", None);
    place.source().script(well.chain([Fault::Refuse(revoked)]));
    assert_eq!(report(&reconcile(&engine).await).source_rows, 10);
    let resume = Reconciliation { resume: true, ..Reconciliation::default() };
    let held = async || (stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await);
    // Nothing at all; then only what was shown before, as where a policy came between.
    for shown in [Vec::new(), leads(10)] {
        place.source().set_rows(table("leads"), shown);
        let blind = reconcile_with(&engine, resume).await;
        let error = blind.error.clone().unwrap_or_default();
        assert_eq!(blind.state, SyncPhase::Failed, "{blind:?}");
        assert!(report(&blind).resumed_from.is_some() && report(&blind).deleted == 0, "{blind:?}");
        assert!(error.contains("8 of 18 rows of leads") && error.contains("0 may be removed"), "{error}");
        assert_eq!(held().await, (18, 18));
    }
    // Seen again, it is read anew where it counts more than was shown.
    place.source().set_rows(table("leads"), leads(18));
    let seen = reconcile_with(&engine, resume).await;
    assert!(is_proven(&seen) && report(&seen).source_rows == 18, "{seen:?}");

    // What was shown of one schema proves nothing of another.
    let well = std::iter::repeat_n(Fault::Delay(Duration::ZERO), 2);
    place.source().script(well.chain([Fault::Refuse(Failure::new(401, "PGRST301", "JWT expired", None))]));
    assert_eq!(report(&reconcile(&engine).await).source_rows, 10);
    engine.shut_down().await;
    drop(engine);
    let rows: Vec<String> =
        leads(18)[10..].iter().map(|row| serde_json::to_string(row).expect("json")).collect();
    place.source().create_table("vendas", "leads", Vec::new(), &rows).expect("a table");
    place.set("SUPABASE_SCHEMA", "vendas");
    let engine = place.engine().await;
    engine.start_drains().await;
    let elsewhere = reconcile_with(&engine, resume).await;
    assert_eq!((report(&elsewhere).resumed_from, report(&elsewhere).source_rows), (None, 8), "{elsewhere:?}");
    engine.shut_down().await;
    place.clean_up().await;
}
