//! PostgreSQL's forms of SQL, answered alike by both stores, or refused by the embedded one with SQLite's spelling.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, NaiveDateTime};
use serde_json::{Value, json};
use sluice::{
    fault::FaultKind,
    store::{QueryLimits, Store},
};
use uuid::Uuid;

use crate::support::{
    on_each_adapter,
    stores::{Embedded, Postgres, StoreBench, apply, lead_with, session_with},
};

on_each_adapter! {
    embedded: Embedded, postgres: Postgres;
    times_are_truncated_moved_shown_and_taken_apart,
    days_instants_and_differences_are_reckoned_with,
    times_are_compared_by_what_they_mean,
    times_in_zones_keep_their_days_and_hours,
    texts_are_matched_without_regard_to_case_or_by_pattern,
    lists_are_unnested_in_every_place_people_unnest_them,
    casts_answer_what_they_name_or_fail,
    json_is_read_as_text_where_it_is_compared_with_text,
    small_functions_people_take_for_granted_are_there,
}

const LIMITS: QueryLimits =
    QueryLimits { rows: 100, bytes: 100_000, timeout: Duration::from_secs(10), verbatim: false };

/// Leads and sessions around the border of a day in Brazil.
async fn filled<B: StoreBench>() -> (B, Arc<dyn Store>) {
    let bench = B::new().await;
    let store = bench.open();
    let ended = |id: u128, from: &str, to: &str| {
        session_with(
            id,
            json!({"started_at": from, "ended_at": to, "lead_id": Uuid::from_u128(1), "is_active": id == 10}),
        )
    };
    apply(
        &*store,
        vec![
            lead_with(1, 0, json!({"nome": "José da Silva", "email": "jose@exemplo.com.br", "interesse": ["casa", "lote"],
                "created_at": "2026-05-01T00:00:00Z", "score_qualificacao": 85, "origem": "google", "ativo": true, "nota": "7"})),
            lead_with(2, 1, json!({"nome": "SÃO PAULO LTDA", "email": "b@outro.com", "interesse": ["casa"],
                "created_at": "2026-05-01T02:30:00.5Z", "score_qualificacao": 40, "origem": "meta", "ativo": false, "nota": 7})),
            lead_with(3, 2, json!({"nome": "são bento 10%_x", "email": "c@outro.com", "interesse": [],
                "created_at": "2026-05-03T23:59:59.999999Z", "score_qualificacao": 15, "origem": "google", "nota": 1.5})),
            ended(10, "2026-05-01T12:00:00Z", "2026-05-01T12:45:30Z"),
            ended(11, "2026-05-02T22:00:00Z", "2026-05-04T01:00:00.25Z"),
        ],
    )
    .await;
    (bench, store)
}

/// Times and numbers as they are meant, however they are written.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::String(text) => {
            let instant = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc().to_string());
            let local = text.parse::<NaiveDateTime>().map(|at| at.to_string());
            instant.or(local).map_or_else(|_| value.clone(), Value::String)
        }
        // SQLite has no booleans of its own.
        Value::Bool(truth) => json!(f64::from(*truth)),
        Value::Array(values) => values.iter().map(plain).collect(),
        other => other.clone(),
    }
}

async fn all_answer(store: &dyn Store, cases: &[(&str, Value)]) {
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        match store.query(sql, LIMITS).await {
            Ok(answer) if plain(&json!(answer.rows)) == plain(expected) => {}
            Ok(answer) => wrong.push(format!("{sql}\n   {}\n   not {expected}", json!(answer.rows))),
            Err(fault) => wrong.push(format!("{sql}\n   {fault}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As [`all_answer`], of expressions that read nothing.
async fn all_are(store: &dyn Store, cases: &[(&str, Value)]) {
    let statements: Vec<(String, Value)> =
        cases.iter().map(|(expr, value)| (format!("SELECT {expr}"), json!([[value]]))).collect();
    let cases: Vec<(&str, Value)> =
        statements.iter().map(|(sql, rows)| (sql.as_str(), rows.clone())).collect();
    all_answer(store, &cases).await;
}

const AT: &str = "timestamptz '2026-02-28 13:04:05.678901+00'";

async fn times_are_truncated_moved_shown_and_taken_apart<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    let mut cases = Vec::new();
    for (unit, truncated) in [
        ("second", "2026-02-28T13:04:05Z"),
        ("minute", "2026-02-28T13:04:00Z"),
        ("hour", "2026-02-28T13:00:00Z"),
        ("DAY", "2026-02-28T00:00:00Z"),
        ("week", "2026-02-23T00:00:00Z"),
        ("month", "2026-02-01T00:00:00Z"),
        ("quarter", "2026-01-01T00:00:00Z"),
        ("year", "2026-01-01T00:00:00Z"),
        ("milliseconds", "2026-02-28T13:04:05.678Z"),
    ] {
        cases.push((format!("date_trunc('{unit}', {AT})"), json!(truncated)));
    }
    for (field, part) in [
        ("epoch", json!(1_772_283_845.678_901)),
        ("year", json!(2026)),
        ("quarter", json!(1)),
        ("month", json!(2)),
        ("week", json!(9)),
        ("day", json!(28)),
        ("dow", json!(6)),
        ("isodow", json!(6)),
        ("isoyear", json!(2026)),
        ("doy", json!(59)),
        ("hour", json!(13)),
        ("minute", json!(4)),
        ("second", json!(5.678_901)),
        ("milliseconds", json!(5678.901)),
        ("microseconds", json!(5_678_901)),
    ] {
        cases.push((format!("extract({field} FROM {AT})"), part.clone()));
        cases.push((format!("date_part('{field}', {AT})"), part));
    }
    for (interval, moved) in [
        ("+ interval '7 days'", "2026-03-07T13:04:05.678901Z"),
        ("- interval '1 month 2 hours'", "2026-01-28T11:04:05.678901Z"),
        ("+ interval '1' month", "2026-03-28T13:04:05.678901Z"),
        ("+ '1 year -1 day'::interval", "2027-02-27T13:04:05.678901Z"),
        ("+ 3 * interval '1 hour'", "2026-02-28T16:04:05.678901Z"),
        ("- interval '1 day' * 2", "2026-02-26T13:04:05.678901Z"),
        ("+ interval '1.5 days'", "2026-03-02T01:04:05.678901Z"),
        ("- interval '01:30:00'", "2026-02-28T11:34:05.678901Z"),
        ("- interval '2 weeks'", "2026-02-14T13:04:05.678901Z"),
        ("- interval '1 day ago'", "2026-03-01T13:04:05.678901Z"),
        ("+ ('2' || ' days')::interval", "2026-03-02T13:04:05.678901Z"),
        ("- interval '30 min' - interval '5 s'", "2026-02-28T12:34:00.678901Z"),
    ] {
        cases.push((format!("{AT} {interval}"), json!(moved)));
    }
    for (format, shown) in [
        ("YYYY-MM", "2026-02"),
        ("yyyy-mm-dd", "2026-02-28"),
        ("DD/MM/YYYY HH24:MI:SS", "28/02/2026 13:04:05"),
        ("YYYY-MM-DD\"T\"HH24:MI", "2026-02-28T13:04"),
        ("HH12:MI", "01:04"),
        ("Mon YYYY", "Feb 2026"),
        ("FMMonth", "February"),
        ("Month|", "February |"),
        ("Day, DD", "Saturday , 28"),
        ("FMDay", "Saturday"),
        ("Dy dy DY", "Sat sat SAT"),
        ("IYYY-IW", "2026-09"),
        ("YYYY\"Q\"Q", "2026Q1"),
        ("D ID DDD", "7 6 059"),
        ("MS US", "678 678901"),
        ("FMMM/FMDD", "2/28"),
    ] {
        cases.push((format!("to_char({AT}, '{format}')"), json!(shown)));
    }
    let cases: Vec<(&str, Value)> = cases.iter().map(|(sql, value)| (sql.as_str(), value.clone())).collect();
    all_are(&*store, &cases).await;
}

async fn days_instants_and_differences_are_reckoned_with<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    all_are(
        &*store,
        &[
            ("date '2026-05-01' + 1", json!("2026-05-02")),
            ("date '2026-05-01' - 1", json!("2026-04-30")),
            ("date '2026-05-03' - date '2026-05-01'", json!(2)),
            ("date '2026-01-31' + interval '1 month'", json!("2026-02-28T00:00:00")),
            ("date_trunc('month', date '2026-05-17')", json!("2026-05-01T00:00:00Z")),
            ("date_trunc('month', timestamp '2026-05-17 10:00')", json!("2026-05-01T00:00:00")),
            ("date_trunc('day', NULL::timestamptz)", json!(null)),
            ("date_trunc('week', timestamptz '2026-03-01 10:00Z')::date", json!("2026-02-23")),
            ("extract(epoch FROM interval '1 day 01:00:00')", json!(90_000)),
            ("extract(dow FROM date '2026-03-01')", json!(0)),
            ("to_timestamp(1772283845.5)", json!("2026-02-28T13:04:05.5Z")),
            ("extract(epoch FROM now() - now())", json!(0)),
            ("now() - interval '1 hour' < now() AND now() = current_timestamp", json!(true)),
            ("current_date = now()::date AND current_date = date(now())", json!(true)),
            ("timestamptz '2026-05-01 12:00:00-03'", json!("2026-05-01T15:00:00Z")),
            ("'2026-05-01 12:00:00-03'::timestamptz::timestamp", json!("2026-05-01T15:00:00")),
            ("'2026-05-01 12:00'::timestamp::timestamptz", json!("2026-05-01T12:00:00Z")),
            ("timestamptz '2026-05-01 12:00:00.10Z'::text", json!("2026-05-01 12:00:00.1+00")),
            ("left(timestamptz '2026-05-01 12:00:00Z'::text, 16)", json!("2026-05-01 12:00")),
        ],
    )
    .await;
    all_answer(
        &*store,
        &[
            (
                "SELECT date_trunc('day', created_at) AS dia, count(*) FROM leads GROUP BY 1 ORDER BY 1",
                json!([["2026-05-01T00:00:00Z", 2], ["2026-05-03T00:00:00Z", 1]]),
            ),
            (
                "SELECT to_char(created_at, 'YYYY-MM') AS mes, count(*) AS n FROM leads GROUP BY mes ORDER BY n",
                json!([["2026-05", 3]]),
            ),
            (
                "SELECT extract(epoch FROM ended_at - started_at), extract(day FROM ended_at - started_at),
                        extract(hour FROM (ended_at - started_at)), extract(minute FROM ended_at - started_at)
                 FROM chat_sessions ORDER BY id",
                json!([[2730, 0, 0, 45], [97_200.25, 1, 3, 0]]),
            ),
            ("SELECT round(avg(extract(epoch FROM (ended_at - started_at))) / 60, 3) FROM chat_sessions",
                json!([[832.752]]),
            ),
            (
                "WITH s AS (SELECT started_at AS a, ended_at AS b FROM chat_sessions) SELECT max(extract(epoch FROM b - a)) FROM s",
                json!([[97_200.25]]),
            ),
            ("SELECT count(*) FROM chat_sessions WHERE ended_at - started_at > interval '1 hour'", json!([[1]])),
            ("SELECT count(*) FROM chat_sessions WHERE ended_at - started_at <= interval '45 minutes 30 seconds'", json!([[1]])),
            ("SELECT count(*) FROM chat_sessions WHERE interval '1 day' < (ended_at - started_at)", json!([[1]])),
            ("SELECT min(ended_at::date - started_at::date), max(ended_at::date - started_at::date) FROM chat_sessions", json!([[0, 2]])),
            ("SELECT max(created_at) - interval '1 day' FROM leads", json!([["2026-05-02T23:59:59.999999Z"]])),
            (
                "SELECT nome FROM leads WHERE created_at >= (SELECT max(created_at) FROM leads) - interval '2 days' ORDER BY id",
                json!([["são bento 10%_x"]]),
            ),
        ],
    )
    .await;
}

async fn times_are_compared_by_what_they_mean<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    let mut cases = Vec::new();
    for (condition, ids) in [
        ("created_at >= '2026-05-01'", "123"),
        ("created_at > '2026-05-01'", "23"),
        ("created_at = '2026-05-01'", "1"),
        ("created_at <= '2026-05-01'", "1"),
        ("created_at <= '2026-05-01 02:30:00.5'", "12"),
        ("created_at < '2026-05-01 02:30:00.500+00'", "1"),
        ("created_at >= '2026-04-30T23:30:00.5-03:00'", "23"),
        ("'2026-05-01 01:00' < created_at", "23"),
        ("created_at BETWEEN '2026-05-01 00:00:00' AND '2026-05-01 23:59:59'", "12"),
        ("created_at IN ('2026-05-01', '2026-05-01 02:30:00.5')", "12"),
        ("date_trunc('day', created_at) = '2026-05-01'", "12"),
        ("date_trunc('month', created_at) = '2026-05-01'", "123"),
        ("created_at::date = '2026-05-01'", "12"),
        ("date(created_at) = '2026-05-03'", "3"),
        ("created_at > date '2026-05-01'", "23"),
        ("created_at = date '2026-05-01'", "1"),
        ("created_at < timestamp '2026-05-01 02:00'", "1"),
        ("created_at::date > created_at", ""),
        ("created_at::date = created_at", "1"),
        ("created_at > now() - interval '10000 days'", "123"),
        ("created_at > now()", ""),
        ("created_at BETWEEN timestamptz '2026-05-01 02:30:00.5Z' AND now()", "23"),
        ("created_at >= DATE '2026-05-01' AND created_at < DATE '2026-05-01' + 1", "12"),
        ("created_at >= date_trunc('month', timestamptz '2026-05-15Z')", "123"),
        ("extract(hour FROM created_at) = 2", "2"),
        ("(created_at, id) > ('2026-05-01T00:00:00Z', '00000000-0000-0000-0000-000000000009')", "23"),
        ("leads.created_at < '2026-05-02'", "12"),
    ] {
        let ids: Vec<Value> =
            ids.chars().map(|id| json!([format!("00000000-0000-0000-0000-00000000000{id}")])).collect();
        cases.push((format!("SELECT id FROM public.leads WHERE {condition} ORDER BY id"), json!(ids)));
    }
    let cases: Vec<(&str, Value)> = cases.iter().map(|(sql, value)| (sql.as_str(), value.clone())).collect();
    all_answer(&*store, &cases).await;
    all_answer(
        &*store,
        &[
            (
                "WITH d AS (SELECT date_trunc('day', created_at) AS dia FROM leads) SELECT count(*) FROM d WHERE dia = '2026-05-01'",
                json!([[2]]),
            ),
            (
                "WITH d(dia, n) AS (SELECT created_at::date, 1 FROM leads) SELECT sum(n) FROM d WHERE dia >= '2026-05-02'",
                json!([[1]]),
            ),
            (
                "SELECT created_at::date FROM (SELECT created_at FROM leads) AS x ORDER BY created_at LIMIT 1",
                json!([["2026-05-01"]]),
            ),
            ("WITH leads AS (SELECT * FROM leads WHERE origem = 'google') SELECT count(*) FROM leads", json!([[2]])),
        ],
    )
    .await;
}

async fn times_in_zones_keep_their_days_and_hours<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    all_are(
        &*store,
        &[
            (
                "timestamptz '2026-05-01 02:30Z' AT TIME ZONE 'America/Sao_Paulo'",
                json!("2026-04-30T23:30:00"),
            ),
            ("timestamp '2026-04-30 23:30' AT TIME ZONE 'America/Sao_Paulo'", json!("2026-05-01T02:30:00Z")),
            ("timestamptz '2026-07-01 12:00Z' AT TIME ZONE 'Europe/Lisbon'", json!("2026-07-01T13:00:00")),
            ("timestamp '2026-03-29 01:30' AT TIME ZONE 'Europe/Lisbon'", json!("2026-03-29T01:30:00Z")),
            ("timestamp '2026-10-25 01:30' AT TIME ZONE 'Europe/Lisbon'", json!("2026-10-25T01:30:00Z")),
            (
                "timestamptz '2018-11-04 02:59Z' AT TIME ZONE 'America/Sao_Paulo'",
                json!("2018-11-03T23:59:00"),
            ),
            (
                "timestamptz '2018-11-04 03:00Z' AT TIME ZONE 'America/Sao_Paulo'",
                json!("2018-11-04T01:00:00"),
            ),
            ("timestamptz '2026-05-01 12:00Z' AT TIME ZONE 'UTC'", json!("2026-05-01T12:00:00")),
            (
                "date_trunc('day', timestamptz '2026-05-01 02:30Z', 'America/Sao_Paulo')",
                json!("2026-04-30T03:00:00Z"),
            ),
            ("(timestamptz '2026-05-01 02:30Z' AT TIME ZONE 'America/Sao_Paulo')::date", json!("2026-04-30")),
        ],
    )
    .await;
    all_answer(
        &*store,
        &[
            (
                "SELECT date_trunc('day', created_at AT TIME ZONE 'America/Sao_Paulo') AS dia, count(*) FROM leads GROUP BY 1 ORDER BY 1",
                json!([["2026-04-30T00:00:00", 2], ["2026-05-03T00:00:00", 1]]),
            ),
            (
                "SELECT extract(hour FROM created_at AT TIME ZONE 'America/Sao_Paulo') AS hora FROM leads ORDER BY id",
                json!([[21], [23], [20]]),
            ),
            (
                "SELECT count(*) FROM leads WHERE (created_at AT TIME ZONE 'America/Sao_Paulo')::date = '2026-04-30'",
                json!([[2]]),
            ),
            (
                "SELECT count(*) FROM leads WHERE date_trunc('month', created_at AT TIME ZONE 'America/Sao_Paulo') = '2026-04-01'",
                json!([[2]]),
            ),
            (
                "SELECT to_char(created_at AT TIME ZONE 'America/Sao_Paulo', 'DD/MM HH24:MI') FROM leads ORDER BY id LIMIT 1",
                json!([["30/04 21:00"]]),
            ),
        ],
    )
    .await;
    let fault = store.query("SELECT now() AT TIME ZONE 'Marte/Olimpo'", LIMITS).await.expect_err("no zone");
    assert_eq!(fault.kind, FaultKind::Invalid, "{fault}");
}

async fn texts_are_matched_without_regard_to_case_or_by_pattern<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    let mut cases = Vec::new();
    for (condition, ids) in [
        ("nome ILIKE '%são%'", "23"),
        ("nome ILIKE 'JOSÉ%'", "1"),
        ("nome NOT ILIKE '%SÃO%'", "1"),
        ("nome ILIKE '%10\\%\\_X'", "3"),
        ("nome ILIKE '%1_!%%' ESCAPE '!'", "3"),
        ("nome LIKE '%10\\%%'", "3"),
        ("nome LIKE '%são%' OR nome LIKE 'josé%'", "3"),
        ("lower(nome) LIKE '%são%'", "23"),
        ("upper(nome) = 'JOSÉ DA SILVA'", "1"),
        ("nome ~ '^J.*a$'", "1"),
        ("nome ~* 'são (paulo|bento)'", "23"),
        ("nome !~ '[0-9]'", "12"),
        ("nome !~* 'JOSÉ'", "23"),
        ("email ~ '^[^@]+@outro\\.com$'", "23"),
        ("split_part(email, '@', 2) = 'outro.com'", "23"),
        ("position('@' IN email) = 2", "23"),
        ("strpos(email, '@') > 2", "1"),
        ("nome ILIKE NULL", ""),
        ("NOT (nome ILIKE 'j%' OR nome ~* '^s')", ""),
    ] {
        let ids: Vec<Value> =
            ids.chars().map(|id| json!([format!("00000000-0000-0000-0000-00000000000{id}")])).collect();
        cases.push((format!("SELECT id FROM leads WHERE {condition} ORDER BY id"), json!(ids)));
    }
    let cases: Vec<(&str, Value)> = cases.iter().map(|(sql, value)| (sql.as_str(), value.clone())).collect();
    all_answer(&*store, &cases).await;
}

async fn lists_are_unnested_in_every_place_people_unnest_them<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    all_answer(
        &*store,
        &[
            (
                "SELECT i, count(*) FROM leads, unnest(interesse) AS i GROUP BY i ORDER BY 2 DESC, 1",
                json!([["casa", 2], ["lote", 1]]),
            ),
            (
                "SELECT l.nome, x.item FROM leads l CROSS JOIN LATERAL unnest(l.interesse) AS x(item) ORDER BY l.id, x.item",
                json!([["José da Silva", "casa"], ["José da Silva", "lote"], ["SÃO PAULO LTDA", "casa"]]),
            ),
            ("SELECT unnest(interesse) AS i, count(*) FROM leads GROUP BY 1 ORDER BY 2 DESC", json!([["casa", 2], ["lote", 1]])),
            ("SELECT DISTINCT unnest(interesse) FROM leads ORDER BY 1", json!([["casa"], ["lote"]])),
            (
                "SELECT t.i FROM (SELECT id, unnest(interesse) AS i FROM leads) AS t WHERE t.i LIKE 'l%'",
                json!([["lote"]]),
            ),
            ("SELECT count(*) FROM leads WHERE 'casa' = ANY(interesse)", json!([[2]])),
            ("SELECT count(*) FROM leads WHERE 'casa' <> ALL(interesse)", json!([[1]])),
            ("SELECT count(*) FROM leads WHERE NOT ('lote' = ANY(interesse))", json!([[2]])),
            ("SELECT count(*) FROM leads WHERE origem = ANY(ARRAY['google', 'bing'])", json!([[2]])),
            ("SELECT count(*) FROM leads WHERE origem = ANY(SELECT origem FROM leads WHERE score_qualificacao = 40)", json!([[1]])),
            (
                "SELECT count(*) FROM leads WHERE EXISTS (SELECT 1 FROM unnest(interesse) AS i WHERE i ILIKE 'CASA')",
                json!([[2]]),
            ),
            (
                "SELECT e.value FROM eventos_raw, jsonb_array_elements_text(dados -> 'interesse') AS e(value)
                 WHERE tipo_evento = 'lead' ORDER BY entidade_id, 1 LIMIT 2",
                json!([["casa"], ["lote"]]),
            ),
            (
                "SELECT id FROM leads, unnest(interesse) AS i WHERE i = 'lote' AND EXISTS (SELECT 1 FROM chat_sessions WHERE id IS NOT NULL)",
                json!([[Uuid::from_u128(1)]]),
            ),
            ("SELECT p, count(*) FROM chat_sessions s, unnest(s.pages_visited) AS p GROUP BY p ORDER BY p", json!([["/", 2], ["/planta", 2]])),
        ],
    )
    .await;
}

async fn casts_answer_what_they_name_or_fail<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    all_are(
        &*store,
        &[
            ("'12'::int + 1", json!(13)),
            ("2.6::int", json!(3)),
            ("(-2.6)::bigint", json!(-3)),
            ("7 / 2", json!(3)),
            ("7::numeric / 2", json!(3.5)),
            ("7::float / 2", json!(3.5)),
            ("cast(7 AS numeric) / 2", json!(3.5)),
            ("cast(7 AS double precision) / 2", json!(3.5)),
            ("round(2.345::numeric, 1)", json!(2.3)),
            ("10.456::numeric(10, 2)", json!(10.46)),
            ("cast('2026-05-01' AS date)", json!("2026-05-01")),
            ("cast('2026-05-01 10:00' AS timestamp)", json!("2026-05-01T10:00:00")),
            ("'t'::boolean AND 'yes'::bool AND NOT 'off'::boolean AND 1::boolean", json!(true)),
            ("12::text || 'x'", json!("12x")),
            ("'abcdef'::varchar(3)", json!("abc")),
            ("NULL::int IS NULL AND NULL::date IS NULL", json!(true)),
            ("E'a\\'b' || $$c'd$$", json!("a'bc'd")),
        ],
    )
    .await;
    all_answer(
        &*store,
        &[
            ("SELECT is_active::text FROM chat_sessions ORDER BY id", json!([["true"], ["false"]])),
            ("SELECT (metadata ->> 'score_qualificacao')::int FROM leads WHERE FALSE", json!([])),
            ("SELECT round(sum(score_qualificacao)::numeric / count(*), 4) FROM leads", json!([[46.6667]])),
            ("SELECT round(sum(total_messages) / count(*), 2), round(sum(score_qualificacao) / 3, 2) FROM chat_sessions, leads", json!([[7, 93.33]])),
            ("SELECT round(score_qualificacao / 2, 1) FROM leads ORDER BY id", json!([[42.5], [20], [7.5]])),
            ("SELECT count(*) FROM leads WHERE score_qualificacao >= '40' AND score_qualificacao < '85'", json!([[1]])),
            ("SELECT count(*) / 2 FROM leads", json!([[1]])),
            ("SELECT avg(score_qualificacao)::int, count(*)::text FROM leads", json!([[47, "3"]])),
            (
                "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY score_qualificacao),
                        percentile_cont(0.9) WITHIN GROUP (ORDER BY score_qualificacao) FILTER (WHERE score_qualificacao < 85) FROM leads",
                json!([[40.0, 37.5]]),
            ),
            (
                "SELECT origem, percentile_cont(0.5) WITHIN GROUP (ORDER BY score_qualificacao) FROM leads GROUP BY origem ORDER BY 2",
                json!([["meta", 40.0], ["google", 50.0]]),
            ),
            ("SELECT created_at::date::text FROM leads ORDER BY id LIMIT 1", json!([["2026-05-01"]])),
        ],
    )
    .await;
    for sql in [
        "SELECT nome::int FROM leads",
        "SELECT nome::numeric FROM leads",
        "SELECT nome::date FROM leads",
        "SELECT nome::boolean FROM leads",
        "SELECT CAST(nome AS timestamptz) FROM leads",
        "SELECT sqrt(-1)",
        "SELECT date_trunc('lustro', created_at) FROM leads",
    ] {
        let fault = store.query(sql, LIMITS).await.expect_err(sql);
        assert_eq!(fault.kind, FaultKind::Invalid, "{sql}: {fault}");
        assert!(!fault.to_string().contains("Jos"), "{sql}: {fault}");
    }
}

async fn json_is_read_as_text_where_it_is_compared_with_text<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    let mut cases = Vec::new();
    for (condition, ids) in [
        ("metadata ->> 'nota' = '7'", "12"),
        ("metadata ->> 'nota' IN ('1.5', '8')", "3"),
        ("'7' = (metadata ->> 'nota')", "12"),
        ("metadata ->> 'ativo' = 'true'", "1"),
        ("metadata ->> 'ativo' <> 'true'", "2"),
        ("coalesce(metadata ->> 'ativo', 'nada') = 'nada'", "3"),
        ("(metadata ->> 'nota')::numeric < 2", "3"),
        ("(metadata ->> 'ativo')::boolean", "1"),
        ("metadata #>> '{localizacao,cidade}' = 'São Paulo'", "123"),
        ("metadata -> 'localizacao' ->> 'uf' = 'SP'", "123"),
        ("localizacao ->> 'uf' = 'SP'", "123"),
        ("metadata ? 'ativo'", "12"),
        ("metadata ->> 'nada' IS NULL", "123"),
        ("metadata ->> 'corretor' ILIKE 'bia'", "123"),
    ] {
        let ids: Vec<Value> =
            ids.chars().map(|id| json!([format!("00000000-0000-0000-0000-00000000000{id}")])).collect();
        cases.push((format!("SELECT id FROM leads WHERE {condition} ORDER BY id"), json!(ids)));
    }
    let cases: Vec<(&str, Value)> = cases.iter().map(|(sql, value)| (sql.as_str(), value.clone())).collect();
    all_answer(&*store, &cases).await;
}

async fn small_functions_people_take_for_granted_are_there<B: StoreBench>() {
    let (_bench, store) = filled::<B>().await;
    all_are(
        &*store,
        &[
            ("greatest(1, NULL, 3, 2)", json!(3)),
            ("least('b', 'a', NULL)", json!("a")),
            ("greatest(NULL::int, NULL)", json!(null)),
            ("left('ação', 2) || right('ação', 1)", json!("aço")),
            ("left('abc', -1) || right('abc', -1)", json!("abbc")),
            (
                "split_part('a,b,c', ',', 2) || split_part('a,b,c', ',', 9) || split_part('a,b,c', ',', -1)",
                json!("bc"),
            ),
            ("floor(2.7) + ceil(2.1) + trunc(2.9)", json!(7)),
            ("sqrt(16) + power(2, 3) + 2 ^ 2", json!(16)),
            ("mod(7, 3) + abs(-1)", json!(2)),
            ("substring('abcdef' FROM 2 FOR 3) || substring('abcdef', 5)", json!("bcdef")),
            (
                "trim(both 'x' FROM 'xxaxx') || trim('  b ') || ltrim('xxc', 'x') || btrim('yd', 'y')",
                json!("abcd"),
            ),
            ("char_length('ação') + length('ação')", json!(8)),
            (
                "replace('1.5', '.', ',') || concat('a', NULL, 1) || concat_ws('-', 'b', NULL, 'c')",
                json!("1,5a1b-c"),
            ),
            ("coalesce(NULL, nullif('', ''), 'x')", json!("x")),
        ],
    )
    .await;
    all_answer(
        &*store,
        &[
            (
                "SELECT string_agg(origem, ', ' ORDER BY id DESC) FROM leads",
                json!([["google, meta, google"]]),
            ),
            (
                "SELECT count(*) FILTER (WHERE score_qualificacao >= 40), count(DISTINCT origem) FROM leads",
                json!([[2, 2]]),
            ),
            (
                "SELECT split_part(email, '@', 2), count(*) FROM leads GROUP BY 1 ORDER BY 2 DESC",
                json!([["outro.com", 2], ["exemplo.com.br", 1]]),
            ),
            ("SELECT jsonb_array_length(metadata -> 'interesses') FROM leads WHERE FALSE", json!([])),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_embedded_store_refuses_what_has_no_counterpart_with_its_own_spelling() {
    let (_bench, store) = filled::<Embedded>().await;
    for (sql, spelling) in [
        ("SELECT avg(ended_at - started_at) FROM chat_sessions", "extract(epoch FROM a - b)"),
        ("SELECT ended_at - started_at AS d FROM chat_sessions ORDER BY d", "extract(epoch FROM a - b)"),
        (
            "WITH s AS (SELECT started_at AS a, ended_at AS b FROM chat_sessions) SELECT avg(b - a) FROM s",
            "extract(epoch",
        ),
        ("SELECT now() - created_at FROM leads", "extract(epoch FROM a - b)"),
        ("SELECT age(created_at) FROM leads", "extract(epoch FROM a - b)"),
        ("SELECT now() - 7", "interval '7 days'"),
        ("SELECT interval '7 days'", "interval '7 days'"),
        ("SELECT array_agg(nome) FROM leads", "json_group_array"),
        ("SELECT jsonb_agg(nome) FROM leads", "json_group_array"),
        ("SELECT array_length(interesse, 1) FROM leads", "json_array_length"),
        ("SELECT interesse[1] FROM leads", "x ->> 0"),
        ("SELECT * FROM leads WHERE interesse && ARRAY['casa']", "json_each"),
        ("SELECT * FROM leads WHERE interesse @> ARRAY['casa']", "json_each"),
        ("SELECT * FROM leads WHERE metadata @> '{\"a\": 1}'", "x ->> 'key' = 'value'"),
        ("SELECT DISTINCT ON (origem) nome FROM leads ORDER BY origem, created_at DESC", "row_number()"),
        (
            "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY score_qualificacao) FROM leads",
            "percentile_cont(0.9)",
        ),
        ("SELECT mode() WITHIN GROUP (ORDER BY origem) FROM leads", "count(*) DESC"),
        ("SELECT count(*) FROM leads WHERE created_at >= date('15/11/2026')", "'2026-05-01'"),
        ("SELECT count(*) FROM leads WHERE created_at >= to_date('15/11/2026', 'DD/MM/YYYY')", "x::date"),
        (
            "SELECT d FROM generate_series(now() - interval '7 days', now(), interval '1 day') AS d",
            "RECURSIVE",
        ),
        ("SELECT origem, count(*) FROM leads GROUP BY ROLLUP (origem)", "UNION ALL"),
        (
            "SELECT * FROM leads l, LATERAL (SELECT count(*) FROM chat_sessions WHERE lead_id = l.id) AS c",
            "json_each",
        ),
        ("SELECT nome FROM leads FETCH FIRST 2 ROWS ONLY", "LIMIT"),
        ("SELECT '{a,b}'::text[]", "CAST(x AS TEXT)"),
        ("SELECT nome FROM leads WHERE nome SIMILAR TO 'a%'", "LIKE"),
        ("SELECT regexp_replace(nome, 'a', 'b') FROM leads", "replace("),
        ("SELECT to_char(score_qualificacao, '999') FROM leads", "time"),
        ("SELECT to_char(created_at, 'TMMonth') FROM leads", "to_char knows"),
        ("SELECT now() AT TIME ZONE 'BRT'", "America/Sao_Paulo"),
        ("SELECT unnest(interesse), unnest(interesse) FROM leads", "json_each"),
        ("SELECT unnest(interesse), count(*) OVER () FROM leads", "SELECT n, unnest(interesse) FROM t"),
        (
            "SELECT interesse, unnest(interesse), count(*) FROM leads GROUP BY interesse",
            "GROUP BY interesse) SELECT n",
        ),
        ("SELECT * FROM leads, unnest(interesse) AS i", "SELECT leads.*, i"),
        ("SELECT nome, (SELECT max(score_qualificacao)) FROM leads", "WITH m AS (SELECT max(x)"),
        ("SELECT jsonb_typeof(e.value) FROM leads, json_each(metadata) AS e", "x -> e.fullkey"),
        ("SELECT i FROM jsonb_array_elements('[\"a\"]') AS i ORDER BY i", "x #>> '{}'"),
        ("SELECT nome, (SELECT c.is_active FROM chat_sessions c) FROM leads", "LIMIT 1 with ORDER BY"),
        ("SELECT stddev(score_qualificacao) FROM leads", "count(x) - 1"),
        ("SELECT * FROM leads WHERE nome = \"Ana\"", "no such column"),
        ("SELECT id FROM leads WHERE metadata -> 'nota' > 5", "(x ->> 'key')::numeric"),
        ("SELECT id FROM leads WHERE metadata ->> 'ativo' = true", "x = 'true'"),
        ("SELECT id FROM leads ORDER BY metadata -> 'nota'", "(x ->> 'key')::numeric"),
        ("SELECT metadata - 'nota' FROM leads", "json_remove"),
        ("SELECT id FROM leads WHERE interesse ? 'casa'", "= ANY(x)"),
        ("SELECT origem, nome, count(*) FROM leads GROUP BY origem", "max(x)"),
        (
            "SELECT sum(total_messages) OVER (ORDER BY id ROWS 1 PRECEDING EXCLUDE TIES) FROM chat_sessions",
            "without EXCLUDE",
        ),
        ("SELECT string_agg(DISTINCT origem, ',' ORDER BY origem) FROM leads", "SELECT DISTINCT x"),
        ("SELECT log(2, 8)", "ln(x) / ln(2)"),
        ("SELECT trunc(score_qualificacao, 2) FROM leads", "trunc(x * 100)"),
        ("SELECT chr(65)", "char(65)"),
        ("SELECT ascii('a')", "unicode(x)"),
        ("SELECT repeat('ab', 5)", "printf("),
        ("SELECT a FROM (SELECT 1, 2) AS t(a, b)", "WITH t(a, b)"),
        ("SELECT a FROM (VALUES (1, 2)) AS t(a, b)", "WITH t(a, b)"),
        ("EXPLAIN SELECT 1", "ask one SELECT"),
    ] {
        match store.query(sql, LIMITS).await {
            Ok(answer) => panic!("{sql}: {:?}", answer.rows),
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Invalid, "{sql}: {fault}");
                assert!(fault.to_string().contains(spelling), "{sql}: {fault}");
            }
        }
    }
}

#[tokio::test]
async fn sqlite_s_own_forms_are_answered_by_the_embedded_store() {
    let (_bench, store) = filled::<Embedded>().await;
    all_answer(
        &*store,
        &[
            ("SELECT strftime('%Y-%m', created_at), count(*) FROM leads GROUP BY 1", json!([["2026-05", 3]])),
            ("SELECT count(*) FROM leads WHERE created_at >= datetime('2026-05-01 02:30:00', '+1 second')", json!([[1]])),
            ("SELECT count(*) FROM leads WHERE created_at >= datetime('now', '-100000 days')", json!([[3]])),
            ("SELECT count(*) FROM leads WHERE date(created_at) = date('2026-05-02', '+1 day')", json!([[1]])),
            ("SELECT count(*) FROM leads WHERE nome GLOB 'J*' OR nome LIKE 'j%'", json!([[1]])),
            ("SELECT CAST(2.9 AS INTEGER), typeof(1.0), iif(1, 'a', 'b')", json!([[3, "real", "a"]])),
            ("SELECT i.value FROM leads, json_each(leads.interesse) AS i WHERE leads.id LIKE '%1' ORDER BY 1", json!([["casa"], ["lote"]])),
            ("SELECT round((julianday(ended_at) - julianday(started_at)) * 24, 2) FROM chat_sessions ORDER BY id", json!([[0.76], [27.0]])),
            (
                "WITH RECURSIVE d(day) AS (SELECT '2026-05-01' UNION ALL SELECT date(day, '+1 day') FROM d WHERE day < '2026-05-03') SELECT count(*) FROM d",
                json!([[3]]),
            ),
            ("SELECT group_concat(origem, '|') FROM leads", json!([["google|meta|google"]])),
            // By their bytes, so capitals first.
            ("SELECT nome FROM leads ORDER BY nome", json!([["José da Silva"], ["SÃO PAULO LTDA"], ["são bento 10%_x"]])),
            ("SELECT nome FROM leads ORDER BY lower(nome)", json!([["José da Silva"], ["são bento 10%_x"], ["SÃO PAULO LTDA"]])),
            ("SELECT `nome` FROM [leads] WHERE id IS '00000000-0000-0000-0000-000000000001'", json!([["José da Silva"]])),
        ],
    )
    .await;
    let answer = store
        .query("SELECT created_at::date, count(*), upper(nome) FROM leads GROUP BY 1, 3", LIMITS)
        .await
        .expect("an answer");
    let names: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["created_at", "count(*)", "upper"]);
}
