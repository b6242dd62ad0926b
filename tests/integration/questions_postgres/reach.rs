//! What each login reaches: through the check, and past it.

use sluice::{
    domain::Catalog,
    sink::Sink as _,
    store::{Questions as _, postgres::PgStore},
};

use super::{LIMITS, breach, migrated, through_the_breach};
use crate::support::postgres::TestDatabase;

/// What may be found past the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The statement is answered.
    Answered,
    /// The server refuses.
    Refused,
}

use Reach::{Answered, Refused};

/// A statement, and what comes of it for the owner and for the reader.
const ATTEMPTS: [(&str, Reach, Reach); 30] = [
    // Other tables.
    ("SELECT count(*) FROM public.leads", Answered, Answered),
    ("SELECT count(*) FROM public.sluice_syncs", Answered, Refused),
    ("SELECT count(*) FROM public.sluice_offsets", Answered, Refused),
    ("SELECT count(*) FROM public._sqlx_migrations", Answered, Refused),
    ("SELECT query_to_xml('SELECT * FROM public.sluice_readers', true, true, '')", Answered, Refused),
    (
        "SELECT count(*) FROM ts_stat('SELECT to_tsvector(login) FROM public.sluice_readers')",
        Answered,
        Refused,
    ),
    ("SELECT count(*) FROM pg_authid", Refused, Refused),
    ("SELECT count(*) FROM pg_statistic", Refused, Refused),
    // Files, programs, the network.
    ("SELECT pg_read_file('/etc/passwd')", Refused, Refused),
    ("SELECT count(*) FROM pg_ls_dir('/')", Refused, Refused),
    ("SELECT count(*) FROM pg_ls_logdir()", Refused, Refused),
    ("SELECT lo_import('/etc/passwd')", Refused, Refused),
    ("COPY (SELECT 1) TO PROGRAM 'true'", Refused, Refused),
    ("COPY public.leads TO '/tmp/leads'", Refused, Refused),
    ("CREATE EXTENSION dblink", Refused, Refused),
    ("LOAD 'plpgsql'", Refused, Refused),
    // Changes.
    ("DELETE FROM public.leads", Refused, Refused),
    ("CREATE TABLE public.mine (a int)", Refused, Refused),
    ("ALTER ROLE CURRENT_USER PASSWORD 'x'", Refused, Refused),
    ("SELECT set_config('transaction_read_only', 'off', true)", Refused, Refused),
    // Others.
    ("SET ROLE postgres", Refused, Refused),
    ("SET SESSION AUTHORIZATION postgres", Refused, Refused),
    ("SELECT pg_reload_conf()", Refused, Refused),
    (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sluice'",
        Answered,
        Refused,
    ),
    (
        "SELECT query FROM pg_stat_activity WHERE application_name = 'sluice' AND query <> '<insufficient privilege>'",
        Answered,
        Answered,
    ),
    // What is left to everybody: it costs time, which ends, or tells names.
    ("SELECT pg_sleep(0.01)", Answered, Answered),
    ("SELECT pg_advisory_lock(1)", Answered, Answered),
    ("SELECT version()", Answered, Answered),
    ("SELECT count(*) FROM pg_roles", Answered, Answered),
    ("SELECT count(*) FROM pg_class", Answered, Answered),
];

async fn reached(database: &TestDatabase, store: &PgStore) -> Vec<(Reach, String)> {
    let mut all = Vec::new();
    for (statement, ..) in ATTEMPTS {
        // Somebody else's session to be looked at, and ended.
        let other = PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store");
        other.health().await.expect("it answers");
        let outcome = through_the_breach(store, statement).await;
        all.push((
            if outcome.is_ok() { Answered } else { Refused },
            outcome.unwrap_or_else(|problem| problem),
        ));
        other.close().await;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_check_the_reader_reaches_the_readable_tables_and_what_everybody_does() {
    let (database, owner) = migrated().await;
    breach(&database).await;
    let maker = database.create_login("maker", "CREATEROLE").await;
    database.execute_as_admin(&format!("GRANT {} TO {maker}", owner_of(&database))).await;
    let as_maker = PgStore::connect(&database.settings_of(&maker), Catalog::built_in()).expect("a store");

    let by_owner = reached(&database, &owner).await;
    as_maker.create_reader(false).await.expect("it may make logins");
    let reader = PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store");
    let login = through_the_breach(&reader, "SELECT session_user").await.expect("an answer");
    assert_eq!(login, database.login("sluice_reader"));
    let by_reader = reached(&database, &reader).await;
    for (((statement, owner, reader), of_owner), of_reader) in ATTEMPTS.iter().zip(by_owner).zip(by_reader) {
        println!("{statement}\n  owner:  {of_owner:?}\n  reader: {of_reader:?}");
        assert_eq!((&of_owner.0, &of_reader.0), (owner, reader), "{statement}: {of_owner:?}, {of_reader:?}");
    }
    let others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sluice' AND query NOT LIKE '<insufficient%'";
    assert_eq!(
        through_the_breach(&reader, others).await.expect("an answer"),
        "0",
        "others' statements are hidden"
    );
}

fn owner_of(database: &TestDatabase) -> String {
    url::Url::parse(database.url()).expect("a URL").username().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superuser_asks_nothing_until_the_one_command_was_run() {
    let (database, _owner) = migrated().await;
    breach(&database).await;
    let superuser = sluice::config::PostgresSettings {
        url: database.admin_url().to_owned().into(),
        ..database.settings()
    };
    let store = PgStore::connect(&superuser, Catalog::built_in()).expect("a store");
    let fault = store.query("SELECT count(*) FROM leads", LIMITS).await.expect_err("a superuser");
    assert!(fault.message.contains("not run as postgres, a superuser"), "{fault}");
    assert!(fault.advice.to_string().starts_with("`sluice migrate --create-reader`"), "{fault}");
    assert_eq!(fault.kind, sluice::fault::FaultKind::Misconfigured);
    // Nor as anybody who may act for one, or for who reads the server's files.
    for (role, words) in [
        ("pg_read_server_files", "pg_read_server_files"),
        ("pg_execute_server_program", "pg_execute_server_program"),
        ("pg_write_server_files", "pg_write_server_files"),
        ("postgres", "who may become a superuser"),
    ] {
        let login = database.create_login("named", &format!("IN ROLE {role}")).await;
        let named = sluice::config::PostgresSettings {
            read_url: Some(database.settings_of(&login).url),
            ..database.settings()
        };
        let fault = PgStore::connect(&named, Catalog::built_in())
            .expect("a store")
            .query("SELECT 1", LIMITS)
            .await
            .expect_err(role);
        assert!(
            fault.message.contains(words) && fault.advice.to_string().contains("DATABASE_READ_URL"),
            "{fault}"
        );
        database.execute_as_admin(&format!("DROP ROLE {login}")).await;
    }

    store.create_reader(false).await.expect("a superuser may make logins");
    let answer = store.query("SELECT count(*) FROM leads", LIMITS).await.expect("the same store answers");
    assert_eq!(answer.warning, None);
    let login = through_the_breach(&store, "SELECT session_user").await.expect("an answer");
    assert_eq!(login, database.login("sluice_reader"));
    let limit = through_the_breach(&store, "SHOW temp_file_limit").await.expect("an answer");
    assert_eq!(limit, "1GB", "a superuser may bound the reader's files");
}
