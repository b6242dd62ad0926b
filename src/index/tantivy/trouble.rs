//! What a failure in the folder means, and what to do about it.

use std::path::Path;

use tantivy::TantivyError;
use uuid::Uuid;

use super::PART;
use crate::{
    fault::{Fault, FaultKind},
    index::IndexName,
};

/// What can go wrong in the folder.
pub(super) enum Trouble {
    Tantivy(TantivyError),
    Io(std::io::Error),
    /// Who holds the right to write.
    Held(String),
    NotMade(IndexName),
    NoRebuild(Uuid),
}

impl From<TantivyError> for Trouble {
    fn from(error: TantivyError) -> Self {
        Self::Tantivy(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Trouble {
    pub(super) fn into_fault(self, doing: &str, folder: &Path) -> Fault {
        let doing = format!("{doing} in {}", folder.display());
        let (kind, problem, advice) = match self {
            Self::Tantivy(TantivyError::SchemaError(error)) => (
                FaultKind::Misconfigured,
                format!("it was made by another release: {error}"),
                "rebuild the index with rebuild_index",
            ),
            Self::Tantivy(TantivyError::LockFailure(error, _)) => (
                FaultKind::Misconfigured,
                format!("it is locked: {error}"),
                "stop the other process that writes into this folder",
            ),
            Self::Tantivy(TantivyError::InvalidArgument(error)) => {
                (FaultKind::Invalid, error, "use a simpler pattern: fewer * and ?")
            }
            Self::Tantivy(error) => (
                FaultKind::Transient,
                error.to_string(),
                "check the disk's room and the folder's permissions; a broken index is made anew by rebuild_index",
            ),
            Self::Io(error) => (
                FaultKind::Transient,
                error.to_string(),
                "check the disk's room and the folder's permissions",
            ),
            Self::Held(holder) => (
                FaultKind::Misconfigured,
                format!("the index is held by {holder}"),
                "stop that process, use its tools, or set SLUICE_DATA_DIR to another folder",
            ),
            Self::NotMade(index) => (
                FaultKind::Transient,
                format!("the index {index} is not made yet"),
                "start the process that writes it: `sluice serve` or `sluice worker`",
            ),
            Self::NoRebuild(id) => (
                FaultKind::Invalid,
                format!("the rebuild {id} is over"),
                "begin another with rebuild_index where it is wanted",
            ),
        };
        Fault::new(PART, kind, format!("{doing}: {problem}"), advice)
    }
}
