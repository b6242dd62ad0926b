//! How fast the Postgres store applies batches: `DATABASE_ADMIN_URL=… cargo bench --bench store_write`.
//!
//! 100,000 leads, first as new events, then delivered again, then each in a newer version, for several sizes of
//! batch and numbers of workers. Every row of the table is one run in a database of its own.

#![allow(clippy::expect_used)]

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sluice::{
    config::PostgresSettings,
    domain::{Catalog, Event, Json, SourceRow, Table},
    log::Position,
    sink::{Sink, SinkBatch, SinkEvent, Span},
    store::postgres::PgStore,
};
use sqlx::{ConnectOptions, Executor, postgres::PgConnectOptions};
use uuid::Uuid;

const LEADS: u32 = 100_000;
const LOG: &str = "bench/eventos";

#[tokio::main]
async fn main() {
    let base = std::env::var("DATABASE_ADMIN_URL").expect("DATABASE_ADMIN_URL must name a PostgreSQL server");
    let catalog = Catalog::built_in();
    let leads = catalog.get("leads").expect("leads are built in");
    let (first, newer) = (events(leads, 0), events(leads, 1));
    println!("events/s, {LEADS} leads, single runs");
    println!("{:>10} {:>8} {:>10} {:>10} {:>10}", "batch", "workers", "new", "again", "newer");
    for (size, workers) in [(1_000, 1), (5_000, 1), (10_000, 1), (5_000, 2)] {
        let rates = run(&base, catalog, size, workers, [&first, &newer]).await;
        println!("{size:>10} {workers:>8} {:>10.0} {:>10.0} {:>10.0}", rates[0], rates[1], rates[2]);
    }
}

/// New events, the same again, newer versions: events per second of each.
async fn run(
    base: &str,
    catalog: Catalog,
    size: usize,
    workers: usize,
    [first, newer]: [&[Event]; 2],
) -> [f64; 3] {
    let leads = catalog.get("leads").expect("leads are built in");
    let server = PgConnectOptions::from_str(base).expect("DATABASE_ADMIN_URL must be a URL of a server");
    let mut connection = server.connect().await.expect("the server answers");
    connection.execute("DROP DATABASE IF EXISTS sluice_bench WITH (FORCE)").await.expect("dropped");
    connection.execute("CREATE DATABASE sluice_bench").await.expect("created");
    let mut url = url::Url::parse(base).expect("DATABASE_ADMIN_URL must be a URL");
    url.set_path("sluice_bench");
    let settings = PostgresSettings {
        url: url.to_string().into(),
        read_url: None,
        data_dir: std::env::temp_dir(),
        max_connections: 8,
        timeout: Duration::from_mins(1),
    };
    let store = PgStore::connect(&settings, catalog).expect("a store");
    store.prepare().await.expect("migrations run");
    let mut rates = [0.0; 3];
    for (rate, events) in rates.iter_mut().zip([first, first, newer]) {
        let batches = batches(&store, leads, size, workers, events).await;
        let started = Instant::now();
        let work = batches.into_iter().map(|batches| {
            let store = store.clone();
            tokio::spawn(async move {
                for batch in batches {
                    store.apply(LOG, &batch).await.expect("applied");
                }
            })
        });
        for worker in futures::future::join_all(work).await {
            worker.expect("no worker fails");
        }
        *rate = f64::from(LEADS) / started.elapsed().as_secs_f64();
    }
    store.close().await;
    connection.execute("DROP DATABASE sluice_bench WITH (FORCE)").await.expect("dropped");
    rates
}

/// A partition a worker, each in batches that follow what was applied before.
async fn batches(
    store: &PgStore,
    leads: Table,
    size: usize,
    workers: usize,
    events: &[Event],
) -> Vec<Vec<SinkBatch>> {
    let partitions: Vec<i32> = (0..).take(workers).collect();
    let claims = store.claim(LOG, &partitions).await.expect("claimed");
    let applied = store.applied(LOG).await.expect("offsets").unwrap_or_default();
    let share = events.len().div_ceil(workers);
    let shares = claims.into_iter().zip(events.chunks(share));
    shares
        .map(|(claim, events)| {
            let stands = applied.iter().find(|at| at.partition == claim.partition);
            let mut first = stands.map_or(0, |at| at.offset);
            let of_size = |chunk: &[Event]| {
                let next = first + i64::try_from(chunk.len()).expect("a small batch");
                let place = |(offset, event): (i64, &Event)| SinkEvent {
                    position: Position { partition: claim.partition, offset },
                    raw: event.encode(),
                    table: Some(leads),
                    event: event.clone(),
                };
                let batch = SinkBatch {
                    events: (first..).zip(chunk).map(place).collect(),
                    spans: vec![Span { partition: claim.partition, epoch: claim.epoch, first, next }],
                };
                first = next;
                batch
            };
            events.chunks(size).map(of_size).collect()
        })
        .collect()
}

fn events(leads: Table, version: i32) -> Vec<Event> {
    let start: DateTime<Utc> = "2026-05-01T00:00:00Z".parse().expect("an instant");
    let lead = |i: u32| {
        let updated_at = start + TimeDelta::seconds(i64::from(i)) + TimeDelta::days(i64::from(version));
        let row = json!({
            "id": Uuid::from_u128(u128::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) ),
            "nome": format!("Cliente Número {i}"), "email": format!("cliente{i}@exemplo.com.br"),
            "telefone": "+55 11 90000-0000", "nome_empresa": "Padaria São João", "nome_projeto": "Alto da Serra",
            "localizacao": {"cidade": "São Paulo", "uf": "SP"}, "interesse": ["apartamento", "cobertura"],
            "score_qualificacao": i % 100, "status_lead": if i.is_multiple_of(3) { "novo" } else { "qualificado" },
            "origem": "google", "utm_source": "google", "utm_medium": "cpc", "utm_campaign": "lançamento",
            "created_at": start, "updated_at": updated_at, "last_interaction_at": updated_at,
        });
        let row = SourceRow::read(leads, Json::from(&row)).expect("a row");
        row.event(start, updated_at.timestamp_micros()).0
    };
    (0..LEADS).map(lead).collect()
}
