//! A batch as the rows it becomes: which events, which entities, in which order, column by column.
//!
//! Guarantee: rows are unique and sorted by their key, so that a statement never meets a row twice and two
//! workers never wait for each other in a circle.

use std::{borrow::Cow, collections::HashMap};

use uuid::Uuid;

use super::columns::{Column, Values};
use crate::{
    domain::{Event, Table, json::for_jsonb},
    log::Position,
    sink::{SinkBatch, SinkEvent},
};

/// An event, and its JSON as jsonb can hold it.
pub(super) struct Row<'a> {
    pub(super) source: &'a SinkEvent,
    pub(super) metadata: Cow<'a, str>,
    pub(super) dados: Cow<'a, str>,
    /// Pieces that jsonb can't hold.
    replaced: usize,
}

/// What a batch becomes.
pub(super) struct Rows<'a> {
    /// Every event of the batch, in its order.
    pub(super) all: Vec<Row<'a>>,
    /// Where in `all` each different event stands, sorted by its id.
    distinct: Vec<usize>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(batch: &'a SinkBatch) -> Self {
        let all: Vec<Row<'a>> = batch.events.iter().map(Row::of).collect();
        let distinct = distinct(&all, |_| true);
        Self { all, distinct }
    }

    /// How many pieces of the rows jsonb can't hold.
    pub(super) fn replaced(&self) -> usize {
        self.distinct.iter().map(|i| self.all[*i].replaced).sum()
    }

    /// Every different event, sorted by its id, without the deliveries of `trimmed` events below the version that is told of
    /// each.
    pub(super) fn not_of_the_past(&self, trimmed: &HashMap<Uuid, i64>) -> Vec<&Row<'a>> {
        let is_news =
            |event: &Event| trimmed.get(&event.id).is_none_or(|below| *below <= event.entidade.versao);
        let news = if trimmed.is_empty() { &self.distinct } else { &distinct(&self.all, is_news) };
        news.iter().map(|i| &self.all[*i]).collect()
    }

    /// The newest row of each entity of a table, sorted by the entity.
    pub(super) fn newest_of(&self, batch: &SinkBatch, table: Table) -> Vec<&Row<'a>> {
        let newest = batch.newest_of(table);
        if newest.is_empty() {
            return Vec::new();
        }
        let at: HashMap<Position, usize> =
            self.all.iter().enumerate().map(|(i, row)| (row.source.position, i)).collect();
        let mut newest: Vec<&Row<'a>> =
            newest.into_iter().filter_map(|source| at.get(&source.position)).map(|i| &self.all[*i]).collect();
        newest.sort_unstable_by_key(|row| &row.source.event.entidade.id);
        newest
    }
}

/// Where in `all` each different event that is wanted stands, sorted by its id.
fn distinct(all: &[Row<'_>], is_wanted: impl Fn(&Event) -> bool) -> Vec<usize> {
    let mut distinct: Vec<usize> = (0..all.len()).filter(|i| is_wanted(&all[*i].source.event)).collect();
    // Stable: of equal ids the first stays, as it would event by event.
    distinct.sort_by_key(|i| all[*i].source.event.id);
    distinct.dedup_by_key(|i| all[*i].source.event.id);
    distinct
}

impl<'a> Row<'a> {
    fn of(source: &'a SinkEvent) -> Self {
        let (metadata, in_metadata) = for_jsonb(source.event.metadata.as_str());
        let (dados, in_dados) = for_jsonb(source.event.dados.as_str());
        // A row's metadata repeats its dados.
        let replaced = if source.table.is_some() { in_dados } else { in_dados + in_metadata };
        Self { source, metadata, dados, replaced }
    }
}

/// The columns of `eventos_raw`.
pub(super) fn event_columns<'r>(rows: &[&'r Row<'_>]) -> Vec<Column<'r>> {
    let events = || rows.iter().map(|row| &row.source.event);
    let text = |of: fn(&SinkEvent) -> &str| {
        Values::Text(rows.iter().map(|row| Some(Cow::Borrowed(of(row.source)))).collect())
    };
    let json = |of: for<'c> fn(&'c Row<'_>) -> &'c str| {
        Values::Json(rows.iter().map(|row| Some(Cow::Borrowed(of(row)))).collect())
    };
    let positions = || rows.iter().map(|row| row.source.position);
    vec![
        Column::new("id", Values::Uuid(events().map(|event| Some(event.id)).collect())),
        Column::new("tipo_evento", text(|source| &source.event.tipo_evento)),
        Column::new("usuario", text(|source| &source.event.usuario)),
        Column::new("evento", text(|source| &source.event.evento)),
        Column::new("valor", Values::Double(events().map(|event| event.valor).collect())),
        Column::new("timestamp", Values::Instant(events().map(|event| Some(event.timestamp)).collect())),
        Column::new("categoria", text(|source| &source.event.categoria)),
        Column::new("metadata", json(|row| &row.metadata)),
        Column::new("dados", json(|row| &row.dados)),
        Column::new("entidade_id", text(|source| &source.event.entidade.id)),
        Column::new("versao", Values::Bigint(events().map(|event| Some(event.entidade.versao)).collect())),
        Column::new("particao", Values::Integer(positions().map(|at| at.partition).collect())),
        Column::new("posicao", Values::Bigint(positions().map(|at| Some(at.offset)).collect())),
    ]
}

/// The columns of a table of entities.
pub(super) fn entity_columns<'r>(table: Table, rows: &[&'r Row<'_>]) -> Vec<Column<'r>> {
    let definition = table.definition();
    let events = || rows.iter().map(|row| &row.source.event);
    let mut listed: Vec<Column<'r>> = definition
        .columns
        .iter()
        .map(|column| Column::new(&column.name, Values::of_kind(column.kind)))
        .collect();
    for row in rows {
        for (column, (_, cell)) in listed.iter_mut().zip(row.source.event.row(table).cells()) {
            column.values.push(cell);
        }
    }
    let keys = rows.iter().map(|row| row.source.event.entidade.id.as_str());
    let mut columns = vec![Column::new(&definition.key.column, Values::keys(definition.key.kind, keys))];
    columns.append(&mut listed);
    let metadata = rows.iter().map(|row| Some(Cow::Borrowed(&*row.metadata)));
    columns.extend([
        Column::new("metadata", Values::Json(metadata.collect())),
        Column::new("versao", Values::Bigint(events().map(|event| Some(event.entidade.versao)).collect())),
        Column::new("evento_id", Values::Uuid(events().map(|event| Some(event.id)).collect())),
    ]);
    columns
}
