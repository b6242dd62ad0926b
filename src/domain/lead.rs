use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    JsonObject, Table,
    fields::{Fields, RowError},
};

/// A lead with at least this score counts as qualified.
pub const QUALIFIED_SCORE: i64 = 50;

/// A row of `leads`. Every column but `id` may be missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lead {
    pub id: Uuid,
    pub nome: Option<String>,
    pub email: Option<String>,
    pub telefone: Option<String>,
    pub nome_empresa: Option<String>,
    pub nome_projeto: Option<String>,
    pub localizacao: Option<Value>,
    #[serde(default)]
    pub interesse: Vec<String>,
    pub score_qualificacao: Option<i64>,
    pub status_lead: Option<String>,
    pub origem: Option<String>,
    pub utm_source: Option<String>,
    pub utm_medium: Option<String>,
    pub utm_campaign: Option<String>,
    pub created_at: Option<DateTime<Utc>>,
    pub updated_at: Option<DateTime<Utc>>,
    pub last_interaction_at: Option<DateTime<Utc>>,
}

impl Lead {
    /// Types a source row; the second part holds the columns sluice does not know.
    ///
    /// # Errors
    /// When `id` is missing or a column holds another type than its own.
    pub fn from_row(row: JsonObject) -> Result<(Self, JsonObject), RowError> {
        let mut fields = Fields::new(Table::Leads, row);
        let lead = Self {
            id: fields.id()?,
            nome: fields.text("nome")?,
            email: fields.text("email")?,
            telefone: fields.text("telefone")?,
            nome_empresa: fields.text("nome_empresa")?,
            nome_projeto: fields.text("nome_projeto")?,
            localizacao: fields.json("localizacao"),
            interesse: fields.list("interesse")?,
            score_qualificacao: fields.integer("score_qualificacao")?,
            status_lead: fields.text("status_lead")?,
            origem: fields.text("origem")?,
            utm_source: fields.text("utm_source")?,
            utm_medium: fields.text("utm_medium")?,
            utm_campaign: fields.text("utm_campaign")?,
            created_at: fields.instant("created_at")?,
            updated_at: fields.instant("updated_at")?,
            last_interaction_at: fields.instant("last_interaction_at")?,
        };
        Ok((lead, fields.rest()))
    }

    /// The instant the row was last written, as far as it tells.
    pub fn changed_at(&self) -> Option<DateTime<Utc>> {
        self.updated_at.or(self.created_at)
    }

    pub(super) fn usuario(&self) -> String {
        self.email.clone().or_else(|| self.nome.clone()).unwrap_or_else(|| self.id.to_string())
    }

    pub(super) fn evento(&self) -> String {
        match self.status_lead.as_deref().map(str::trim) {
            Some(status) if !status.is_empty() => format!("lead_{status}"),
            _ => "lead_sem_status".to_owned(),
        }
    }

    /// What the old pipeline's queries read, under the names they use.
    pub(super) fn metadata(&self) -> JsonObject {
        let all = json!({
            "nome": self.nome,
            "telefone": self.telefone,
            "empresa": self.nome_empresa,
            "projeto": self.nome_projeto,
            "interesses": self.interesse,
            "origem": self.origem,
            "utm_source": self.utm_source,
            "utm_medium": self.utm_medium,
            "utm_campaign": self.utm_campaign,
            "localizacao": self.localizacao,
        });
        super::event::without_nulls(all)
    }
}
