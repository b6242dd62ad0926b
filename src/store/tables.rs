//! What the store's tables hold: those of entities as their definitions say, the others as the migrations make them,
//! which a test holds this description to.

use serde::Serialize;

use crate::domain::{Catalog, ColumnKind, KeyKind, Table};

/// A table that can be queried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreTable {
    pub table: &'static str,
    pub about: &'static str,
    pub columns: Vec<Column>,
}

/// One of its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Column {
    pub name: &'static str,
    /// As Postgres spells it. The embedded store keeps instants as ISO 8601 text in UTC, JSON and lists as JSON text.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub meaning: &'static str,
}

/// Every table that can be queried: those of the catalog, then those of events.
pub fn tables(catalog: Catalog) -> Vec<StoreTable> {
    catalog.tables().map(StoreTable::of).chain([events(), rollup()]).collect()
}

impl StoreTable {
    /// The table of that name.
    pub fn named(catalog: Catalog, name: &str) -> Option<Self> {
        match name {
            "eventos_raw" => Some(events()),
            "eventos_agregados" => Some(rollup()),
            _ => catalog.get(name).map(Self::of),
        }
    }

    /// The table of a definition's entities: the key, the definition's columns, and sluice's own.
    pub fn of(table: Table) -> Self {
        let definition = table.definition();
        let key = column(&definition.key.column, key_type(definition.key.kind), &definition.key.meaning);
        let listed = definition
            .columns
            .iter()
            .map(|listed| column(&listed.name, column_type(listed.kind), &listed.meaning));
        let columns = std::iter::once(key).chain(listed).chain(ENTITY_COLUMNS).collect();
        Self { table: table.name(), about: &definition.about, columns }
    }
}

/// Postgres's type for a key.
pub(super) fn key_type(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Uuid => "uuid",
        KeyKind::Bigint => "bigint",
        KeyKind::Text => "text",
    }
}

/// Postgres's type for a column.
pub(super) fn column_type(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Text => "text",
        ColumnKind::Integer => "bigint",
        ColumnKind::Number => "numeric",
        ColumnKind::Boolean => "boolean",
        ColumnKind::Timestamp => "timestamptz",
        ColumnKind::Date => "date",
        ColumnKind::Json => "jsonb",
        ColumnKind::List => "text[]",
    }
}

const fn column(name: &'static str, kind: &'static str, meaning: &'static str) -> Column {
    Column { name, kind, meaning }
}

const METADATA: Column = column(
    "metadata",
    "jsonb",
    "what dashboards read, and the columns that the table's definition does not list",
);

const VERSAO: Column = column(
    "versao",
    "bigint",
    "orders the versions of one entity: microseconds since the Unix epoch by the server's clock, or the last version and one",
);

/// What every entity has beside the columns of its definition, and after them.
pub(super) const ENTITY_COLUMNS: [Column; 4] = [
    METADATA,
    VERSAO,
    column("evento_id", "uuid", "the event that carries this state"),
    column("processado_em", "timestamptz", "when this state was written here"),
];

fn events() -> StoreTable {
    StoreTable {
        table: "eventos_raw",
        about: "every event of the log, once",
        columns: vec![
            column("id", "uuid", "the event's id, derived from the row's content"),
            column(
                "tipo_evento",
                "text",
                "the entity of the row's table, such as lead or chat_session; or manual",
            ),
            column("usuario", "text", "whom it is about: an e-mail address, a name or an id"),
            column(
                "evento",
                "text",
                "what the table's definition calls it, such as lead_novo; free text of a manual event",
            ),
            column(
                "valor",
                "double precision",
                "the number that the table's definition chooses, such as a score; else 0",
            ),
            column(
                "timestamp",
                "timestamptz",
                "when the row says it was last changed, else created, else when it was read",
            ),
            column(
                "categoria",
                "text",
                "vendas, engajamento or another of the table's definition; or teste_manual",
            ),
            METADATA,
            column("dados", "jsonb", "the whole source row"),
            column("entidade_id", "text", "the key of the row it is a version of, as text"),
            VERSAO,
            column("particao", "integer", "the partition it was first applied from"),
            column("posicao", "bigint", "the offset it was first applied from"),
            column("processado_em", "timestamptz", "when it was written here"),
        ],
    }
}

fn rollup() -> StoreTable {
    StoreTable {
        table: "eventos_agregados",
        about: "eventos_raw counted in windows of five minutes of the events' own time",
        columns: vec![
            column("janela_inicio", "timestamptz", "the window's beginning"),
            column("janela_fim", "timestamptz", "the window's end"),
            column("categoria", "text", "as in eventos_raw"),
            column("evento", "text", "as in eventos_raw"),
            column("total", "bigint", "events in the window"),
            column("soma_valor", "double precision", "sum of their valor"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name and type of every column that a migration creates in `table`.
    fn migrated(table: &str) -> Vec<(String, String)> {
        let sql = include_str!("../../migrations/postgres/0001_events.sql");
        let (_, rest) =
            sql.split_once(&format!("CREATE TABLE IF NOT EXISTS {table} (")).expect("the table is created");
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
    fn the_tables_of_events_are_described_as_the_migrations_make_them() {
        for table in [events(), rollup()] {
            let described: Vec<(String, String)> =
                table.columns.iter().map(|column| (column.name.to_owned(), column.kind.to_owned())).collect();
            assert_eq!(described, migrated(table.table), "{}", table.table);
        }
    }

    #[test]
    fn a_definition_s_table_has_its_key_its_columns_and_sluice_s_own() {
        let catalog = Catalog::built_in();
        let described = StoreTable::named(catalog, "leads").expect("leads");
        let names: Vec<&str> = described.columns.iter().map(|column| column.name).collect();
        assert_eq!((names[0], described.columns[0].kind), ("id", "uuid"));
        assert_eq!(names[names.len() - 4..], ["metadata", "versao", "evento_id", "processado_em"]);
        let listed = catalog.get("leads").expect("leads").definition().columns.len();
        assert_eq!(names.len(), listed + 5);
        let all: Vec<&str> = tables(catalog).iter().map(|table| table.table).collect();
        assert_eq!(all, ["leads", "chat_sessions", "eventos_raw", "eventos_agregados"]);
        assert_eq!(StoreTable::named(catalog, "sluice_syncs"), None);
    }
}
