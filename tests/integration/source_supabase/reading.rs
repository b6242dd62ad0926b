//! Pages: none missing, none changed, none that was not asked for.

use std::{collections::BTreeSet, time::Duration};

use chrono::{TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};
use sluice::{
    config::SupabaseSettings,
    domain::{Compare, JsonObject, SourceRow},
    fault::FaultKind,
    source::{
        Condition, RowQuery, Source,
        description::DifferenceKind,
        sample::{Fault, SampleColumn, keys},
    },
};

use super::{defined, ids, pages, query, read, refusal, server, settings, source, source_with, texts};
use crate::support::{
    condition,
    fake_http::{FakeHttp, Reply},
    rows::{id, lead, leads, minutes_ago, object, session, spelled},
    table,
};

#[tokio::test]
async fn no_page_cap_loses_a_row_even_where_times_are_equal() {
    let server = server().await;
    let mut rows = leads(60);
    let same = minutes_ago(30);
    for row in &mut rows[10..40] {
        row.insert("updated_at".to_owned(), json!(same));
    }
    for row in &mut rows[40..47] {
        row.insert("updated_at".to_owned(), Value::Null);
    }
    server.set_rows(table("leads"), rows);
    let source = source(&server);
    for (cap, page) in [(1, 10), (3, 10), (7, 100), (59, 60), (60, 60), (1000, 5), (1000, 1000)] {
        server.set_max_rows(Some(cap));
        let read = read(&source, &query(table("leads"), page)).await.expect("rows");
        assert_eq!(ids(&read).len(), 60, "cap {cap}, page {page}");
        assert_eq!(read.len(), 60, "no row twice: cap {cap}, page {page}");
    }
}

#[tokio::test]
async fn keys_of_any_type_are_paged_by_as_the_database_orders_them() {
    let rest = "event = { categoria = \"c\", evento = \"e\" }\ntime = { modified = \"mudou\" }\n\
                columns = [{ name = \"mudou\", type = \"timestamp\" }]";
    let same = minutes_ago(5);
    let numbers: Vec<i64> =
        (1..=30).chain([9_007_199_254_740_992, 9_007_199_254_740_993, i64::MAX]).collect();
    let words = ["10", "9", "a,b", "a\"b", "a\\b", "(x)", "é", "Z", "a.b:c", " x", "+5"];
    let numbered = (
        defined(&format!(
            "name = \"numeradas\"\nabout = \"x\"\nentity = \"n\"\nkey = {{ column = \"id\", type = \"bigint\" }}\n{rest}"
        )),
        numbers.iter().map(|n| format!(r#"{{"id": {n}, "mudou": "{same}"}}"#)).collect::<Vec<_>>(),
        "bigint",
    );
    let worded = (
        defined(&format!(
            "name = \"nomeadas\"\nabout = \"x\"\nentity = \"m\"\nkey = {{ column = \"id\", type = \"text\" }}\n{rest}"
        )),
        words.iter().map(|word| json!({"id": word, "mudou": same}).to_string()).collect::<Vec<_>>(),
        "text",
    );
    for (table, rows, format) in [numbered, worded] {
        let server = server().await;
        let columns =
            vec![SampleColumn::key("id", format), SampleColumn::new("mudou", "timestamp with time zone")];
        server.create_table("public", table.name(), columns, &rows).expect("rows");
        server.set_max_rows(Some(4));
        let read = texts(&source(&server), &query(table, 10)).await.expect("rows");
        let keys: BTreeSet<String> =
            read.iter().map(|row| SourceRow::read(table, row.clone()).expect("a row").key).collect();
        assert_eq!((read.len(), keys.len()), (rows.len(), rows.len()), "{format}");
    }
}

#[tokio::test]
async fn rows_that_change_while_they_are_read_are_not_lost() {
    let server = server().await;
    server.set_rows(table("leads"), leads(20));
    let source = source(&server);
    let query = query(table("leads"), 4);
    let (mut seen, mut after) = (BTreeSet::new(), None);
    let mut step: u128 = 0;
    loop {
        let page = source.page(&query, after.as_ref()).await.expect("a page");
        seen.extend(
            page.rows.iter().map(|row| row.members().expect("members").get("id").expect("an id").to_owned()),
        );
        let Some(next) = page.next else { break };
        after = Some(next);
        step += 1;
        if step <= 5 {
            server.change(table("leads"), &json!(id(21 - step)), json!({"nome": "mudou"}));
        }
    }
    assert_eq!(seen.len(), 20);
}

#[tokio::test]
async fn a_row_without_an_id_does_not_end_the_reading() {
    let server = server().await;
    let mut rows = leads(9);
    rows.insert(
        4,
        object(json!({"nome": "sem id", "updated_at": spelled(Utc::now() - TimeDelta::seconds(305))})),
    );
    // More than a page of them is newer than whatever has one.
    rows.extend(
        (0..5).map(|n| object(json!({"nome": format!("sem id {n}"), "updated_at": spelled(Utc::now())}))),
    );
    server.set_rows(table("leads"), rows);
    server.set_max_rows(Some(3));
    let read = read(&source(&server), &query(table("leads"), 10)).await.expect("rows");
    let with_id: BTreeSet<&str> = read.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(with_id.len(), 9);
    assert_eq!(read.len(), 12, "and as many of the others as the server gives at once");
}

#[tokio::test]
async fn rows_without_a_key_are_counted_and_the_first_of_them_shown() {
    let server = server().await;
    let unkeyed = |n| object(json!({"nome": format!("sem id {n}"), "updated_at": spelled(Utc::now())}));
    let mut rows: Vec<JsonObject> = (0..1_500).map(unkeyed).collect();
    rows.extend(leads(3));
    server.set_rows(table("leads"), rows.clone());
    server.take_requests();
    let source = source(&server);
    let pages = pages(&source, &query(table("leads"), 1000)).await.expect("pages");
    assert_eq!(pages.iter().map(|page| page.rows.len()).sum::<usize>(), 103);
    let counted: Vec<u64> = pages.iter().map(|page| page.without_key).filter(|count| *count > 0).collect();
    assert_eq!(counted, [1_500]);
    let asked = server.take_requests();
    assert_eq!(
        asked.iter().filter(|one| format!("{one:?}").contains("id.is.null")).count(),
        2,
        "one question, and one that shows the last of them"
    );

    server.set_rows(table("leads"), Vec::new());
    let timed = source.page(&query(table("leads"), 1000), None).await.expect("a page").next;
    let keyless = source.page(&query(table("leads"), 1000), timed.as_ref()).await.expect("a page").next;
    server.take_requests();
    server.script([refusal(500, "57014")]);
    let slow = source.page(&query(table("leads"), 1000), keyless.as_ref()).await.expect_err("too slow");
    assert!(slow.to_string().contains("index the column that the definition names as the key"), "{slow}");
    assert_eq!(server.take_requests().len(), 1, "a smaller page is counted no faster");

    server.set_rows(table("leads"), rows);
    let found = source.check(table("leads")).await.expect("an answer");
    let told = found.iter().find(|one| one.kind == DifferenceKind::Key && !one.is_hint).expect("told");
    assert!(told.problem.starts_with("1500 rows have no id"), "{told}");
}

#[tokio::test]
async fn a_page_shows_every_row_as_the_server_sent_it_whatever_one_of_them_holds() {
    let server = server().await;
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let at = minutes_ago(5);
    let odd = [
        r#""localizacao":{"lat":1e999,"lng":-46.63330000000000}"#.to_owned(),
        format!(r#""localizacao":{deep}"#),
        r#""nome":"a\ud800b","email":"\u0000""#.to_owned(),
        r#""score_qualificacao":123456789012345678901234567890.10"#.to_owned(),
        r#""localizacao":{ "a" : 1 , "a" : 2 }"#.to_owned(),
        r#""nome":"Ana""#.to_owned(),
    ];
    let rows: Vec<String> = (1..)
        .zip(&odd)
        .map(|(n, odd)| format!(r#"{{"id":"{}","updated_at":"{at}",{odd}}}"#, id(n)))
        .collect();
    server.set_text_rows(table("leads"), &rows).expect("rows");
    let read = texts(&source(&server), &query(table("leads"), 100)).await.expect("rows");
    assert_eq!(read.len(), odd.len());
    for (row, odd) in read.iter().zip(&odd) {
        assert!(row.as_str().contains(odd), "{}", &row.as_str()[..200.min(row.as_str().len())]);
        SourceRow::read(table("leads"), row.clone()).expect("a row with a key");
    }
}

#[tokio::test]
async fn half_an_answer_passes_and_is_named_as_what_it_is() {
    let server = server().await;
    server.set_rows(table("leads"), leads(30));
    server.script([Fault::CutOff, Fault::WebPage]);
    let rows = read(&source(&server), &query(table("leads"), 100)).await.expect("rows");
    assert_eq!(rows.len(), 30);
    let impatient =
        SupabaseSettings { retry_for: Duration::from_millis(1), ..settings(&server.url(), keys::SECRET) };
    for (fault, told) in [(Fault::CutOff, "the answer is cut off"), (Fault::WebPage, "a web page")] {
        server.script([fault]);
        let fault = read(&source_with(&impatient), &query(table("leads"), 100)).await.expect_err("no rows");
        assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
        assert!(fault.message.contains(told) && !fault.message.contains("SUPABASE_URL"), "{fault}");
    }
}

#[tokio::test]
async fn an_answer_too_large_to_read_is_asked_for_in_smaller_pages() {
    let large: &'static str = format!("[{{\"id\":\"{}\"}}]", "x".repeat(65 * 1024 * 1024)).leak();
    let server =
        FakeHttp::start(move |number, _| Reply::Answer(200, if number < 2 { large } else { "[]" })).await;
    let source = source_with(&settings(server.url.as_str(), keys::SECRET));
    assert!(texts(&source, &query(table("leads"), 800)).await.expect("no rows").is_empty());
    let asked: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    for (path, limit) in asked.iter().zip([800, 400, 200]) {
        assert!(path.contains(&format!("limit={limit}&")), "{path}");
    }
}

#[tokio::test]
async fn a_page_was_read_at_the_servers_time() {
    let server = server().await;
    server.set_rows(table("leads"), leads(3));
    for ahead in [TimeDelta::hours(-7), TimeDelta::zero(), TimeDelta::days(3)] {
        server.set_clock(ahead);
        let before = Utc::now() + ahead;
        let page = source(&server).page(&query(table("leads"), 10), None).await.expect("a page");
        let off = page.read_at - before;
        // A date has no fractions of a second.
        assert!(off > TimeDelta::seconds(-2) && off < TimeDelta::seconds(2), "{ahead}: {off}");
    }
    let undated = FakeHttp::start(|_, _| Reply::Answer(200, "[]")).await;
    let source = source_with(&settings(undated.url.as_str(), keys::SECRET));
    let page = source.page(&query(table("leads"), 10), None).await.expect("a page");
    assert!((Utc::now() - page.read_at).num_seconds() < 5, "this machine's where the server does not tell");
}

#[tokio::test]
async fn the_window_and_the_conditions_hold() {
    let server = server().await;
    let leads = table("leads");
    let mut odd = lead(5, 10);
    odd.insert("status_lead".to_owned(), json!("a,b.(\"c\")+d"));
    server.set_rows(leads, vec![lead(1, 10), lead(2, 60 * 25), lead(4, 10), odd]);
    let source = source(&server);
    assert_eq!(ids(&read(&source, &query(leads, 10)).await.expect("rows")), [id(1), id(4), id(5)].into());
    let filtered =
        RowQuery { conditions: vec![condition(leads, "status", "a,b.(\"c\")+d")], ..query(leads, 10) };
    assert_eq!(ids(&read(&source, &filtered).await.expect("rows")), [id(5)].into());

    let sessions = table("chat_sessions");
    let mut long_ago = session(2, 60 * 30, 9);
    long_ago.insert("is_active".to_owned(), json!(false));
    let mut just_ended = session(3, 60 * 30, 9);
    just_ended.extend(object(json!({"is_active": false, "ended_at": minutes_ago(5)})));
    server.set_rows(
        sessions,
        vec![session(1, 60 * 30, 9), long_ago, just_ended, session(4, 5, 9), session(5, 5, 2)],
    );
    let talkative =
        RowQuery { conditions: vec![condition(sessions, "min_messages", "3")], ..query(sessions, 2) };
    let seen = ids(&read(&source, &talkative).await.expect("rows"));
    assert_eq!(seen, [id(1), id(3), id(4)].into(), "still active, just ended, or new");

    // Nothing else belongs to the window, and one that goes on bears no time.
    let mut undated = session(6, 0, 9);
    undated.insert("started_at".to_owned(), Value::Null);
    let mut over = session(7, 60 * 30, 9);
    over.insert("is_active".to_owned(), json!(false));
    server.set_rows(sessions, vec![undated, over]);
    assert_eq!(ids(&read(&source, &query(sessions, 10)).await.expect("rows")), [id(6)].into());
}

#[tokio::test]
async fn a_condition_on_a_column_that_the_project_lacks_is_refused_and_not_passed_over() {
    let server = server().await;
    server.set_rows(table("leads"), leads(3));
    server.drop_column(table("leads"), "status_lead");
    let query = RowQuery {
        conditions: vec![condition(table("leads"), "status", "novo")],
        ..query(table("leads"), 10)
    };
    let fault = read(&source(&server), &query).await.expect_err("no such column");
    assert!(fault.message.contains("status_lead") && fault.advice.to_string().contains("from"), "{fault}");
}

#[tokio::test]
async fn a_table_is_read_by_its_own_names_schema_and_clock() {
    let pedidos = defined(
        r#"
        name = "pedidos"
        about = "orders"
        entity = "pedido"
        source = { table = "Orders 2026", schema = "vendas" }
        never_read = ["card token"]
        key = { column = "codigo", from = "Order No", type = "bigint" }
        time = { created = "feito", modified = "mudou", zone = "America/Sao_Paulo" }
        event = { categoria = "vendas", evento = "pedido_{fase}", usuario = ["telefone"] }
        columns = [
            { name = "mudou", from = "changed at", type = "timestamp" },
            { name = "feito", from = "made", type = "timestamp" },
            { name = "telefone", from = "phone", type = "text" },
            { name = "fase", type = "text" },
            { name = "sumiu", type = "text" },
        ]
        "#,
    );
    let server = server().await;
    let face = |hours: i64| {
        (Utc::now() - TimeDelta::hours(hours))
            .with_timezone(&Tz::America__Sao_Paulo)
            .format("%Y-%m-%dT%H:%M:%S%.6f")
            .to_string()
    };
    let rows: Vec<String> = [(1, 1), (2, 23), (3, 25), (4, 30)]
        .map(|(n, hours)| json!({"Order No": n, "changed at": face(hours), "phone": 5_511_987_654_321_i64, "card token": "segredo", "fase": "novo"}).to_string())
        .into();
    let columns = vec![
        SampleColumn::key("Order No", "bigint"),
        SampleColumn::new("changed at", "timestamp without time zone"),
        SampleColumn::new("made", "timestamp without time zone"),
        SampleColumn::new("phone", "bigint"),
        SampleColumn::new("card token", "text"),
        SampleColumn::new("fase", "text"),
    ];
    server.create_table("vendas", "Orders 2026", columns, &rows).expect("rows");
    let source = source(&server);
    let condition =
        Condition { column: "telefone".into(), compare: Compare::Gte, value: "5511000000000".into() };
    let asked = RowQuery { conditions: vec![condition], ..query(pedidos, 1) };
    let pages = pages(&source, &asked).await.expect("pages");
    let rows: Vec<SourceRow> = pages
        .iter()
        .flat_map(|page| &page.rows)
        .map(|row| SourceRow::read(pedidos, row.clone()).expect("a row"))
        .collect();
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["2", "1"], "of the last 24 hours by the project's own clock");
    let watermark = pages.iter().filter_map(|page| page.watermark).max().expect("a watermark");
    assert!((Utc::now() - watermark - TimeDelta::hours(1)).num_seconds().abs() < 5, "{watermark}");
    let requests = server.take_requests();
    assert!(requests.iter().all(|request| request.schema == "vendas" && request.path == "Orders 2026"));
    assert!(requests.iter().all(|request| !format!("{:?}", request.query).contains("card token")));
    assert_eq!(source.rows_since(pedidos, Utc::now() - TimeDelta::hours(2)).await.expect("a count"), Some(1));
    let overview = source.overview(pedidos).await.expect("an overview");
    assert_eq!((overview.total, overview.last_24h), (Some(4), Some(0)));
}

#[tokio::test]
async fn rows_dated_ahead_are_counted() {
    let server = server().await;
    let mut rows = leads(5);
    rows[0].insert("updated_at".to_owned(), json!("2099-01-01T00:00:00+00:00"));
    rows[1].insert("updated_at".to_owned(), json!(spelled(Utc::now() + TimeDelta::hours(3))));
    server.set_rows(table("leads"), rows);
    let source = source(&server);
    let ahead = async |name: &str| source.rows_since(table(name), Utc::now()).await.expect("a count");
    assert_eq!((ahead("leads").await, ahead("chat_sessions").await), (Some(2), Some(0)));
    server.drop_column(table("leads"), "updated_at");
    assert_eq!(ahead("leads").await, Some(0), "none was created then");
    server.drop_column(table("leads"), "created_at");
    assert_eq!(ahead("leads").await, None);
}

#[tokio::test]
async fn a_project_without_the_time_of_modification_is_polled_by_the_one_of_creation_as_it_is_read() {
    let server = server().await;
    server.set_rows(table("leads"), vec![lead(1, 10)]);
    server.drop_column(table("leads"), "updated_at");
    let source = source(&server);
    let latest = async || {
        let after = Utc::now() - TimeDelta::hours(1);
        source.latest_change(table("leads"), after, Utc::now()).await.expect("an answer")
    };
    let created = latest().await.and_then(|latest| latest.at).expect("a time");
    assert!((Utc::now() - created - TimeDelta::minutes(11)).abs() < TimeDelta::minutes(1), "{created}");
    let read = pages(&source, &query(table("leads"), 10)).await.expect("pages");
    assert!(read.iter().all(|page| !page.tells_changes && page.watermark.is_none()), "{read:?}");
    server.drop_column(table("leads"), "created_at");
    assert!(latest().await.is_none());
}
