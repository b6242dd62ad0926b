//! The sessions that questions run in.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice::{
    config::PostgresSettings,
    domain::Catalog,
    fault::FaultKind,
    store::{EventFilter, EventOrder, QueryLimits, Questions as _, postgres::PgStore},
};

use super::{LIMITS, breach, migrated, through_the_breach};
use crate::support::eventually;

/// What takes a while and is no more than counting.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b";

/// Those of this database: the server's other databases take theirs at the same time.
const ADVISORY_LOCKS: &str = "SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[tokio::test]
async fn nothing_a_question_leaves_in_its_session_outlives_its_answer() {
    let (database, store) = migrated().await;
    breach(&database).await;
    for statement in [
        "SELECT pg_advisory_lock(7)",
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT set_config('search_path', 'public', false)",
        "SELECT set_config('sluice.left', 'behind', false)",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "LISTEN anything",
    ] {
        through_the_breach(&store, statement)
            .await
            .unwrap_or_else(|problem| panic!("{statement}: {problem}"));
        let locks: i64 = database.one(ADVISORY_LOCKS).await;
        assert_eq!(locks, 0, "{statement}");
    }
    let left = through_the_breach(
        &store,
        "SELECT concat_ws(' ', current_setting('sluice.left', true), current_setting('search_path'),
                current_setting('transaction_read_only'), (SELECT count(*) FROM pg_listening_channels()),
                (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors))",
    )
    .await
    .expect("an answer");
    // The statement under way is prepared, and read through a cursor.
    assert_eq!(left.trim(), "pg_catalog, pg_temp on 0 1 1");
    let sessions: i64 = database
        .one("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sluice questions'")
        .await;
    assert_eq!(sessions, 1, "one session answered them all");
}

#[tokio::test]
async fn a_session_that_ended_in_a_question_is_asked_no_other() {
    let (database, store) = migrated().await;
    breach(&database).await;
    // More often than there are sessions.
    for _ in 0..3 {
        let problem = through_the_breach(&store, "SELECT pg_terminate_backend(pg_backend_pid())").await;
        assert!(problem.expect_err("it ended itself").contains("57P01"));
        through_the_breach(&store, "SELECT 1").await.expect("another session");
    }
}

#[tokio::test]
async fn a_question_only_reads_even_past_the_check() {
    let (database, store) = migrated().await;
    breach(&database).await;
    for statement in [
        "DELETE FROM public.leads",
        "CREATE TEMP TABLE t (a int)",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "SET TRANSACTION READ WRITE",
    ] {
        let problem = through_the_breach(&store, statement).await.expect_err(statement);
        assert!(
            problem.contains("change something") || problem.contains("SQLSTATE 25"),
            "{statement}: {problem}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_take_no_connection_of_the_drains_and_the_third_at_once_is_told_to_wait() {
    let (database, _store) = migrated().await;
    let settings = PostgresSettings { max_connections: 1, ..database.settings() };
    let store = PgStore::connect(&settings, Catalog::built_in()).expect("a store");
    let slow = QueryLimits { timeout: Duration::from_secs(14), ..LIMITS };
    let asked = Instant::now();
    let questions: Vec<_> = (0..3)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.query(LONG, slow).await })
        })
        .collect();
    eventually("two questions run", async || {
        database
            .one::<i64>(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND application_name = 'sluice questions' AND state = 'active' AND query LIKE '%generate_series%'",
            )
            .await
            == 2
    })
    .await;
    store
        .events(&EventFilter::default(), EventOrder::Newest, None, 1)
        .await
        .expect("the drain's way is free");
    let mut faults = Vec::new();
    for question in questions {
        faults.push(question.await.expect("no panic").expect_err("too long, or not at all"));
    }
    faults.sort_by_key(|fault| fault.kind != FaultKind::Transient);
    assert!(faults[0].message.contains("2 other questions are running"), "{}", faults[0]);
    assert!(faults[1..].iter().all(|fault| fault.message.contains("longer than 14 s")), "{faults:?}");
    assert!(asked.elapsed() < Duration::from_secs(40));
    // Whoever comes after them finds everything as before.
    assert_eq!(json!(store.query("SELECT 1", LIMITS).await.expect("an answer").rows), json!([[1]]));
}

/// What the server goes on with for a while, whatever it is told: past the check, which refuses it.
const UNSTOPPABLE: &str = "SELECT strpos(repeat('a', 1000000), 'b' || repeat('a', 30000))";

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_the_server_can_t_stop_keeps_its_place_and_is_told_so() {
    let (database, store) = migrated().await;
    breach(&database).await;
    let short = QueryLimits { timeout: Duration::from_secs(1), ..LIMITS };
    let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND application_name = 'sluice questions' AND state = 'active' AND query LIKE '%strpos%'";
    let sql = format!("SELECT initcap('{}', 1)", UNSTOPPABLE.replace('\'', "''"));
    let (one, other) = tokio::join!(store.query(&sql, short), store.query(&sql, short));
    for fault in [one, other].map(|answer| answer.expect_err("it takes far longer")) {
        assert_eq!(fault.kind, FaultKind::Invalid, "{fault}");
        assert!(fault.message.contains("the server could not stop it"), "{fault}");
    }
    assert_eq!(database.one::<i64>(running).await, 2, "both still run");
    loop {
        match store.query("SELECT 1", LIMITS).await {
            Ok(_) => break,
            Err(fault) => assert!(fault.message.contains("2 other questions are running"), "{fault}"),
        }
    }
    assert!(database.one::<i64>(running).await < 2, "a place was free");
    let fault = store.query(UNSTOPPABLE, LIMITS).await.expect_err("it is refused by itself");
    assert!(fault.message.contains("must be a short text"), "{fault}");
}

#[tokio::test]
async fn what_the_server_can_t_be_sent_or_finds_too_deep_is_told_as_that() {
    let (_database, store) = migrated().await;
    for (sql, words) in [
        ("SELECT 'a\0b'".to_owned(), "a character NUL"),
        (format!("SELECT {}1", "1+".repeat(9_000)), "too deep or too wide"),
        (format!("SELECT {} FROM leads", vec!["*"; 200].join(", ")), "too deep or too wide"),
        (format!("SELECT interesse{} FROM leads", "[1]".repeat(6_000)), "too deep or too wide"),
    ] {
        let fault = store.query(&sql, LIMITS).await.expect_err(words);
        assert_eq!(fault.kind, FaultKind::Invalid, "{fault}");
        assert!(fault.message.contains(words), "{words}: {fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_whose_asker_is_gone_ends_soon() {
    let (database, store) = migrated().await;
    let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND application_name = 'sluice questions' AND state = 'active'";
    let slow = QueryLimits { timeout: Duration::from_mins(1), ..LIMITS };
    let question = tokio::spawn(async move { store.query(LONG, slow).await });
    eventually("it runs", async || database.one::<i64>(running).await == 1).await;
    question.abort();
    let gone = Instant::now();
    eventually("it ends", async || database.one::<i64>(running).await == 0).await;
    assert!(gone.elapsed() < Duration::from_secs(20), "{:?}", gone.elapsed());
}

#[tokio::test]
async fn a_question_that_needs_too_much_room_is_told_so() {
    let (database, _store) = migrated().await;
    let superuser = PostgresSettings { url: database.admin_url().to_owned().into(), ..database.settings() };
    let store = PgStore::connect(&superuser, Catalog::built_in()).expect("a store");
    let login = store.create_reader(false).await.expect("it is made").login;
    database.execute_as_admin(&format!("ALTER ROLE {login} SET temp_file_limit = '1MB'")).await;
    let store = PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store");
    let sql = "SELECT count(*) FROM generate_series(1, 10000000) AS a";
    let fault = store.query(sql, LIMITS).await.expect_err("too much");
    assert_eq!(fault.kind, FaultKind::Invalid, "{fault}");
    assert!(
        fault.message.contains("more temporary space") && fault.advice.to_string().starts_with("narrow it"),
        "{fault}"
    );
}

#[tokio::test]
async fn functions_and_operators_are_the_server_s_own_whatever_others_have_made() {
    let (database, store) = migrated().await;
    // Whoever may create in the schema could have these found, as their arguments fit better.
    database
        .execute(
            "CREATE FUNCTION public.upper(leads) RETURNS text LANGUAGE sql AS $$ SELECT 'planted' $$;
             CREATE FUNCTION public.planted(leads) RETURNS text LANGUAGE sql AS $$ SELECT 'planted' $$;
             CREATE FUNCTION public.plus(leads, leads) RETURNS text LANGUAGE sql AS $$ SELECT 'planted' $$;
             CREATE OPERATOR public.+ (FUNCTION = public.plus, LEFTARG = leads, RIGHTARG = leads);
             INSERT INTO leads (id, metadata, versao, evento_id) VALUES (gen_random_uuid(), '{}', 1, gen_random_uuid())",
        )
        .await;
    for sql in ["SELECT upper(l) FROM leads l", "SELECT l.planted FROM leads l", "SELECT l + l FROM leads l"]
    {
        let fault = store.query(sql, LIMITS).await.expect_err(sql);
        assert_eq!(fault.kind, FaultKind::Invalid, "{sql}: {fault}");
        assert!(fault.message.contains("does not exist"), "{sql}: {fault}");
    }
}
