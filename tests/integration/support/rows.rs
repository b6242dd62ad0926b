//! Rows to sync, and records to put past the engine.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    config::ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use serde_json::{Value, json};
use sluice::domain::JsonObject;
use uuid::Uuid;

use super::service;

/// The id of lead or session `n`.
pub fn id(n: u128) -> String {
    Uuid::from_u128(0x5f0c_2f6e_7f0a_4f7a_9a55_0000_0000_0000 + n).to_string()
}

/// So many minutes ago, as PostgREST spells it.
pub fn minutes_ago(minutes: i64) -> String {
    spelled(Utc::now() - TimeDelta::minutes(minutes))
}

pub fn spelled(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Micros, false)
}

pub fn object(value: Value) -> JsonObject {
    value.as_object().cloned().expect("an object")
}

/// A lead, last changed `minutes` ago.
pub fn lead(n: u128, minutes: i64) -> JsonObject {
    object(json!({
        "id": id(n),
        "nome": format!("João {n}"),
        "email": format!("joao{n}@exemplo.com.br"),
        "interesse": ["apartamento", "casa \"nova\", com {chaves}"],
        "localizacao": {"cidade": "São Paulo", "uf": "SP"},
        "score_qualificacao": n % 100,
        "status_lead": if n.is_multiple_of(2) { "novo" } else { "qualificado" },
        "origem": "indicação",
        "created_at": minutes_ago(minutes + 1),
        "updated_at": minutes_ago(minutes),
    }))
}

/// Leads `1..=count`, changed one after the other.
pub fn leads(count: u128) -> Vec<JsonObject> {
    (1..=count)
        .map(|n| {
            let mut row = lead(n, 0);
            let back = TimeDelta::seconds(i64::try_from(count - n).expect("a small number") + 300);
            row.insert("updated_at".to_owned(), json!(spelled(Utc::now() - back)));
            row
        })
        .collect()
}

/// A chat session that began `minutes` ago.
pub fn session(n: u128, minutes: i64, messages: u32) -> JsonObject {
    object(json!({
        "id": id(n),
        "lead_id": id(n),
        "session_token": "segredo-do-visitante",
        "ip_address": "203.0.113.7",
        "total_messages": messages,
        "pages_visited": ["/", "/contato"],
        "perguntas_feitas": ["Qual o preço?"],
        "started_at": minutes_ago(minutes),
        "ended_at": null,
        "is_active": true,
    }))
}

/// Puts a record into a topic past the engine, as a foreign producer would.
pub async fn produce(topic: &str, key: &str, value: &[u8]) {
    let producer: FutureProducer = config().create().expect("a producer");
    let record = FutureRecord::to(topic).key(key).payload(value);
    producer.send(record, std::time::Duration::from_secs(20)).await.expect("the record is appended");
}

pub async fn delete_topics(topics: &[&str]) {
    let admin: AdminClient<DefaultClientContext> = config().create().expect("an admin client");
    admin.delete_topics(topics, &AdminOptions::new()).await.expect("an answer about the topics");
}

/// Deletes topics and waits until no broker knows them.
pub async fn delete_topics_for_good(topics: &[&str]) {
    delete_topics(topics).await;
    super::eventually("the topics are gone", async || {
        let admin: AdminClient<DefaultClientContext> = config().create().expect("an admin client");
        let known =
            admin.inner().fetch_metadata(None, std::time::Duration::from_secs(20)).expect("the topics");
        !known.topics().iter().any(|topic| topics.contains(&topic.name()))
    })
    .await;
}

pub fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", service("KAFKA_BOOTSTRAP_SERVERS"));
    config.set("message.max.bytes", "16000000");
    config
}
