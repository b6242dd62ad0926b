//! Proving the sinks: every entity as it was appended, in the store and in the index.
//!
//! What was appended is walked range by range in the order of keys. The store answers each range with what it has of it,
//! and the index with its next ids and versions; the two streams are merged, so that what one of them lacks, has in
//! another version or has too much shows at its place, and a range that is as it should be costs one question a sink.

use std::collections::{BTreeMap, VecDeque};

use tracing::{info, warn};

use super::{KEYS, RANGE, Reconcile, Stop, gone::Removal, report};
use crate::{
    domain::Table,
    fault::Fault,
    index::Index,
    store::{Appended, Difference, DifferenceKind, Entry, SinkProof, SyncLease, SyncProgress},
};

/// Differences that a report names.
const NAMED: usize = 20;

/// The index's entities, in the order of their ids.
struct IndexCursor<'a> {
    index: &'a dyn Index,
    table: Table,
    page: VecDeque<(String, i64)>,
    last: Option<String>,
    ended: bool,
}

impl IndexCursor<'_> {
    async fn fill(&mut self) -> Result<(), Fault> {
        if self.page.is_empty() && !self.ended {
            let page = self.index.versions(self.table, self.last.as_deref(), RANGE).await?;
            self.ended = page.is_empty();
            self.last = page.last().map(|(id, _)| id.clone()).or(self.last.take());
            self.page = page.into();
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
        };
        report(progress).differences.retain(|difference| !difference.unexplained);
        let searched = self.index.clone();
        let mut cursor = IndexCursor {
            index: &*searched,
            table: self.run.table,
            page: VecDeque::new(),
            last: None,
            ended: false,
        };
        let mut after = None;
        while let Some(entries) = self.range(&mut after).await? {
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
        self.find_strangers(lease, progress, &mut pass).await?;
        self.resolve(lease, progress, &mut pass, true).await?;
        self.conclude(progress, pass)
    }

    /// Entities in the store of which nothing was appended: looked for where it has more than were appended.
    async fn find_strangers(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        pass: &mut Pass,
    ) -> Result<(), Stop> {
        let (table, store) = (self.run.table, pass.store);
        let compared = pass.proofs.get(store).map_or(0, |proof| proof.entities);
        if self.run.store.entity_count(table).await? == compared {
            return Ok(());
        }
        let mut after: Option<String> = None;
        loop {
            let log = self.run.log_id.clone();
            let page = self.run.store.strangers(&log, table, after.as_deref(), RANGE).await?;
            for stranger in page.strangers {
                pass.compared(store);
                let held = Some(stranger.versao);
                pass.differs(store, &stranger.key, None, held, DifferenceKind::Surplus);
            }
            self.resolve(lease, progress, pass, false).await?;
            self.heed(lease, progress).await?;
            let Some(last) = page.last else { return Ok(()) };
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
        let keys: Vec<String> = suspects.keys().cloned().collect();
        let parked = self.run.store.parked(&self.run.letters, self.run.table, &keys).await?;
        suspects.retain(|key, _| !parked.contains(key));
        pass.parked += parked.len() as u64;
        pass.different += suspects.len() as u64;
        for (key, suspect) in &suspects {
            for (sink, problem) in &suspect.found {
                if let Some(proof) = pass.proofs.get_mut(sink) {
                    proof.different += 1;
                }
                let named = &mut report(progress).differences;
                if named.len() < NAMED {
                    let unexplained = !pass.repairs;
                    named.push(Difference {
                        sink: (*sink).to_owned(),
                        key: key.clone(),
                        problem: *problem,
                        unexplained,
                    });
                }
            }
        }
        if pass.repairs { self.repair(lease, progress, suspects).await } else { Ok(()) }
    }

    /// What a sink still has of erased entities is removed again, whatever brought it: nothing of them is appended.
    async fn remove_erased(&self, suspects: &mut BTreeMap<String, Suspect>) -> Result<(), Fault> {
        let (table, ledger) = (self.run.table, self.run.erased.ledger().await?);
        let erased: Vec<String> = suspects.keys().filter(|key| ledger.holds(table, key)).cloned().collect();
        if !erased.is_empty() {
            warn!(sync_id = %self.run.id, %table, count = erased.len(), "a sink had something of erased entities: removed");
            self.run.store.erase(table, &erased, true).await?;
            self.index.erase(table, &erased).await?;
            suspects.retain(|key, _| !ledger.holds(table, key));
        }
        Ok(())
    }

    /// Appends once more what was appended last: what the source has now, or that it has nothing.
    async fn repair(
        &mut self,
        lease: &mut dyn SyncLease,
        progress: &mut SyncProgress,
        suspects: BTreeMap<String, Suspect>,
    ) -> Result<(), Stop> {
        if suspects.is_empty() {
            return Ok(());
        }
        self.run.newer_than = suspects.iter().map(|(key, suspect)| (key.clone(), suspect.held)).collect();
        self.run.request.reappend = true;
        let looked = self.look(lease, progress, suspects.keys().cloned().collect()).await;
        self.run.request.reappend = false;
        self.run.newer_than.clear();
        let (there, asked_at) = looked?;
        let (mut again, mut new) = (Vec::new(), Vec::new());
        for (key, suspect) in suspects {
            if there.contains(&key) {
                continue;
            }
            let last = suspect.appended.as_ref().map_or(suspect.held, |one| one.versao.max(suspect.held));
            match suspect.appended {
                Some(one) if one.removed => again.push(Removal { key, id: one.event, newer_than: last }),
                _ => new.push(Removal::of(self.run.table, key, last)),
            }
        }
        let (repaired, gone) = ((there.len() + again.len()) as u64, new.len() as u64);
        let deleted = report(progress).deleted + gone;
        if gone > 0 && deleted > self.allowed {
            report(progress).gone += gone;
            return Err(Stop::Fault(self.too_many(deleted)));
        }
        again.extend(new);
        self.append_removals(lease, progress, again, asked_at).await?;
        let reported = report(progress);
        reported.repaired += repaired;
        reported.gone += gone;
        reported.deleted += gone;
        Ok(())
    }

    fn conclude(&self, progress: &mut SyncProgress, pass: Pass) -> Result<bool, Stop> {
        let is_proven = pass.different == 0;
        let reported = report(progress);
        reported.parked = pass.parked;
        reported.unexplained = if pass.repairs { 0 } else { pass.different };
        reported.sinks = pass
            .proofs
            .into_values()
            .map(|proof| SinkProof { proven: proof.different == 0, ..proof })
            .collect();
        let (sync_id, table, different) = (self.run.id, self.run.table, pass.different);
        if is_proven {
            info!(%sync_id, %table, parked = pass.parked, store = pass.store, index = pass.index, "sinks are proven");
        } else {
            warn!(%sync_id, %table, different, repairs = pass.repairs, "sinks differ from what was appended");
        }
        Ok(is_proven)
    }
}
