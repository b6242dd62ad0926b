//! Making what is missing in the folder, and bringing up to date what another build or other definitions made.

use std::sync::{Arc, atomic::Ordering};

use uuid::Uuid;

use super::{
    Shared,
    directory::{self, Entry},
    error::IndexError,
    generation::Generation,
    locked,
    refill::Refill,
};
use crate::{index::IndexName, next_step::NextStep};

/// Goes on with the others where something fails of one; the first error is returned.
pub(super) fn each(
    indices: impl IntoIterator<Item = IndexName>,
    mut work: impl FnMut(IndexName) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let failed = indices.into_iter().filter_map(|index| work(index).err());
    // To the end: no index keeps the others from it.
    failed.fold(None, |first, error| first.or(Some(error))).map_or(Ok(()), Err)
}

impl Shared {
    /// Makes what is missing, and brings up to date what is not.
    pub(super) fn prepare(&self) -> Result<(), IndexError> {
        let _writing = locked(&self.writing);
        each(self.indices.names(), |index| self.prepare_alone(index))?;
        self.introduced.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// As [`Shared::prepare`], of one index, for who keeps the others of this process from writing.
    fn prepare_alone(&self, index: IndexName) -> Result<(), IndexError> {
        if !self.is_up_to_date(index)? {
            self.hold()?;
            self.make_missing(index)?;
            self.bring_up_to_date(index)?;
        }
        self.remember_columns(index)
    }

    /// For who alone writes: what was looked at before may have been replaced by another process.
    fn make_missing(&self, index: IndexName) -> Result<(), IndexError> {
        match directory::read(&self.folder, index)? {
            None => {
                let entry = Entry::first(index);
                self.make(index, &entry.serving, self.indices.fields(index))?;
                directory::write(&self.folder, index, &entry)?;
            }
            Some(mut entry) if !self.is_there(&entry.serving) => {
                locked(&self.open).remove(&entry.serving);
                // Another identity first: a process that ends here begins at this again.
                entry.id = Uuid::now_v7();
                entry.columns = Some(index.columns());
                entry.unfilled.clear();
                directory::write(&self.folder, index, &entry)?;
                self.make(index, &entry.serving, self.indices.fields(index))?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Takes the documents there are for what they would be made now, where an earlier build made them or the definition lost
    /// columns that no field is of; not where another process writes, which does so itself.
    fn remember_columns(&self, index: IndexName) -> Result<(), IndexError> {
        let columns = index.columns();
        let entry = self.entry(index)?;
        if entry.building.is_some() || entry.columns.as_ref() == Some(&columns) {
            return Ok(());
        }
        match self.hold() {
            Err(IndexError::Held(_)) => return Ok(()),
            held => held?,
        }
        let mut entry = self.entry(index)?;
        if entry.building.is_none() && entry.made_otherwise(index, &entry.serving).is_empty() {
            entry.columns = Some(columns);
            directory::write(&self.folder, index, &entry)?;
        }
        Ok(())
    }

    /// The generation that serves, for who only reads: where it lacks columns and nobody writes, it is brought up to date.
    pub(super) fn searched(&self, index: IndexName) -> Result<Arc<Generation>, IndexError> {
        let outdated = match self.serving(index) {
            Err(other @ (IndexError::Extended { .. } | IndexError::Earlier { .. })) => other,
            found => return found,
        };
        let writing = locked(&self.writing);
        let was_held = locked(&self.lock).is_some();
        // Its documents are made anew from the events.
        let prepared = each([IndexName::Eventos, index], |index| self.prepare_alone(index));
        if !was_held {
            // Given back: whoever only reads keeps nobody from writing.
            locked(&self.open).values().for_each(|generation| generation.close());
            *locked(&self.lock) = None;
        }
        drop(writing);
        match prepared {
            Ok(()) => self.serving(index),
            Err(IndexError::Held(_)) => Err(outdated),
            Err(error) => Err(error),
        }
    }

    /// Whether an index is there as it should be.
    fn is_up_to_date(&self, index: IndexName) -> Result<bool, IndexError> {
        let Some(entry) = directory::read(&self.folder, index)? else { return Ok(false) };
        for name in entry.generations() {
            if !entry.made_otherwise(index, name).is_empty() {
                return Ok(false);
            }
            match self.generation(index, name) {
                Ok(_) => {}
                Err(IndexError::NotMade(_) | IndexError::Extended { .. } | IndexError::Earlier { .. }) => {
                    return Ok(false);
                }
                Err(IndexError::Outdated { .. }) if name != entry.serving => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// For who alone writes. A definition that has other columns than its index, or makes them of something else, but none of
    /// another type, is followed: the documents move into a generation that has them, filled from the events. So do those
    /// of an earlier build.
    pub(super) fn bring_up_to_date(&self, index: IndexName) -> Result<(), IndexError> {
        let mut entry = self.entry(index)?;
        let generations: Vec<String> = entry.generations().map(str::to_owned).collect();
        generations.iter().try_for_each(|old| self.replace_outdated(index, &mut entry, old))
    }

    /// Replaces a generation where fields came or went since it was made, its documents would be made otherwise now, or an
    /// earlier build made it.
    fn replace_outdated(&self, index: IndexName, entry: &mut Entry, old: &str) -> Result<(), IndexError> {
        let mut changed = entry.made_otherwise(index, old);
        if !changed.is_empty() && self.introduced.load(Ordering::Relaxed) {
            return Err(IndexError::OtherDefinition { index, columns: changed });
        }
        let (fields, gained, refills) = match self.generation(index, old) {
            Ok(_) if changed.is_empty() => return Ok(()),
            Ok(generation) => (generation.fields, Vec::new(), true),
            Err(IndexError::Extended { fields, gained, .. }) => (fields, gained, true),
            Err(IndexError::Earlier { fields, .. }) => (fields, Vec::new(), !changed.is_empty()),
            // Nothing of what is being built can be kept, and what serves is as it should be.
            Err(IndexError::Outdated { .. } | IndexError::NotMade(_)) if old != entry.serving => {
                return self.rebuild_anew(index, entry);
            }
            Err(error) => return Err(error),
        };
        let new = entry.next_generation(index);
        // What was left before it was named, by a process that ended or a disk that was full, is no beginning.
        self.tidy(index, entry)?;
        let mut refill = match index {
            IndexName::Entities(table) if refills => {
                let events = self.serving(IndexName::Eventos)?;
                events.refresh()?;
                Some(Refill::new(table, events, fields))
            }
            IndexName::Entities(_) | IndexName::Eventos => None,
        };
        self.make(index, &new, fields)?.copy_from(&self.folder.join(old), |document| {
            refill.as_mut().map_or(Ok(None), |refill| refill.document(document))
        })?;
        if let Some(lacking) = refill.map(|refill| refill.lacking).filter(|lacking| *lacking > 0) {
            // It goes on behind what it has read, so it would never come by these again.
            if old != entry.serving {
                return self.rebuild_anew(index, entry);
            }
            let advice = NextStep::FillIndex { index: index.to_string() };
            tracing::warn!(%index, documents = lacking, %advice, "documents without their event have no value, or an earlier one, in columns that were defined since");
            changed.extend(gained);
            changed.retain(|column| !entry.unfilled.contains(column));
            changed.sort_unstable();
            changed.dedup();
            entry.unfilled.extend(changed);
        }
        if refills {
            entry.made_now(index, old);
        }
        entry.replace(old, &new);
        directory::write(&self.folder, index, entry)?;
        self.tidy(index, entry)
    }

    fn rebuild_anew(&self, index: IndexName, entry: &mut Entry) -> Result<(), IndexError> {
        let erasures = entry.building.as_ref().map(|building| building.erasures);
        let next = self.begin_anew(index, entry, erasures.unwrap_or_default())?.id;
        tracing::warn!(%index, %next, "what a rebuild had built can't be used by this definition: it begins anew");
        Ok(())
    }
}
