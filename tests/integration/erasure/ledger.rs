//! A ledger that was lost is told, with what it means for those who were erased.

use super::*;
use crate::support::cli::run;

on_each_adapter! {
    embedded: Embedded, real: Real;
    a_dropped_ledger_is_told_before_and_after_it_is_made_anew_with_what_to_do,
}

async fn a_dropped_ledger_is_told_before_and_after_it_is_made_anew_with_what_to_do<P: Place>() {
    for (dropped, lost) in [
        ("sluice_erased", "the ledger of erasures is empty"),
        ("sluice_erasure", "the salt of the ledger of erasures is gone"),
    ] {
        let (place, engine) = with_zuleica::<P>().await;
        erased(&engine, &by_key()).await;
        engine.shut_down().await;
        drop(engine);
        place.execute(&format!("DROP TABLE {dropped}")).await;
        let doctor = run(place.command(&["doctor"])).await;
        assert!(doctor.stdout.contains(dropped), "{dropped}: {}", doctor.stdout);
        let migrated = run(place.command(&["migrate"])).await;
        assert_eq!(migrated.code, Some(0), "{migrated:?}");
        for command in ["doctor", "status"] {
            let told = run(place.command(&[command])).await.stdout;
            for part in [dropped, lost, "comes back", "restore the table from a backup", "erase them again"] {
                assert!(told.contains(part), "{command} of {dropped} lacks {part}: {told}");
            }
        }
        // What it says helps: erased again, she does not come back with the next sync.
        let engine = place.engine().await;
        engine.start_drains().await;
        erased(&engine, &by_key()).await;
        sync(&engine, request(table("leads"))).await;
        assert_eq!(
            value(&engine, &format!("SELECT count(*) FROM leads WHERE id = '{}'", id(700))).await,
            json!(0)
        );
        engine.shut_down().await;
        place.clean_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_store_over_a_log_with_records_says_that_whoever_was_erased_comes_back() {
    let (place, engine) = with_zuleica::<Real>().await;
    let first = engine.notices().await.expect("notices");
    assert!(first.is_empty(), "a store that is new with its log is nothing to tell of: {first:?}");
    erased(&engine, &by_key()).await;
    engine.shut_down().await;
    drop(engine);
    place.execute("DROP SCHEMA public CASCADE").await;
    place.execute("CREATE SCHEMA public").await;
    let engine = place.engine().await;
    engine.start_drains().await;
    let lead = format!("SELECT count(*) FROM leads WHERE id = '{}'", id(700));
    crate::support::eventually("the log is applied again", async || {
        engine.drains.lag().await.is_ok_and(|lag| lag.iter().all(|sink| sink.total == 0))
    })
    .await;
    assert_eq!(value(&engine, &lead).await, json!(1), "nothing here knows of her erasure");
    for command in ["doctor", "status"] {
        let told = run(place.command(&[command])).await.stdout;
        assert!(told.contains("postgres is new") && told.contains("erase them again"), "{command}: {told}");
    }
    erased(&engine, &by_key()).await;
    assert_eq!(value(&engine, &lead).await, json!(0));
    engine.shut_down().await;
    place.clean_up().await;
}
