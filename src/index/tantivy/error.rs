//! What a failure in the folder means, and what to do about it.

use std::path::Path;

use tantivy::{TantivyError, directory::error::LockError};
use uuid::Uuid;

use super::PART;
use crate::{
    data_folder::FULL,
    fault::{Fault, FaultKind},
    index::{Fields, IndexName, another_definition},
    next_step::{NextStep, SAME_DEFINITIONS},
};

/// What an index needs that is not as this process has it.
pub(super) const UP_TO_DATE: &str = "restart the process that writes it, or run the migrations where none does: either brings the index up to date";

/// What can go wrong in the folder.
#[derive(Debug)]
pub(super) enum IndexError {
    Tantivy(TantivyError),
    Io(std::io::Error),
    /// A column of the index is of another type than it is defined.
    Outdated {
        index: IndexName,
        changed: String,
    },
    /// Columns came or went since the index was made.
    Extended {
        index: IndexName,
        /// What it should have.
        fields: &'static Fields,
        /// What of it is new.
        gained: Vec<String>,
        /// It has all that it should have, and more.
        is_surplus: bool,
    },
    /// A process with another definition has made the documents anew since this one prepared the index.
    OtherDefinition {
        index: IndexName,
        columns: Vec<String>,
    },
    /// An earlier build made the index, and cut words otherwise, or kept them as this one can't read them.
    Earlier {
        index: IndexName,
        /// What it has.
        fields: &'static Fields,
    },
    /// Who holds the right to write.
    Held(String),
    NotMade(IndexName),
    NoRebuild(Uuid),
}

impl From<TantivyError> for IndexError {
    fn from(error: TantivyError) -> Self {
        Self::Tantivy(error)
    }
}

impl From<std::io::Error> for IndexError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl IndexError {
    pub(super) fn into_fault(self, doing: &str, folder: &Path) -> Fault {
        let doing = format!("{doing} in {}", folder.display());
        let (kind, problem, advice) = match self {
            Self::Outdated { index, changed: field } => (
                FaultKind::Misconfigured,
                format!("the index {index} was made when {field} had another type"),
                NextStep::RebuildIndex { index: index.to_string() },
            ),
            Self::Extended { index, is_surplus: true, .. } => (
                FaultKind::Misconfigured,
                format!("the index {index} has columns that no definition here has"),
                format!("put the definitions back that had them; where they were given up, {UP_TO_DATE}").into(),
            ),
            Self::OtherDefinition { index, columns } => (
                FaultKind::Misconfigured,
                another_definition(index, &columns),
                SAME_DEFINITIONS.into(),
            ),
            Self::Earlier { index, .. } => (
                FaultKind::Misconfigured,
                format!("the index {index} was made by an earlier sluice, which kept words otherwise"),
                UP_TO_DATE.into(),
            ),
            Self::Extended { index, .. } => (
                FaultKind::Misconfigured,
                format!("the index {index} lacks columns that were defined since it was made"),
                UP_TO_DATE.into(),
            ),
            Self::Tantivy(TantivyError::LockFailure(LockError::IoError(error), _)) => (
                FaultKind::Transient,
                format!("its lock can't be taken: {error}"),
                "check the disk's room and the folder's permissions".into(),
            ),
            Self::Tantivy(TantivyError::LockFailure(error, _)) => (
                FaultKind::Misconfigured,
                format!("it is locked: {error}"),
                "stop the other process that writes into this folder".into(),
            ),
            Self::Tantivy(TantivyError::InvalidArgument(error)) => {
                (FaultKind::Invalid, error, "use a simpler pattern: fewer * and ?".into())
            }
            Self::Tantivy(TantivyError::IoError(error))
                if error.kind() == std::io::ErrorKind::StorageFull =>
            {
                (FaultKind::Transient, error.to_string(), FULL.into())
            }
            Self::Tantivy(error) => (
                FaultKind::Transient,
                error.to_string(),
                "check the disk's room and the folder's permissions; a broken index is made anew by rebuilding it".into(),
            ),
            Self::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                (FaultKind::Transient, error.to_string(), FULL.into())
            }
            Self::Io(error) => (
                FaultKind::Transient,
                error.to_string(),
                "check the disk's room and the folder's permissions".into(),
            ),
            Self::Held(holder) => (
                FaultKind::Misconfigured,
                format!("the index is held by {holder}"),
                "stop that process, use its tools, or set SLUICE_DATA_DIR to another folder".into(),
            ),
            Self::NotMade(index) => {
                let problem = format!(
                    "the index {index} is not made yet, or was deleted; a process that drains into it makes and fills it"
                );
                (FaultKind::Transient, problem, NextStep::Migrate)
            }
            Self::NoRebuild(id) => {
                (FaultKind::Invalid, format!("the rebuild {id} is over"), "begin another where it is wanted".into())
            }
        };
        Fault::new(PART, kind, format!("{doing}: {problem}"), advice)
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use super::*;

    #[test]
    fn a_full_disk_is_waited_for_wherever_it_is_met() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        for error in [IndexError::Io(full()), IndexError::Tantivy(TantivyError::IoError(Arc::new(full())))] {
            let fault = error.into_fault("writing", Path::new("index"));
            assert_eq!(fault.kind, FaultKind::Transient);
            assert!(fault.to_string().contains("free some room"), "{fault}");
        }
    }
}
