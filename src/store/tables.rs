//! What the store's tables hold, for whoever asks: the one description of their columns' meaning, held to the
//! migrations by a test.

use serde::Serialize;

/// A table that can be queried.
#[derive(Debug, Serialize)]
pub struct StoreTable {
    pub table: &'static str,
    pub about: &'static str,
    pub columns: &'static [Column],
}

/// One of its columns.
#[derive(Debug, Serialize)]
pub struct Column {
    pub name: &'static str,
    /// As Postgres spells it. The embedded store keeps instants as ISO 8601 text in UTC, JSON and lists as JSON text.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub meaning: &'static str,
}

impl StoreTable {
    /// The table of that name.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.table == name)
    }
}

const fn column(name: &'static str, kind: &'static str, meaning: &'static str) -> Column {
    Column { name, kind, meaning }
}

const VERSAO: Column =
    column("versao", "bigint", "orders the versions of one entity: microseconds since the Unix epoch");

/// Every table that can be queried, the entities first.
pub const TABLES: &[StoreTable] = &[
    StoreTable {
        table: "leads",
        about: "the current state of each lead",
        columns: &[
            column("id", "uuid", "the lead's id, as in Supabase"),
            column("nome", "text", "the person's name"),
            column("email", "text", "the e-mail address; neither required nor unique"),
            column("telefone", "text", "the phone number as it was typed"),
            column("nome_empresa", "text", "the company"),
            column("nome_projeto", "text", "the project the lead is interested in"),
            column("localizacao", "jsonb", "the place, in whatever shape the site sent"),
            column("interesse", "text[]", "topics of interest"),
            column("score_qualificacao", "bigint", "the score; at least 50 counts as qualified"),
            column("status_lead", "text", "novo, qualificado, em_contato or another of the project's own"),
            column("origem", "text", "where the lead came from"),
            column("utm_source", "text", "campaign source"),
            column("utm_medium", "text", "campaign medium"),
            column("utm_campaign", "text", "campaign name"),
            column("created_at", "timestamptz", "when the lead came to be"),
            column("updated_at", "timestamptz", "when the lead was last changed"),
            column("last_interaction_at", "timestamptz", "when the person was last heard of"),
            column("metadata", "jsonb", "what dashboards read, and the columns sluice has no type for"),
            VERSAO,
            column("evento_id", "uuid", "the event that carries this state"),
            column("sincronizado_em", "timestamptz", "when this state was written here"),
        ],
    },
    StoreTable {
        table: "chat_sessions",
        about: "the current state of each chat session",
        columns: &[
            column("id", "uuid", "the session's id, as in Supabase"),
            column("lead_id", "text", "the lead who chatted, where known"),
            column("user_agent", "text", "the visitor's browser"),
            column("ip_address", "text", "the visitor's address; empty unless the operator asked for it"),
            column("total_messages", "bigint", "messages exchanged"),
            column("duration_seconds", "bigint", "length of the session, in seconds"),
            column("pages_visited", "text[]", "pages the visitor saw"),
            column("perguntas_feitas", "text[]", "questions the visitor asked"),
            column("intencao_detectada", "text", "what the visitor seems to want"),
            column("nivel_interesse", "text", "how interested the visitor seems"),
            column("started_at", "timestamptz", "when the session began"),
            column("ended_at", "timestamptz", "when the session ended"),
            column("is_active", "boolean", "whether it still runs"),
            column("metadata", "jsonb", "what dashboards read, and the columns sluice has no type for"),
            VERSAO,
            column("evento_id", "uuid", "the event that carries this state"),
            column("sincronizado_em", "timestamptz", "when this state was written here"),
        ],
    },
    StoreTable {
        table: "eventos_raw",
        about: "every event of the log, once",
        columns: &[
            column("id", "uuid", "the event's id, derived from the row's content"),
            column("tipo_evento", "text", "lead, chat_session or manual"),
            column("usuario", "text", "whom it is about: an e-mail address, a name or an id"),
            column("evento", "text", "lead_<status_lead>, chat_session, or free text of a manual event"),
            column("valor", "double precision", "the lead's score or the session's message count"),
            column("timestamp", "timestamptz", "when the row was last changed"),
            column("categoria", "text", "vendas, engajamento or teste_manual"),
            column("metadata", "jsonb", "what dashboards read, and the columns sluice has no type for"),
            column("dados", "jsonb", "the whole source row"),
            column("entidade_id", "uuid", "the lead or chat session it is a version of"),
            VERSAO,
            column("particao", "integer", "the partition it was first applied from"),
            column("posicao", "bigint", "the offset it was first applied from"),
            column("ingerido_em", "timestamptz", "when it was written here"),
        ],
    },
    StoreTable {
        table: "eventos_agregados",
        about: "eventos_raw counted in windows of five minutes of the events' own time",
        columns: &[
            column("janela_inicio", "timestamptz", "the window's beginning"),
            column("janela_fim", "timestamptz", "the window's end"),
            column("categoria", "text", "vendas, engajamento or teste_manual"),
            column("evento", "text", "as in eventos_raw"),
            column("total", "bigint", "events in the window"),
            column("soma_valor", "double precision", "sum of their valor"),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Table;

    /// Name and type of every column that a migration creates in `table`.
    fn migrated(table: &str) -> Vec<(String, String)> {
        let sql = include_str!("../../migrations/postgres/0001_events.sql");
        let (_, rest) = sql.split_once(&format!("CREATE TABLE {table} (")).expect("the table is created");
        let (body, _) = rest.split_once("\n)").expect("its end");
        body.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("PRIMARY KEY"))
            .map(|line| {
                let (name, kind) = line.split_once(' ').expect("a name and a type");
                let kind = kind.split(" NOT NULL").next().unwrap_or(kind);
                let kind = kind.split(" PRIMARY KEY").next().unwrap_or(kind);
                (name.trim_matches('"').to_owned(), kind.trim_end_matches(',').to_owned())
            })
            .collect()
    }

    #[test]
    fn the_description_is_what_the_migrations_make() {
        for table in TABLES {
            let described: Vec<(String, String)> =
                table.columns.iter().map(|column| (column.name.to_owned(), column.kind.to_owned())).collect();
            assert_eq!(described, migrated(table.table), "{}", table.table);
        }
    }

    #[test]
    fn every_column_of_a_source_table_is_described() {
        for table in Table::ALL {
            let described = StoreTable::from_name(table.name()).expect("a description");
            for name in table.columns() {
                assert!(described.columns.iter().any(|column| column.name == *name), "{table}.{name}");
            }
        }
    }
}
