//! Events by filter and page, entities, and SQL of others.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice::{
    domain::Event,
    fault::{Fault, FaultKind},
    store::{EventCursor, EventFilter, EventOrder, QueryAnswer, QueryLimits, Store},
};
use uuid::Uuid;

use crate::support::{
    on_each_adapter,
    stores::{
        Embedded, Postgres, StoreBench, apply, instant, lead, lead_with, manual, session, session_with,
    },
    table,
};

on_each_adapter! {
    embedded: Embedded, postgres: Postgres;
    events_are_found_by_every_filter,
    pages_of_events_follow_each_other_without_a_gap_in_every_order,
    an_entity_is_its_newest_row_whatever_its_times,
    entities_are_found_by_what_a_column_holds,
    a_statement_s_rows_come_with_names_types_and_json_values,
    statements_that_read_in_every_way_are_answered,
    an_answer_ends_at_its_limits_and_says_so,
    what_may_not_be_asked_is_refused_and_says_what_may,
    errors_in_a_statement_are_told_without_values,
    a_statement_that_takes_too_long_is_stopped_and_the_store_goes_on,
}

const LIMITS: QueryLimits =
    QueryLimits { rows: 100, bytes: 100_000, timeout: Duration::from_secs(10), verbatim: false };

/// Three leads, the first in two versions, two sessions and a manual event.
async fn filled<B: StoreBench>() -> (B, std::sync::Arc<dyn Store>) {
    let bench = B::new().await;
    let store = bench.open();
    apply(
        &*store,
        vec![lead(1, 0, "Ana"), lead_with(2, 1, json!({"score_qualificacao": 10, "status_lead": "novo"}))],
    )
    .await;
    apply(
        &*store,
        vec![
            lead_with(1, 30, json!({"nome": "Ana Maria"})),
            lead_with(3, 2, json!({"email": "OUTRA@exemplo.com.br"})),
            session_with(10, json!({"lead_id": Uuid::from_u128(1)})),
            session_with(11, json!({"lead_id": Uuid::from_u128(1), "started_at": "2026-05-01T15:00:00Z"})),
        ],
    )
    .await;
    apply(&*store, vec![manual("teste", json!({"a": 1}))]).await;
    (bench, store)
}

async fn found(store: &dyn Store, filter: EventFilter) -> Vec<u128> {
    let page = store.events(&filter, EventOrder::Oldest, None, 50).await.expect("events");
    assert_eq!(page.next, None);
    page.events.iter().map(|event| Uuid::parse_str(&event.entidade_id).expect("a uuid").as_u128()).collect()
}

fn key(id: u128) -> String {
    Uuid::from_u128(id).to_string()
}

fn only(set: impl FnOnce(&mut EventFilter)) -> EventFilter {
    let mut filter = EventFilter::default();
    set(&mut filter);
    filter
}

async fn events_are_found_by_every_filter<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    let store = &*store;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found(store, EventFilter::default()).await.len(), 7);
    assert_eq!(found(store, only(|f| f.tipo_evento = text("lead"))).await, [1, 2, 3, 1]);
    assert_eq!(found(store, only(|f| f.evento = text("lead_novo"))).await, [2]);
    let [of_two] = &store
        .events(&only(|f| f.evento = text("lead_novo")), EventOrder::Oldest, None, 9)
        .await
        .expect("events")
        .events[..]
    else {
        panic!("one event")
    };
    assert_eq!(found(store, only(|f| f.id = Some(of_two.id))).await, [2]);
    assert_eq!(found(store, only(|f| f.categoria = text("engajamento"))).await, [10, 11]);
    assert_eq!(found(store, only(|f| f.usuario = text("OUTRA@exemplo.com.br"))).await, [3]);
    assert_eq!(found(store, only(|f| f.entidade = Some(key(1)))).await, [1, 1]);
    assert_eq!(found(store, only(|f| f.max_valor = Some(10.0))).await.len(), 4, "the bound is included");
    assert_eq!(found(store, only(|f| f.min_valor = Some(85.0))).await, [1, 3, 1]);
    let spring = only(|f| {
        f.from = Some(instant("2026-05-01T12:01:00Z"));
        f.to = Some(instant("2026-05-01T12:30:00Z"));
    });
    assert_eq!(found(store, spring).await, [2, 3], "from is included and to is not");
    assert!(found(store, only(|f| f.evento = text("'; DROP TABLE leads; --"))).await.is_empty());
    assert!(found(store, only(|f| f.evento = text("lead\0"))).await.is_empty());

    let page = store.events(&only(|f| f.evento = text("lead_novo")), EventOrder::Newest, None, 1).await;
    let event = page.expect("events").events.remove(0);
    let expected = lead_with(2, 1, json!({"score_qualificacao": 10, "status_lead": "novo"}));
    let encoded: Value = serde_json::from_slice(&expected.encode()).expect("JSON");
    assert_eq!(
        (event.id, event.timestamp, event.versao),
        (expected.id, expected.timestamp, expected.entidade.versao)
    );
    assert_eq!(
        (json!(event.dados), json!(event.metadata)),
        (encoded["dados"].clone(), encoded["metadata"].clone())
    );
    assert_eq!((event.particao, event.posicao), (0, 1));
    assert!((chrono::Utc::now() - event.processado_em).num_seconds().abs() < 60);
}

async fn pages_of_events_follow_each_other_without_a_gap_in_every_order<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    // Many at the same instant, in several batches.
    let at = |text: &str| Event { timestamp: instant(text), ..manual("teste", json!({})) };
    for text in ["1969-12-31T23:59:59.999999Z", "2026-05-01T12:00:00Z", "2026-05-01T12:00:00.000001Z"] {
        apply(&*store, (0..7).map(|_| at(text)).collect()).await;
    }
    for order in [EventOrder::Newest, EventOrder::Oldest, EventOrder::LatestStored] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.events(&EventFilter::default(), order, after, 4).await.expect("a page");
            assert!(page.events.len() <= 4);
            seen.extend(page.events);
            let Some(next) = page.next else { break };
            after = EventCursor::decode(&next.encode());
            assert!(after.is_some());
        }
        let mut ids: Vec<Uuid> = seen.iter().map(|event| event.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((seen.len(), ids.len()), (21, 21), "{order:?}");
        let sorted = match order {
            EventOrder::Newest => seen.is_sorted_by(|a, b| (a.timestamp, a.id) > (b.timestamp, b.id)),
            EventOrder::Oldest => seen.is_sorted_by(|a, b| (a.timestamp, a.id) < (b.timestamp, b.id)),
            EventOrder::LatestStored => {
                seen.is_sorted_by(|a, b| (a.processado_em, a.id) > (b.processado_em, b.id))
            }
        };
        assert!(sorted, "{order:?}");
    }
}

async fn an_entity_is_its_newest_row_whatever_its_times<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    let lead = store.entity(table("leads"), &key(1)).await.expect("it answers").expect("a lead");
    let expected = lead_with(1, 30, json!({"nome": "Ana Maria"}));
    let encoded: Value = serde_json::from_slice(&expected.encode()).expect("JSON");
    let mut listed = encoded["dados"].as_object().cloned().expect("an object");
    listed.remove("corretor").expect("a column that the definition does not list");
    assert_eq!(lead.row, listed);
    assert_eq!(json!(lead.metadata), encoded["metadata"]);
    assert_eq!((lead.key, lead.versao, lead.evento_id), (key(1), expected.entidade.versao, expected.id));
    let chat = store.entity(table("chat_sessions"), &key(10)).await.expect("it answers").expect("a session");
    assert_eq!(
        (&chat.row["is_active"], &chat.row["pages_visited"]),
        (&json!(true), &json!(["/", "/planta"]))
    );
    assert_eq!(store.entity(table("leads"), &key(10)).await.expect("it answers"), None);
    for other in ["", "7", "a\0", "' OR true --"] {
        assert_eq!(store.entity(table("leads"), other).await.expect("it answers"), None, "{other}");
    }
    let upper = store.entity(table("leads"), &key(1).to_uppercase()).await.expect("it answers");
    assert_eq!(upper.map(|lead| lead.key), Some(key(1)), "however the key is spelled");

    let early = lead_with(
        5,
        0,
        json!({"created_at": "0001-01-01T00:00:00Z", "last_interaction_at": "9999-12-31T23:59:59.999999Z"}),
    );
    apply(&*store, vec![early]).await;
    let lead = store.entity(table("leads"), &key(5)).await.expect("it answers").expect("a lead");
    assert_eq!(lead.row["created_at"], "0001-01-01T00:00:00Z");
    assert_eq!(lead.row["last_interaction_at"], "9999-12-31T23:59:59.999999Z");
}

async fn entities_are_found_by_what_a_column_holds<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    let by = async |name: &str, column: &str, value: &str, limit: u32| -> Vec<String> {
        let found = store.entities_by(table(name), column, value, limit).await.expect("it answers");
        found.into_iter().map(|entity| entity.key).collect()
    };
    assert_eq!(
        by("leads", "email", "ANA@exemplo.com.br", 10).await,
        [key(1), key(2)],
        "the latest changed first"
    );
    assert_eq!(by("leads", "email", "outra@EXEMPLO.com.br", 10).await, [key(3)]);
    assert_eq!(
        by("leads", "nome", "ana maria", 10).await,
        [""; 0],
        "only a look-up column is found in any case"
    );
    assert_eq!(by("leads", "nome", "Ana Maria", 10).await, [key(1)]);
    assert_eq!(by("leads", "email", "' OR true --\0", 10).await, [""; 0]);
    assert_eq!(by("leads", "no_such_column", "x", 10).await, [""; 0]);
    assert_eq!(by("chat_sessions", "lead_id", &key(1), 10).await, [key(10), key(11)]);
    assert_eq!(by("chat_sessions", "lead_id", &key(1), 1).await, [key(10)]);
    assert_eq!(by("chat_sessions", "lead_id", "ninguém", 10).await, [""; 0]);
    assert_eq!(by("chat_sessions", "total_messages", "7", 10).await, [key(10), key(11)]);
    assert_eq!(by("chat_sessions", "total_messages", "sete", 10).await, [""; 0]);
    assert_eq!(by("chat_sessions", "is_active", "nada", 10).await, [""; 0]);
}

async fn ask(store: &dyn Store, sql: &str) -> QueryAnswer {
    store.query(sql, LIMITS).await.unwrap_or_else(|fault| panic!("{sql}: {fault}"))
}

async fn a_statement_s_rows_come_with_names_types_and_json_values<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    let answer = ask(
        &*store,
        "SELECT nome, score_qualificacao, interesse, localizacao, last_interaction_at, versao, 0.5 AS meio
         FROM leads ORDER BY id",
    )
    .await;
    let names: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(
        names,
        ["nome", "score_qualificacao", "interesse", "localizacao", "last_interaction_at", "versao", "meio"]
    );
    assert!(answer.columns.iter().all(|column| !column.kind.is_empty()));
    assert!(!answer.truncated);
    assert_eq!(answer.rows.len(), 3);
    let versao = lead_with(1, 30, json!({})).entidade.versao;
    assert_eq!(
        answer.rows[0],
        [
            json!("Ana Maria"),
            json!(85),
            json!(["apartamento", "a \"b\", {c}\\"]),
            json!({"cidade": "São Paulo", "uf": "SP"}),
            Value::Null,
            json!(versao),
            json!(0.5),
        ]
    );
    let active = ask(&*store, "SELECT is_active FROM chat_sessions").await;
    assert_eq!(active.rows, [[json!(true)], [json!(true)]]);
    let same = ask(&*store, "SELECT id, id FROM leads WHERE 1 = 0").await;
    assert_eq!((same.columns.len(), same.rows.len()), (2, 0), "columns of one name, and no row");
}

async fn statements_that_read_in_every_way_are_answered<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    for (sql, expected) in [
        ("SELECT count(*) FROM eventos_raw;", json!([[7]])),
        (
            "WITH a AS (SELECT id FROM leads), b AS (SELECT id FROM a) SELECT count(*) FROM b -- fim",
            json!([[3]]),
        ),
        (
            "WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d WHERE n < 4) SELECT sum(n) FROM d",
            json!([[10]]),
        ),
        (
            "SELECT c.id FROM leads l JOIN chat_sessions c ON c.lead_id = CAST(l.id AS text) ORDER BY c.started_at DESC LIMIT 1",
            json!([[Uuid::from_u128(11)]]),
        ),
        (
            "SELECT nome FROM (SELECT nome, row_number() OVER (ORDER BY versao DESC) AS n FROM leads) AS x WHERE n = 1",
            json!([["Ana Maria"]]),
        ),
        (
            "SELECT evento, sum(total) FROM eventos_agregados GROUP BY evento HAVING sum(total) > 1 ORDER BY 2 DESC",
            json!([["lead_qualificado", 3], ["chat_session", 2]]),
        ),
        (
            "SELECT CASE WHEN valor > 50 THEN 'sim' ELSE 'não' END FROM eventos_raw WHERE evento IN ('teste')",
            json!([["não"]]),
        ),
        (
            "SELECT metadata ->> 'empresa' FROM leads WHERE lower(nome) LIKE 'ana m%'",
            json!([["Padaria São João"]]),
        ),
        ("SELECT count(*) FILTER (WHERE valor > 50) FROM eventos_raw", json!([[3]])),
        (
            "SELECT count(*) FROM eventos_raw WHERE entidade_id IN (SELECT CAST(id AS text) FROM leads) AND \"timestamp\" >= '2026-05-01'",
            json!([[4]]),
        ),
        ("SELECT 1 UNION ALL SELECT 2 ORDER BY 1 DESC", json!([[2], [1]])),
        (
            "WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d WHERE n < 4) SELECT count(*) FROM d",
            json!([[4]]),
        ),
        ("WITH d AS (SELECT 1 AS n UNION ALL SELECT 2) SELECT count(*) FROM d a, d b", json!([[4]])),
        ("SELECT count(*) FROM (SELECT id FROM leads) AS x", json!([[3]])),
        ("SELECT count(*) FROM (VALUES (1), (2)) AS x", json!([[2]])),
        ("SELECT count(*) FROM (SELECT 1 AS n UNION ALL SELECT 2) AS x", json!([[2]])),
        ("WITH v(x) AS (VALUES (1), (2)) SELECT 1 FROM v", json!([[1], [1]])),
        ("WITH d AS (SELECT id FROM leads) SELECT count(*) OVER () FROM d LIMIT 1", json!([[3]])),
        (
            "WITH d AS (SELECT id FROM leads) SELECT row_number() OVER (), count(*) OVER () FROM d WHERE EXISTS (SELECT 1 FROM d) ORDER BY 1 DESC LIMIT 1",
            json!([[3, 3]]),
        ),
        ("WITH d AS (SELECT 1) SELECT count(*) FROM leads CROSS JOIN d", json!([[3]])),
        ("SELECT 'a''b;c--d', coalesce(NULL, upper('x'))", json!([["a'b;c--d", "X"]])),
    ] {
        assert_eq!(json!(ask(&*store, sql).await.rows), expected, "{sql}");
    }
}

async fn an_answer_ends_at_its_limits_and_says_so<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    let sql = "SELECT id FROM eventos_raw ORDER BY id";
    let whole = store.query(sql, QueryLimits { rows: 7, ..LIMITS }).await.expect("an answer");
    assert_eq!((whole.rows.len(), whole.truncated), (7, false));
    let cut = store.query(sql, QueryLimits { rows: 6, ..LIMITS }).await.expect("an answer");
    assert_eq!((cut.rows.len(), cut.truncated), (6, true));
    assert_eq!(cut.rows, whole.rows[..6]);
    let thin = store.query(sql, QueryLimits { bytes: 100, ..LIMITS }).await.expect("an answer");
    assert_eq!((thin.rows.len(), thin.truncated), (2, true), "36 bytes of id and 4 around them a row");
    let none = store
        .query("SELECT metadata FROM leads", QueryLimits { bytes: 10, ..LIMITS })
        .await
        .expect("an answer");
    assert_eq!((none.rows.len(), none.truncated), (0, true));
}

async fn refusal(store: &dyn Store, sql: &str) -> Fault {
    match store.query(sql, LIMITS).await {
        Ok(answer) => panic!("{sql}: {answer:?}"),
        Err(fault) => fault,
    }
}

async fn what_may_not_be_asked_is_refused_and_says_what_may<B: StoreBench>() {
    let (bench, store) = filled::<B>().await;
    let before = bench.contents().await;
    for sql in [
        "",
        " -- nada",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE leads",
        "DELETE FROM leads",
        "UPDATE leads SET nome = 'x' RETURNING *",
        "INSERT INTO leads SELECT * FROM leads",
        "WITH x AS (SELECT 1) DELETE FROM leads",
        "DROP TABLE leads",
        "CREATE TABLE x (a int)",
        "SELECT * FROM sluice_syncs",
        "SELECT * FROM sluice_offsets o, leads l",
        "SELECT (SELECT count(*) FROM sluice_appended)",
        "WITH sluice_syncs AS (SELECT * FROM sluice_syncs) SELECT * FROM sluice_syncs",
        "SELECT count(*) FROM sluice_syncs",
        "SELECT count(*) FROM sluice_syncs AS leads",
        "SELECT count(*) FROM main.sluice_syncs",
        "SELECT EXISTS (SELECT 1 FROM sluice_syncs)",
        "SELECT count(*) OVER () FROM log_records",
        "SELECT 1 FROM log_groups",
        "SELECT count(*) FROM leads, log_records",
        "SELECT count(*) FROM (SELECT 1 FROM sluice_syncs) AS x",
        "WITH d AS (SELECT 1 FROM sluice_syncs) SELECT count(*) FROM d",
        "SELECT count(*) FROM sqlite_schema",
        "SELECT count(*) FROM sqlite_temp_master",
        "SELECT count(*) FROM eventos_raw_timestamp",
        "SELECT count(*) FROM dbstat",
        "SELECT count(*) FROM pragma_table_list",
        "SELECT count(*) FROM pragma_wal_checkpoint",
        "SELECT count(*) FROM sqlite_dbpage",
        "SELECT count(*) FROM fts3tokenize",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM pragma_table_info('leads')",
        "PRAGMA user_version",
        "ATTACH '/tmp/x' AS x",
        "VACUUM INTO '/tmp/x'",
        "SELECT load_extension('x')",
        "BEGIN",
        "SELECT * FROM pg_catalog.pg_shadow",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT set_config('a.b', 'c', false)",
        "SELECT * FROM leads WHERE id = $1",
        "SELECT nada FROM leads",
        "SELECT FROM WHERE",
    ] {
        let fault = refusal(&*store, sql).await;
        assert_eq!(fault.kind, FaultKind::Invalid, "{sql}: {fault}");
        assert!(fault.message.starts_with("sql: "), "{sql}: {fault}");
        assert!(
            fault.advice.to_string().contains("eventos_raw, eventos_agregados, leads, chat_sessions"),
            "{sql}: {fault}"
        );
    }
    assert_eq!(bench.contents().await, before);
    assert_eq!(ask(&*store, "SELECT count(*) FROM leads").await.rows, [[json!(3)]], "and the store goes on");
}

async fn errors_in_a_statement_are_told_without_values<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    let fault = refusal(&*store, "SELECT no_such_column FROM leads").await;
    assert!(fault.message.contains("no_such_column"), "what is wrong with the statement is named: {fault}");
    // Only Postgres refuses these; neither repeats what a row holds.
    for sql in [
        "SELECT CAST(nome AS integer) FROM leads",
        "SELECT json(nome) FROM leads",
        "SELECT nome::uuid FROM leads",
    ] {
        if let Err(fault) = store.query(sql, LIMITS).await {
            assert!(!fault.to_string().contains("Ana"), "{fault}");
            assert_eq!(fault.kind, FaultKind::Invalid, "{fault}");
        }
    }
}

async fn a_statement_that_takes_too_long_is_stopped_and_the_store_goes_on<B: StoreBench>() {
    let bench = B::new().await;
    let store = bench.open();
    let endless = "WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d WHERE n > 0) SELECT count(*) FROM d WHERE n < 0";
    let limits = QueryLimits { timeout: Duration::from_millis(500), ..LIMITS };
    let began = Instant::now();
    let (outcome, applied) = tokio::join!(store.query(endless, limits), async {
        apply(&*store, vec![lead(1, 0, "Ana"), session(2)]).await
    });
    assert_eq!(applied.inserted, 2, "nothing waits for it");
    let fault = outcome.expect_err("it never ends");
    assert_eq!(fault.kind, FaultKind::Invalid, "{fault}");
    assert!(
        fault.message.contains("longer than 0.5 s") && fault.advice.to_string().contains("narrow"),
        "{fault}"
    );
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(ask(&*store, "SELECT count(*) FROM leads").await.rows, [[json!(1)]]);
}
