//! A store that is a standby takes no write: doctor names it and what makes it a primary, and a worker goes on by itself.

use super::*;
use crate::support::{Pipeline, eventually, servers::Servers};

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_named_by_every_command_and_once_it_is_promoted_all_goes_on_by_itself() {
    let servers = Servers::start_some(&["postgres"]).await;
    let place = Real(Pipeline::on(&servers.admin_url(), &servers.database_url()).await);
    place.source().set_rows(table("leads"), rows::leads(30));
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.state, SyncPhase::Done);
    engine.shut_down().await;
    drop(engine);

    servers.make_standby().await;
    place.source().upsert(table("leads"), vec![rows::lead(900, 0)]);
    let doctor = said(&place, &["doctor"]).await;
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(
        doctor.stdout.contains("the server is a standby")
            && doctor.stdout.contains("run SELECT pg_promote()"),
        "{}",
        doctor.stdout
    );
    for command in [&["sync", "leads"][..], &["migrate"]] {
        let refused = said(&place, command).await;
        assert_eq!(refused.code, Some(1), "{command:?}: {refused:?}");
        assert!(refused.all().contains("standby") && refused.all().contains("pg_promote()"), "{refused:?}");
    }
    let engine = place.engine().await;
    engine.start_drains().await;
    eventually("the drain says so", async || {
        let drains = engine.inspection.status().await.drains;
        let postgres = drains.iter().find(|drain| drain.sink == "postgres").expect("its drain");
        postgres.last_error.as_ref().is_some_and(|error| error.contains("pg_promote()"))
    })
    .await;

    let mut admin = crate::support::connect(&servers.admin_url()).await;
    let promoted: bool =
        sqlx::query_scalar("SELECT pg_promote()").fetch_one(&mut admin).await.expect("an answer");
    assert!(promoted);
    eventually("the drain goes on by itself", async || {
        let drains = engine.inspection.status().await.drains;
        drains.iter().all(|drain| drain.state == sluice::engine::DrainState::Running)
    })
    .await;
    assert_eq!(sync(&engine, request(table("leads"))).await.appended, 1);
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, 31);
    engine.shut_down().await;
    place.clean_up().await;
}
