//! How fast the Elasticsearch index takes events, by batch size: first as new ones, then all again.
//!
//! `ELASTICSEARCH_URL=http://127.0.0.1:19200 cargo bench --bench index_bulk [EVENTS]`

// A measurement that can't be taken should say so at once.
#![allow(clippy::expect_used)]

use std::{
    env,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde_json::json;
use sluice::{
    config::ElasticsearchSettings,
    domain::{Catalog, Json, SourceRow, Table},
    index::elasticsearch::EsIndex,
    log::Position,
    sink::{Sink, SinkBatch, SinkEvent},
};
use url::Url;
use uuid::Uuid;

const BATCHES: [usize; 4] = [1_000, 2_000, 5_000, 10_000];

#[tokio::main]
async fn main() {
    let url: Url = env::var("ELASTICSEARCH_URL")
        .expect("ELASTICSEARCH_URL names the server to measure")
        .parse()
        .expect("ELASTICSEARCH_URL is a URL");
    let events: usize = env::args().find_map(|argument| argument.parse().ok()).unwrap_or(200_000);
    let catalog = Catalog::built_in();
    let leads = catalog.get("leads").expect("leads are built in");
    println!("{events} leads, an event and an entity each; events a second, one request at a time");
    println!("{:>6}  {:>8}  {:>8}", "batch", "new", "again");
    // The server's compiler warms up on the first round, which is not told.
    for (round, size) in BATCHES[..1].iter().chain(&BATCHES).copied().enumerate() {
        let events = if round == 0 { events / 4 } else { events };
        let prefix = format!("bench{}-", Uuid::new_v4().simple());
        let settings = ElasticsearchSettings {
            url: url.clone().into(),
            username: None,
            password: None,
            api_key: None,
            ssl_ca_location: None,
            index_prefix: prefix.clone(),
            timeout: Duration::from_mins(1),
        };
        let index = EsIndex::connect(&settings, catalog).expect("usable settings");
        index.prepare().await.expect("prepared");
        let new = rate(&index, leads, events, size).await;
        let again = rate(&index, leads, events, size).await;
        if round > 0 {
            println!("{size:>6}  {new:>8.0}  {again:>8.0}");
        }
        for table in ["eventos", "leads", "chat_sessions"] {
            for path in [format!("{prefix}{table}-000001"), format!("_index_template/sluice-{prefix}{table}")]
            {
                let url = url.join(&path).expect("a path");
                reqwest::Client::new().delete(url).send().await.expect("removed");
            }
        }
    }
}

/// Events a second, without the time it takes to make them.
#[allow(clippy::cast_precision_loss)]
async fn rate(index: &EsIndex, leads: Table, events: usize, size: usize) -> f64 {
    let mut spent = Duration::ZERO;
    for first in (0..events).step_by(size) {
        let events = (first..events.min(first + size)).map(|number| lead(leads, number)).collect();
        let batch = SinkBatch { events, spans: Vec::new() };
        let started = Instant::now();
        index.apply("bench/eventos", &batch).await.expect("applied");
        spent += started.elapsed();
    }
    events as f64 / spent.as_secs_f64()
}

fn lead(table: Table, number: usize) -> SinkEvent {
    let row = json!({
        "id": Uuid::from_u128(number as u128 + 1),
        "nome": format!("Pessoa Número {number}"),
        "email": format!("pessoa{number}@exemplo.com.br"),
        "score_qualificacao": number % 100,
        "status_lead": if number.is_multiple_of(3) { "qualificado" } else { "novo" },
        "updated_at": "2026-05-01T12:00:00Z",
    });
    let row = SourceRow::read(table, Json::from(&row)).expect("a row");
    let (event, _) = row.event(DateTime::<Utc>::UNIX_EPOCH, 1_000_000);
    let offset = i64::try_from(number).expect("a small number");
    SinkEvent { position: Position { partition: 0, offset }, raw: event.encode(), event, table: Some(table) }
}
