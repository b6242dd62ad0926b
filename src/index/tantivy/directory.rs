//! The folder of all indices: which generation of each serves, which one is being built, and who may write.

use std::{
    fs, io, iter,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    index::{Columns, IndexName, made_otherwise},
    lock_file::{self, Held},
    log::Position,
    private_files,
};

/// No index is named so: names have no dot.
const OFFSETS: &str = "applied.offsets";

/// What is known of an index's generations. Written as a whole, so it is never half of anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The folder of the generation that is written and searched.
    pub(super) serving: String,
    pub(super) building: Option<Building>,
    /// Another where the index was made anew; generations that a rebuild makes keep it.
    #[serde(default)]
    pub(super) id: Uuid,
    /// What the columns of the serving generation's documents are made of; `None` where an earlier build made them.
    #[serde(default)]
    pub(super) columns: Option<Columns>,
    /// Columns that documents of the serving generation lack, or have as an earlier definition made them, because their
    /// events are not there.
    #[serde(default)]
    pub(super) unfilled: Vec<String>,
    /// The rebuild that made the serving generation, once that is over.
    #[serde(default)]
    pub(super) rebuilt_by: Option<Uuid>,
}

/// A generation that is being built, until what it replaces is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Building {
    pub(super) id: Uuid,
    pub(super) generation: String,
    pub(super) started_at: DateTime<Utc>,
    #[serde(default)]
    pub(super) erasures: Uuid,
    /// As the definition had them when it was begun.
    #[serde(default)]
    pub(super) columns: Option<Columns>,
}

/// Where the indices stand in a log.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offsets {
    pub(super) log: String,
    /// The ids of the indices: one that was made anew has nothing.
    pub(super) indices: Vec<Uuid>,
    /// The next offset of each partition.
    pub(super) next: Vec<Position>,
}

impl Entry {
    pub(super) fn first(index: IndexName) -> Self {
        Self {
            serving: generation_name(index, 1),
            building: None,
            id: Uuid::now_v7(),
            columns: Some(index.columns()),
            unfilled: Vec::new(),
            rebuilt_by: None,
        }
    }

    /// The name of the generation after those that there are.
    pub(super) fn next_generation(&self, index: IndexName) -> String {
        let number = |name: &str| name.rsplit_once('-').and_then(|(_, number)| number.parse::<u32>().ok());
        generation_name(index, self.generations().filter_map(number).max().unwrap_or(1) + 1)
    }

    /// The one that serves and the one that is built, once where they are the same.
    pub(super) fn generations(&self) -> impl Iterator<Item = &str> {
        let building = self.building.as_ref().map(|building| building.generation.as_str());
        let building = building.filter(|building| *building != self.serving);
        iter::once(self.serving.as_str()).chain(building)
    }

    pub(super) fn names(&self, generation: &str) -> bool {
        self.generations().any(|name| name == generation)
    }

    /// The columns that a generation's documents have otherwise than they would be made now.
    pub(super) fn made_otherwise(&self, index: IndexName, generation: &str) -> Vec<String> {
        let building = self.building.as_ref().filter(|_| generation != self.serving);
        let columns = building.map_or(&self.columns, |building| &building.columns);
        made_otherwise(columns.as_ref(), &index.columns())
    }

    /// Remembers that a generation's documents are as they would be made now.
    pub(super) fn made_now(&mut self, index: IndexName, generation: &str) {
        if generation == self.serving {
            self.columns = Some(index.columns());
        }
        if let Some(building) = self.building.as_mut().filter(|building| building.generation == generation) {
            building.columns = Some(index.columns());
        }
    }

    /// Names another generation wherever it named this one.
    pub(super) fn replace(&mut self, old: &str, new: &str) {
        let building = self.building.as_mut().map(|building| &mut building.generation);
        for name in iter::once(&mut self.serving).chain(building) {
            if name == old {
                new.clone_into(name);
            }
        }
    }
}

fn generation_name(index: IndexName, number: u32) -> String {
    format!("{index}-{number:06}")
}

fn path(folder: &Path, index: IndexName) -> PathBuf {
    folder.join(format!("{index}.json"))
}

/// What is known of an index; `None` before it was made.
pub(super) fn read(folder: &Path, index: IndexName) -> io::Result<Option<Entry>> {
    read_json(&path(folder, index))
}

/// Where the indices stand; `None` before they were filled.
pub(super) fn offsets(folder: &Path) -> io::Result<Option<Offsets>> {
    read_json(&folder.join(OFFSETS))
}

/// Replaces where the indices stand; on disk when it returns.
pub(super) fn keep_offsets(folder: &Path, offsets: &Offsets) -> io::Result<()> {
    private_files::replace(&folder.join(OFFSETS), &serde_json::to_vec(offsets)?)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces what is known; on disk when it returns.
pub(super) fn write(folder: &Path, index: IndexName, entry: &Entry) -> io::Result<()> {
    private_files::replace(&path(folder, index), &serde_json::to_vec(entry)?)
}

/// Removes the generations that nothing names: what a process left that ended between two steps.
pub(super) fn tidy(folder: &Path, index: IndexName, entry: &Entry) -> io::Result<()> {
    let prefix = format!("{index}-");
    for found in fs::read_dir(folder)? {
        let found = found?;
        let name = found.file_name().to_string_lossy().into_owned();
        if found.file_type()?.is_dir() && name.starts_with(&prefix) && !entry.names(&name) {
            fs::remove_dir_all(found.path())?;
        }
    }
    Ok(())
}

/// The right to write, or who has it. The system gives it back when the process ends, however it ends.
pub(super) fn hold(folder: &Path) -> io::Result<Result<Held, String>> {
    let taken = lock_file::try_lock(&folder.join("writer.lock"))?;
    if let Ok(held) = &taken {
        let now = Utc::now().format("%Y-%m-%dT%H:%M:%SZ");
        lock_file::sign(held, &format!("process {} since {now}", std::process::id()))?;
    }
    Ok(taken)
}
