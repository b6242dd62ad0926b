//! Documents that stand for no entity at all, and what an earlier version appended of one.

use sluice::index::Stray;

use super::{found, is_proven, leads_index, reconcile, report, stored, with_leads};
use crate::support::{
    eventually, on_each_adapter,
    place::{Embedded, Place, Real},
    rows::leads,
    table,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    documents_of_no_entity_are_removed_and_nothing_is_appended_of_them,
    stray_documents_beyond_what_may_be_removed_are_told_and_left,
    a_removal_that_was_appended_of_no_key_keeps_nothing_from_being_compared,
}

async fn documents_of_no_entity_are_removed_and_nothing_is_appended_of_them<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(6)).await;
    engine.shut_down().await;
    drop(engine);
    let strays = place.add_strays().await;
    let index = place.index();
    let (mut entities, mut seen, mut after) = (Vec::<String>::new(), Vec::<Stray>::new(), None);
    loop {
        // A page as small as can be ends between the documents of one key, too.
        let page = index.versions(table("leads"), after.as_deref(), 1).await.expect("a page");
        entities.extend(page.entities.into_iter().map(|(key, _)| key));
        seen.extend(page.strays);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((entities.len(), seen.len() as u64), (6, strays), "{entities:?} {seen:?}");
    drop(index);

    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(found(&engine, "*").await, 6 + strays);
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!((report(&status).repaired, report(&status).deleted), (strays, 0), "{status:?}");
    assert_eq!((status.appended, report(&status).differences.len() as u64), (0, strays), "{status:?}");
    assert!(report(&status).differences.iter().all(|one| one.mended), "{status:?}");
    assert_eq!((stored(&engine, "SELECT count(*) FROM leads").await, found(&engine, "*").await), (6, 6));
    assert_eq!(engine.letters.open_count().await.expect("a count"), 0);
    let again = reconcile(&engine).await;
    assert!(is_proven(&again) && report(&again).repaired == 0, "{again:?}");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn stray_documents_beyond_what_may_be_removed_are_told_and_left<P: Place>() {
    let (mut place, engine) = with_leads::<P>(leads(6)).await;
    engine.shut_down().await;
    drop(engine);
    let strays = place.add_strays().await;
    place.set("SLUICE_RECONCILE_DELETES", "0");
    place.set("SLUICE_RECONCILE_DELETES_PERCENT", "0");
    let engine = place.engine().await;
    engine.start_drains().await;
    let status = reconcile(&engine).await;
    let error = status.error.clone().unwrap_or_default();
    assert!(error.contains("may be removed without asking"), "{status:?}");
    assert!(report(&status).differences.iter().all(|one| !one.mended), "{status:?}");
    assert_eq!(found(&engine, "*").await, 6 + strays);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_removal_that_was_appended_of_no_key_keeps_nothing_from_being_compared<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(6)).await;
    let appended = "SELECT log, table_name, 'zzz', event, versao, true FROM sluice_appended LIMIT 1";
    let columns = "log, table_name, entity, event, versao, removed";
    place.execute(&format!("INSERT INTO sluice_appended ({columns}) {appended}")).await;
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!((status.appended, report(&status).parked), (0, 0), "{status:?}");
    // What a sink lost is found all the same.
    engine.shut_down().await;
    drop(engine);
    place.delete_all(leads_index()).await;
    let engine = place.engine().await;
    engine.start_drains().await;
    let status = reconcile(&engine).await;
    assert!(is_proven(&status) && report(&status).repaired == 6, "{status:?}");
    eventually("all are found", async || found(&engine, "*").await == 6).await;
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_wrote_under_no_key_into_the_embedded_store_is_removed() {
    let (place, engine) = with_leads::<Embedded>(leads(6)).await;
    place
        .execute(
            "INSERT INTO leads (id, nome, metadata, versao, evento_id) VALUES ('zzz', 'Ninguém', '{}', 5, 'zzz')",
        )
        .await;
    let status = reconcile(&engine).await;
    assert!(is_proven(&status), "{status:?}");
    assert_eq!((report(&status).repaired, report(&status).deleted, status.appended), (1, 0, 0), "{status:?}");
    assert_eq!(stored(&engine, "SELECT count(*) FROM leads").await, 6);
    engine.shut_down().await;
    place.clean_up().await;
}
