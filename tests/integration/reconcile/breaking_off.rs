//! What was appended and could not be remembered.

use sluice::engine::SyncPhase;

use super::{found, is_proven, reconcile, report, stored, with_leads};
use crate::support::{
    on_each_adapter,
    place::{Embedded, Place, Real},
    request,
    rows::leads,
    sync, table,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    a_row_comes_back_though_its_removal_could_not_be_remembered,
    a_reconciliation_appends_nothing_twice_that_a_sync_could_not_remember,
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
