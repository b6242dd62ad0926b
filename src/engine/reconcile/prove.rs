//! Proving the sinks: every entity in the version that was appended last, and the event of that version, in the store and
//! in the index. Neither the contents under a version are compared, nor events that newer ones of their entity followed.
//!
//! What was appended is walked range by range in the order of keys. The store answers each range with what it has of it,
//! and the index with its next ids and versions; the two streams are merged, so that what one of them lacks, has in
//! another version or has too much shows at its place, and a range that is as it should be costs one question a sink.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use tracing::{info, warn};
use uuid::Uuid;

use super::{KEYS, RANGE, Reconcile, Stop, gone::Removal, parked::explains, report};
use crate::{
    domain::Table,
    engine::read_back::LOOK_BACK,
    fault::Fault,
    index::{Index, Stray},
    store::{
        Appended, Difference, DifferenceKind, Entry, SinkProof, SyncFilter, SyncLease, SyncProgress,
        SyncState,
    },
};

/// Differences that a report names.
const NAMED: usize = 20;

/// The index's entities, in the order of their ids.
struct IndexCursor<'a> {
    index: &'a dyn Index,
    table: Table,
    page: VecDeque<(String, i64)>,
    next: Option<String>,
    ended: bool,
    /// The first of the stray documents, as many as may be removed.
    strays: Vec<Stray>,
    /// How many there are.
    strays_found: u64,
    max_strays: usize,
}

impl IndexCursor<'_> {
    async fn fill(&mut self) -> Result<(), Fault> {
        while self.page.is_empty() && !self.ended {
            let page = self.index.versions(self.table, self.next.as_deref(), RANGE).await?;
            self.strays_found += page.strays.len() as u64;
            let room = self.max_strays.saturating_sub(self.strays.len());
            self.strays.extend(page.strays.into_iter().take(room));
            self.ended = page.next.is_none();
            self.next = page.next;
            self.page = page.entities.into();
        }
        Ok(())
    }

    /// The next entity, if it comes before `key`; any where there is no key.
    async fn next_before(&mut self, key: Option<&str>) -> Result<Option<(String, i64)>, Fault> {
        self.fill().await?;
        let comes = self.page.front().is_some_and(|(id, _)| key.is_none_or(|key| id.as_str() < key));
        Ok(if comes { self.page.pop_front() } else { None })
    }

    /// The version of this entity, if it is the next one.
    async fn version_of(&mut self, key: &str) -> Result<Option<i64>, Fault> {
        self.fill().await?;
        let is_next = self.page.front().is_some_and(|(id, _)| id == key);
        Ok(if is_next { self.page.pop_front().map(|(_, version)| version) } else { None })
    }
}

/// An entity that a sink has otherwise than it was appended.
#[derive(Debug)]
struct Suspect {
    /// `None` where nothing was ever appended of it.
    appended: Option<Appended>,
    /// The highest version that a sink has.
    held: i64,
    found: Vec<(&'static str, DifferenceKind)>,
}

/// What one pass over the sinks comes to.
struct Pass {
    /// Whether what differs is repaired.
    repairs: bool,
    store: &'static str,
    index: &'static str,
    proofs: BTreeMap<&'static str, SinkProof>,
    suspects: BTreeMap<String, Suspect>,
    parked: u64,
    /// Entities that differ and are not parked.
    different: u64,
    /// Those of them that are to be removed since the source has no row of them, by key: an entity that both sinks have
    /// too much may be met twice. Nothing once they are too many.
    gone: BTreeMap<String, Removal>,
    /// How many they are in each sink.
    gone_in: BTreeMap<&'static str, u64>,
    is_too_much_gone: bool,
    /// Documents of the index to remove that stand for no entity at all.
    strays: Vec<Stray>,
    /// Rows of the store, the same.
    stray_rows: Vec<String>,
}

impl Pass {
    fn compared(&mut self, sink: &'static str) {
        if let Some(proof) = self.proofs.get_mut(sink) {
            proof.entities += 1;
        }
    }

    fn differs(
        &mut self,
        sink: &'static str,
        key: &str,
        appended: Option<&Appended>,
        held: Option<i64>,
        kind: DifferenceKind,
    ) {
        let suspect = self.suspects.entry(key.to_owned()).or_insert_with(|| Suspect {
            appended: appended.cloned(),
            held: i64::MIN,
            found: Vec::new(),
        });
        suspect.held = suspect.held.max(held.unwrap_or(i64::MIN));
        suspect.found.push((sink, kind));
    }

    /// What is wrong with an entity in a sink, if anything.
    fn judge(&mut self, sink: &'static str, appended: &Appended, held: Option<i64>) {
        if held.is_some() {
            self.compared(sink);
        }
        let kind = match (appended.removed, held) {
            (true, None) => return,
            (true, Some(_)) => DifferenceKind::Surplus,
            (false, None) => DifferenceKind::Missing,
            (false, Some(held)) if held == appended.versao => return,
            (false, Some(_)) => DifferenceKind::OtherVersion,
        };
        self.differs(sink, &appended.entity, Some(appended), held, kind);
    }
}

impl Reconcile {
    /// Compares both sinks with what was appended. `true` when nothing differs but what is parked.
    pub(super) async fn prove(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        repairs: bool,
    ) -> Result<bool, Stop> {
        let (store, index) = (self.run.store.name(), self.index.name());
        let proof = |sink: &'static str| (sink, SinkProof { sink: sink.to_owned(), ..SinkProof::default() });
        let mut pass = Pass {
            repairs,
            store,
            index,
            proofs: BTreeMap::from([proof(store), proof(index)]),
            suspects: BTreeMap::new(),
            parked: 0,
            different: 0,
            gone: BTreeMap::new(),
            gone_in: BTreeMap::new(),
            is_too_much_gone: false,
            strays: Vec::new(),
            stray_rows: Vec::new(),
        };
        report(progress).differences.retain(|difference| difference.mended);
        let searched = self.index.clone();
        let mut cursor = IndexCursor {
            index: &*searched,
            table: self.run.table,
            page: VecDeque::new(),
            next: None,
            ended: false,
            strays: Vec::new(),
            strays_found: 0,
            max_strays: usize::try_from(self.allowed).unwrap_or(usize::MAX).max(NAMED),
        };
        let mut after = None;
        while let Some(entries) = self.range(&mut after).await? {
            let events: Vec<Uuid> = entries.iter().map(|entry| entry.appended.event).collect();
            let lacking = searched.lacking_events(&events).await?;
            for Entry { appended, held, has_event } in entries {
                let key = appended.entity.as_str();
                while let Some((id, version)) = cursor.next_before(Some(key)).await? {
                    pass.compared(index);
                    pass.differs(index, &id, None, Some(version), DifferenceKind::Surplus);
                    self.resolve(lease, progress, &mut pass, false).await?;
                }
                pass.judge(store, &appended, held);
                if !has_event {
                    pass.differs(store, key, Some(&appended), held, DifferenceKind::WithoutEvent);
                }
                let mut in_index = cursor.version_of(key).await?;
                if lacking.contains(&appended.event) {
                    pass.differs(index, key, Some(&appended), in_index, DifferenceKind::WithoutEvent);
                }
                pass.judge(index, &appended, in_index);
                // A document that stands twice in the index.
                while in_index.is_some() {
                    in_index = cursor.version_of(key).await?;
                    if in_index.is_some() {
                        pass.compared(index);
                        pass.differs(index, key, Some(&appended), in_index, DifferenceKind::Surplus);
                    }
                }
            }
            self.resolve(lease, progress, &mut pass, false).await?;
            self.heed(lease, progress).await?;
        }
        while let Some((id, version)) = cursor.next_before(None).await? {
            pass.compared(index);
            pass.differs(index, &id, None, Some(version), DifferenceKind::Surplus);
            self.resolve(lease, progress, &mut pass, false).await?;
        }
        let stray_rows = self.find_strangers(lease, progress, &mut pass, cursor.max_strays).await?;
        self.resolve(lease, progress, &mut pass, true).await?;
        let documents = cursor.strays.iter().map(|stray| stray.id.as_str());
        self.judge_strays(progress, &mut pass, index, documents, cursor.strays_found);
        let (rows, found) = stray_rows;
        self.judge_strays(progress, &mut pass, store, rows.iter().map(String::as_str), found);
        if repairs {
            (pass.strays, pass.stray_rows) = (cursor.strays, rows);
        }
        self.remove_surplus(lease, progress, &mut pass).await.map(|()| pass.different == 0)
    }

    /// Tells of what a sink has that stands for no entity, and whether it is too much to remove with what else is.
    fn judge_strays<'a>(
        &self,
        progress: &mut SyncProgress,
        pass: &mut Pass,
        sink: &'static str,
        strays: impl Iterator<Item = &'a str>,
        found: u64,
    ) {
        if found == 0 {
            return;
        }
        pass.different += found;
        if let Some(proof) = pass.proofs.get_mut(sink) {
            proof.entities += found;
            proof.different += found;
        }
        let reported = report(progress);
        let room = NAMED.saturating_sub(reported.differences.len());
        reported.differences.extend(strays.take(room).map(|stray| Difference {
            sink: sink.to_owned(),
            key: stray.to_owned(),
            problem: DifferenceKind::Surplus,
            mended: false,
        }));
        if pass.repairs {
            let gone = pass.gone_in.entry(sink).or_default();
            *gone += found;
            pass.is_too_much_gone |= reported.deleted + pass.gone.len() as u64 + found > self.allowed;
        }
    }

    /// Removes, once the sinks were compared to the end, what they have and the source has not, if that is not too much
    /// with what was removed before.
    async fn remove_surplus(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        pass: &mut Pass,
    ) -> Result<(), Stop> {
        self.conclude(progress, pass);
        let (reported, gone) = (report(progress), std::mem::take(&mut pass.gone));
        let removed = reported.deleted;
        if pass.is_too_much_gone {
            // As many as one sink has, if that is not less than is known.
            let found = pass.gone_in.values().copied().max().unwrap_or_default();
            let found = (removed + found).max(self.allowed + 1);
            let held = pass.proofs.values().map(|proof| proof.entities).max().unwrap_or_default();
            self.known = self.known.max(held + removed);
            reported.gone = found;
            return Err(Stop::Fault(self.too_many(found, removed)));
        }
        let (table, strays) = (self.run.table, pass.strays.len() + pass.stray_rows.len());
        if gone.is_empty() && strays == 0 {
            return Ok(());
        }
        if strays > 0 {
            self.index.remove_strays(table, &pass.strays).await?;
            self.run.store.remove_strays(table, &pass.stray_rows).await?;
            warn!(sync_id = %self.run.id, %table, count = strays, "what stood for no entity in a sink is removed");
            reported.repaired += strays as u64;
        }
        reported.gone += gone.len() as u64;
        self.remove_gone(lease, progress, gone.into_values().collect()).await?;
        report(progress).differences.iter_mut().for_each(|difference| difference.mended = true);
        Ok(())
    }

    /// Entities in the store of which nothing was appended: looked for where it has more than were appended. Returns rows
    /// whose key is none, at most `max_strays`, and how many there are.
    async fn find_strangers(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        pass: &mut Pass,
        max_strays: usize,
    ) -> Result<(Vec<String>, u64), Stop> {
        let (table, store) = (self.run.table, pass.store);
        let (mut strays, mut found) = (Vec::new(), 0);
        let compared = pass.proofs.get(store).map_or(0, |proof| proof.entities);
        if self.run.store.entity_count(table).await? == compared {
            return Ok((strays, found));
        }
        let mut after: Option<String> = None;
        loop {
            let log = self.run.log_id.clone();
            let page = self.run.store.strangers(&log, table, after.as_deref(), RANGE).await?;
            for stranger in page.strangers {
                if !table.key.kind.is_key(&stranger.key) {
                    found += 1;
                    if strays.len() < max_strays {
                        strays.push(stranger.key);
                    }
                    continue;
                }
                pass.compared(store);
                let held = Some(stranger.versao);
                pass.differs(store, &stranger.key, None, held, DifferenceKind::Surplus);
            }
            self.resolve(lease, progress, pass, false).await?;
            self.heed(lease, progress).await?;
            let Some(last) = page.last else { return Ok((strays, found)) };
            after = Some(last);
        }
    }

    /// Deals with the suspects, a request's worth at a time, or with `all` of them.
    async fn resolve(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        pass: &mut Pass,
        all: bool,
    ) -> Result<(), Stop> {
        while pass.suspects.len() >= KEYS || (all && !pass.suspects.is_empty()) {
            let mut some = BTreeMap::new();
            while some.len() < KEYS {
                let Some((key, suspect)) = pass.suspects.pop_first() else { break };
                some.insert(key, suspect);
            }
            self.resolve_some(lease, progress, pass, some).await?;
        }
        Ok(())
    }

    async fn resolve_some(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        pass: &mut Pass,
        mut suspects: BTreeMap<String, Suspect>,
    ) -> Result<(), Stop> {
        self.remove_erased(&mut suspects).await?;
        pass.parked += self.leave_out_parked(&mut suspects).await?;
        pass.different += suspects.len() as u64;
        for (key, suspect) in &suspects {
            for (sink, problem) in &suspect.found {
                if let Some(proof) = pass.proofs.get_mut(sink) {
                    proof.different += 1;
                }
                let named = &mut report(progress).differences;
                if named.len() < NAMED {
                    named.push(Difference {
                        sink: (*sink).to_owned(),
                        key: key.clone(),
                        problem: *problem,
                        mended: false,
                    });
                }
            }
        }
        if pass.repairs { self.repair(lease, progress, pass, suspects).await } else { Ok(()) }
    }

    /// Leaves out what an open letter explains; tells of how many entities.
    async fn leave_out_parked(&self, suspects: &mut BTreeMap<String, Suspect>) -> Result<u64, Fault> {
        let keys: Vec<String> = suspects.keys().cloned().collect();
        let letters = self.run.store.parked(&self.run.letters, self.run.table, &keys).await?;
        if letters.is_empty() {
            return Ok(0);
        }
        let extents = self.run.log.dead_letter_extents().await?;
        let mut parked = 0;
        for (key, suspect) in &mut *suspects {
            let found = suspect.found.len();
            suspect.found.retain(|(sink, _)| {
                !letters.iter().any(|letter| letter.entity == *key && explains(letter, sink, &extents))
            });
            parked += u64::from(suspect.found.len() < found);
        }
        suspects.retain(|_, suspect| !suspect.found.is_empty());
        Ok(parked)
    }

    /// What a sink still has of erased entities is removed again, whatever brought it: nothing of them is appended.
    async fn remove_erased(&self, suspects: &mut BTreeMap<String, Suspect>) -> Result<(), Fault> {
        let (table, ledger) = (self.run.table, self.run.erased.ledger().await?);
        let erased: Vec<String> = suspects.keys().filter(|key| ledger.holds(table, key)).cloned().collect();
        if !erased.is_empty() {
            warn!(sync_id = %self.run.id, %table, count = erased.len(), "a sink had something of erased entities: removed");
            self.run.store.erase(table, &erased, true).await?;
            // An erasure that ended too early left them there as well; once the documents are gone nothing tells whose they are.
            self.run.log.erase(&table.entity, &erased, &[]).await?;
            self.index.erase(table, &erased).await?;
            self.run.store.forget_erased().await?;
            suspects.retain(|key, _| !ledger.holds(table, key));
        }
        Ok(())
    }

    /// Appends once more what was appended last: what the source has now, or that the row was removed. What it has not
    /// is kept to be removed.
    async fn repair(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        pass: &mut Pass,
        suspects: BTreeMap<String, Suspect>,
    ) -> Result<(), Stop> {
        if suspects.is_empty() {
            return Ok(());
        }
        let lacks_event =
            |suspect: &Suspect| suspect.found.contains(&(pass.store, DifferenceKind::WithoutEvent));
        if suspects.values().any(lacks_event) {
            self.owe_recount(lease, progress).await?;
        }
        self.run.newer_than = suspects.iter().map(|(key, suspect)| (key.clone(), suspect.held)).collect();
        self.run.request.reappend = true;
        let looked = self.look(lease, progress, suspects.keys().cloned().collect()).await;
        self.run.request.reappend = false;
        self.run.newer_than.clear();
        let (mut mended, asked_at) = looked?;
        let mut again = Vec::new();
        for (key, suspect) in suspects {
            if mended.contains(&key) {
                continue;
            }
            let last = suspect.appended.as_ref().map_or(suspect.held, |one| one.versao.max(suspect.held));
            match suspect.appended {
                Some(one) if one.removed => again.push(Removal { key, id: one.event, newer_than: last }),
                _ => {
                    let sinks: BTreeSet<&'static str> = suspect.found.iter().map(|(sink, _)| *sink).collect();
                    for sink in sinks {
                        *pass.gone_in.entry(sink).or_default() += 1;
                    }
                    if !pass.is_too_much_gone {
                        let removal = Removal::of(self.run.table, key.clone(), last);
                        pass.gone.insert(key, removal);
                    }
                }
            }
        }
        if report(progress).deleted + pass.gone.len() as u64 > self.allowed {
            pass.is_too_much_gone = true;
            pass.gone.clear();
        }
        mended.extend(again.iter().map(|one| one.key.clone()));
        self.append_removals(lease, progress, again, asked_at).await?;
        let reported = report(progress);
        reported.repaired += mended.len() as u64;
        let named = reported.differences.iter_mut().filter(|one| mended.contains(&one.key));
        named.for_each(|difference| difference.mended = true);
        Ok(())
    }

    /// Keeps that events are appended again which the store had counted once, before they are.
    async fn owe_recount(&self, lease: &mut dyn SyncLease, progress: &mut SyncProgress) -> Result<(), Stop> {
        if progress.recount_since.is_none() {
            let own = self.run.store.sync(self.run.id).await?;
            progress.recount_since = own.map(|own| own.started_at);
            self.heed(lease, progress).await?;
        }
        Ok(())
    }

    /// Since when events were appended again whose rollups no reconciliation since the last that succeeded came to count
    /// anew: what one of them owed, the next may have been ended before it took over.
    pub(super) async fn owed_recount(&self) -> Result<Option<DateTime<Utc>>, Fault> {
        let earlier = SyncFilter {
            table: Some(self.run.table.into()),
            only_reconciliations: true,
            before: Some(self.run.id),
            limit: LOOK_BACK,
            ..SyncFilter::default()
        };
        let earlier = self.run.store.syncs(&earlier).await?.into_iter();
        let mut unproven = earlier.take_while(|one| one.state != SyncState::Succeeded);
        Ok(unproven.find_map(|one| one.progress.recount_since))
    }

    fn conclude(&self, progress: &mut SyncProgress, pass: &Pass) {
        let is_proven = pass.different == 0;
        let reported = report(progress);
        reported.parked = pass.parked;
        reported.unexplained = if pass.repairs { 0 } else { pass.different };
        reported.sinks = pass
            .proofs
            .values()
            .map(|proof| SinkProof { proven: proof.different == 0, ..proof.clone() })
            .collect();
        let (sync_id, table, different) = (self.run.id, self.run.table, pass.different);
        if is_proven {
            info!(%sync_id, %table, parked = pass.parked, store = pass.store, index = pass.index, "sinks are proven");
        } else {
            warn!(%sync_id, %table, different, repairs = pass.repairs, "sinks differ from what was appended");
        }
    }
}
