//! Finding the rows that are gone, and removing them.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    KEYS, KeySet, RANGE, Reading, Reconcile, Stop,
    guard::{self, Shown},
    keys_of, report,
};
use crate::{
    domain::{Event, Table, micros, removal_id},
    engine::appender::event_record,
    fail_point,
    fault::{Fault, FaultKind},
    source::{BEGINNING, RowQuery, Scope},
    store::{Appended, Entry, ParkedLetter, Settled, SyncLease, SyncProgress},
};

/// A row to remove.
pub(super) struct Removal {
    pub(super) key: String,
    /// The removal's event.
    pub(super) id: Uuid,
    /// The versions that are there; the removal's is larger.
    pub(super) newer_than: i64,
}

impl Removal {
    /// Of a row whose last version was this.
    pub(super) fn of(table: Table, key: String, versao: i64) -> Self {
        Self { id: removal_id(table, &key, versao), key, newer_than: versao }
    }
}

impl Reconcile {
    /// The rows that were appended once and are not at the source any more. Those that are there although the reading did
    /// not show them are appended if they differ.
    pub(super) async fn find_gone(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        reading: &Reading,
    ) -> Result<Vec<Removal>, Stop> {
        let shown = &reading.keys;
        let mut known = KeySet::new();
        let mut after = None;
        while let Some((entries, earlier)) = self.range_with_earlier(&mut after).await? {
            for entry in entries.iter().filter(|entry| !entry.appended.removed) {
                known.add(&entry.appended.entity);
            }
            if !earlier.is_empty() {
                // Whatever row that was, the reading has shown it by the key it has now, if it is there.
                lease.checkpoint(progress, &earlier).await?;
            }
            self.heed(lease, progress).await?;
        }
        self.known = known.len();
        if reading.earlier.is_some() && known.len() < shown.len() {
            return Err(Stop::Fault(Fault::transient(
                self.run.store.name(),
                format!(
                    "reconciling {}: the reading that was gone on with showed {} rows, and the store remembers {} by now",
                    self.run.table,
                    shown.len(),
                    known.len()
                ),
                "reconcile again without going on, which reads the whole table anew",
            )));
        }
        self.is_resumed = reading.earlier.is_some();
        let seen = Shown {
            known: self.known,
            rows: shown.len(),
            earlier: reading.earlier,
            counted: reading.ended_at.map(|rows| rows.saturating_sub(reading.without_entity())),
        };
        self.allowed = self.settings.deletes.allowed_by(self.asked, seen);
        // Every row that was shown has been appended, so the others are those that were not shown. Where a reading is gone on
        // with, syncs may have brought some of them meanwhile: they are asked for by key.
        let lacking = known.len().saturating_sub(shown.len());
        if lacking > self.allowed && !self.is_resumed {
            report(progress).gone = lacking;
            return Err(Stop::Fault(self.too_many(lacking, 0)));
        }
        let mut gone = Vec::new();
        if known.equals(shown) {
            return Ok(gone);
        }
        let (mut after, mut suspects) = (None, Vec::new());
        while let Some(entries) = self.range(&mut after).await? {
            for Entry { appended, .. } in entries {
                if appended.removed || !known.differs_at(shown, &appended.entity) {
                    continue;
                }
                suspects.push(appended);
                if suspects.len() == KEYS {
                    let absent = self.absent(lease, progress, std::mem::take(&mut suspects)).await?;
                    self.collect(progress, &mut gone, absent)?;
                }
            }
        }
        let absent = self.absent(lease, progress, suspects).await?;
        self.collect(progress, &mut gone, absent)?;
        Ok(gone)
    }

    fn collect(
        &self,
        progress: &mut SyncProgress,
        gone: &mut Vec<Removal>,
        absent: Vec<Appended>,
    ) -> Result<(), Stop> {
        let table = self.run.table;
        gone.extend(absent.into_iter().map(|one| Removal::of(table, one.entity, one.versao)));
        let found = gone.len() as u64;
        report(progress).gone = found;
        if found > self.allowed { Err(Stop::Fault(self.too_many(found, 0))) } else { Ok(()) }
    }

    async fn absent(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        suspects: Vec<Appended>,
    ) -> Result<Vec<Appended>, Stop> {
        let keys: Vec<String> = suspects.iter().map(|one| one.entity.clone()).collect();
        let (there, _) = self.look(lease, progress, keys).await?;
        Ok(suspects.into_iter().filter(|one| !there.contains(&one.entity)).collect())
    }

    /// Asks the source for rows by their keys; appends what differs of those that are there. Returns their keys, and the
    /// server's time when it was asked.
    pub(super) async fn look(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        keys: Vec<String>,
    ) -> Result<(HashSet<String>, DateTime<Utc>), Stop> {
        let (mut there, mut asked_at) = (HashSet::new(), None);
        let mut requests = key_requests(keys);
        while let Some(keys) = requests.pop() {
            match self.look_once(lease, progress, &keys, &mut there).await {
                Ok(at) => asked_at = asked_at.or(Some(at)),
                Err(Stop::Fault(fault)) => in_halves(&mut requests, keys, fault)?,
                Err(stop) => return Err(stop),
            }
        }
        Ok((there, asked_at.unwrap_or_else(Utc::now)))
    }

    async fn look_once(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        keys: &[String],
        there: &mut HashSet<String>,
    ) -> Result<DateTime<Utc>, Stop> {
        let table = self.run.table;
        let query = RowQuery {
            table,
            scope: Scope::Keys(keys.to_vec()),
            since: BEGINNING,
            created_since: None,
            conditions: Vec::new(),
            page_size: self.run.page_size,
        };
        let mut after = None;
        loop {
            let page = self.cancellable(self.run.source.page(&query, after.as_ref())).await??;
            let asked_at = page.read_at;
            there.extend(keys_of(table, &page).into_iter().flatten());
            after = page.next.clone();
            if !page.rows.is_empty() {
                self.append(lease, progress, page).await?;
                self.go_on()?;
            }
            if after.is_none() {
                return Ok(asked_at);
            }
        }
    }

    /// Removes rows, each after it was asked for once more.
    pub(super) async fn remove_gone(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        gone: Vec<Removal>,
    ) -> Result<(), Stop> {
        let mut gone = gone.into_iter().peekable();
        while gone.peek().is_some() {
            let removals: Vec<Removal> = gone.by_ref().take(KEYS).collect();
            let keys = removals.iter().map(|one| one.key.clone()).collect();
            let (there, asked_at) = self.look(lease, progress, keys).await?;
            let absent: Vec<Removal> = removals.into_iter().filter(|one| !there.contains(&one.key)).collect();
            let returned = there.len() as u64;
            let deleted = absent.len() as u64;
            self.append_removals(lease, progress, absent, asked_at).await?;
            let reported = report(progress);
            reported.gone = reported.gone.saturating_sub(returned);
            reported.deleted += deleted;
            self.heed(lease, progress).await?;
        }
        Ok(())
    }

    /// Settles the open letters of entities that were removed because the source does not have them any more, and of rows
    /// without a usable key that the reading did not show: there is nothing to mend. What was discarded of such rows is
    /// forgotten, too: it would go on excusing as many rows that are not read.
    pub(super) async fn settle_gone(
        &self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        reading: &Reading,
    ) -> Result<(), Stop> {
        let (table, store, letters) = (self.run.table, &*self.run.store, &self.run.letters);
        let mut after: Option<String> = None;
        loop {
            let mut noted = store.entities_with_letters(letters, table, after.as_deref(), RANGE).await?;
            let Some(last) = noted.last() else { return Ok(()) };
            after = Some(last.clone());
            // A row without a usable key can't be asked for: only a whole reading tells whether it is there.
            if !self.is_resumed {
                let unseen = noted.iter().filter(|sent| !reading.unusable.contains(sent.as_str()));
                self.settle_unusable(lease, progress, unseen.cloned().collect()).await?;
            }
            // Only what was removed, which is guarded against a source that shows too little, and is read as new if it comes
            // back: of any other row the letter is all that tells of it.
            let last = lease.last_appended(&noted).await?;
            noted.retain(|entity| last.get(entity).is_some_and(|last| last.removed));
            let (keys, mut gone): (Vec<String>, Vec<String>) =
                noted.into_iter().partition(|entity| table.key.kind.is_key(entity));
            let mut there = HashSet::new();
            for keys in key_requests(keys.clone()) {
                let query = RowQuery {
                    table,
                    scope: Scope::Keys(keys),
                    since: BEGINNING,
                    created_since: None,
                    conditions: Vec::new(),
                    page_size: self.run.page_size,
                };
                let mut after = None;
                loop {
                    let page = self.cancellable(self.run.source.page(&query, after.as_ref())).await??;
                    there.extend(keys_of(table, &page).into_iter().flatten());
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                self.heed(lease, progress).await?;
            }
            gone.extend(keys.into_iter().filter(|key| !there.contains(key)));
            if !gone.is_empty() {
                let settled = store.settle_mended(letters, &table.into(), &gone).await?;
                info!(sync_id = %self.run.id, %table, settled, "letters of rows that are gone are settled");
            }
            self.heed(lease, progress).await?;
        }
    }

    /// Settles the letters of rows without a usable key that the reading did not show as such: they are gone, or have a key
    /// by now. Forgets that they were parked, also where they were discarded: one that comes back is parked again.
    async fn settle_unusable(
        &self,
        lease: &mut dyn SyncLease,
        progress: &SyncProgress,
        mut gone: Vec<String>,
    ) -> Result<(), Stop> {
        let (table, store, log) = (self.run.table, &*self.run.store, &self.run.letters);
        let letters = store.parked(log, table, &gone).await?;
        let remembered = gone.iter().cloned().chain(letters.iter().map(|letter| letter.letter.to_string()));
        let last = lease.last_appended(&remembered.collect::<Vec<_>>()).await?;
        let is_last = |name: &str, letter: &ParkedLetter| {
            last.get(name).is_some_and(|last| last.event == letter.letter)
        };
        // A row without a usable key is remembered by its letter, also where the table's definition has changed since and takes
        // for a key what was none.
        let is_unusable = |letter: &ParkedLetter| {
            letter.sink.is_none()
                && (table.key.kind.read(&letter.entity).is_err()
                    || is_last(&letter.letter.to_string(), letter) && !is_last(&letter.entity, letter))
        };
        // Of an event that a sink could not take its letter is all that tells while it is open; of a row too large for one also
        // once it was discarded.
        let tells = |letter: &ParkedLetter| {
            let is_discarded_row = letter.sink.is_none() && letter.settled == Some(Settled::Discarded);
            (letter.settled.is_none() || is_discarded_row) && !is_unusable(letter)
        };
        gone.retain(|sent| !letters.iter().any(|letter| letter.entity == *sent && tells(letter)));
        if gone.is_empty() {
            return Ok(());
        }
        let forgotten = |letter: &ParkedLetter| Appended {
            entity: letter.letter.to_string(),
            event: Uuid::nil(),
            versao: 0,
            removed: true,
        };
        let forgotten: Vec<Appended> =
            letters.iter().filter(|letter| gone.contains(&letter.entity)).map(forgotten).collect();
        lease.checkpoint(progress, &forgotten).await?;
        let settled = store.settle_mended(log, &table.into(), &gone).await?;
        info!(sync_id = %self.run.id, %table, settled, "letters of rows that are gone and had no usable key are settled");
        Ok(())
    }

    /// Appends the removals of rows that are known to be gone, and remembers them once the log has acknowledged them.
    pub(super) async fn append_removals(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        removals: Vec<Removal>,
        found_at: DateTime<Utc>,
    ) -> Result<(), Stop> {
        if removals.is_empty() {
            return Ok(());
        }
        let table = self.run.table;
        let (mut records, mut appended) = (Vec::new(), Vec::new());
        for Removal { key, id, newer_than } in removals {
            let versao = micros(found_at).max(newer_than.saturating_add(1));
            records.push(event_record(&Event::removal(table, &key, id, found_at, versao), self.run.id));
            appended.push(Appended { entity: key, event: id, versao, removed: true });
        }
        let count = records.len() as u64;
        let remembered = self.run.append(lease, records, progress).await?;
        self.run.check_log().await?;
        fail_point::pass("reconcile.removals_appended");
        progress.appended += count;
        lease
            .checkpoint(&SyncProgress { remembered: remembered.clone(), ..progress.clone() }, &appended)
            .await?;
        progress.remembered = remembered;
        fail_point::pass("reconcile.removals_remembered");
        warn!(sync_id = %self.run.id, %table, count, "rows are gone at the source: removed");
        Ok(())
    }

    /// The next range of what was appended. What was once under a key that is none of the table by now can't be compared and
    /// is no entity.
    pub(super) async fn range(&self, after: &mut Option<String>) -> Result<Option<Vec<Entry>>, Stop> {
        Ok(self.range_with_earlier(after).await?.map(|(entries, _)| entries))
    }

    /// As [`Self::range`], and what of it is under a key of before the table's key was replaced, as to be removed.
    async fn range_with_earlier(
        &self,
        after: &mut Option<String>,
    ) -> Result<Option<(Vec<Entry>, Vec<Appended>)>, Stop> {
        let (log, table) = (&self.run.log_id, self.run.table);
        let entries = self.run.store.entries(log, table, after.as_deref(), RANGE).await?;
        let Some(last) = entries.last() else { return Ok(None) };
        *after = Some(last.appended.entity.clone());
        let (entries, earlier): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(|entry| table.key.kind.is_key(&entry.appended.entity));
        let earlier = earlier.into_iter().map(|entry| entry.appended).filter(|one| !one.removed);
        Ok(Some((entries, earlier.map(|one| removed_with_its_key(table, one)).collect())))
    }

    pub(super) fn too_many(&self, gone: u64, removed: u64) -> Fault {
        let rows = (gone, removed, self.known);
        guard::too_many(self.run.source.name(), self.run.table.name(), rows, self.allowed, self.is_resumed)
    }
}

/// An entity as removed because its key is none any more. By a removal's id: where the key's type is put back and the row is
/// gone, the sinks have no event of that id, so that its removal is appended.
fn removed_with_its_key(table: Table, one: Appended) -> Appended {
    Appended { event: removal_id(table, &one.entity, one.versao), removed: true, ..one }
}

/// Keys as requests of some thousand characters ask for them, however long each is: addresses are of bounded length.
pub(in crate::engine) fn key_requests(keys: Vec<String>) -> Vec<Vec<String>> {
    const MAX_CHARACTERS: usize = 6_000;
    let mut requests: Vec<Vec<String>> = Vec::new();
    let mut room = 0;
    for key in keys {
        let spelled =
            utf8_percent_encode(&key, NON_ALPHANUMERIC).map(str::len).sum::<usize>() + "%22%22%2C".len();
        match requests.last_mut() {
            Some(request) if spelled <= room => {
                request.push(key);
                room -= spelled;
            }
            _ => {
                requests.push(vec![key]);
                room = MAX_CHARACTERS.saturating_sub(spelled);
            }
        }
    }
    requests
}

/// Has keys that were refused asked for in halves: what is between here and the source may take less at a time than others do.
pub(in crate::engine) fn in_halves(
    requests: &mut Vec<Vec<String>>,
    mut keys: Vec<String>,
    fault: Fault,
) -> Result<(), Fault> {
    if fault.kind != FaultKind::Invalid || keys.len() < 2 {
        return Err(fault);
    }
    requests.push(keys.split_off(keys.len() / 2));
    requests.push(keys);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Catalog;

    #[test]
    fn an_entity_whose_key_is_none_any_more_is_removed_by_an_id_that_no_row_has() {
        let table = Catalog::built_in().get("leads").expect("leads");
        let last =
            Appended { entity: "abc".to_owned(), event: Uuid::from_u128(1), versao: 7, removed: false };
        let event = removal_id(table, "abc", 7);
        assert_eq!(removed_with_its_key(table, last.clone()), Appended { event, removed: true, ..last });
    }

    #[test]
    fn ordinary_keys_are_one_request_and_long_ones_several() {
        let uuids: Vec<String> = (0..KEYS).map(|n| Uuid::from_u128(n as u128).to_string()).collect();
        assert_eq!(key_requests(uuids.clone()), [uuids]);
        let long: Vec<String> = (0..5).map(|n| format!("{n}{}", "é".repeat(400))).collect();
        let asked = key_requests(long.clone());
        assert_eq!(asked.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(asked.concat(), long);
        assert!(key_requests(Vec::new()).is_empty());
    }
}
