//! What people ask, each by its one obvious call: a program that sees only the text of the answer and one that sees only
//! its structured content come to the facts that SQL finds in the same data.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Duration, Utc};
use serde_json::{Value, json};
use sluice::source::sample::{Beginning, SampleProject};

use crate::{
    mcp::{Session, answer, call, connect_to, text},
    support::{
        eventually, on_each_adapter,
        place::{Embedded, Place, Real},
        rows::{id, lead, session, spelled},
        table,
    },
};

#[path = "../../src/mcp/tests/readers.rs"]
mod readers;

use readers::{Facts, read, structured};

on_each_adapter! {
    embedded: Embedded, real: Real;
    each_request_is_answered_rightly_by_its_one_obvious_call,
    a_lead_that_comes_at_ten_in_the_evening_comes_that_day,
}

const ZONE: &str = "America/Sao_Paulo";

/// Rows of text; a value that is missing is empty.
type Rows = BTreeSet<Vec<String>>;

/// What SQL finds.
async fn sql(session: &Session, statement: &str) -> Rows {
    let found = answer(session, "query_store", json!({"sql": statement, "max_rows": 1000})).await;
    assert_eq!(found["truncated"], false, "{statement}");
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows = found["rows"].as_array().expect("rows").iter();
    rows.map(|row| row.as_array().expect("a row").iter().map(cell).collect()).collect()
}

/// The rows of a list among the facts, by these columns.
fn listed(facts: &Facts, list: &str, columns: &[&str]) -> Rows {
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, value) in facts {
        let Some(rest) = path.strip_prefix(list).and_then(|rest| rest.strip_prefix('[')) else { continue };
        let Some((row, column)) = rest.split_once("].") else { continue };
        let cells = rows.entry(row.to_owned()).or_insert_with(|| vec![String::new(); columns.len()]);
        if let Some(at) = columns.iter().position(|known| *known == column) {
            cells[at].clone_from(value);
        }
    }
    rows.into_values().collect()
}

fn fact(facts: &Facts, path: &str) -> Rows {
    facts.get(path).map(|value| BTreeSet::from([vec![value.clone()]])).unwrap_or_default()
}

/// A request, the call that answers it, what of the answer matters, and what SQL says.
struct Request {
    asked: &'static str,
    tool: &'static str,
    arguments: Value,
    told: Box<dyn Fn(&Facts) -> Rows>,
    right: Rows,
}

/// Leads of a period by columns, with those of the period before, as SQL counts them. `days` are SQL conditions on `d`.
async fn arrivals(session: &Session, by: &str, period: &str, before: &str) -> Rows {
    let statement = format!(
        "SELECT {by} AS g, sum(CASE WHEN {period} THEN 1 ELSE 0 END) AS n, sum(CASE WHEN {before} THEN 1 ELSE 0 END) AS b \
         FROM (SELECT *, (created_at AT TIME ZONE '{ZONE}')::date::text AS d FROM leads) AS l \
         WHERE ({period}) OR ({before}) GROUP BY 1"
    );
    sql(session, &statement).await
}

/// Syncs, however long the sinks take.
async fn sync(session: &Session, tool: &str, arguments: Value) {
    let mut sync = answer(session, tool, arguments).await;
    while sync["state"] == "running" || sync["state"] == "draining" {
        sync = answer(session, "get_sync", json!({"sync_id": sync["sync_id"], "wait": true})).await;
    }
    assert_eq!(sync["state"], "done", "{sync}");
}

/// Two things happened to one person's lead, who has another one, besides.
async fn with_history<P: Place>(place: &mut P) -> Session {
    place.set("SLUICE_TIMEZONE", ZONE);
    place.source().set_project(SampleProject::new(Beginning::now(7, 400, 150)));
    let leads = table("leads");
    let mut first = lead(1, 60);
    first.insert("email".to_owned(), json!("ana@exemplo.com.br"));
    first.insert("status_lead".to_owned(), json!("novo"));
    let mut other = lead(2, 50);
    other.insert("email".to_owned(), json!("Ana@Exemplo.com.br"));
    let mut refused = lead(3, 40);
    refused.insert("nome".to_owned(), json!("proibida"));
    // The index has it all the same: it is not to count there among others.
    refused.insert("status_lead".to_owned(), Value::Null);
    place.source().upsert(leads, vec![first.clone(), other, refused]);
    let mut chat = session(901, 55, 4);
    chat.insert("lead_id".to_owned(), json!(id(1)));
    place.source().upsert(table("chat_sessions"), vec![chat]);
    let (client, _) = connect_to(place.command(&[])).await;
    answer(&client, "get_pipeline_status", json!({})).await;
    place.refuse_a_name().await;
    let all = json!({"hours_ago": 24 * 120, "limit": 5000});
    sync(&client, "sync_leads_from_supabase", all.clone()).await;
    sync(&client, "sync_chat_sessions_from_supabase", all).await;
    first.insert("status_lead".to_owned(), json!("qualificado"));
    first.insert("updated_at".to_owned(), json!(spelled(Utc::now())));
    place.source().upsert(leads, vec![first]);
    sync(&client, "sync_leads_from_supabase", json!({"hours_ago": 1, "limit": 5000})).await;
    client
}

#[allow(clippy::too_many_lines)] // a list
async fn requests(session: &Session) -> Vec<Request> {
    let today = Utc::now().with_timezone(&chrono_tz::America::Sao_Paulo).date_naive();
    let day = |back: i64| (today - Duration::days(back)).to_string();
    let monday = i64::from(chrono::Datelike::weekday(&today).num_days_from_monday());
    let between = |from: i64, to: i64| format!("d BETWEEN '{}' AND '{}'", day(from), day(to));
    let origin = "coalesce(origem, '(missing)')";
    let campaign = "coalesce(utm_campaign, '(missing)')";
    let groups = |column: &'static str| {
        Box::new(move |facts: &Facts| listed(facts, "groups", &[column, "leads", "before"]))
            as Box<dyn Fn(&Facts) -> Rows>
    };
    let in_90_days =
        format!("(created_at AT TIME ZONE '{ZONE}')::date::text BETWEEN '{}' AND '{}'", day(89), day(0));
    let changes = format!(
        "SELECT entidade_id, antes, depois FROM (SELECT entidade_id, \"timestamp\", metadata->>'status_lead' AS depois, \
         lag(metadata->>'status_lead') OVER (PARTITION BY entidade_id ORDER BY versao) AS antes FROM eventos_raw \
         WHERE tipo_evento = 'lead') AS e WHERE antes <> depois AND (\"timestamp\" AT TIME ZONE '{ZONE}')::date::text >= '{}'",
        day(monday)
    );
    let waiting = "SELECT count(*) FROM leads WHERE score_qualificacao >= 50 AND (last_interaction_at IS NULL OR \
                   last_interaction_at < now() - interval '7 days')";
    vec![
        Request {
            asked: "leads today by origin, against yesterday",
            tool: "lead_report",
            arguments: json!({"group_by": ["origem"]}),
            told: groups("origem"),
            right: arrivals(session, origin, &between(0, 0), &between(1, 1)).await,
        },
        Request {
            asked: "leads last week by origin, against the week before",
            tool: "lead_report",
            arguments: json!({"period": "last_week", "group_by": ["origem"]}),
            told: groups("origem"),
            right: arrivals(session, origin, &between(monday + 7, monday + 1), &between(monday + 14, monday + 8)).await,
        },
        Request {
            asked: "leads a day in the last 14 days",
            tool: "lead_report",
            arguments: json!({"period": "last_14_days", "group_by": ["day"], "compare": false}),
            told: Box::new(|facts| {
                let days = listed(facts, "groups", &["created_at", "leads"]);
                days.into_iter().filter(|day| day[1] != "0").collect()
            }),
            right: arrivals(session, "d", &between(13, 0), "d IS NULL")
                .await
                .into_iter()
                .map(|row| row[..2].to_vec())
                .collect(),
        },
        Request {
            asked: "conversion by campaign in the last 90 days",
            tool: "lead_report",
            arguments: json!({"period": "last_90_days", "group_by": ["campanha"], "compare": false}),
            told: Box::new(|facts| listed(facts, "groups", &["utm_campaign", "leads", "qualified"])),
            right: sql(
                session,
                &format!(
                    "SELECT {campaign}, count(*), sum(CASE WHEN score_qualificacao >= 50 THEN 1 ELSE 0 END) FROM leads \
                     WHERE {in_90_days} GROUP BY 1"
                ),
            )
            .await,
        },
        Request {
            asked: "status by campaign in the last 90 days",
            tool: "lead_report",
            arguments: json!({"period": "last_90_days", "group_by": ["campanha", "status"], "compare": false}),
            told: Box::new(|facts| listed(facts, "groups", &["utm_campaign", "status_lead", "leads"])),
            right: sql(
                session,
                &format!(
                    "SELECT {campaign}, status_lead, count(*) FROM leads WHERE {in_90_days} GROUP BY 1, 2"
                ),
            )
            .await,
        },
        Request {
            asked: "qualified and not contacted for 7 days",
            tool: "search_elasticsearch",
            arguments: json!({"filters": [
                {"field": "score_qualificacao", "op": "gte", "value": 50},
                {"field": "last_interaction_at", "op": "missing_or_before", "value": "now-7d"},
            ]}),
            told: Box::new(|facts| fact(facts, "total")),
            right: sql(session, waiting).await,
        },
        Request {
            asked: "what visitors ask",
            tool: "search_elasticsearch",
            arguments: json!({"index": "chat_sessions", "count_by": ["perguntas_feitas"], "limit": 0}),
            told: Box::new(|facts| listed(facts, "counts[0].values", &["value", "count"])),
            right: sql(
                session,
                "SELECT p, count(DISTINCT id) FROM chat_sessions, unnest(perguntas_feitas) AS p GROUP BY 1",
            )
            .await,
        },
        Request {
            asked: "the whole history of a lead",
            tool: "get_lead",
            arguments: json!({"id": id(1), "history": true}),
            told: Box::new(|facts| listed(facts, "timeline", &["what", "column", "before", "after"])),
            right: [
                ["lead_novo", "", "", ""],
                ["chat_session", "", "", ""],
                ["lead_qualificado", "status_lead", "novo", "qualificado"],
            ]
            .map(|row| row.map(str::to_owned).to_vec())
            .into(),
        },
        Request {
            asked: "status changes this week",
            tool: "query_raw_events",
            arguments: json!({"changed": "status_lead", "period": "this_week", "limit": 200}),
            told: Box::new(|facts| {
                listed(facts, "events", &["entidade_id", "change.before", "change.after"])
            }),
            right: sql(session, &changes).await,
        },
        Request {
            asked: "why a lead shows twice",
            tool: "get_lead",
            arguments: json!({"id": id(1)}),
            told: Box::new(|facts| {
                assert_eq!(facts["duplicates[0].same"], "email");
                listed(facts, "duplicates", &["key"])
            }),
            right: sql(
                session,
                &format!(
                    "SELECT b.id::text FROM leads AS a JOIN leads AS b ON lower(a.email) = lower(b.email) AND \
                     a.id <> b.id WHERE a.id = '{}'",
                    id(1)
                ),
            )
            .await,
        },
        Request {
            asked: "is everything up to date",
            tool: "get_pipeline_status",
            arguments: json!({}),
            told: Box::new(|facts| listed(facts, "tables", &["table", "store", "parked", "unread"])),
            right: sql(
                session,
                "SELECT 'leads', count(*), 1, 0 FROM leads UNION ALL SELECT 'chat_sessions', count(*), 0, 0 FROM chat_sessions",
            )
            .await,
        },
        Request {
            asked: "what failed, which lead it was, and how to mend it",
            tool: "list_dead_letters",
            arguments: json!({}),
            told: Box::new(|facts| {
                assert!(facts["next_step"].contains("replay_dead_letters"), "{facts:?}");
                listed(facts, "letters", &["table", "key", "state"])
            }),
            right: BTreeSet::from([["leads".to_owned(), id(3), "open".to_owned()].to_vec()]),
        },
        Request {
            asked: "leads that are \"Qualificados\"",
            tool: "search_elasticsearch",
            arguments: json!({"filters": [{"field": "status_lead", "op": "eq", "value": "Qualificados"}]}),
            told: Box::new(|facts| listed(facts, "existing[0].values", &["value", "count"])),
            right: sql(session, "SELECT status_lead, count(*) FROM leads WHERE status_lead IS NOT NULL GROUP BY 1").await,
        },
        Request {
            asked: "how many leads have no origin",
            tool: "search_elasticsearch",
            arguments: json!({"count_by": ["origem"], "limit": 0}),
            told: Box::new(|facts| fact(facts, "counts[0].missing")),
            right: sql(session, "SELECT count(*) FROM leads WHERE origem IS NULL").await,
        },
        Request {
            asked: "yesterday's leads, in the days of Lisbon",
            tool: "lead_report",
            arguments: json!({"period": "yesterday", "timezone": "Europe/Lisbon"}),
            told: Box::new(|facts| fact(facts, "total.leads")),
            right: sql(
                session,
                "SELECT count(*) FROM leads WHERE (created_at AT TIME ZONE 'Europe/Lisbon')::date::text = \
                 ((now() AT TIME ZONE 'Europe/Lisbon') - interval '1 day')::date::text",
            )
            .await,
        },
    ]
}

async fn each_request_is_answered_rightly_by_its_one_obvious_call<P: Place>() {
    let mut place = P::new().await;
    let session = with_history(&mut place).await;
    let mut wrong = Vec::new();
    println!("{:<52} {:<22} {:>10}  text   structured", "request", "call", "characters");
    for request in requests(&session).await {
        let mut result = call(&session, request.tool, request.arguments.clone()).await;
        if request.tool == "get_pipeline_status" {
            // Its counts are told with their age, and are counted anew after a while.
            eventually("the counts are those of now", async || {
                result = call(&session, request.tool, request.arguments.clone()).await;
                let mut facts = Facts::new();
                structured(&mut facts, "", result.structured_content.as_ref().expect("structured content"));
                (request.told)(&facts) == request.right
            })
            .await;
        }
        let text = text(&result);
        assert_ne!(result.is_error, Some(true), "{}: {text}", request.asked);
        let mut facts = Facts::new();
        structured(&mut facts, "", &result.structured_content.expect("structured content"));
        let found = [(request.told)(&read(&text)), (request.told)(&facts)];
        let verdicts = found.each_ref().map(|found| if *found == request.right { "right" } else { "WRONG" });
        let characters = text.chars().count();
        println!(
            "{:<52} {:<22} {characters:>10}  {}  {}",
            request.asked, request.tool, verdicts[0], verdicts[1]
        );
        if request.right.is_empty() || found.iter().any(|found| *found != request.right) {
            wrong.push(format!("{}:\n  told {found:?}\n  SQL says {:?}", request.asked, request.right));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let exported = answer(&session, "export", json!({"table": "leads"})).await;
    assert!(
        exported["behind"].to_string().contains("dead letters are not in it, or as they were before: 1"),
        "{exported}"
    );
    session.cancel().await.expect("the session closes");
    place.clean_up().await;
}

async fn a_lead_that_comes_at_ten_in_the_evening_comes_that_day<P: Place>() {
    let mut place = P::new().await;
    place.set("SLUICE_TIMEZONE", ZONE);
    let mut rows = Vec::new();
    for (n, created) in (1..).zip(["2026-05-04T01:00:00Z", "2026-05-04T02:59:59Z", "2026-05-04T03:00:00Z"]) {
        let mut row = lead(n, 5);
        row.insert("created_at".to_owned(), json!(created));
        row.insert("updated_at".to_owned(), json!(created));
        rows.push(row);
    }
    let mut undated = lead(4, 5);
    undated.insert("created_at".to_owned(), Value::Null);
    rows.push(undated);
    place.source().set_rows(table("leads"), rows);
    let (session, _) = connect_to(place.command(&[])).await;
    sync(&session, "sync_leads_from_supabase", json!({"hours_ago": 24 * 3650, "limit": 100})).await;
    let of_day = json!({"from": "2026-05-03", "to": "2026-05-04", "group_by": ["day"]});
    let report = answer(&session, "lead_report", of_day.clone()).await;
    let days: Vec<_> = report["groups"]
        .as_array()
        .expect("days")
        .iter()
        .map(|day| (&day["created_at"], &day["leads"]))
        .collect();
    assert_eq!(days, [(&json!("2026-05-03"), &json!(2)), (&json!("2026-05-04"), &json!(1))], "{report}");
    assert!(
        report["summary"].as_str().is_some_and(|told| told.contains("1 more say nothing of when")),
        "{report}"
    );
    let mut in_utc = of_day;
    in_utc["timezone"] = json!("UTC");
    let report = answer(&session, "lead_report", in_utc).await;
    assert_eq!((&report["groups"][0]["leads"], &report["groups"][1]["leads"]), (&json!(0), &json!(3)));
    let found = answer(
        &session,
        "search_elasticsearch",
        json!({"query": "created_at:2026-05-03", "count_by_day": true}),
    )
    .await;
    assert_eq!((&found["total"], &found["days"]), (&json!(2), &json!([{"day": "2026-05-03", "count": 2}])));
    let events =
        answer(&session, "query_raw_events", json!({"from": "2026-05-03", "to": "2026-05-04"})).await;
    assert_eq!(events["events"].as_array().map(Vec::len), Some(2), "{events}");
    let output = place
        .command(&["report", "--from", "2026-05-03", "--to", "2026-05-03", "--by", "origem"])
        .output()
        .await;
    let output = output.expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.starts_with("2 leads arrived on 2026-05-03 (America/Sao_Paulo)"), "{told}");
    assert!(told.contains("indicação\t2\t0\t0"), "{told}");
    session.cancel().await.expect("the session closes");
    place.clean_up().await;
}
