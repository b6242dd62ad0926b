//! How soon a change at the source is found by a search: `eval "$(tools/services env)"; cargo bench --bench poll_latency`.
//!
//! One process polls a sample project four times a second and drains into Postgres and Elasticsearch, of their own on the
//! real services. Changes come at moments that have nothing to do with the polls'; each is timed from the moment when
//! the source shows it until Elasticsearch finds it. The source lies in the same process, its network does not count.

#![allow(clippy::expect_used)]

use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use sluice::{
    config::Settings,
    domain::Catalog,
    parts,
    source::sample::{SampleServer, keys},
    store::SyncRequest,
};
use sqlx::{ConnectOptions, Executor, postgres::PgConnectOptions};

const CHANGES: usize = 200;
const EVERY_SECONDS: f64 = 0.25;
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[tokio::main]
async fn main() {
    let service = |name: &str| std::env::var(name).expect("eval \"$(tools/services env)\" first");
    let name = format!("sluice_latency_{}", std::process::id());
    let leads = Catalog::built_in().get("leads").expect("leads are built in");
    let source = SampleServer::start(0).await.expect("a free port");
    let admin: PgConnectOptions = service("DATABASE_ADMIN_URL").parse().expect("a URL");
    let mut admin = admin.connect().await.expect("the server answers");
    admin.execute(&*format!("CREATE DATABASE {name} OWNER sluice")).await.expect("a database");
    let mut database = url::Url::parse(&service("DATABASE_URL")).expect("a URL");
    database.set_path(&name);
    let elasticsearch = service("ELASTICSEARCH_URL");
    let variables = [
        ("SUPABASE_URL", source.url()),
        ("SUPABASE_KEY", keys::SECRET.to_owned()),
        ("KAFKA_BOOTSTRAP_SERVERS", service("KAFKA_BOOTSTRAP_SERVERS")),
        ("KAFKA_TOPIC", name.clone()),
        ("SLUICE_GROUP_PREFIX", name.clone()),
        ("DATABASE_URL", database.to_string()),
        ("ELASTICSEARCH_URL", elasticsearch.clone()),
        ("ELASTICSEARCH_INDEX_PREFIX", format!("{name}-")),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let settings = Settings::load(variables).expect("settings");
    let engine = parts::engine(&settings).await.expect("an engine");
    engine.start_drains().await;
    let request = SyncRequest {
        table: leads.into(),
        hours_ago: 24,
        limit: 1_000_000,
        conditions: Vec::new(),
        resume: true,
        reappend: false,
        reconcile: None,
        since: None,
    };
    engine.schedules.put(&request, EVERY_SECONDS, "bench").await.expect("a schedule");
    engine.schedules.start();

    let client = reqwest::Client::new();
    let search = format!("{elasticsearch}/{name}-leads/_search");
    let mut took = Vec::with_capacity(CHANGES);
    for n in 0..=CHANGES {
        // Anywhere between two polls, and between two refreshes.
        tokio::time::sleep(Duration::from_millis(300 + (n as u64 * 379) % 900)).await;
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let row = json!({
            "id": format!("00000000-0000-4000-8000-{:012}", n % 20), "nome": format!("Mudança {n}"),
            "origem": format!("mudanca{n}"), "status_lead": "novo", "created_at": now, "updated_at": now,
        });
        source.upsert(leads, vec![row.as_object().expect("an object").clone()]);
        let shown = Instant::now();
        let query = json!({"query": {"term": {"origem": format!("mudanca{n}")}}});
        loop {
            let answer = client.post(&search).json(&query).send().await.expect("an answer");
            let found: Value = answer.json().await.expect("JSON");
            if found["hits"]["hits"].as_array().is_some_and(|hits| !hits.is_empty()) {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // The first makes tables, topics and indices.
        if n > 0 {
            took.push(shown.elapsed());
        }
    }
    took.sort_unstable();
    let [half, most, last] = [CHANGES / 2, CHANGES * 99 / 100, CHANGES - 1].map(|n| took[n].as_millis());
    println!(
        "{CHANGES} changes, a poll every {EVERY_SECONDS} s: p50 {half} ms, p99 {most} ms, max {last} ms"
    );
    engine.shut_down().await;
    admin.execute(&*format!("DROP DATABASE {name} WITH (FORCE)")).await.expect("dropped");
    for index in ["eventos", "leads", "chat_sessions"] {
        client.delete(format!("{elasticsearch}/{name}-{index}-000001")).send().await.ok();
    }
}
