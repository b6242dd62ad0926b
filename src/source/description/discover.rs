//! A definition made of what a project tells: a beginning for a person to go on from.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Basis, DescribedColumn, Description,
    names::{is_personal, is_secret, singular, slug, words},
};
use crate::domain::{
    Catalog, Column, ColumnKind, Dashboard, Definition, DefinitionError, EventRule, Key, Search, SourceTable,
    Time, is_reserved_column, is_reserved_table,
};

/// Columns that `metadata` repeats at most.
const MAX_METADATA: usize = 20;

/// Columns that are shown where a row is told in short.
const MAX_BRIEF: usize = 10;

/// Names of creation times, the likeliest first.
const CREATED: [&str; 15] = [
    "created_at",
    "criado_em",
    "inserted_at",
    "created",
    "data_criacao",
    "created_on",
    "creation_date",
    "started_at",
    "iniciado_em",
    "sent_at",
    "enviado_em",
    "occurred_at",
    "timestamp",
    "data",
    "date",
];
const MODIFIED: [&str; 12] = [
    "updated_at",
    "atualizado_em",
    "modified_at",
    "last_modified",
    "modified",
    "updated",
    "data_atualizacao",
    "alterado_em",
    "changed_at",
    "last_updated",
    "updated_on",
    "modificado_em",
];
const ENDED: [&str; 8] = [
    "ended_at",
    "finished_at",
    "closed_at",
    "encerrado_em",
    "finalizado_em",
    "completed_at",
    "fim",
    "end_time",
];
const ACTIVE: [&str; 4] = ["is_active", "active", "ativo", "em_andamento"];
const STATUS: [&str; 8] = ["status", "estado", "state", "fase", "etapa", "stage", "papel", "role"];
const USER: [&str; 12] = [
    "email",
    "user_email",
    "usuario",
    "username",
    "user_name",
    "nome",
    "name",
    "user_id",
    "lead_id",
    "cliente_id",
    "customer_id",
    "session_id",
];
const VALUE: [&str; 8] = ["valor", "amount", "total", "price", "preco", "value", "score", "quantidade"];

/// Why no definition can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    #[error(
        "{0} has no column that tells its rows apart: give it a primary key, or write its definition with the column \
         that is unique and never null"
    )]
    NoKey(String),
    #[error(
        "{table} has a key of several columns ({columns}): give it a unique column of its own, a generated one will do, \
         and define that as the key"
    )]
    CompositeKey { table: String, columns: String },
    #[error("no name for {0} can be made of its letters: write its definition by hand, with source.table")]
    Unnameable(String),
    #[error(transparent)]
    Definition(#[from] DefinitionError),
}

/// Makes a definition of a description. `catalog` holds the tables that there are: their entities' names are taken.
///
/// # Errors
/// When nothing tells the rows apart, or no name can be made.
pub fn discover(description: &Description, catalog: Catalog) -> Result<Definition, DiscoverError> {
    let key = key_of(description)?;
    let unnameable = || DiscoverError::Unnameable(description.table.clone());
    let name = table_name(&description.table, catalog).ok_or_else(unnameable)?;
    let mut names = Names::default();
    let key_name = names.take(&key.name).ok_or_else(unnameable)?;
    let secret: Vec<String> = description
        .columns
        .iter()
        .filter(|c| c.name != key.name && is_secret(&c.name, c.kind))
        .map(|c| c.name.clone())
        .collect();
    let mut columns: Vec<Column> = description
        .columns
        .iter()
        .filter(|column| column.name != key.name && !secret.contains(&column.name))
        .filter_map(|column| Some(column_of(column, names.take(&column.name)?, catalog)))
        .collect();
    for column in columns.iter_mut().filter(|column| column.kind != ColumnKind::Json).take(MAX_BRIEF) {
        column.brief = true;
    }
    let time = time_of(&columns);
    let entity = entity_name(&name, catalog);
    let status = named(&columns, &STATUS, |kind| kind == ColumnKind::Text);
    let status = status.or_else(|| columns.iter().find(|column| column.name.starts_with("status_")));
    // What events are called is shown as it is.
    let status = status.filter(|column| !column.masked);
    let definition = Definition {
        about: description.comment.clone().unwrap_or_else(|| match description.basis {
            Basis::Described => format!("rows of the project's {}", description.table),
            Basis::Rows(rows) => {
                format!("rows of the project's {}; types guessed from {rows} rows", description.table)
            }
        }),
        source: SourceTable {
            table: (description.table != name).then(|| description.table.clone()),
            schema: description.schema.clone(),
        },
        never_read: secret,
        key: Key {
            from: (key.name != key_name).then(|| key.name.clone()),
            kind: key.key_kind(),
            column: key_name,
            meaning: key.comment.clone().unwrap_or_default(),
        },
        event: EventRule {
            categoria: name.clone(),
            evento: match status {
                Some(status) => format!("{entity}_{{{}}}", status.name),
                None => entity.clone(),
            },
            missing: "sem_status".to_owned(),
            removed: None,
            usuario: users(&columns),
            anonymous: None,
            valor: named(&columns, &VALUE, |kind| matches!(kind, ColumnKind::Integer | ColumnKind::Number))
                .map(|column| column.name.clone()),
            timestamp: Vec::new(),
            metadata: metadata(&columns, &time),
        },
        filters: BTreeMap::new(),
        groups: BTreeMap::new(),
        dashboard: Dashboard {
            breakdowns: status.map(|column| column.name.clone()).into_iter().collect(),
            counts: Vec::new(),
        },
        time,
        entity,
        name,
        columns,
    };
    // What is written must be read again.
    Ok(Definition::parse(&definition.to_toml()?)?)
}

fn key_of(description: &Description) -> Result<&DescribedColumn, DiscoverError> {
    let keys: Vec<&DescribedColumn> = description.columns.iter().filter(|column| column.is_key).collect();
    match keys[..] {
        [key] => Ok(key),
        [] => {
            let table = singular(&description.table);
            let named = [
                "id".to_owned(),
                "uuid".to_owned(),
                format!("{table}_id"),
                format!("id_{table}"),
                "codigo".to_owned(),
            ];
            let scalar =
                |kind: Option<ColumnKind>| matches!(kind, Some(ColumnKind::Text | ColumnKind::Integer));
            let found =
                named.iter().find_map(|name| description.column(name)).filter(|column| scalar(column.kind));
            found.ok_or_else(|| DiscoverError::NoKey(description.table.clone()))
        }
        _ => Err(DiscoverError::CompositeKey {
            table: description.table.clone(),
            columns: keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(", "),
        }),
    }
}

/// A name that no other table bears; that of a defined table of the same source stays its own.
fn table_name(table: &str, catalog: Catalog) -> Option<String> {
    let slug = slug(table);
    let slug = if is_reserved_table(&slug) { format!("tabela_{slug}") } else { slug };
    let is_other = catalog.get(&slug).is_some_and(|known| known.source_name() != table);
    let slug = if is_other { format!("{slug}_2") } else { slug };
    (!slug.is_empty()).then_some(slug)
}

fn entity_name(table: &str, catalog: Catalog) -> String {
    let mut entity = singular(table);
    let is_taken = |entity: &str| {
        entity == "manual" || catalog.tables().any(|known| known.entity == entity && known.name() != table)
    };
    while is_taken(&entity) {
        entity.push_str("_linha");
    }
    entity
}

/// Names that are given once each.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn take(&mut self, source: &str) -> Option<String> {
        let slug = slug(source);
        let slug = if is_reserved_column(&slug) { format!("{slug}_origem") } else { slug };
        if slug.is_empty() {
            return None;
        }
        let mut name = slug.clone();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{slug}_{number}");
            number += 1;
        }
        Some(name)
    }
}

fn column_of(column: &DescribedColumn, name: String, catalog: Catalog) -> Column {
    let kind = column.kind.unwrap_or(ColumnKind::Text);
    let is_address = column.format == "inet";
    let values = (!column.values.is_empty()).then(|| format!("one of {}", column.values.join(", ")));
    let meaning = [column.comment.clone(), values].into_iter().flatten().collect::<Vec<_>>().join("; ");
    let of_source = |source: &String| catalog.tables().find(|table| table.source_name() == *source);
    let refers_to = column.refers_to.as_ref().and_then(of_source).map(|table| table.name().to_owned());
    let is_code = column.format == "uuid" || refers_to.is_some();
    let is_text = kind == ColumnKind::Text;
    Column {
        from: (column.name != name).then(|| column.name.clone()),
        formerly: Vec::new(),
        kind,
        meaning,
        masked: is_personal(&column.name) || is_address,
        on_request: false,
        brief: false,
        lookup: is_text && words(&column.name).iter().any(|word| word == "email"),
        refers_to,
        search: match kind {
            ColumnKind::Text if is_address => Some(Search::Ip),
            ColumnKind::Text if is_code => Some(Search::Keyword),
            _ => None,
        },
        name,
    }
}

/// The first of these names that a column of such a kind bears, here or in the project.
fn named<'a>(columns: &'a [Column], names: &[&str], fits: impl Fn(ColumnKind) -> bool) -> Option<&'a Column> {
    names.iter().find_map(|name| {
        let bears = |column: &&Column| column.name == *name || words(column.source()).join("_") == **name;
        columns.iter().filter(|column| fits(column.kind)).find(bears)
    })
}

fn time_of(columns: &[Column]) -> Time {
    let instant = |kind| matches!(kind, ColumnKind::Timestamp | ColumnKind::Date);
    let find = |names: &[&str]| named(columns, names, instant).map(|column| column.name.clone());
    let (created, modified) = (find(&CREATED), find(&MODIFIED));
    // A row that tells when it was changed need not be looked at again.
    let ended = if modified.is_none() && created.is_some() { find(&ENDED) } else { None };
    let active = ended.as_ref().and_then(|_| named(columns, &ACTIVE, |kind| kind == ColumnKind::Boolean));
    Time {
        created,
        modified,
        ended: ended.clone(),
        active: active.map(|column| column.name.clone()),
        zone: None,
    }
}

fn users(columns: &[Column]) -> Vec<String> {
    let fits = |kind| matches!(kind, ColumnKind::Text | ColumnKind::Integer);
    let found = USER.iter().filter_map(|name| named(columns, &[name], fits));
    let mut users: Vec<String> = found.map(|column| column.name.clone()).collect();
    users.truncate(2);
    users
}

/// What queries over all events may want to tell apart.
fn metadata(columns: &[Column], time: &Time) -> BTreeMap<String, String> {
    let times = [&time.created, &time.modified, &time.ended];
    let is_time = |column: &Column| times.iter().any(|time| time.as_ref() == Some(&column.name));
    columns
        .iter()
        .filter(|column| !column.masked && column.kind != ColumnKind::Json && !is_time(column))
        .take(MAX_METADATA)
        .map(|column| (column.name.clone(), column.name.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::KeyKind, source::description::kind_of_format};

    fn column(name: &str, format: &str) -> DescribedColumn {
        DescribedColumn {
            name: name.to_owned(),
            kind: Some(kind_of_format(format)),
            format: format.to_owned(),
            is_key: name == "id",
            comment: None,
            values: Vec::new(),
            refers_to: None,
        }
    }

    fn described(table: &str, columns: &[(&str, &str)]) -> Description {
        Description {
            schema: None,
            table: table.to_owned(),
            comment: None,
            columns: columns.iter().map(|(name, format)| column(name, format)).collect(),
            basis: Basis::Described,
        }
    }

    #[test]
    fn messages_of_a_chat_become_a_table() {
        let mut description = described(
            "chat_messages",
            &[
                ("id", "bigint"),
                ("session_id", "uuid"),
                ("papel", "text"),
                ("conteudo", "text"),
                ("tokens", "integer"),
                ("timestamp", "timestamp with time zone"),
                ("session_token", "text"),
            ],
        );
        description.columns[1].refers_to = Some("chat_sessions".to_owned());
        let definition = discover(&description, Catalog::built_in()).expect("a definition");
        assert_eq!((definition.name.as_str(), definition.entity.as_str()), ("chat_messages", "chat_message"));
        assert_eq!(definition.key.kind, KeyKind::Bigint);
        assert_eq!(definition.never_read, ["session_token"]);
        assert_eq!(definition.time.created.as_deref(), Some("timestamp_origem"));
        assert_eq!(definition.column("timestamp_origem").map(Column::source), Some("timestamp"));
        assert_eq!(definition.event.evento, "chat_message_{papel}");
        let session = definition.column("session_id").expect("a column");
        assert_eq!(
            (session.refers_to.as_deref(), session.search),
            (Some("chat_sessions"), Some(Search::Keyword))
        );
    }

    #[test]
    fn names_personal_data_and_times_are_found_by_what_they_are_called() {
        let description = described(
            "Clientes Antigos",
            &[
                ("id", "uuid"),
                ("Nome Completo", "text"),
                ("nome-completo", "text"),
                ("E-mail", "text"),
                ("userEmail", "character varying"),
                ("CPF", "text"),
                ("ip", "inet"),
                ("createdAt", "timestamp without time zone"),
                ("updatedAt", "timestamp without time zone"),
                ("ended_at", "timestamp with time zone"),
                ("active", "boolean"),
                ("dados", "jsonb"),
                ("valor", "numeric"),
            ],
        );
        let definition = discover(&description, Catalog::built_in()).expect("a definition");
        assert_eq!(definition.name, "clientes_antigos");
        assert_eq!(definition.source.table.as_deref(), Some("Clientes Antigos"));
        let names: Vec<&str> = definition.columns.iter().map(|column| column.name.as_str()).collect();
        assert!(
            names.starts_with(&["nome_completo", "nome_completo_2", "e_mail", "useremail", "cpf", "ip"]),
            "{names:?}"
        );
        assert!(names.contains(&"dados_origem") && names.contains(&"valor_origem"), "{names:?}");
        for masked in ["e_mail", "useremail", "cpf", "ip"] {
            assert!(definition.column(masked).is_some_and(|column| column.masked), "{masked}");
        }
        assert!(definition.column("useremail").is_some_and(|column| column.lookup));
        assert_eq!(definition.column("ip").and_then(|column| column.search), Some(Search::Ip));
        let Time { created, modified, ended, active, .. } = &definition.time;
        assert_eq!((created.as_deref(), modified.as_deref()), (Some("createdat"), Some("updatedat")));
        assert_eq!(
            (ended, active),
            (&None, &None),
            "a row that tells of its changes is read when it changes"
        );
        assert_eq!(definition.event.valor.as_deref(), Some("valor_origem"));
    }

    #[test]
    fn rows_that_nothing_tells_apart_are_no_table() {
        let mut description = described("pares", &[("a", "integer"), ("b", "integer")]);
        assert_eq!(discover(&description, Catalog::built_in()), Err(DiscoverError::NoKey("pares".into())));
        for column in &mut description.columns {
            column.is_key = true;
        }
        let error = discover(&description, Catalog::built_in()).expect_err("two keys").to_string();
        assert!(error.contains("a, b"), "{error}");
    }

    #[test]
    fn a_table_whose_names_are_taken_gets_others() {
        let definition =
            discover(&described("lead", &[("id", "uuid")]), Catalog::built_in()).expect("a definition");
        assert_eq!((definition.name.as_str(), definition.entity.as_str()), ("lead", "lead_linha"));
        let definition =
            discover(&described("eventos", &[("id", "uuid")]), Catalog::built_in()).expect("a definition");
        assert_eq!(definition.name, "tabela_eventos");
    }
}
