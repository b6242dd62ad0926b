//! A table that is read from elsewhere, or as somebody else: what lies before its coverage was never seen there.

use serde_json::json;
use sluice::{
    engine::SyncPhase,
    source::sample::{SampleColumn, SampleServer, keys},
    store::{NoticeKind, SyncRequest},
};

use super::told;
use crate::support::{
    cli::{Outcome, run},
    eventually,
    folder::TestFolder,
    on_each_adapter,
    place::{Embedded, Place, Real, value},
    request,
    rows::{lead, session},
    sync, table,
};

on_each_adapter! {
    embedded: Embedded, real: Real;
    rows_of_another_project_or_key_are_read_though_they_changed_before_the_last_sync,
    a_key_that_is_called_otherwise_is_read_where_it_holds_the_same_values_and_refused_where_not,
    a_key_that_is_called_otherwise_is_told_from_another_though_rows_were_deleted,
}

/// Runs a command with a table whose key, of this type, is called so at the source.
async fn with_key(
    place: &impl Place,
    tables: &TestFolder,
    (kind, from): (&str, &str),
    arguments: &[&str],
) -> Outcome {
    let definition = format!(
        "name = 'pess'\nabout = 'x'\nentity = 'pess'\nkey = {{ column = 'codigo', from = '{from}', type = '{kind}' }}\n\
         time = {{ created = 'criado' }}\nevent = {{ categoria = 'c', evento = 'e' }}\n\
         columns = [{{ name = 'criado', type = 'timestamp' }}]\n"
    );
    std::fs::write(tables.path().join("pess.toml"), definition).expect("written");
    run(place.command(arguments)).await
}

const SYNC: [&str; 4] = ["sync", "pess", "--full", "--wait"];

fn read_on() -> SyncRequest {
    SyncRequest { resume: true, ..request(table("leads")) }
}

async fn rows_of_another_project_or_key_are_read_though_they_changed_before_the_last_sync<P: Place>() {
    let mut place = P::new().await;
    let known = vec![lead(1, 600), lead(2, 60)];
    place.source().set_rows(table("leads"), known.clone());
    place.source().set_row_level_security(true);
    place.set("SUPABASE_KEY", keys::PUBLISHABLE);
    let engine = place.engine().await;
    engine.start_drains().await;
    assert_eq!(sync(&engine, read_on()).await.rows_read, 0, "row-level security hides them");
    engine.shut_down().await;
    drop(engine);

    // A slip is no other project.
    place.set("SUPABASE_KEY", "sb_secret_errada");
    let engine = place.engine().await;
    engine.syncs.start(read_on()).await.expect_err("the key is refused");
    assert_eq!(engine.inspection.status().await.notices, []);
    engine.shut_down().await;
    drop(engine);

    place.set("SUPABASE_KEY", keys::SECRET);
    let engine = place.engine().await;
    engine.start_drains().await;
    eventually("status tells that nobody has read there", async || {
        let status = engine.inspection.status().await;
        let is_told = status.problems.iter().any(|problem| problem.problem.contains("by another key"));
        is_told && status.tables.iter().any(|of| of.table == "leads" && of.unread.is_none())
    })
    .await;
    assert_eq!(sync(&engine, read_on()).await.appended, 2, "the key sees what the other one did not");
    told(&engine, NoticeKind::SourceReplaced).await;
    assert_eq!(sync(&engine, read_on()).await.rows_read, 0, "and is read on from there");
    let chats = table("chat_sessions");
    place.source().set_rows(chats, vec![session(1, 60, 3)]);
    assert_eq!(sync(&engine, request(chats)).await.state, SyncPhase::Done);
    engine.shut_down().await;
    drop(engine);

    let moved = SampleServer::start(0).await.expect("a free port");
    moved.set_rows(table("leads"), [known, vec![lead(3, 900)]].concat());
    place.set("SUPABASE_URL", &moved.url());
    // A key that sees as much makes no difference.
    place.set("SUPABASE_KEY", keys::SERVICE_ROLE);
    let engine = place.engine().await;
    engine.start_drains().await;
    let moved_on = sync(&engine, read_on()).await;
    assert_eq!((moved_on.rows_read, moved_on.appended), (3, 1), "what is known is not appended again");
    assert_eq!(value(&engine, "SELECT count(*) FROM leads").await, 3);

    let mut chat = session(1, 60, 3);
    chat.remove("ip_address");
    chat.insert("company_id".into(), json!(7));
    moved.set_rows(chats, vec![chat]);
    moved.drop_column(chats, "ip_address");
    let read = sync(&engine, request(chats)).await;
    let told = "what this project never had is not lost, nor took company_id its place";
    assert_eq!((read.state, read.lost_columns.len(), read.error), (SyncPhase::Done, 0, None), "{told}");
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_key_that_is_called_otherwise_is_read_where_it_holds_the_same_values_and_refused_where_not<
    P: Place,
>() {
    let mut place = P::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let synced = async |from: &str| with_key(&place, &tables, ("bigint", from), &SYNC).await;
    let serve = |columns: Vec<SampleColumn>, rows: &[String]| {
        place.source().create_table("public", "pess", columns, rows).expect("rows");
    };
    let days = 1..=3;
    let made = |day: i32| format!(r#""criado": "2024-05-0{day}T10:00:00+00:00""#);
    let before: Vec<String> =
        days.clone().map(|day| format!(r#"{{"codigo": {day}, {}}}"#, made(day))).collect();
    let made_at = || SampleColumn::new("criado", "timestamp with time zone");
    serve(vec![SampleColumn::key("codigo", "bigint"), made_at()], &before);
    let outcome = synced("codigo").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");

    // The same numbers, of other rows.
    let row = |day: i32| format!(r#"{{"id": {}, "numero": {day}, {}}}"#, day % 3 + 1, made(day));
    let columns = vec![SampleColumn::new("id", "bigint"), SampleColumn::key("numero", "bigint"), made_at()];
    serve(columns, &days.map(row).collect::<Vec<_>>());
    let outcome = synced("id").await;
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    assert!(format!("{outcome:?}").contains("none of the stored rows"), "{outcome:?}");
    let outcome = synced("numero").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let engine = place.engine().await;
    assert_eq!(value(&engine, "SELECT count(*) FROM pess").await, 3);
    assert_eq!(value(&engine, "SELECT count(*) FROM eventos_raw WHERE tipo_evento = 'pess'").await, 6);
    engine.shut_down().await;
    place.clean_up().await;
}

async fn a_key_that_is_called_otherwise_is_told_from_another_though_rows_were_deleted<P: Place>() {
    let mut place = P::new().await;
    let tables = TestFolder::new();
    place.set("SLUICE_TABLES_DIR", &tables.path().display().to_string());
    let ran =
        async |from: &str, arguments: &[&str]| with_key(&place, &tables, ("text", from), arguments).await;
    // Keys of which a hundred make an address that proxies refuse. Each row was made some minutes after those before it.
    let serve = |key: &str, rows: std::ops::Range<usize>, later: usize| {
        let row = |n: usize| {
            let (hour, minute) = ((n + later) / 60, (n + later) % 60);
            let made = format!("2024-05-01T{hour:02}:{minute:02}:00+00:00");
            json!({ key: format!("{n:03}-{}", "é".repeat(60)), "criado": made }).to_string()
        };
        let columns =
            vec![SampleColumn::key(key, "text"), SampleColumn::new("criado", "timestamp with time zone")];
        let rows: Vec<String> = rows.map(row).collect();
        place.source().create_table("public", "pess", columns, &rows).expect("rows");
    };
    serve("codigo", 0..120, 0);
    let outcome = ran("codigo", &SYNC).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");

    serve("novo", 0..20, 0);
    place.source().take_requests();
    let outcome = ran("novo", &SYNC).await;
    assert_eq!(outcome.code, Some(0), "the newest hundred are gone, older ones are there: {outcome:?}");
    let requests = place.source().take_requests();
    let longest = requests.iter().flat_map(|request| &request.query).map(|(_, value)| value.len()).max();
    assert!(longest.is_some_and(|bytes| bytes < 4_000), "{longest:?}");

    let allowing = |rows| ["reconcile", "pess", "--wait", "--allow-deletes", rows];
    let outcome = ran("novo", &allowing("100")).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    serve("outro", 0..20, 7);
    for arguments in [&SYNC[..], &allowing("20")[..]] {
        let outcome = ran("outro", arguments).await;
        assert_ne!(
            outcome.code,
            Some(0),
            "the newest events are removals, and these are other rows: {outcome:?}"
        );
        assert!(outcome.all().contains("it holds other values than the key did"), "{outcome:?}");
    }

    serve("terceiro", 0..0, 0);
    let outcome = ran("terceiro", &SYNC).await;
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    assert!(
        outcome.all().contains("--allow-deletes N"),
        "nothing tells whether they were deleted: {outcome:?}"
    );
    let outcome = ran("terceiro", &allowing("20")).await;
    assert_eq!(outcome.code, Some(0), "somebody says so: {outcome:?}");
    place.clean_up().await;
}
