//! Counts that are wrong, and rows that go while a table is read: neither passes for a table that was read whole.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
    mpsc::channel,
};

use serde_json::Value;
use sluice::{engine::SyncPhase, source::sample::Fault, store::Reconciliation};

use super::{is_proven, reconcile, report, stored, with_leads};
use crate::support::{
    eventually, finished, on_each_adapter,
    place::{Embedded, Place, Real},
    request,
    rows::{lead, leads},
    sync, table,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    counts_that_know_no_filter_hide_no_rows_that_were_not_shown,
    rows_that_are_deleted_while_a_table_is_read_are_told,
}

async fn counts_that_know_no_filter_hide_no_rows_that_were_not_shown<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(40)).await;
    place.source().set_max_rows(Some(10));
    for counted in [40, 90, 1_000_000_000_000_000] {
        place.source().set_told_count(Some(counted));
        let well = || Fault::Delay(std::time::Duration::ZERO);
        // The count, two pages, and one that says that there are no more.
        place.source().script([well(), well(), well(), Fault::NoRows]);
        let status = reconcile(&engine).await;
        let error = status.error.clone().unwrap_or_default();
        assert!(
            status.state == SyncPhase::Failed
                && error.contains(&format!("{counted} rows are counted that have no key")),
            "{status:?}"
        );
        assert_eq!((report(&status).unkeyed, report(&status).sinks.len()), (0, 0), "{status:?}");
    }
    let synced = sync(&engine, request(table("leads"))).await;
    let error = synced.error.clone().unwrap_or_default();
    assert!(
        synced.state == SyncPhase::Failed && error.contains("rows are counted that have no key"),
        "{synced:?}"
    );

    // Where there are as many as are counted, they are, however few of them a page shows.
    place.source().set_told_count(None);
    let keyless = (100..250).map(|n| {
        let mut row = lead(n, 5);
        row.insert("id".to_owned(), Value::Null);
        row
    });
    place.source().upsert(table("leads"), keyless.collect());
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!((report(&status).source_rows, report(&status).unkeyed), (40, 150), "{status:?}");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn rows_that_are_deleted_while_a_table_is_read_are_told<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(40)).await;
    let (reached, at_the_end) = channel();
    let (go_on, going) = channel::<()>();
    let (counts, going) = (AtomicUsize::new(0), Mutex::new(going));
    place.source().before_each_answer(move |request| {
        let counts_rows = request.query.iter().any(|(name, value)| name == "limit" && value == "1");
        // The second count is the one after the reading.
        if counts_rows && counts.fetch_add(1, Ordering::SeqCst) == 1 {
            reached.send(()).expect("the test waits");
            // The runtime has few threads, and each may hold what the test waits for.
            tokio::task::block_in_place(|| {
                going.lock().expect("one waits").recv().expect("the test goes on");
            });
        }
    });
    let started =
        engine.syncs.reconcile(&table("leads").into(), Reconciliation::default()).await.expect("started");
    eventually("it has read", async || at_the_end.try_recv().is_ok()).await;
    place.source().set_rows(table("leads"), leads(35));
    go_on.send(()).expect("it waits");
    let status = finished(&engine, started).await;
    assert!(is_proven(&status), "{status:?}");
    let told = report(&status);
    assert_eq!((told.source_rows, told.deleted_meanwhile, told.deleted), (40, 5, 0), "{status:?}");
    let next = reconcile(&engine).await;
    assert!(is_proven(&next), "{next:?}");
    assert_eq!((report(&next).deleted, report(&next).deleted_meanwhile), (5, 0), "{next:?}");
    assert_eq!(stored(&engine, "SELECT count(*) FROM leads").await, 35);
    engine.shut_down().await;
    place.clean_up().await;
}
