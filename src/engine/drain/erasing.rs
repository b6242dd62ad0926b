//! Whom somebody erases while a drain is at work.

use tracing::debug;

use super::{
    Session,
    apply::{Lane, Outcome},
};
use crate::fault::Fault;

impl Session<'_> {
    /// Takes note of erasures; whether it is known for certain that there are no others. What was applied by an older
    /// ledger and is not committed is read again.
    pub(super) async fn obey(&mut self) -> Result<bool, Fault> {
        if self.drain.sink.obeys_erasures() {
            return Ok(true);
        }
        match self.erased.ledger().await {
            Ok(ledger) => {
                if ledger.version() != self.ledger.version() {
                    // What is on its way was made by the older one.
                    self.land_all().await?;
                    self.ledger = ledger;
                    let again: Vec<i32> = std::mem::take(&mut self.uncommitted).into_keys().collect();
                    if !again.is_empty() {
                        self.give_back(again.into_iter());
                    }
                }
                Ok(true)
            }
            Err(fault) => {
                debug!(sink = self.drain.sink.name(), error = %fault, "it can't be told who was erased: nothing is committed");
                Ok(false)
            }
        }
    }

    /// Notes whoever was erased while these were written: a log that erases holds nothing any more by which they would be left
    /// out when it is read again.
    pub(super) async fn note_late(&mut self, outcomes: &[(Lane, Outcome)]) -> Result<(), Fault> {
        if self.drain.sink.obeys_erasures() {
            return Ok(());
        }
        let events = outcomes.iter().flat_map(|(lane, _)| &lane.batch.events);
        match self.erased.ledger().await {
            Ok(ledger) if ledger.version() != self.ledger.version() => {
                self.undiscarded.extend(events.filter(|event| event.is_erased(&ledger)).cloned());
                Ok(())
            }
            Err(fault) if self.drain.log.can_erase() => {
                self.doubtful.extend(events.map(|event| (event.position, event.clone())));
                Err(fault)
            }
            // Of another log, it is not committed before that can be told, and read again as it was.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Removes what deliveries brought of erased entities.
    pub(super) async fn discard_erased(&mut self) -> Result<(), Fault> {
        if !self.doubtful.is_empty() {
            let ledger = self.erased.ledger().await?;
            let doubtful = std::mem::take(&mut self.doubtful).into_values();
            self.undiscarded.extend(doubtful.filter(|event| event.is_erased(&ledger)));
        }
        if !self.undiscarded.is_empty() {
            self.drain.sink.discard(&self.undiscarded).await?;
            self.undiscarded.clear();
        }
        Ok(())
    }
}
