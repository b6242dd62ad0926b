//! A drain as a member of its group: what it claims, commits, gives back and forgets.

use std::{
    collections::{BTreeMap, HashSet},
    panic::resume_unwind,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::{COMMITS_WITHIN, Held, LOOK_IDLE_EVERY, READ_AGAIN_WITHIN, REFUSED_FOR, Session};
use crate::{
    engine::gaps,
    fail_point,
    fault::{Fault, FaultKind},
    log::{Position, StartAt, Started},
};

/// Offsets on their way to the group.
pub(super) struct Commit {
    offsets: BTreeMap<i32, i64>,
    answer: JoinHandle<Result<(), Fault>>,
}

impl Session<'_> {
    /// Gives back what the sink has not as far as it had: it lost its last commits and is the same all the while (a failover
    /// to a standby that was behind, a restore at its place). Only a batch would meet that, and none may come.
    pub(super) async fn look_for_lost_commits(&mut self) -> Result<(), Fault> {
        if self.compared.elapsed() < LOOK_IDLE_EVERY {
            return Ok(());
        }
        // It has what is on its way, or has not: a moment later it would be another answer.
        self.land_all().await?;
        self.compared = Instant::now();
        let Some(applied) = self.drain.sink.applied(&self.log_id).await? else {
            let reached = self.drain.sink.reached(&self.log_id).await?;
            let is_behind =
                |at: &Position| self.held.get(&at.partition).is_some_and(|held| at.offset < held.next);
            if reached.iter().any(is_behind) {
                let sink = self.drain.sink.name();
                warn!(sink, "the sink is behind what it had applied: beginning anew from where it stands");
                self.replaced = true;
            }
            return Ok(());
        };
        let stored =
            |partition| applied.iter().find(|at| at.partition == partition).map_or(0, |at| at.offset);
        // One that is further than it was here is another worker's by now, and its revocation on its way.
        let behind: Vec<(i32, i64)> = self
            .held
            .iter()
            .map(|(partition, held)| (*partition, held.next))
            .filter(|at| stored(at.0) < at.1)
            .collect();
        if !behind.is_empty() {
            let sink = self.drain.sink.name();
            warn!(sink, partitions = ?behind, "the sink is behind what it had applied: reading again from where it stands");
            self.reached.extend(behind.iter().copied());
            self.give_back(behind.into_iter().map(|(partition, _)| partition));
        }
        Ok(())
    }

    pub(super) async fn claim_assigned(&mut self) -> Result<(), Fault> {
        if self.unclaimed.is_empty() {
            return Ok(());
        }
        let partitions: Vec<i32> = self.unclaimed.iter().copied().collect();
        let claims = self.drain.sink.claim(&self.log_id, &partitions).await?;
        fail_point::pass("drain.claimed");
        let starts: Vec<(i32, StartAt)> = claims.iter().map(|claim| (claim.partition, claim.start)).collect();
        let began = self.reader.start(&starts).await?;
        for claim in claims {
            let Some(at) = began.iter().find(|at| at.partition == claim.partition) else {
                continue; // revoked meanwhile
            };
            let stored = match claim.start {
                StartAt::Offset(stored) | StartAt::NotBeyond(stored) => Some(stored),
                StartAt::Beginning | StartAt::Committed => None,
            };
            // The group may not know yet how far it was.
            let reached = self.reached.get(&claim.partition).copied();
            let known = Started { committed: at.committed.max(reached), ..*at };
            for notice in gaps::notices_of_start(self.drain.sink.name(), &self.log_id, stored, &known) {
                self.drain.note(&notice).await?;
            }
            self.reached.remove(&claim.partition);
            if at.cut().is_some() {
                // Other records are at these offsets now.
                self.parked.retain(|position| position.partition != claim.partition);
            }
            let next = match claim.start {
                // The sink compares with what it stored, even where the log made reading begin elsewhere.
                StartAt::Offset(stored) => stored,
                StartAt::Committed if at.committed.is_some() => at.offset,
                // It has noted no more, though the log may begin behind that by now.
                StartAt::NotBeyond(_) if at.committed.is_some() => {
                    at.asked.map_or(at.offset, |asked| asked.min(at.offset))
                }
                // It has nothing: what the log removed is missing here, as after any other jump.
                StartAt::Beginning | StartAt::Committed | StartAt::NotBeyond(_) => 0,
            };
            self.held.insert(claim.partition, Held { epoch: claim.epoch, next });
            // Whoever applied it was killed before it committed, or could not, and nothing more may come.
            if claim.start == StartAt::Offset(at.offset) && at.committed.unwrap_or_default() < at.offset {
                self.uncommitted.insert(claim.partition, at.offset);
            }
            // What is read again is committed again.
            if self.uncommitted.get(&claim.partition).is_some_and(|&offset| at.offset < offset) {
                self.uncommitted.remove(&claim.partition);
            }
        }
        self.unclaimed.clear();
        self.report_partitions();
        Ok(())
    }

    /// Commits what was applied. The answer is heard once it is there: neither the sink nor what comes next waits for the
    /// group.
    pub(super) async fn commit_pending(&mut self) -> Result<(), Fault> {
        if self.committing.as_ref().is_some_and(|commit| commit.answer.is_finished()) {
            self.hear_of_commit().await?;
        }
        if self.committing.is_some()
            || self.uncommitted.is_empty()
            || !self.obey().await?
            || self.uncommitted.is_empty()
        {
            return Ok(());
        }
        let offsets = self.uncommitted.clone();
        let next: Vec<Position> =
            offsets.iter().map(|(&partition, &offset)| Position { partition, offset }).collect();
        self.committing = Some(Commit { offsets, answer: tokio::spawn(self.reader.commit(&next)) });
        Ok(())
    }

    /// Before partitions go: whoever has them next need not apply, or park, again what was applied here.
    pub(super) async fn commit_at_once(&mut self) {
        let committing = async {
            self.hear_of_commit().await?;
            self.commit_pending().await?;
            self.hear_of_commit().await
        };
        match tokio::time::timeout(COMMITS_WITHIN, committing).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                debug!(sink = self.drain.sink.name(), error = %fault, "partitions go with what was not committed");
            }
            Err(_) => debug!(sink = self.drain.sink.name(), "partitions go before the group has answered"),
        }
    }

    /// What became of the commit on its way, where one is.
    pub(super) async fn hear_of_commit(&mut self) -> Result<(), Fault> {
        let Some(Commit { offsets, answer }) = self.committing.take() else { return Ok(()) };
        let answer = answer.await.map_err(|error| match error.try_into_panic() {
            // As if it had been committed here.
            Ok(panic) => resume_unwind(panic),
            Err(error) => {
                Fault::transient("drain", format!("a commit was cut: {error}"), "it is tried again")
            }
        })?;
        match answer {
            Ok(()) => {
                fail_point::pass("drain.committed");
                // What was applied meanwhile is not.
                self.uncommitted.retain(|partition, offset| offsets.get(partition) != Some(offset));
                // What is passed for good. Before, it may be read again, and is not to become a second letter.
                let (held, parked) = (&self.held, &mut self.parked);
                parked.retain(|at| {
                    let is_passed = held.get(&at.partition).is_some_and(|held| at.offset < held.next);
                    !is_passed || offsets.get(&at.partition).is_none_or(|committed| at.offset >= *committed)
                });
                self.refused_since = None;
                Ok(())
            }
            // The group is moving partitions and takes nothing from anybody. Those that go are forgotten as they are
            // revoked; those that stay are committed afterwards, since nobody else will do it.
            Err(fault) if fault.kind == FaultKind::Fenced => {
                if self.uncommitted.is_empty() {
                    return Ok(()); // all of them went meanwhile
                }
                let since = *self.refused_since.get_or_insert_with(Instant::now);
                debug!(sink = self.drain.sink.name(), error = %fault, "commit refused, repeated later");
                if self.is_refused_for_long() {
                    self.tell_refusal(&fault, since.elapsed());
                }
                // Whatever is revoked must be heard of.
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    pub(super) fn owes_a_batch(&self) -> bool {
        self.owed.as_ref().is_some_and(|(_, since)| since.elapsed() < READ_AGAIN_WITHIN)
    }

    pub(super) fn is_refused_for_long(&self) -> bool {
        self.refused_since.is_some_and(|since| since.elapsed() >= REFUSED_FOR)
    }

    fn tell_refusal(&self, fault: &Fault, refused_for: Duration) {
        let told = Fault::transient(
            fault.part,
            format!("{}, for {} s by now", fault.message, refused_for.as_secs()),
            "it is tried again, and what was applied is not lost; if it stays, look at the group's members and the brokers' logs",
        );
        if self.drain.stats.report().failing_since.is_none() {
            warn!(sink = self.drain.sink.name(), error = %told, "the group takes no commit");
        }
        self.drain.stats.failed(&told);
    }

    /// After a fault: the partitions of the batch will be read again, from where the sink stands.
    pub(super) fn give_back(&mut self, partitions: impl Iterator<Item = i32>) {
        let partitions: HashSet<i32> = partitions.collect();
        let (owed, since) = self.owed.get_or_insert_with(|| (HashSet::new(), Instant::now()));
        owed.extend(&partitions);
        *since = Instant::now();
        // A claim tells where to read on, and takes the partition back from a worker that is gone.
        for partition in partitions {
            if self.held.remove(&partition).is_some() {
                self.unclaimed.insert(partition);
            }
        }
        self.report_partitions();
    }

    pub(super) fn forget(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.held.remove(partition);
            self.reached.remove(partition);
            self.unclaimed.remove(partition);
            self.uncommitted.remove(partition);
        }
        self.parked.retain(|position| !partitions.contains(&position.partition));
        if self.uncommitted.is_empty() {
            self.refused_since = None;
        }
        // What failed is another's to apply now.
        self.owed.take_if(|(owed, _)| {
            owed.retain(|partition| !partitions.contains(partition));
            owed.is_empty()
        });
        self.report_partitions();
    }
}
