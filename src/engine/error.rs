//! Why a request to the engine came to nothing, and what can be done about it.

use std::{fmt, time::Duration};

use uuid::Uuid;

use super::EntityKey;
use crate::{
    domain::{Catalog, Table, TableName},
    fault::Fault,
    index::SearchError,
    next_step::{NextStep, Remark},
    store::SyncRecord,
};

/// Why a request to the engine came to nothing.
#[derive(Debug, Clone)]
pub enum EngineError {
    Fault(Fault),
    Search(SearchError),
    Invalid {
        field: &'static str,
        problem: String,
    },
    /// Another sync of the table runs; `None` where it is just ending.
    Busy(Option<Box<SyncRecord>>),
    UnknownSync(Uuid),
    UnknownTable {
        name: TableName,
        catalog: Catalog,
    },
    UnknownEntity {
        table: Table,
        key: EntityKey,
    },
    /// There is nothing to restart in a sink that is paused.
    Paused {
        sink: String,
    },
    /// This process drains nothing.
    NotDrainedHere {
        sink: String,
    },
}

impl EngineError {
    /// How long a part asked to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Fault(fault) | Self::Search(SearchError::Fault(fault)) => fault.retry_after,
            _ => None,
        }
    }

    /// The argument it is about, where there is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Fault(_) | Self::Search(_) | Self::Busy(_) => None,
            Self::Invalid { field, .. } => Some(field),
            Self::UnknownSync(_) => Some("sync_id"),
            Self::UnknownTable { .. } => Some("table"),
            Self::UnknownEntity { key: EntityKey::Key(_), .. } => Some("key"),
            Self::UnknownEntity { key: EntityKey::Lookup { column, .. }, .. } => Some(column),
            Self::Paused { .. } | Self::NotDrainedHere { .. } => Some("service"),
        }
    }

    /// What is to be said about it.
    pub fn remark(&self) -> Remark {
        let (problem, next_step) = match self {
            Self::Fault(fault) | Self::Search(SearchError::Fault(fault)) => return fault.remark(),
            Self::Search(error) => return error.to_string().into(),
            Self::Invalid { problem, .. } => (problem.clone(), None),
            Self::Busy(Some(running)) => (
                format!(
                    "a {} of {} runs already: {} since {} on {}",
                    if running.request.reconcile.is_some() { "reconciliation" } else { "sync" },
                    running.request.table,
                    running.id,
                    running.started_at.format("%Y-%m-%dT%H:%M:%SZ"),
                    running.owner
                ),
                Some(NextStep::FollowSync(running.id)),
            ),
            Self::Busy(None) => {
                ("another sync of this table is just ending".to_owned(), Some("try again".into()))
            }
            Self::UnknownSync(id) => (format!("no sync {id} is known"), Some(NextStep::ListSyncs)),
            Self::UnknownTable { name, catalog } => {
                (unknown_table(name, *catalog), Some(NextStep::DefineTable { name: name.0.clone() }))
            }
            Self::UnknownEntity { table, .. } => (
                format!("no such {} is stored", table.entity),
                Some(NextStep::FindEntity { table: table.name().to_owned() }),
            ),
            Self::Paused { sink } => (
                "is paused, so there is nothing to restart".to_owned(),
                Some(NextStep::ResumeSink { sink: sink.clone() }),
            ),
            Self::NotDrainedHere { .. } => {
                ("is not drained by this process".to_owned(), Some(NextStep::RestartDrainingProcess))
            }
        };
        let problem = self.field().map_or_else(|| problem.clone(), |field| format!("{field}: {problem}"));
        Remark { problem, next_step }
    }
}

/// The table of that name.
///
/// # Errors
/// When none is defined: the error names those that are.
pub fn table_named(catalog: Catalog, name: &TableName) -> Result<Table, EngineError> {
    catalog.get(&name.0).ok_or_else(|| EngineError::UnknownTable { name: name.clone(), catalog })
}

fn unknown_table(name: &TableName, catalog: Catalog) -> String {
    let close =
        catalog.tables().map(Table::name).filter(|known| strsim::damerau_levenshtein(known, &name.0) <= 3);
    let meant = close.map(|known| format!("; did you mean {known}?")).next().unwrap_or_default();
    format!("no table '{name}' is defined; there are {}{meant}", catalog.names())
}

impl From<Fault> for EngineError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<SearchError> for EngineError {
    fn from(error: SearchError) -> Self {
        Self::Search(error)
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remark().fmt(f)
    }
}

impl std::error::Error for EngineError {}
