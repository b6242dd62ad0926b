//! Reconciliations as assistants and people at a terminal meet them.

use serde_json::json;

use sluice::source::sample::{Failure, Fault};

use super::with_leads;
use crate::{
    mcp::{answer, call, connect_to, text},
    support::{
        on_each_adapter,
        place::{Embedded, Place, Real},
        rows::{lead, leads},
        table,
    },
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    the_command_tells_what_it_found_and_how_to_agree,
    the_command_ends_when_a_sink_that_is_paused_can_not_be_proven,
    the_tool_reports_and_removes_many_only_when_told_to,
}

async fn the_command_tells_what_it_found_and_how_to_agree<P: Place>() {
    let (mut place, engine) = with_leads::<P>(leads(50)).await;
    engine.shut_down().await;
    drop(engine);
    place.set("SUPABASE_PAGE_SIZE", "10");
    let run = async |arguments: &[&str]| {
        let output = place.command(arguments).output().await.expect("the program runs");
        let told =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), told)
    };
    let (done, told) = run(&["reconcile", "leads", "--wait"]).await;
    assert!(
        done && told
            .contains("50 rows at the source, 0 appended, 0 repaired, 0 deleted, 0 parked, 0 unexplained"),
        "{told}"
    );
    assert_eq!(
        told.matches("50 entities compared by key, version and newest event, as they were appended").count(),
        2,
        "{told}"
    );

    place.source().set_rows(table("leads"), leads(20));
    let (done, told) = run(&["reconcile", "leads", "--wait"]).await;
    assert!(!done && told.contains("30 of 50 rows") && told.contains("Neither sink was compared"), "{told}");
    assert!(told.contains("--allow-deletes 30"), "{told}");
    let (done, told) = run(&["reconcile", "leads", "--wait", "--allow-deletes", "30"]).await;
    assert!(done && told.contains("30 deleted"), "{told}");

    // What was read says nothing of how many there are, nor does a reading that was gone on with.
    let well = std::iter::repeat_n(Fault::Delay(std::time::Duration::ZERO), 2);
    place.source().script(well.chain([Fault::Refuse(Failure::new(401, "PGRST301", "JWT expired", None))]));
    let (done, told) = run(&["reconcile", "leads", "--wait"]).await;
    assert!(!done && told.contains("10 rows read, ") && !told.contains("at the source,"), "{told}");
    let mut early = lead(500, 0);
    early.insert("id".to_owned(), json!("00000000-0000-4000-8000-000000000000"));
    place.source().upsert(table("leads"), vec![early]);
    let (done, told) = run(&["reconcile", "leads", "--wait", "--resume"]).await;
    assert!(done && told.contains("20 rows read, 0 appended"), "{told}");
    assert!(told.contains("inserted, changed or deleted since may be lacking"), "{told}");
    place.clean_up().await;
}

async fn the_command_ends_when_a_sink_that_is_paused_can_not_be_proven<P: Place>() {
    let (mut place, engine) = with_leads::<P>(leads(3)).await;
    let index = engine.inspection.status().await.sinks[1].name.clone();
    engine.drains.pause(&index, "ana").await.expect("paused");
    engine.shut_down().await;
    drop(engine);
    place.set("SLUICE_RECONCILE_PATIENCE_SECONDS", "2");
    place.source().upsert(table("leads"), vec![lead(8, 5), lead(9, 5)]);
    let mut command = place.command(&["reconcile", "leads", "--wait"]);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(90), command.output());
    let output = ended.await.expect("it ends").expect("the program runs");
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && told.contains("pause"), "{told}");
    place.clean_up().await;
}

async fn the_tool_reports_and_removes_many_only_when_told_to<P: Place>() {
    let (place, engine) = with_leads::<P>(leads(50)).await;
    engine.shut_down().await;
    drop(engine);
    let (client, _) = connect_to(place.command(&[])).await;
    place.source().set_rows(table("leads"), leads(48));
    let few = answer(&client, "reconcile_table", json!({"table": "leads"})).await;
    let followed = answer(&client, "get_sync", json!({"sync_id": few["sync_id"], "wait": true})).await;
    assert_eq!(
        (&followed["state"], &followed["reconcile"]["deleted"]),
        (&json!("done"), &json!(2)),
        "{followed}"
    );
    assert_eq!(followed["reconcile"]["unexplained"], 0);

    place.source().set_rows(table("leads"), leads(8));
    let many = answer(&client, "reconcile_table", json!({"table": "leads"})).await;
    let many = answer(&client, "get_sync", json!({"sync_id": many["sync_id"], "wait": true})).await;
    assert_eq!(many["state"], "failed", "{many}");
    assert!(many["next_step"].to_string().contains("allow_deletes: 40"), "{many}");
    let refused = call(&client, "reconcile_table", json!({"table": "leads", "allow_deletes": 40})).await;
    assert!(
        refused.is_error == Some(true) && text(&refused).contains("removes up to 40 rows"),
        "{}",
        text(&refused)
    );
    let agreed = json!({"table": "leads", "allow_deletes": 40, "confirm": true});
    let agreed = answer(&client, "reconcile_table", agreed).await;
    let agreed = answer(&client, "get_sync", json!({"sync_id": agreed["sync_id"], "wait": true})).await;
    assert_eq!((&agreed["state"], &agreed["reconcile"]["deleted"]), (&json!("done"), &json!(40)), "{agreed}");
    let unknown = call(&client, "reconcile_table", json!({"table": "lead"})).await;
    assert!(unknown.is_error == Some(true) && text(&unknown).contains("leads"), "{}", text(&unknown));
    client.cancel().await.expect("the session closes");
    place.clean_up().await;
}
