//! What the Postgres store promises, against a real server.

mod applying;
mod leasing;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sluice::{
    domain::{Event, JsonObject, ManualEvent, Table},
    log::{Position, StartAt},
    sink::{Claim, Sink, SinkBatch, SinkEvent, Span},
    store::postgres::PgStore,
};
use uuid::Uuid;

use crate::support::postgres::TestDatabase;

const LOG: &str = "cluster/eventos";

async fn migrated() -> (TestDatabase, PgStore) {
    let database = TestDatabase::create().await;
    let store = PgStore::connect(&database.settings()).expect("a store");
    store.prepare().await.expect("migrations run");
    (database, store)
}

/// Partition 0, claimed.
async fn claimed(store: &PgStore) -> Claim {
    store.claim(LOG, &[0]).await.expect("a claim")[0]
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

/// The whole of a lead, at a version that is `minutes` old or young.
fn lead(id: u128, minutes: i64, nome: &str) -> Event {
    let updated_at = instant("2026-05-01T12:00:00Z") + TimeDelta::minutes(minutes);
    from_row(
        Table::Leads,
        json!({
            "id": Uuid::from_u128(id), "nome": nome, "email": "ana@exemplo.com.br", "telefone": "+55 11 90000-0000",
            "nome_empresa": "Padaria São João", "nome_projeto": "Alto da Serra",
            "localizacao": {"cidade": "São Paulo", "uf": "SP"}, "interesse": ["apartamento", "a \"b\", {c}\\"],
            "score_qualificacao": 85, "status_lead": "qualificado", "origem": "google", "utm_source": "s",
            "utm_medium": "m", "utm_campaign": "c", "created_at": "2026-04-01T12:00:00Z",
            "updated_at": updated_at, "last_interaction_at": null, "corretor": "Bia",
        }),
    )
}

fn session(id: u128) -> Event {
    from_row(
        Table::ChatSessions,
        json!({
            "id": Uuid::from_u128(id), "lead_id": "l1", "user_agent": "Mozilla", "total_messages": 7,
            "duration_seconds": 120, "pages_visited": ["/", "/planta"], "perguntas_feitas": [],
            "intencao_detectada": "compra", "nivel_interesse": "alto", "started_at": "2026-05-01T12:00:00Z",
            "ended_at": null, "is_active": true,
        }),
    )
}

fn manual(evento: &str, metadata: Value) -> Event {
    let event = ManualEvent {
        id: None,
        usuario: "teste".to_owned(),
        evento: evento.to_owned(),
        valor: 1.0,
        metadata: object(metadata),
    };
    Event::manual(event, instant("2026-05-01T12:00:00Z"))
}

fn from_row(table: Table, row: Value) -> Event {
    Event::from_row(table, object(row), instant("2026-05-01T13:00:00Z")).expect("an event")
}

fn object(value: Value) -> JsonObject {
    value.as_object().cloned().expect("an object")
}

/// A batch of partition 0 that follows the claim's start.
fn batch(claim: Claim, events: Vec<Event>) -> SinkBatch {
    let first = match claim.start {
        StartAt::Offset(offset) => offset,
        StartAt::Beginning | StartAt::Committed => 0,
    };
    batch_at(claim, first, events)
}

fn batch_at(claim: Claim, first: i64, events: Vec<Event>) -> SinkBatch {
    let events: Vec<SinkEvent> = (first..)
        .zip(events)
        .map(|(offset, event)| SinkEvent {
            position: Position { partition: claim.partition, offset },
            raw: event.encode(),
            event,
        })
        .collect();
    let next = first + i64::try_from(events.len()).expect("a small batch");
    SinkBatch { events, spans: vec![Span { partition: claim.partition, epoch: claim.epoch, first, next }] }
}
