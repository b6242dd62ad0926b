//! What every index promises, on each adapter: the embedded one, which needs nothing, and Elasticsearch or OpenSearch.

mod applying;
mod erasing;
mod rebuilding;
mod searching;
mod tables;

use bytes::Bytes;
use serde_json::{Value, json};
use sluice::{
    domain::{Json, Table},
    index::{Index, IndexName},
    log::Position,
    sink::{Applied, SinkEvent},
};
use uuid::Uuid;

use crate::support::{
    events::{event, lead, manual, session},
    indices::search,
};

const NEVER: Applied = Applied { inserted: 0, duplicates: 0, entities: 0, stale: 0, replaced: 0, erased: 0 };

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x5f0c_2f6e_7f0a_4f7a_9a55_0000_0000_0000 + n)
}

async fn hits(index: &dyn Index, of: IndexName, query: &str) -> u64 {
    index.make_visible().await.expect("visible");
    search(index, of, query).await.total
}

/// The only document that matches.
async fn only(index: &dyn Index, of: IndexName, query: &str) -> Value {
    index.make_visible().await.expect("visible");
    let mut answer = search(index, of, query).await;
    assert_eq!((answer.total, answer.hits.len()), (1, 1), "{query}");
    Value::Object(answer.hits.remove(0).source)
}

/// Without when it was written.
fn unstamped(mut document: Value) -> Value {
    document.as_object_mut().expect("an object").remove("processado_em");
    document
}

/// An event of a row's own text.
fn of_text(offset: i64, table: Table, row: &str) -> SinkEvent {
    let row = Json::try_from(Bytes::copy_from_slice(row.as_bytes()))
        .unwrap_or_else(|error| panic!("{row}: {error}"));
    let event = event(table, &row, 1);
    SinkEvent { position: Position { partition: 0, offset }, raw: event.encode(), event, table: Some(table) }
}

/// Three leads, two sessions and a manual event; versions are seconds after 1970-01-12T13:46:40Z.
fn documents() -> Vec<SinkEvent> {
    vec![
        lead(
            1,
            id(1),
            1,
            json!({"nome": "João Conceição", "email": "joao@exemplo.com.br", "status_lead": "qualificado",
                   "score_qualificacao": 80, "nome_empresa": "Padaria São João", "origem": "indicação",
                   "interesse": ["casa", "apartamento novo", "casa"]}),
        ),
        lead(
            2,
            id(2),
            100_000,
            json!({"nome": "Ana Souza", "email": "ana@exemplo.com.br", "status_lead": "novo",
                   "score_qualificacao": 20, "origem": "site", "interesse": ["casa"]}),
        ),
        lead(
            3,
            id(3),
            200_000,
            json!({"nome": "Joana D'Ávila (SP)", "score_qualificacao": 50, "origem": ""}),
        ),
        session(
            4,
            json!({"id": id(4), "total_messages": 60, "is_active": true, "ip_address": "10.1.2.3",
                   "started_at": "2026-11-24T10:20:30Z", "pages_visited": ["/", "/contato"],
                   "perguntas_feitas": ["Qual o preço?", "Aceita permuta?"]}),
        ),
        session(
            5,
            json!({"id": id(5), "total_messages": 3, "is_active": false, "ip_address": "2001:db8::1",
                   "started_at": "2026-11-25T00:00:00Z"}),
        ),
        manual(6, json!({"nota": 1})),
    ]
}
