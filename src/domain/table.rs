use serde::{Deserialize, Serialize};

/// A source table. Its name is the same in Supabase, in Postgres and in the index.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    Leads,
    ChatSessions,
}

impl Table {
    pub const ALL: [Self; 2] = [Self::Leads, Self::ChatSessions];

    /// The table's name everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leads => "leads",
            Self::ChatSessions => "chat_sessions",
        }
    }

    /// The table of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The column that grows when a row changes, where the table has one: only such a table can be read
    /// incrementally, and only its rows carry their own version.
    pub fn modified_column(self) -> Option<&'static str> {
        match self {
            Self::Leads => Some("updated_at"),
            Self::ChatSessions => None,
        }
    }

    /// The column that holds the instant a row came to be.
    pub fn created_column(self) -> &'static str {
        match self {
            Self::Leads => "created_at",
            Self::ChatSessions => "started_at",
        }
    }

    /// The columns sluice gives a type; any other is kept in an event's `metadata`.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Leads => &[
                "id",
                "nome",
                "email",
                "telefone",
                "nome_empresa",
                "nome_projeto",
                "localizacao",
                "interesse",
                "score_qualificacao",
                "status_lead",
                "origem",
                "utm_source",
                "utm_medium",
                "utm_campaign",
                "created_at",
                "updated_at",
                "last_interaction_at",
            ],
            Self::ChatSessions => &[
                "id",
                "lead_id",
                "user_agent",
                "ip_address",
                "total_messages",
                "duration_seconds",
                "pages_visited",
                "perguntas_feitas",
                "intencao_detectada",
                "nivel_interesse",
                "started_at",
                "ended_at",
                "is_active",
            ],
        }
    }

    /// Columns that never leave Supabase: they are credentials of the site's visitors.
    pub fn forbidden_columns(self) -> &'static [&'static str] {
        match self {
            Self::Leads => &[],
            Self::ChatSessions => &["session_token"],
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
