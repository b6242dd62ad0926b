//! A reading that was broken off, kept in the store so that another reconciliation may go on with it when it is asked to.
//!
//! What it then proves is the table as it was when the reading began, and the report says so: of what was read before, a row
//! that was inserted or changed since comes with a sync, if its time is new, and one that was deleted, or changed without a
//! new time, says so nowhere. So it is not gone on with by itself, nor after a day; and the source it was read from must be
//! the same.

use std::{collections::HashSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::info;

use super::{Reading, Reconcile, keys::KeySet};
use crate::{
    domain::{Definition, Table},
    fault::Fault,
    source::PageToken,
};

/// How often a reading is kept while it goes on.
pub(super) const KEEP_EVERY: Duration = Duration::from_secs(10);

const OLDEST: TimeDelta = TimeDelta::days(1);

/// A reading as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    of: Of,
    began: DateTime<Utc>,
    /// Rows that the source counted when it began.
    counted: Option<u64>,
    keys: String,
    unkeyed: u64,
    erased: u64,
    repeated: u64,
    last: Option<String>,
    next: Option<PageToken>,
}

/// What a reading was made of. Of anything else it proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Of {
    /// A digest of the source's origin, which may name what is nobody's business.
    origin: String,
    definition: Definition,
    log: String,
}

impl Of {
    fn new(origin: &str, table: Table, log: &str) -> Self {
        let origin = STANDARD.encode(Sha256::digest(origin));
        Self { origin, definition: table.definition().clone(), log: log.to_owned() }
    }
}

impl Reconcile {
    /// The reading to go on with: a new one, unless another was asked for and may be gone on with.
    pub(super) async fn begin_reading(&self) -> Result<Reading, Fault> {
        let run = &self.run;
        let of = Of::new(&run.source.origin(run.table), run.table, &run.log_id);
        if self.asked.resume && run.owed.is_none() {
            let kept = run.store.kept_reading(&run.table.into()).await?;
            if let Some(reading) = kept.and_then(|kept| resumed(&kept, &of, Utc::now())) {
                info!(sync_id = %run.id, table = %run.table, began = ?reading.began, "an earlier reading is gone on with");
                return Ok(reading);
            }
            info!(sync_id = %run.id, table = %run.table, "there is no reading to go on with; the table is read anew");
        }
        Ok(Reading::new(of))
    }

    /// Keeps a reading as it is after a page.
    pub(super) async fn keep(&self, reading: &Reading) -> Result<(), Fault> {
        let Some(began) = reading.began else { return Ok(()) };
        let kept = Kept {
            of: reading.of.clone(),
            began,
            counted: reading.counted,
            keys: STANDARD.encode(reading.keys.to_bytes()),
            unkeyed: reading.unkeyed,
            erased: reading.erased,
            repeated: reading.repeated,
            last: reading.last.clone(),
            next: reading.next.clone(),
        };
        let kept = serde_json::to_string(&kept).map_err(|error| {
            Fault::transient(self.run.store.name(), format!("keeping a reading: {error}"), "report this")
        })?;
        self.run.store.keep_reading(&self.run.table.into(), Some(kept)).await
    }
}

/// The kept reading, where it is of the same and not too old.
fn resumed(kept: &str, of: &Of, now: DateTime<Utc>) -> Option<Reading> {
    let kept: Kept = serde_json::from_str(kept).ok()?;
    let is_young = kept.began <= now && now - kept.began <= OLDEST;
    if kept.of != *of || !is_young {
        return None;
    }
    let keys = KeySet::from_bytes(&STANDARD.decode(&kept.keys).ok()?)?;
    Some(Reading {
        ended_at: None,
        earlier: Some(keys.len()),
        keys,
        of: kept.of,
        began: Some(kept.began),
        counted: kept.counted,
        unkeyed: kept.unkeyed,
        erased: kept.erased,
        repeated: kept.repeated,
        unusable: HashSet::new(),
        last: kept.last,
        is_whole: kept.next.is_none(),
        next: kept.next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Catalog;

    #[test]
    fn a_reading_is_gone_on_with_only_of_the_same_and_within_a_day() {
        let leads = Catalog::built_in().get("leads").expect("leads");
        let chats = Catalog::built_in().get("chat_sessions").expect("chats");
        let of = |origin: &str, table, log| Of::new(origin, table, log);
        let now = Utc::now();
        let kept = Kept {
            of: of("project", leads, "log"),
            began: now,
            counted: Some(3),
            keys: STANDARD.encode(KeySet::new().to_bytes()),
            unkeyed: 1,
            erased: 2,
            repeated: 3,
            last: Some("key".to_owned()),
            next: None,
        };
        let kept = serde_json::to_string(&kept).expect("json");
        let after = |of: Of, hours| resumed(&kept, &of, now + TimeDelta::hours(hours));
        let reading = after(of("project", leads, "log"), 23).expect("a reading");
        assert!(reading.is_whole && reading.earlier == Some(0));
        assert_eq!((reading.unkeyed, reading.erased, reading.repeated, reading.counted), (1, 2, 3, Some(3)));
        assert!(after(of("project", leads, "log"), 25).is_none(), "too old");
        assert!(after(of("project", leads, "log"), -1).is_none(), "begun in the future");
        assert!(after(of("another", leads, "log"), 1).is_none());
        assert!(after(of("project", chats, "log"), 1).is_none());
        assert!(after(of("project", leads, "another"), 1).is_none());
        assert!(resumed("{}", &of("project", leads, "log"), now).is_none());
    }
}
