//! A password of PostgreSQL that is changed while sluice runs. Kafka's is changed by the fault suite, whose brokers want one.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use sluice::{config::Settings, engine::SyncPhase, parts};

use crate::support::{
    Pipeline, eventually,
    folder::TestFolder,
    place::value,
    request,
    rows::{lead, leads},
    servers::Servers,
    sync, table,
};

const OWN: &str = "sluice";
const READER: &str = "leitora";

fn write(path: &Path, secret: &str) {
    std::fs::write(path, secret).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("permissions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_of_postgres_that_is_changed_under_way_is_used_by_every_connection_without_a_restart() {
    let servers = Servers::start_some(&["postgres"]).await;
    let pipeline = Pipeline::on(&servers.admin_url(), &servers.database_url()).await;
    let url = |login: &str, password: &str| {
        pipeline.variables["DATABASE_URL"].replacen("sluice@", &format!("{login}:{password}@"), 1)
    };
    // As the superuser, who needs no password here, the test looks into the database.
    let admin_url = pipeline.variables["DATABASE_URL"].replacen("sluice@", "postgres@", 1);
    let admin = async |sql: String| {
        let mut connection = crate::support::connect(&admin_url).await;
        sqlx::raw_sql(&sql).execute(&mut connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    };
    admin(format!("ALTER ROLE {OWN} PASSWORD 'um'; CREATE ROLE {READER} LOGIN PASSWORD 'um'")).await;
    servers.require_password(OWN).await;
    servers.require_password(READER).await;
    let folder = TestFolder::new();
    let (own, reader) = (folder.path().join("own"), folder.path().join("reader"));
    write(&own, &url(OWN, "um"));
    write(&reader, &url(READER, "um"));
    let mut variables = pipeline.variables.clone();
    variables.remove("DATABASE_URL");
    for (name, path) in [("DATABASE_URL_FILE", &own), ("DATABASE_READ_URL_FILE", &reader)] {
        variables.insert(name.to_owned(), path.display().to_string());
    }
    pipeline.source.set_rows(table("leads"), leads(5));
    let settings = Settings::load(variables).expect("settings");
    let engine = parts::engine(&settings).await.expect("an engine");
    engine.start_drains().await;
    assert_eq!(sync(&engine, request(table("leads"))).await.state, SyncPhase::Done);
    let count = "SELECT count(*) FROM leads";
    assert_eq!(value(&engine, count).await, 5);

    let rotate = async |password: &str| {
        let logins = [OWN, READER];
        let changed = logins.map(|login| format!("ALTER ROLE {login} PASSWORD '{password}';")).concat();
        admin(format!(
            "{changed} SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('{OWN}', '{READER}')"
        ))
        .await;
    };
    // What leads elsewhere is not followed, whoever may be let in there.
    let elsewhere = url(OWN, "dois").replacen("/t_", "/x_", 1);
    write(&own, &elsewhere);
    rotate("dois").await;
    eventually("the drain is refused", async || {
        let reports = engine.drains.reports();
        let store = reports.iter().find(|report| report.sink == "postgres").expect("a drain");
        store.last_error.as_deref().is_some_and(|error| error.contains("password authentication failed"))
    })
    .await;
    write(&own, &url(OWN, "dois"));
    write(&reader, &url(READER, "dois"));
    pipeline.source.upsert(table("leads"), vec![lead(9, 0)]);
    let renewed = sync(&engine, request(table("leads"))).await;
    assert_eq!((renewed.state, renewed.appended), (SyncPhase::Done, 1), "{renewed:?}");
    assert_eq!(value(&engine, count).await, 6);

    // The first call that is refused has the new one at once: a question, and a sync's session or the pool.
    rotate("tres").await;
    write(&own, &url(OWN, "tres"));
    write(&reader, &url(READER, "tres"));
    assert_eq!(value(&engine, count).await, 6);
    pipeline.source.upsert(table("leads"), vec![lead(10, 0)]);
    let renewed = sync(&engine, request(table("leads"))).await;
    assert_eq!((renewed.state, renewed.appended), (SyncPhase::Done, 1), "{renewed:?}");
    assert_eq!(value(&engine, count).await, 7);
    engine.shut_down().await;
    pipeline.clean_up_indices().await;
}
