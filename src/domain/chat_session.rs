use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{
    JsonObject, Table,
    fields::{Fields, RowError},
};

/// A row of `chat_sessions`. Every column but `id` may be missing; `session_token` is never read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatSession {
    pub id: Uuid,
    pub lead_id: Option<String>,
    pub user_agent: Option<String>,
    /// Only where the operator asked for it.
    pub ip_address: Option<String>,
    pub total_messages: Option<i64>,
    pub duration_seconds: Option<i64>,
    #[serde(default)]
    pub pages_visited: Vec<String>,
    #[serde(default)]
    pub perguntas_feitas: Vec<String>,
    pub intencao_detectada: Option<String>,
    pub nivel_interesse: Option<String>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub is_active: Option<bool>,
}

impl ChatSession {
    /// Types a source row; the second part holds the columns sluice does not know.
    ///
    /// # Errors
    /// When `id` is missing or a column holds another type than its own.
    pub fn from_row(row: JsonObject) -> Result<(Self, JsonObject), RowError> {
        let mut fields = Fields::new(Table::ChatSessions, row);
        let session = Self {
            id: fields.id()?,
            lead_id: fields.text("lead_id")?,
            user_agent: fields.text("user_agent")?,
            ip_address: fields.text("ip_address")?,
            total_messages: fields.integer("total_messages")?,
            duration_seconds: fields.integer("duration_seconds")?,
            pages_visited: fields.list("pages_visited")?,
            perguntas_feitas: fields.list("perguntas_feitas")?,
            intencao_detectada: fields.text("intencao_detectada")?,
            nivel_interesse: fields.text("nivel_interesse")?,
            started_at: fields.instant("started_at")?,
            ended_at: fields.instant("ended_at")?,
            is_active: fields.boolean("is_active")?,
        };
        Ok((session, fields.rest()))
    }

    pub(super) fn usuario(&self) -> String {
        self.lead_id.clone().unwrap_or_else(|| "anonimo".to_owned())
    }

    /// What the old pipeline's queries read, under the names they use.
    pub(super) fn metadata(&self) -> JsonObject {
        let all = json!({
            "total_messages": self.total_messages,
            "duration_seconds": self.duration_seconds,
            "nivel_interesse": self.nivel_interesse,
            "intencao_detectada": self.intencao_detectada,
            "is_active": self.is_active,
        });
        super::event::without_nulls(all)
    }
}
