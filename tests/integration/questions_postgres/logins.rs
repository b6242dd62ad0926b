//! How the login of questions is made, granted and examined.

use sluice::{
    config::PostgresSettings,
    domain::Catalog,
    fault::FaultKind,
    sink::Sink as _,
    store::{AccessWarning, Questions as _, postgres::PgStore},
};

use super::{LIMITS, breach, migrated, through_the_breach};
use crate::support::{folder::TestFolder, postgres::TestDatabase};

/// A store whose login owns the tables and may make logins.
async fn makers(database: &TestDatabase) -> PgStore {
    let maker = database.create_login("maker", "CREATEROLE").await;
    let owner = url::Url::parse(database.url()).expect("a URL").username().to_owned();
    database.execute_as_admin(&format!("GRANT {owner} TO {maker}")).await;
    PgStore::connect(&database.settings_of(&maker), Catalog::built_in()).expect("a store")
}

async fn warnings(store: &PgStore) -> Vec<AccessWarning> {
    store.question_access().await.expect("it answers").expect("Postgres has logins").warnings
}

#[tokio::test]
async fn a_login_that_may_not_make_one_is_told_the_statements_for_somebody_who_may() {
    let (database, store) = migrated().await;
    let fault = store.create_reader(false).await.expect_err("a plain owner makes no logins");
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(!database.settings().data_dir.join("postgres-readers.json").exists(), "nothing is kept of it");

    // The advice, followed by the letter.
    let login = database.login("sluice_reader");
    let advice = fault.advice.to_string();
    let statements = advice.strip_prefix("let somebody who may create logins run: ").expect("statements");
    let (statements, setting) = statements.split_once("; then set DATABASE_READ_URL=").expect("a setting");
    database.execute_as_admin(&statements.replace("a superuser also: ", "")).await;
    let read_url = setting.replace("PASSWORD", "a%20password");
    let named = PostgresSettings { read_url: Some(read_url.into()), ..database.settings() };
    let store = PgStore::connect(&named, Catalog::built_in()).expect("a store");
    store.query("SELECT count(*) FROM eventos_agregados", LIMITS).await.expect("it may read");
    breach(&database).await;
    assert_eq!(through_the_breach(&store, "SELECT session_user").await.expect("an answer"), login);
    assert!(through_the_breach(&store, "SELECT 1 FROM public.sluice_syncs").await.is_err());
    assert_eq!(warnings(&store).await, []);
}

#[tokio::test]
async fn a_read_url_of_another_database_is_refused_by_the_first_question_and_by_doctor() {
    let (filled, _) = migrated().await;
    let (other, _) = migrated().await;
    let empty = TestDatabase::create().await;
    for wrong in [&other, &empty] {
        let login = wrong.create_login("named", "PASSWORD 'x'").await;
        let read_url = wrong.settings_of(&login).url;
        let named = PostgresSettings { read_url: Some(read_url), ..filled.settings() };
        let store = PgStore::connect(&named, Catalog::built_in()).expect("a store");
        let asked = store.query("SELECT count(*) FROM leads", LIMITS).await.expect_err("another database");
        let examined = store.question_access().await.expect_err("another database");
        for fault in [asked, examined] {
            assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault}");
            assert!(fault.message.contains("another database than DATABASE_URL"), "{fault}");
        }
    }
    // The same one, by the login that the advice ends with, also where the server's own id is not to be had.
    let login = filled.create_login("named", "PASSWORD 'x'").await;
    filled.execute_as_admin("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC").await;
    let named = PostgresSettings { read_url: Some(filled.settings_of(&login).url), ..filled.settings() };
    let store = PgStore::connect(&named, Catalog::built_in()).expect("a store");
    store.prepare().await.expect("the login is granted what it may read");
    store.query("SELECT count(*) FROM leads", LIMITS).await.expect("an answer");
    store.question_access().await.expect("an answer");
}

#[tokio::test]
async fn a_reader_is_made_once_kept_and_brought_up_to_date() {
    let (database, owner) = migrated().await;
    let store = makers(&database).await;
    let made = store.create_reader(false).await.expect("it is made");
    assert_eq!((made.login.as_str(), made.existed), (database.login("sluice_reader").as_str(), false));
    let kept = std::fs::read_to_string(&made.kept_in).expect("a file");
    let again = store.create_reader(false).await.expect("it is there");
    assert!(again.existed);
    assert_eq!(std::fs::read_to_string(&made.kept_in).expect("a file"), kept, "the password stays");
    let settings: Vec<String> = database
        .one(&format!("SELECT setconfig FROM pg_db_role_setting WHERE setrole = '{}'::regrole", made.login))
        .await;
    assert!(settings.contains(&"default_transaction_read_only=on".to_owned()), "{settings:?}");
    let verifier_only: bool = {
        use sqlx::Connection as _;
        let mut admin = sqlx::PgConnection::connect(database.admin_url()).await.expect("an answer");
        sqlx::query_scalar("SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = $1")
            .bind(&made.login)
            .fetch_one(&mut admin)
            .await
            .expect("an answer")
    };
    assert!(verifier_only);

    // From another data folder: the password is not there, and is not changed unasked.
    let elsewhere = TestFolder::new();
    let maker = database.login("maker");
    let other = PostgresSettings { data_dir: elsewhere.path().join("data"), ..database.settings_of(&maker) };
    let other = PgStore::connect(&other, Catalog::built_in()).expect("a store");
    let fault = other.create_reader(false).await.expect_err("made elsewhere");
    assert!(
        fault.message.contains("exists already") && fault.advice.to_string().contains("--new-password"),
        "{fault}"
    );
    let renewed = other.create_reader(true).await.expect("a new password");
    assert_ne!(std::fs::read_to_string(renewed.kept_in).expect("a file"), kept);

    // What a process grants that only migrates, such as a worker.
    for table in ["leads", "eventos_agregados"] {
        database.execute(&format!("REVOKE SELECT ON {table} FROM {}", made.login)).await;
    }
    let fault = store.query("SELECT count(*) FROM leads", LIMITS).await.expect_err("not granted");
    assert!(
        fault.message.contains("permission denied") && fault.advice.to_string().contains("sluice migrate"),
        "{fault}"
    );
    owner.prepare().await.expect("migrations run");
    store.query("SELECT count(*) FROM leads", LIMITS).await.expect("granted again");
}

#[tokio::test]
async fn several_processes_grant_at_once() {
    let (database, _owner) = migrated().await;
    let store = makers(&database).await;
    let login = store.create_reader(false).await.expect("it is made").login;
    database.execute(&format!("REVOKE SELECT ON leads, chat_sessions FROM {login}")).await;
    let stores: Vec<PgStore> = (0..4)
        .map(|_| PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store"))
        .collect();
    let outcomes = futures::future::join_all(stores.iter().map(PgStore::prepare)).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    store.query("SELECT count(*) FROM leads, chat_sessions", LIMITS).await.expect("granted");
}

#[tokio::test]
async fn doctor_is_told_of_every_right_a_login_has_too_much() {
    let (database, owner) = migrated().await;
    let found = warnings(&owner).await;
    assert!(found.len() == 2 && found[0].next_step.contains("--create-reader"), "{found:?}");
    assert!(found[1].next_step.contains("SET temp_file_limit = '1GB'"), "{found:?}");
    let answer = owner.query("SELECT 1", LIMITS).await.expect("an answer");
    assert!(answer.warning.is_some_and(|warning| warning.contains("sluice migrate --create-reader")));

    let superuser = PostgresSettings { url: database.admin_url().to_owned().into(), ..database.settings() };
    let superuser = PgStore::connect(&superuser, Catalog::built_in()).expect("a store");
    let access = superuser.question_access().await.expect("it answers").expect("Postgres has logins");
    assert!(access.refused.is_some_and(|fault| fault.message.contains("superuser")));
    assert_eq!((access.warnings.len(), access.warnings[0].about), (1, "own login"));

    superuser.create_reader(false).await.expect("it is made");
    let login = database.login("sluice_reader");
    assert_eq!(warnings(&owner).await, [], "a reader as it was made");
    let answer = owner.query("SELECT 1", LIMITS).await.expect("an answer");
    assert_eq!(answer.warning, None);

    for (grant, words, next_step) in [
        ("GRANT INSERT ON leads TO {}", "may write public.leads", "REVOKE INSERT"),
        (
            "GRANT SELECT ON sluice_syncs TO PUBLIC",
            "also read public.sluice_syncs",
            "REVOKE SELECT ON public.sluice_syncs",
        ),
        (
            "GRANT SELECT ON sluice_syncs TO PUBLIC",
            "sluice_syncs can be read by PUBLIC",
            "REVOKE ALL ON public.sluice_syncs FROM PUBLIC",
        ),
        ("GRANT SELECT (login) ON sluice_readers TO {}", "also read public.sluice_readers", "REVOKE SELECT"),
        (
            "GRANT pg_read_all_settings TO {}",
            "has the roles pg_read_all_settings",
            "REVOKE pg_read_all_settings FROM {}",
        ),
        (
            "GRANT CREATE ON SCHEMA public TO PUBLIC",
            "may create tables in the schema public",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        ),
        (
            "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database()); END $$",
            "may create temporary tables",
            "REVOKE TEMPORARY ON DATABASE ",
        ),
        (
            "DO $$ BEGIN FOR i IN 1..9 LOOP EXECUTE format('CREATE TABLE public.\"Other %s\" (a int)', i);
                 EXECUTE format('GRANT SELECT, INSERT ON public.\"Other %s\" TO {}', i); END LOOP; END $$",
            "and 4 more",
            "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON public.\"Other 1\"",
        ),
        (
            "ALTER ROLE {} RESET temp_file_limit",
            "temporary files",
            "let a superuser run ALTER ROLE {} SET temp_file_limit = '1GB'",
        ),
    ] {
        let [grant, next_step] = [grant, next_step].map(|text| text.replace("{}", &login));
        database.execute_as_admin(&grant).await;
        // Settings of a login count for new sessions.
        let store = PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store");
        let found = warnings(&store).await;
        let told = found.iter().find(|warning| warning.problem.contains(words));
        let told = told.unwrap_or_else(|| panic!("{grant}: {found:?}"));
        assert!(told.next_step.starts_with(&next_step), "{grant}: {told:?}");
        // What is advised mends it.
        for warning in &found {
            database.execute_as_admin(warning.next_step.trim_start_matches("let a superuser run ")).await;
        }
        let store = PgStore::connect(&database.settings(), Catalog::built_in()).expect("a store");
        assert_eq!(warnings(&store).await, [], "{grant}");
    }
}
