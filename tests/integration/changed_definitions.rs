//! What becomes of tables and records when definitions change.

use std::{path::Path, time::Duration};

use serde_json::json;
use sluice::{
    engine::{DrainState, RebuildPhase, Selection, SettleOutcome},
    index::IndexName,
    source::sample::SampleColumn,
};

use crate::support::{
    cli::run,
    connect, eventually,
    folder::TestFolder,
    on_each_adapter,
    place::{Embedded, Place, Real, documents, value},
    request,
    rows::object,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    records_of_an_undefined_table_are_parked_once_by_the_store_alone_and_are_in_both_sinks_when_it_is_defined_again,
    an_index_of_events_is_built_anew_only_where_the_tables_of_all_events_are_defined,
    a_type_or_key_that_the_store_refuses_is_told_by_check_status_and_doctor_with_what_to_do,
    a_column_with_another_name_at_the_source_is_filled_in_both_sinks_or_told_until_the_index_is_rebuilt,
}

fn define(tables: &Path, name: &str) {
    let definition = format!(
        "name = '{name}'\nabout = 'x'\nentity = '{name}'\nkey = {{ column = 'id', type = 'bigint' }}\n\
         event = {{ categoria = 'c', evento = 'e' }}\n"
    );
    std::fs::write(tables.join(format!("{name}.toml")), definition).expect("written");
}

async fn records_of_an_undefined_table_are_parked_once_by_the_store_alone_and_are_in_both_sinks_when_it_is_defined_again<
    P: Place,
>() {
    let mut place = P::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let synced = async |name: &str| {
        let output = place.command(&["sync", name, "--wait"]).output().await.expect("it runs");
        assert!(output.status.success(), "{name}: {output:?}");
    };
    let open = async || {
        let engine = place.engine().await;
        let open = engine.letters.open_count().await.expect("a count");
        engine.shut_down().await;
        open
    };
    let has = |name: &str, rows: &[&str]| {
        let columns = vec![SampleColumn::key("id", "bigint")];
        place.source().create_table("public", name, columns, rows).expect("rows");
    };

    define(tables.path(), "mov");
    has("mov", &[r#"{"id": 1}"#, r#"{"id": 2}"#]);
    synced("mov").await;
    // In the log, and in no sink yet.
    let engine = place.engine().await;
    engine.prepare().await.expect("prepared");
    let mov = engine.catalog.get("mov").expect("mov");
    place.source().upsert(mov, vec![object(json!({"id": 3}))]);
    let id = engine.syncs.start(request(mov)).await.expect("a sync");
    eventually("the row is appended", async || {
        engine.syncs.status(id).await.expect("a status").finished_at.is_some()
    })
    .await;
    engine.shut_down().await;
    // It would hold an embedded folder, with definitions that no command has.
    drop(engine);

    std::fs::remove_file(tables.path().join("mov.toml")).expect("removed");
    for name in ["x0", "x1"] {
        define(tables.path(), name);
        has(name, &[r#"{"id": 1}"#]);
        synced(name).await;
        assert_eq!(open().await, 1, "{name}: the one that the store has moved past without taking it");
    }

    define(tables.path(), "mov");
    synced("mov").await;
    let engine = place.engine().await;
    engine.prepare().await.expect("prepared");
    let mov = engine.catalog.get("mov").expect("mov");
    assert_eq!(documents(&engine, IndexName::Entities(mov), None).await.len(), 3, "the index reads it again");
    engine.start_drains().await;
    let all = Selection::Open { sink: None, from: None, limit: 10 };
    let SettleOutcome { settled, targets, .. } = engine.letters.replay(&all, "ana").await.expect("replayed");
    engine.drains.wait_for(&targets, Duration::from_mins(1)).await.expect("drained");
    assert_eq!((settled.len(), engine.letters.open_count().await.expect("a count")), (1, 0));
    assert_eq!(value(&engine, "SELECT count(*) FROM mov").await, json!(3));
    assert_eq!(documents(&engine, IndexName::Entities(mov), None).await.len(), 3);
    engine.shut_down().await;
    place.clean_up().await;
}

/// An index of events is built by who knows the tables of all of them, and by nobody else.
async fn an_index_of_events_is_built_anew_only_where_the_tables_of_all_events_are_defined<P: Place>() {
    let mut place = P::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    define(tables.path(), "mov");
    let columns = vec![SampleColumn::key("id", "bigint")];
    place.source().create_table("public", "mov", columns, &[r#"{"id": 1}"#, r#"{"id": 2}"#]).expect("rows");
    let output = place.command(&["sync", "mov", "--wait"]).output().await.expect("it runs");
    assert!(output.status.success(), "{output:?}");

    std::fs::remove_file(tables.path().join("mov.toml")).expect("removed");
    let engine = place.engine().await;
    engine.start_drains().await;
    let told =
        engine.rebuilds.begin(&[IndexName::Eventos]).await.expect_err("mov is not defined").to_string();
    for part in ["events of tables that are not defined here: mov", "SLUICE_TABLES_DIR"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(place.index().rebuilds().await.expect("rebuilds"), []);
    engine.shut_down().await;
    drop(engine);

    // Nor does it take up the rebuild of another process.
    let begun = place.index().begin_rebuild(IndexName::Eventos, uuid::Uuid::nil()).await.expect("begun");
    let engine = place.engine().await;
    engine.start_drains().await;
    eventually("it is told", async || {
        let problems = engine.inspection.status().await.problems;
        problems.iter().any(|problem| problem.to_string().contains("not defined here: mov"))
    })
    .await;
    assert_eq!(engine.rebuilds.latest(), []);
    engine.shut_down().await;
    drop(engine);

    define(tables.path(), "mov");
    let engine = place.engine().await;
    engine.start_drains().await;
    eventually("it is taken up and done", async || {
        let latest = engine.rebuilds.latest();
        latest.iter().any(|one| one.id == begun.id && one.phase == RebuildPhase::Done)
    })
    .await;
    let events = documents(&engine, IndexName::Eventos, Some("tipo_evento:mov")).await;
    assert_eq!(events.len(), 2);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_type_or_key_that_the_store_refuses_is_told_by_check_status_and_doctor_with_what_to_do<P: Place>() {
    let mut place = P::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let define = |key: &str, kind: &str| {
        let definition = format!(
            "name = 'mov'\nabout = 'x'\nentity = 'mov'\nkey = {{ column = 'id', type = '{key}' }}\n\
             event = {{ categoria = 'c', evento = 'e' }}\ncolumns = [{{ name = 'b', type = '{kind}' }}]\n"
        );
        std::fs::write(tables.path().join("mov.toml"), definition).expect("written");
    };
    let told = async |arguments: &[&str]| {
        let output = place.command(arguments).output().await.expect("it runs");
        let told =
            [output.stdout, output.stderr].map(|told| String::from_utf8_lossy(&told).into_owned()).concat();
        (output.status.success(), told)
    };
    let columns = vec![SampleColumn::key("id", "bigint"), SampleColumn::new("b", "bigint")];
    place.source().create_table("public", "mov", columns, &[r#"{"id": 1, "b": 2}"#]).expect("rows");
    define("bigint", "integer");
    let refusal = |checked: &str| checked.lines().any(|line| line.contains("undo that in the definition"));
    let (_, checked) = told(&["tables", "check", "mov"]).await;
    assert!(!refusal(&checked), "a store that has nothing yet refuses nothing: {checked}");
    let (done, synced) = told(&["sync", "mov", "--hours", "876600", "--wait"]).await;
    assert!(done, "{synced}");
    let (_, checked) = told(&["tables", "check", "mov"]).await;
    assert!(!refusal(&checked), "{checked}");

    for (key, kind, problem) in [
        ("bigint", "text", "which is not what its definition says (text)"),
        ("text", "integer", "it was made with the key 'id bigint' and its definition now says 'id text'"),
    ] {
        define(key, kind);
        let (_, refused) = told(&["sync", "mov", "--wait"]).await;
        let (_, checked) = told(&["tables", "check", "mov"]).await;
        let must_mend = |line: &str| line.starts_with("mov: mend: ") && line.contains(problem);
        assert!(checked.lines().any(must_mend), "{checked}");
        let (_, examined) = told(&["doctor"]).await;
        let (is_healthy, status) = told(&["status"]).await;
        assert!(!is_healthy, "{status}");
        let told = [("sync", &refused), ("check", &checked), ("doctor", &examined), ("status", &status)];
        for (command, told) in told {
            assert!(told.contains(problem) && refusal(told), "{command}: {told}");
        }
        assert!(!examined.contains("were not run"), "no migration mends it: {examined}");
    }
    place.clean_up().await;
}

async fn a_column_with_another_name_at_the_source_is_filled_in_both_sinks_or_told_until_the_index_is_rebuilt<
    P: Place,
>() {
    let mut place = P::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let define = |column: &str| {
        define(tables.path(), "mov");
        let definition = tables.path().join("mov.toml");
        let text = std::fs::read_to_string(&definition).expect("it is there");
        std::fs::write(definition, format!("{text}columns = [{column}]\n")).expect("written");
    };
    let has = |column: &str| {
        let columns = vec![SampleColumn::key("id", "bigint"), SampleColumn::new(column, "text")];
        let row = format!(r#"{{"id": 1, "{column}": "azul"}}"#);
        place.source().create_table("public", "mov", columns, &[row]).expect("rows");
    };
    let done = async |arguments: &[&str]| {
        let outcome = run(place.command(arguments)).await;
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {outcome:?}");
        outcome.all()
    };
    define("{ name = 'cor', type = 'text' }");
    has("cor");
    done(&["sync", "mov", "--wait"]).await;
    // Read before the definition says what the new name is.
    has("tom");
    done(&["sync", "mov", "--wait"]).await;
    define("{ name = 'cor', from = 'tom', formerly = ['cor'], type = 'text' }");
    let synced = done(&["sync", "mov", "--full", "--wait"]).await;
    assert!(synced.contains("0 new events"), "{synced}");
    let reconciled = done(&["reconcile", "mov", "--wait"]).await;

    let engine = place.engine().await;
    engine.start_drains().await;
    eventually("the store has it", async || value(&engine, "SELECT cor FROM mov").await == "azul").await;
    let index = IndexName::Entities(engine.catalog.get("mov").expect("mov"));
    let lack = "before its columns cor were defined as they are";
    let is_told = async || {
        let warnings = engine.inspection.status().await.warnings;
        warnings.iter().any(|warning| warning.to_string().contains(lack))
    };
    let is_filled = async || documents(&engine, index, None).await[0]["cor"] == "azul";
    if !is_filled().await {
        assert!(synced.contains(lack) && reconciled.contains(lack), "{synced}{reconciled}");
        assert!(is_told().await);
        engine.rebuilds.begin(&[index]).await.expect("a rebuild");
        eventually("the index is rebuilt", async || {
            engine.rebuilds.latest().iter().all(|rebuild| rebuild.phase == RebuildPhase::Done)
        })
        .await;
    }
    assert!(is_filled().await && !is_told().await);
    engine.shut_down().await;
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_waited_for_and_brings_nothing_ends_once_what_was_there_is_as_the_definition_says() {
    let mut place = Real::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let define = |column: &str| {
        define(tables.path(), "mov");
        let definition = tables.path().join("mov.toml");
        let text = std::fs::read_to_string(&definition).expect("it is there");
        std::fs::write(definition, format!("{text}columns = [{column}]\n")).expect("written");
    };
    define("{ name = 'cor', type = 'text' }");
    let columns = vec![SampleColumn::key("id", "bigint"), SampleColumn::new("tom", "text")];
    place.source().create_table("public", "mov", columns, &[r#"{"id": 1, "tom": "azul"}"#]).expect("rows");
    let synced = run(place.command(&["sync", "mov", "--wait"])).await;
    assert_eq!(synced.code, Some(0), "{synced:?}");

    define("{ name = 'cor', from = 'tom', type = 'text' }");
    let mut other = connect(&place.0.variables["DATABASE_URL"]).await;
    let holding = "BEGIN; SELECT 1 FROM mov FOR UPDATE";
    sqlx::raw_sql(holding).execute(&mut other).await.expect("it holds the row");
    let waited = tokio::spawn(run(place.command(&["sync", "mov", "--full", "--wait"])));
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND application_name = 'sluice migrate' AND wait_event_type = 'Lock'";
    eventually("not the drain alone waits for the row, but the command, too", async || {
        place.0.number(waiting).await == 2
    })
    .await;
    sqlx::raw_sql("COMMIT").execute(&mut other).await.expect("it ends");
    let waited = waited.await.expect("it ends");
    assert!(waited.code == Some(0) && waited.stdout.contains("0 new events"), "{waited:?}");
    assert_eq!(place.0.text("SELECT cor FROM mov").await, "azul");
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_asks_leaves_the_tables_as_others_made_them() {
    let mut place = Real::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let define = |column: &str| {
        define(tables.path(), "mov");
        let definition = tables.path().join("mov.toml");
        let text = std::fs::read_to_string(&definition).expect("it is there");
        std::fs::write(definition, format!("{text}columns = [{column}]\n")).expect("written");
    };
    define("{ name = 'cor', type = 'text' }");
    let columns = vec![SampleColumn::key("id", "bigint"), SampleColumn::new("cor", "text")];
    place.source().create_table("public", "mov", columns, &[r#"{"id": 1, "cor": "azul"}"#]).expect("rows");
    let synced = run(place.command(&["sync", "mov", "--wait"])).await;
    assert_eq!(synced.code, Some(0), "{synced:?}");
    let layout = "SELECT layout FROM sluice_tables WHERE table_name = 'mov'";
    let made_with = place.0.text(layout).await;

    // Its event has nothing of that name.
    define("{ name = 'cor', from = 'tom', type = 'text' }");
    for arguments in [["sql", "SELECT id, cor FROM mov"], ["export", "mov"]] {
        let told = run(place.command(&arguments)).await;
        assert!(told.code == Some(0) && told.stdout.contains("azul"), "{arguments:?}: {told:?}");
        assert_eq!(place.0.text(layout).await, made_with, "{arguments:?}");
    }
    place.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_end_is_named_holds_nobody_else_up_and_once_it_ends_the_drain_goes_on() {
    let mut place = Real::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    define(tables.path(), "mov");
    let columns = vec![SampleColumn::key("id", "bigint"), SampleColumn::new("cor", "text")];
    place.source().create_table("public", "mov", columns, &[r#"{"id": 1, "cor": "azul"}"#]).expect("rows");
    let synced = run(place.command(&["sync", "mov", "--wait"])).await;
    assert_eq!(synced.code, Some(0), "{synced:?}");
    let definition = tables.path().join("mov.toml");
    let with_column = format!(
        "{}columns = [{{ name = 'cor', type = 'text' }}]\n",
        std::fs::read_to_string(&definition).expect("it is there")
    );
    std::fs::write(definition, with_column).expect("written");

    let mut reader = connect(&place.0.variables["DATABASE_URL"]).await;
    let reading = "SET application_name = 'painel'; BEGIN; SELECT 1 FROM mov";
    sqlx::raw_sql(reading).execute(&mut reader).await.expect("it reads");
    let process: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut reader).await.expect("its number");
    let names = format!("process {process} (painel, idle in transaction) has the lock");
    let migrated = run(place.command(&["migrate"])).await;
    assert_eq!(migrated.code, Some(1), "{migrated:?}");
    assert!(migrated.all().contains(&names), "{migrated:?}");
    assert!(migrated.all().contains(&format!("pg_terminate_backend({process})")), "{migrated:?}");

    let engine = place.engine().await;
    engine.start_drains().await;
    eventually("status names who has the lock", async || {
        // Whoever reads stands behind the drain, for as long as that waits.
        let read = tokio::time::timeout(Duration::from_secs(15), place.0.number("SELECT count(*) FROM mov"));
        assert_eq!(read.await.expect("nobody waits for ever"), 1);
        let problems = engine.inspection.status().await.problems;
        problems.iter().any(|problem| problem.problem.contains(&names))
    })
    .await;
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.expect("it ends");
    eventually("the drain goes on", async || {
        engine.drains.reports().iter().all(|drain| drain.state == DrainState::Running && drain.is_well())
    })
    .await;
    assert_eq!(place.0.text("SELECT cor FROM mov").await, "azul", "filled from its event");
    engine.shut_down().await;
    place.clean_up().await;
}
