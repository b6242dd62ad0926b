//! Advice that leads out: what doctor says of a setup that does not work is done, and then all is well.

use sluice::{
    domain::Catalog,
    engine::SyncPhase,
    fault::{Fault, FaultKind},
    index::IndexName,
    next_step::NextStep,
    sink::{ApplyError, Sink},
    store::{Operations, postgres::PgStore},
};
use sqlx::{Connection, Executor, PgConnection};

use crate::support::{
    cli::{Outcome, run},
    on_each_adapter,
    place::{Embedded, Place, Real, documents, value},
    pooler::Pooler,
    postgres::{TestDatabase, on_database},
    request, rows,
    stores::{LOG, apply, batch, claimed, lead},
    sync, table,
};

mod room;
mod standby;

on_each_adapter! {
    embedded: Embedded, real: Real;
    doctor_fails_nothing_of_a_setup_that_is_new_and_its_advice_makes_one_where_all_is_well,
    a_table_that_somebody_dropped_is_named_by_doctor_and_filled_again_after_migrate,
}

async fn said<P: Place>(place: &P, arguments: &[&str]) -> Outcome {
    run(place.command(arguments)).await
}

async fn doctor_fails_nothing_of_a_setup_that_is_new_and_its_advice_makes_one_where_all_is_well<P: Place>() {
    let place = P::new().await;
    let fresh = said(&place, &["doctor"]).await;
    assert_eq!(fresh.code, Some(0), "{fresh:?}");
    assert!(!fresh.stdout.contains("FAILED"), "{}", fresh.stdout);
    assert!(fresh.stdout.contains("run `sluice migrate`"), "{}", fresh.stdout);
    let migrated = said(&place, &["migrate"]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let well = said(&place, &["doctor"]).await;
    assert_eq!(well.code, Some(0), "{well:?}");
    assert!(!well.stdout.contains("FAILED") && !well.stdout.contains("sluice migrate`"), "{}", well.stdout);
    assert!(well.stdout.contains("every migration of this release was run"), "{}", well.stdout);
    place.clean_up().await;
}

async fn a_table_that_somebody_dropped_is_named_by_doctor_and_filled_again_after_migrate<P: Place>() {
    let place = P::new().await;
    place.source().set_rows(table("leads"), rows::leads(20));
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.state, SyncPhase::Done);
    engine.shut_down().await;
    // It holds the embedded folder as long as it is there.
    drop(engine);
    for dropped in [
        &["eventos_raw", "sluice_notices"][..],
        &["leads", "sluice_appended"],
        &["eventos_agregados", "sluice_tables", "sluice_offsets"],
    ] {
        place.execute(&format!("DROP TABLE {}", dropped.join("; DROP TABLE "))).await;
        let told = said(&place, &["doctor"]).await;
        let migrated = said(&place, &["migrate"]).await;
        assert_eq!(migrated.code, Some(0), "{dropped:?}: {migrated:?}");
        let well = said(&place, &["doctor"]).await;
        assert_eq!(well.code, Some(0), "{dropped:?}: {}", well.stdout);
        for table in dropped {
            assert!(told.stdout.contains(table), "{table}: {}", told.stdout);
            assert!(well.stdout.contains(table), "what it means stays told: {table}: {}", well.stdout);
        }

        let engine = place.engine().await;
        engine.start_drains().await;
        let again = sync(&engine, request(table("leads"))).await;
        assert_eq!(again.state, SyncPhase::Done, "{dropped:?}: {again:?}");
        crate::support::eventually("both sinks are through", async || {
            engine.drains.lag().await.expect("lag").iter().all(|sink| sink.total == 0)
        })
        .await;
        for count in [
            "SELECT count(*) FROM leads",
            "SELECT count(*) FROM leads WHERE email IS NOT NULL AND score_qualificacao IS NOT NULL",
            "SELECT count(*) FROM eventos_raw",
            "SELECT CAST(sum(total) AS integer) FROM eventos_agregados",
        ] {
            assert_eq!(value(&engine, count).await, 20, "{dropped:?}: {count}");
        }
        let leads = IndexName::Entities(table("leads"));
        assert_eq!(documents(&engine, leads, None).await.len(), 20, "{dropped:?}");
        engine.shut_down().await;
    }
    place.clean_up().await;
}

/// The statement that a step says to run.
fn statement(fault: &Fault) -> String {
    let NextStep::Words(words) = &fault.advice else { panic!("no words: {fault}") };
    let (_, statement) = words.split_once("run ").unwrap_or_else(|| panic!("no statement: {words}"));
    statement.split(" (or ").next().unwrap_or_default().to_owned()
}

async fn unfit(database: &TestDatabase, login: &str) -> Option<Fault> {
    let store = PgStore::connect(&database.settings_of(login), Catalog::built_in()).expect("a store");
    let facts = store.facts().await.expect("facts");
    store.close().await;
    facts.unfit
}

/// What doctor says, what is done about it, and that nothing is left to be said.
async fn mended(database: &TestDatabase, login: &str, problem: &str) {
    let fault = unfit(database, login).await.unwrap_or_else(|| panic!("{problem}: nothing is said"));
    assert!(fault.message.contains(problem), "{fault}");
    database.execute_as_admin(&statement(&fault)).await;
    let left = unfit(database, login).await;
    assert!(left.is_none(), "{left:?}");
}

#[tokio::test]
async fn a_missing_schema_and_one_that_the_user_may_not_use_are_made_and_granted() {
    let database = TestDatabase::create().await;
    let login = database.create_login("maker", "").await;
    database.execute_as_admin(&format!("ALTER ROLE {login} SET search_path = 'vendas'")).await;
    mended(&database, &login, "no schema vendas").await;
    let store = PgStore::connect(&database.settings_of(&login), Catalog::built_in()).expect("a store");
    store.prepare().await.expect("tables in the schema");
    store.health().await.expect("the tables are there");
    store.close().await;

    database.execute_as_admin("CREATE SCHEMA fechado").await;
    database.execute_as_admin(&format!("ALTER ROLE {login} SET search_path = 'fechado'")).await;
    mended(&database, &login, "may not use it").await;
    database.execute_as_admin(&format!("DROP OWNED BY {login}")).await;
}

#[tokio::test]
async fn a_table_of_the_old_pipeline_is_named_and_left_alone_in_a_schema_beside_sluices() {
    let database = TestDatabase::create().await;
    let login = database.create_login("maker", "").await;
    database
        .execute_as_admin(
            "CREATE TABLE eventos_raw (id bigint, evento text); INSERT INTO eventos_raw VALUES (1, 'x')",
        )
        .await;
    let store = PgStore::connect(&database.settings_of(&login), Catalog::built_in()).expect("a store");
    let refused = store.prepare().await.expect_err("it is somebody else's");
    assert!(refused.message.contains("has a table eventos_raw that sluice did not make"), "{refused}");
    store.close().await;
    mended(&database, &login, "did not make").await;
    let store = PgStore::connect(&database.settings_of(&login), Catalog::built_in()).expect("a store");
    store.prepare().await.expect("tables in a schema of their own");
    store.health().await.expect("the tables are there");
    store.close().await;
    database.execute_as_admin(&format!("DROP OWNED BY {login}")).await;
}

#[tokio::test]
async fn a_user_that_may_not_write_is_granted_what_it_lacks() {
    let database = TestDatabase::create().await;
    let login = database.create_login("maker", "").await;
    database.execute_as_admin("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    mended(&database, &login, "may make no tables in the schema public").await;
    let owner = PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store");
    owner.prepare().await.expect("migrations run");
    mended(&database, &login, "may not write").await;
    database.execute_as_admin(&format!("ALTER ROLE {login} SET default_transaction_read_only = on")).await;
    mended(&database, &login, "transactions are read-only").await;
    database.execute_as_admin(&format!("DROP OWNED BY {login}")).await;
}

#[tokio::test]
async fn a_database_that_can_not_hold_every_text_is_refused_before_a_row_is_parked() {
    let database = TestDatabase::create().await;
    let (admin, name) = (database.admin_url().to_owned(), format!("{}_latin1", database.login("sluice")));
    let mut connection = PgConnection::connect(&admin).await.expect("a connection");
    let encoded = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    connection.execute(format!("CREATE DATABASE {name} {encoded}").as_str()).await.expect("a database");
    let settings = |url: String| sluice::config::PostgresSettings { url: url.into(), ..database.settings() };
    let store =
        PgStore::connect(&settings(on_database(&admin, &name)), Catalog::built_in()).expect("a store");
    let refused = store.prepare().await.expect_err("it is LATIN1");
    let told = store.facts().await.expect("facts").unfit.expect("a problem");
    assert_eq!(refused.message, told.message);
    assert!(told.message.contains("LATIN1"), "{told}");
    store.close().await;
    connection.execute(format!("DROP DATABASE {name} WITH (FORCE)").as_str()).await.expect("dropped");

    let advice = told.advice.to_string();
    let (_, advised) = advice.split_once("CREATE DATABASE sluice ").expect("a statement");
    let advised = advised.split(',').next().unwrap_or_default();
    connection.execute(format!("CREATE DATABASE {name} {advised}").as_str()).await.expect("a database");
    let store =
        PgStore::connect(&settings(on_database(&admin, &name)), Catalog::built_in()).expect("a store");
    store.prepare().await.expect("all is well");
    store.close().await;
    connection.execute(format!("DROP DATABASE {name} WITH (FORCE)").as_str()).await.expect("dropped");
}

#[tokio::test]
async fn a_pooler_that_hands_sessions_around_is_recognized_and_the_server_itself_does() {
    let database = TestDatabase::create().await;
    let url = url::Url::parse(database.url()).expect("a URL");
    let target = format!("{}:{}", url.host_str().expect("a host"), url.port().unwrap_or(5432));
    let pooler = Pooler::to(&target).await;
    let mut through = url.clone();
    through.set_host(Some("127.0.0.1")).expect("a host");
    through.set_port(Some(pooler.port)).expect("a port");
    let settings =
        sluice::config::PostgresSettings { url: through.to_string().into(), ..database.settings() };
    let store = PgStore::connect(&settings, Catalog::built_in()).expect("a store");
    let refused = store.prepare().await.expect_err("a pooler");
    assert_eq!(refused.kind, FaultKind::Misconfigured);
    assert!(refused.to_string().contains("session mode"), "{refused}");
    let told = store.facts().await.expect("facts").unfit.expect("a problem");
    assert_eq!(told.message, refused.message);

    let store = PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store");
    store.prepare().await.expect("the server itself");
    assert!(store.facts().await.expect("facts").unfit.is_none());
}

#[tokio::test]
async fn a_full_disk_parks_nothing_and_passes_once_there_is_room() {
    let database = TestDatabase::create().await;
    let store = PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store");
    store.prepare().await.expect("migrations run");
    database
        .execute(
            "CREATE FUNCTION cheio() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
             CREATE TRIGGER cheio BEFORE INSERT ON eventos_raw FOR EACH ROW EXECUTE FUNCTION cheio()",
        )
        .await;
    let events = batch(claimed(&store).await, vec![lead(1, 1, "Ana")]);
    let refused = store.apply(LOG, &events).await.expect_err("no room");
    let ApplyError::Fault(fault) = refused else { panic!("no fault: {refused:?}") };
    assert_eq!(fault.kind, FaultKind::Transient);
    assert!(
        fault.to_string().contains("could not extend file") && fault.to_string().contains("free some space"),
        "{fault}"
    );
    database.execute("DROP TRIGGER cheio ON eventos_raw").await;
    apply(&store, vec![lead(1, 1, "Ana")]).await;
    assert_eq!(database.one::<i64>("SELECT count(*) FROM leads").await, 1);
}
