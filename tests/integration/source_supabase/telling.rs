//! What a project has, and what it tells of it: the dashboard's counts, discovery and check.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sluice::{
    domain::{Catalog, SourceRow, Table},
    source::{
        RowQuery, Source,
        description::{Basis, DifferenceKind, discover},
        sample::{Beginning, SampleColumn, SampleProject},
    },
};

use super::{query, selections, server, settings, source, source_with, texts};
use crate::support::{
    every_type::{EVERY_TYPE, create_every_type},
    rows::{leads, minutes_ago, session},
    table,
};

#[tokio::test]
async fn the_overview_counts_what_is_there() {
    let server = server().await;
    server.set_rows(table("leads"), leads(120));
    let mut ended = session(2, 5, 1);
    ended.insert("is_active".to_owned(), json!(false));
    server.set_rows(table("chat_sessions"), vec![session(1, 5, 1), ended]);
    server.set_max_rows(Some(50));
    let source = source(&server);
    let leads = source.overview(table("leads")).await.expect("an overview");
    assert_eq!((leads.total, leads.last_24h, leads.problem), (Some(120), Some(120), None));
    assert_eq!(leads.counts, [("qualified".to_owned(), 50)]);
    let status = &leads.breakdowns[0];
    assert_eq!((status.column.as_str(), status.rows), ("status_lead", 120));
    assert_eq!(status.values, [("novo".to_owned(), 60), ("qualificado".to_owned(), 60)]);
    assert!(leads.newest_at.is_some());
    let sessions = source.overview(table("chat_sessions")).await.expect("an overview");
    assert_eq!((sessions.total, sessions.counts), (Some(2), vec![("active".to_owned(), 1)]));
}

#[tokio::test]
async fn what_the_project_lacks_is_told_in_the_overview_and_fails_nothing() {
    let server = server().await;
    let mut rows = leads(4);
    rows[0].insert("origem".to_owned(), Value::Null);
    rows[1].insert("origem".to_owned(), json!(7));
    server.set_rows(table("leads"), rows);
    server.drop_column(table("leads"), "status_lead");
    server.drop_column(table("leads"), "score_qualificacao");
    server.drop_table(table("chat_sessions"));
    let source = source(&server);
    let leads = source.overview(table("leads")).await.expect("an overview");
    assert_eq!((leads.total, leads.last_24h, leads.counts.len()), (Some(4), Some(4), 0));
    let problem = leads.problem.expect("told");
    assert!(problem.contains("status_lead") && problem.contains("score_qualificacao"), "{problem}");
    assert_eq!(leads.breakdowns.len(), 1);
    let expected =
        [("indicação", 2), ("7", 1), ("sem_origem", 1)].map(|(value, count)| (value.to_owned(), count));
    assert_eq!(leads.breakdowns[0].values, expected);
    let sessions = source.overview(table("chat_sessions")).await.expect("an overview");
    assert_eq!(sessions.total, None);
    assert!(sessions.problem.is_some_and(|problem| problem.contains("PGRST205")));
    assert!(source.health().await.expect("health").warnings.is_empty(), "the other table is there");

    server.drop_table(table("leads"));
    let health = source.health().await.expect("health");
    assert!(health.warnings[0].problem.contains("leads, chat_sessions"), "{:?}", health.warnings);
    let wrong = source_with(&settings(&server.url(), "sb_secret_errada"));
    assert!(wrong.overview(table("leads")).await.is_err(), "a wrong key is no missing table");
}

#[tokio::test]
async fn a_table_nobody_here_knows_is_discovered_in_the_sample_project() {
    let server = server().await;
    server.set_project(SampleProject::new(Beginning::now(1, 40, 20)));
    let source = source(&server);
    let told = source.served(None).await.expect("an answer").expect("told");
    assert_eq!(told, ["chat_messages", "chat_sessions", "leads"]);
    let description = source.describe(None, "chat_messages").await.expect("an answer").expect("a table");
    assert_eq!(description.basis, Basis::Described);
    let definition = discover(&description, Catalog::built_in()).expect("a definition");
    assert_eq!(definition.entity, "chat_message");
    assert_eq!(definition.time.created.as_deref(), Some("created_at"));
    assert_eq!(definition.event.evento, "chat_message_{papel}");
    assert!(definition.never_read.is_empty(), "{:?}", definition.never_read);
    let messages = Table::new(definition);
    assert_eq!(source.describe(None, "nada").await.expect("an answer"), None);
    let found = source.check(messages).await.expect("an answer");
    assert!(found.iter().all(|difference| difference.is_hint), "{found:?}");
    let window = RowQuery { since: DateTime::UNIX_EPOCH, ..query(messages, 500) };
    let rows = texts(&source, &window).await.expect("rows");
    assert!(rows.len() > 100, "{} messages", rows.len());
    for row in rows {
        let row = SourceRow::read(messages, row).expect("a row");
        assert!(row.event(Utc::now(), 1).1.is_empty(), "a value does not fit what was discovered");
    }
}

/// A column of every type that Supabase offers, and what PostgREST would show of it.
#[tokio::test]
async fn every_type_of_postgres_is_discovered_read_and_fits() {
    let server = server().await;
    create_every_type(&server);
    for openapi in [true, false] {
        server.set_openapi(openapi);
        let source = source(&server);
        let description = source.describe(None, "Tudo").await.expect("an answer").expect("a table");
        assert_eq!(description.basis, if openapi { Basis::Described } else { Basis::Rows(2) });
        let definition = discover(&description, Catalog::built_in()).expect("a definition");
        assert_eq!((definition.columns.len(), definition.source_name()), (30, "Tudo"));
        let tudo = Table::new(definition);
        let differences = source.check(tudo).await.expect("an answer");
        let wrong: Vec<_> = differences
            .iter()
            .filter(|one| {
                !matches!(one.kind, DifferenceKind::Time | DifferenceKind::Unknown | DifferenceKind::Zone)
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        let rows = texts(&source, &query(tudo, 10)).await.expect("rows");
        let row = rows.iter().find(|row| row.as_str().contains("9007199254740993")).expect("the row");
        let misfits = SourceRow::read(tudo, row.clone()).expect("a row").event(Utc::now(), 1).1;
        assert!(misfits.is_empty(), "{misfits:?}");
        for (name, _, value) in EVERY_TYPE {
            let held = row.members().expect("members").get(name).expect("a value").to_owned();
            assert_eq!(held, value, "{name}: byte for byte");
        }
    }
}

#[tokio::test]
async fn what_differs_from_a_definition_is_told_with_what_to_do() {
    let server = server().await;
    let at = minutes_ago(5);
    let rows: Vec<String> = (1..=30)
        .map(|n| json!({"id": n, "full_name": "x", "created_at": at, "updated_at": at}).to_string())
        .collect();
    let columns = vec![
        SampleColumn::key("id", "bigint"),
        SampleColumn::new("nome", "jsonb"),
        SampleColumn::new("e_mail", "text"),
        SampleColumn::new("created_at", "timestamp with time zone"),
        SampleColumn::new("updated_at", "timestamp with time zone"),
        SampleColumn::new("reset_token", "text"),
    ];
    server.create_table("public", "leads", columns, &rows).expect("rows");
    server.drop_table(table("chat_sessions"));
    let source = source(&server);
    let found = source.check(table("leads")).await.expect("an answer");
    let of = |kind: DifferenceKind| found.iter().filter(move |one| one.kind == kind).collect::<Vec<_>>();
    assert!(of(DifferenceKind::Key)[0].next_step.contains("bigint"), "{found:?}");
    assert_eq!(of(DifferenceKind::Type)[0].column.as_deref(), Some("nome"));
    assert_eq!(of(DifferenceKind::Secret)[0].column.as_deref(), Some("reset_token"));
    assert!(of(DifferenceKind::Trigger)[0].problem.contains("30 rows"), "{found:?}");
    let email =
        of(DifferenceKind::MissingColumn).into_iter().find(|one| one.column.as_deref() == Some("email"));
    assert!(email.is_some_and(|email| email.next_step.contains("e_mail")), "{found:?}");
    let found = source.check(table("chat_sessions")).await.expect("an answer");
    assert_eq!(found.iter().map(|one| one.kind).collect::<Vec<_>>(), [DifferenceKind::MissingTable]);
    server.change(table("leads"), &json!(3), json!({"nome": "y"}));
    let found = source.check(table("leads")).await.expect("an answer");
    assert!(found.iter().all(|one| one.kind != DifferenceKind::Trigger), "somebody writes it: {found:?}");
}

#[tokio::test]
async fn a_project_that_does_not_describe_itself_is_checked_without_reading_what_must_not_be_read() {
    let server = server().await;
    server.set_openapi(false);
    server.set_rows(table("chat_sessions"), vec![session(1, 5, 3)]);
    server.drop_column(table("chat_sessions"), "user_agent");
    let found = source(&server).check(table("chat_sessions")).await.expect("an answer");
    let missing: Vec<_> = found.iter().filter(|one| one.kind == DifferenceKind::MissingColumn).collect();
    assert_eq!(missing.len(), 1, "{found:?}");
    assert_eq!(missing[0].column.as_deref(), Some("user_agent"));
    for select in selections(&server) {
        assert!(!select.contains('*') && !select.contains("session_token"), "{select}");
    }
}
