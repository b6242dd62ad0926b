//! The source's promises, against a server that speaks PostgREST's language. Needs no service.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};
use sluice::{
    config::SupabaseSettings,
    domain::{Catalog, Compare, Definition, Json, JsonObject, SourceRow, Table, json::to_value},
    fault::{Fault as PartFault, FaultKind},
    source::{
        Condition, Page, RowQuery, Source,
        description::{Basis, DifferenceKind, discover},
        sample::{Beginning, Failure, Fault, SampleColumn, SampleProject, SampleServer, keys},
        supabase::SupabaseSource,
    },
};

use crate::support::{
    condition,
    fake_http::{FakeHttp, Reply},
    rows::{id, lead, leads, minutes_ago, object, session, spelled},
    table,
};

async fn server() -> SampleServer {
    SampleServer::start(0).await.expect("a free port")
}

fn settings(url: &str, key: &str) -> SupabaseSettings {
    SupabaseSettings {
        url: url.parse::<url::Url>().expect("a URL").into(),
        key: key.into(),
        schema: "public".to_owned(),
        page_size: 1000,
        timeout: Duration::from_secs(5),
        retry_for: Duration::from_secs(5),
        include_columns: Vec::new(),
    }
}

fn source_with(settings: &SupabaseSettings) -> SupabaseSource {
    SupabaseSource::new(settings, Catalog::built_in()).expect("a source")
}

fn source(server: &SampleServer) -> SupabaseSource {
    source_with(&settings(&server.url(), keys::SECRET))
}

fn query(table: Table, page_size: u32) -> RowQuery {
    let since = Utc::now() - TimeDelta::hours(24);
    RowQuery { table, since, conditions: Vec::new(), page_size }
}

async fn pages(source: &SupabaseSource, query: &RowQuery) -> Result<Vec<Page>, PartFault> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = source.page(query, after.as_ref()).await?;
        after = page.next.clone();
        pages.push(page);
        if after.is_none() {
            return Ok(pages);
        }
    }
}

async fn texts(source: &SupabaseSource, query: &RowQuery) -> Result<Vec<Json>, PartFault> {
    Ok(pages(source, query).await?.into_iter().flat_map(|page| page.rows).collect())
}

async fn read(source: &SupabaseSource, query: &RowQuery) -> Result<Vec<JsonObject>, PartFault> {
    let shown = |row: Json| to_value(row.as_str()).as_object().cloned().expect("an object");
    Ok(texts(source, query).await?.into_iter().map(shown).collect())
}

fn ids(rows: &[JsonObject]) -> BTreeSet<String> {
    rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

fn refusal(status: u16, code: &str) -> Fault {
    Fault::Refuse(Failure::new(status, code, "scripted", None))
}

/// A table of one's own.
fn defined(toml: &str) -> Table {
    Table::new(Definition::parse(toml).unwrap_or_else(|error| panic!("{toml}: {error}")))
}

/// What was asked for, of every request for rows.
fn selections(server: &SampleServer) -> Vec<String> {
    let select = |query: &[(String, String)]| {
        query.iter().find(|(name, _)| name == "select").map(|(_, value)| value.clone())
    };
    server.take_requests().iter().filter_map(|request| select(&request.query)).collect()
}

// --- paging ----------------------------------------------------------------------------------------------------------

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
    server.set_rows(table("leads"), rows);
    server.set_max_rows(Some(3));
    let read = read(&source(&server), &query(table("leads"), 10)).await.expect("rows");
    let with_id: BTreeSet<&str> = read.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(with_id.len(), 9);
}

// --- rows as they are -------------------------------------------------------------------------------------------------

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

// --- which rows -------------------------------------------------------------------------------------------------------

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
    assert!(fault.message.contains("status_lead") && fault.advice.contains("from"), "{fault}");
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
    assert_eq!(source.rows_ahead(pedidos, Utc::now() - TimeDelta::hours(2)).await.expect("a count"), Some(1));
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
    let ahead = async |name: &str| source.rows_ahead(table(name), Utc::now()).await.expect("a count");
    assert_eq!((ahead("leads").await, ahead("chat_sessions").await), (Some(2), None));
    server.drop_column(table("leads"), "updated_at");
    assert_eq!(ahead("leads").await, None);
}

// --- which columns ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn session_tokens_are_never_asked_for_and_addresses_only_on_request() {
    let server = server().await;
    let sessions = table("chat_sessions");
    server.set_rows(sessions, vec![session(1, 5, 3)]);
    for openapi in [true, false] {
        server.set_openapi(openapi);
        let rows = read(&source(&server), &query(sessions, 10)).await.expect("rows");
        assert!(!rows[0].contains_key("session_token") && !rows[0].contains_key("ip_address"), "{rows:?}");
        for select in selections(&server) {
            assert!(!select.contains('*') && !select.contains("session_token"), "{select}");
        }
    }
    let with_address = SupabaseSettings {
        include_columns: vec!["ip_address".to_owned()],
        ..settings(&server.url(), keys::SECRET)
    };
    let rows = read(&source_with(&with_address), &query(sessions, 10)).await.expect("rows");
    assert_eq!(rows[0]["ip_address"], "203.0.113.7");
}

#[tokio::test]
async fn what_is_selected_does_not_follow_a_project_that_tells_now_and_then() {
    let server = server().await;
    let sessions = table("chat_sessions");
    let mut rows: Vec<JsonObject> = (1..=5).map(|n| session(n, 5, 3)).collect();
    rows.iter_mut().for_each(|row| _ = row.insert("canal".to_owned(), json!("site")));
    server.set_rows(sessions, rows);
    let events = async |source: &SupabaseSource| {
        let rows = texts(source, &query(sessions, 10)).await.expect("rows");
        rows.into_iter()
            .map(|row| SourceRow::read(sessions, row).expect("a row").event_id)
            .collect::<BTreeSet<_>>()
    };
    let one = source(&server);
    assert_eq!(one.columns(sessions), None, "nothing was told yet");
    let told = events(&one).await;
    let listed = one.columns(sessions).expect("columns");
    assert!(listed.contains(&"canal".to_owned()), "{listed:?}");

    let forbidden = || refusal(403, "42501");
    for _ in 0..3 {
        server.script_openapi([forbidden()]);
        assert_eq!(events(&one).await, told, "refused");
        assert_eq!(events(&one).await, told, "told again");
    }
    server.script_openapi(std::iter::repeat_with(|| Fault::CutOff).take(100));
    let impatient =
        SupabaseSettings { retry_for: Duration::from_millis(1), ..settings(&server.url(), keys::SECRET) };
    let fault = texts(&source_with(&impatient), &query(sessions, 10)).await.expect_err("nothing is known");
    assert_eq!(fault.kind, FaultKind::Transient);
    assert!(fault.message.contains("listing columns"), "{fault}");

    // Another process is reminded, and then neither a refusal nor silence changes what it reads.
    for fault in [forbidden(), Fault::CutOff] {
        server.script_openapi([fault]);
        let other = source_with(&impatient);
        other.seed_columns(sessions, listed.clone());
        assert_eq!(events(&other).await, told);
        assert_eq!(other.columns(sessions), Some(listed.clone()));
    }
}

#[tokio::test]
async fn a_project_may_lack_columns_and_have_others() {
    for openapi in [true, false] {
        let server = server().await;
        server.set_openapi(openapi);
        let mut row = lead(1, 5);
        row.insert("corretor".to_owned(), json!("Bia"));
        let mut chat = session(1, 5, 3);
        chat.insert("canal".to_owned(), json!("site"));
        server.set_rows(table("leads"), vec![row]);
        server.set_rows(table("chat_sessions"), vec![chat]);
        for column in ["updated_at", "utm_medium"] {
            server.drop_column(table("leads"), column);
        }
        for column in ["ended_at", "is_active", "user_agent"] {
            server.drop_column(table("chat_sessions"), column);
        }
        let source = source(&server);
        let rows = read(&source, &query(table("leads"), 10)).await.expect("rows");
        assert_eq!(rows[0]["corretor"], "Bia", "an unknown column is read");
        let sessions = read(&source, &query(table("chat_sessions"), 10)).await.expect("rows");
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].contains_key("canal"), openapi, "known only where the project tells");
    }
}

// --- keys and refusals -------------------------------------------------------------------------------------------------

#[tokio::test]
async fn keys_go_where_they_belong_and_the_client_is_no_browser() {
    let server = server().await;
    server.set_rows(table("leads"), vec![lead(1, 5)]);
    for (key, headers) in [
        (keys::SECRET, vec!["apikey"]),
        (keys::SERVICE_ROLE, vec!["apikey", "authorization"]),
        (keys::ANON, vec!["apikey", "authorization"]),
    ] {
        let source = source_with(&settings(&server.url(), key));
        assert_eq!(read(&source, &query(table("leads"), 10)).await.expect("rows").len(), 1, "{key}");
        for request in server.take_requests() {
            assert_eq!(request.key_headers, headers);
            assert!(request.user_agent.starts_with("sluice/"));
            assert!(request.accept_encoding.contains("gzip"));
        }
    }
}

#[tokio::test]
async fn a_wrong_key_and_a_key_that_sees_nothing_are_told_apart() {
    let server = server().await;
    server.set_rows(table("leads"), vec![lead(1, 5)]);
    server.set_row_level_security(true);
    let wrong = source_with(&settings(&server.url(), "sb_secret_errada"));
    let fault = read(&wrong, &query(table("leads"), 10)).await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(fault.advice.contains("SUPABASE_KEY") && !fault.to_string().contains("errada"), "{fault}");

    let blind = source_with(&settings(&server.url(), keys::PUBLISHABLE));
    assert!(read(&blind, &query(table("leads"), 10)).await.expect("no rows").is_empty());
    assert!(blind.empty_hint().is_some_and(|hint| hint.problem.contains("row-level security")));
    assert_eq!(blind.health().await.expect("health").warnings.len(), 1);
    let seeing = source(&server);
    assert!(seeing.empty_hint().is_none() && seeing.health().await.expect("health").warnings.is_empty());
}

#[tokio::test]
async fn passing_refusals_are_asked_again_and_a_requested_pause_is_kept() {
    let server = server().await;
    server.set_rows(table("leads"), vec![lead(1, 5)]);
    let html = Failure { status: 502, headers: Vec::new(), body: "<html>Bad gateway</html>".to_owned() };
    let limited = Failure::new(429, "", "slow down", None).with_header("Retry-After", "1");
    server.script([refusal(503, "PGRST000"), Fault::Refuse(html), Fault::Refuse(limited)]);
    let began = Instant::now();
    assert_eq!(read(&source(&server), &query(table("leads"), 10)).await.expect("rows").len(), 1);
    assert!(began.elapsed() >= Duration::from_secs(1), "Retry-After is respected");
    let seen = server.take_requests();
    assert!(seen[3].at - seen[2].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn retries_end_and_the_last_refusal_is_told() {
    let server = server().await;
    server.script(std::iter::repeat_with(|| refusal(503, "PGRST002")).take(100));
    let impatient =
        SupabaseSettings { retry_for: Duration::from_millis(700), ..settings(&server.url(), keys::SECRET) };
    let fault = read(&source_with(&impatient), &query(table("leads"), 10)).await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::Transient);
    assert!(fault.message.contains("HTTP 503, PGRST002, scripted"), "{fault}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_on() {
    let server = server().await;
    server.script([Fault::Hang, Fault::Hang]);
    let impatient = SupabaseSettings {
        timeout: Duration::from_millis(300),
        retry_for: Duration::from_millis(1),
        ..settings(&server.url(), keys::SECRET)
    };
    let fault = read(&source_with(&impatient), &query(table("leads"), 10)).await.expect_err("no answer");
    assert!(fault.message.contains("no answer within the timeout"), "{fault}");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_asked_for_less() {
    let server = server().await;
    server.set_rows(table("leads"), leads(30));
    server.script([refusal(500, "57014"), refusal(500, "57014")]);
    let rows = read(&source(&server), &query(table("leads"), 100)).await.expect("rows");
    assert_eq!(rows.len(), 30);
    let limits: Vec<String> = server
        .take_requests()
        .iter()
        .filter_map(|request| request.query.iter().find(|(name, _)| name == "limit"))
        .map(|(_, value)| value.clone())
        .collect();
    assert_eq!(limits[..4], ["100", "50", "25", "50"], "and for more again when it could");
}

#[tokio::test]
async fn postgrest_s_own_words_reach_the_user() {
    let server = server().await;
    server.drop_table(table("leads"));
    let fault = read(&source(&server), &query(table("leads"), 10)).await.expect_err("no table");
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(
        fault.message.contains("PGRST205") && fault.message.contains("hint: Perhaps you meant"),
        "{fault}"
    );
}

// --- the dashboard ----------------------------------------------------------------------------------------------------

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

// --- what a project tells ---------------------------------------------------------------------------------------------

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
const EVERY_TYPE: [(&str, &str, &str); 30] = [
    ("c_smallint", "smallint", "-32768"),
    ("c_integer", "integer", "2147483647"),
    ("c_bigint", "bigint", "9223372036854775807"),
    ("c_numeric", "numeric", "12345678901234567890.1234567890"),
    ("c_real", "real", "0.1"),
    ("c_double", "double precision", "0.1000000000000000055"),
    ("c_money", "money", "\"R$ 1.234,56\""),
    ("c_boolean", "boolean", "true"),
    ("c_text", "text", "\"São Paulo\\u0000\\ud800\""),
    ("c_varchar", "character varying", "\"abc\""),
    ("c_char", "character", "\"a  \""),
    ("c_uuid", "uuid", "\"5f0c2f6e-7f0a-4f7a-9a55-0d3b8f6f1a01\""),
    ("c_date", "date", "\"2026-05-01\""),
    ("c_time", "time without time zone", "\"10:30:00\""),
    ("c_timetz", "time with time zone", "\"10:30:00-03\""),
    ("c_timestamp", "timestamp without time zone", "\"2026-05-01T10:30:00.123456\""),
    ("c_timestamptz", "timestamp with time zone", "\"2026-05-01T10:30:00.123456+00:00\""),
    ("c_interval", "interval", "\"1 mon 2 days\""),
    ("c_json", "json", "{\"a\":1e999,\"a\":2}"),
    ("c_jsonb", "jsonb", "{\"a\": [1, {\"b\": null}]}"),
    ("c_bytea", "bytea", "\"\\\\xdeadbeef\""),
    ("c_inet", "inet", "\"10.1.2.3/8\""),
    ("c_cidr", "cidr", "\"10.0.0.0/8\""),
    ("c_macaddr", "macaddr", "\"08:00:2b:01:02:03\""),
    ("c_textos", "text[]", "[\"a\",\"b\\\"c\",null]"),
    ("c_numeros", "integer[]", "[1,2,3]"),
    ("c_jsons", "jsonb[]", "[{\"a\":1}]"),
    ("c_enum", "public.fase", "\"aberta\""),
    ("c_range", "int4range", "\"[1,10)\""),
    ("c_composto", "public.endereco", "{\"rua\":\"A\",\"numero\":1}"),
];

#[tokio::test]
async fn every_type_of_postgres_is_discovered_read_and_fits() {
    let server = server().await;
    let mut columns = vec![SampleColumn::key("id", "bigint")];
    columns.extend(EVERY_TYPE.map(|(name, format, _)| SampleColumn::new(name, format)));
    let values: Vec<String> =
        EVERY_TYPE.iter().map(|(name, _, value)| format!("\"{name}\":{value}")).collect();
    let full = format!("{{\"id\":9007199254740993,{}}}", values.join(","));
    server.create_table("public", "Tudo", columns, &[full.as_str(), r#"{"id": 2}"#]).expect("rows");
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
            .filter(|one| !matches!(one.kind, DifferenceKind::Time | DifferenceKind::Unknown))
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
