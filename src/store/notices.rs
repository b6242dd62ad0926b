//! What a store remembers of the parts around it, so that one that was replaced, cut or restored is recognized, told of
//! and made up for, whichever process meets it first.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{domain::TableName, fault::Fault, identity::Identity};

/// How long an operator is told of a notice.
pub const TOLD_FOR: TimeDelta = TimeDelta::days(7);

/// Where it is remembered which index is filled; no piece has a place of that name.
pub(super) const INDEX: &str = "the index";

/// Notices that people are shown at most.
pub(super) const MAX_SHOWN: u32 = 200;

/// What was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The topic is another than it was: it was deleted and made anew.
    LogReplaced,
    /// A store or an index is another than it was: emptied, made anew, restored or copied.
    SinkReplaced,
    /// The log removed records before a sink had applied them.
    RecordsRemoved,
    /// The log ends before what a sink had applied of it: it was cut, or restored from an older state.
    LogCut,
    /// A store stands before what it had applied: it was restored from an older state.
    StoreWentBack,
    /// A store that has applied and asked for nothing yet meets a log with records: it was lost, or is one more.
    StoreIsNew,
    /// A table of sluice's own, not of entities or events, was dropped and is made anew.
    TableDropped,
    /// A table is read from elsewhere, or as somebody who sees other rows, or by other times than before.
    SourceReplaced,
}

impl NoticeKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::LogReplaced,
        Self::SinkReplaced,
        Self::RecordsRemoved,
        Self::LogCut,
        Self::StoreWentBack,
        Self::StoreIsNew,
        Self::TableDropped,
        Self::SourceReplaced,
    ];

    /// Its name in the table of notices, and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LogReplaced => "log_replaced",
            Self::SinkReplaced => "sink_replaced",
            Self::RecordsRemoved => "records_removed",
            Self::LogCut => "log_cut",
            Self::StoreWentBack => "store_went_back",
            Self::StoreIsNew => "store_is_new",
            Self::TableDropped => "table_dropped",
            Self::SourceReplaced => "source_replaced",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Something noticed of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Notice {
    pub kind: NoticeKind,
    /// The part's place, or the sink's name.
    pub part: String,
    /// The log it was noticed in, or the id of what is there now.
    pub log: String,
    /// The partition, and the offsets `from..to` in question; of a part that was replaced there are none.
    pub partition: Option<i32>,
    pub from: i64,
    pub to: i64,
    pub noticed_at: DateTime<Utc>,
}

impl Notice {
    /// What is there is not what was.
    pub(super) fn replaced(kind: NoticeKind, met: &Identity) -> Self {
        let (part, log) = (met.place.clone(), met.id.clone());
        Self { kind, part, log, partition: None, from: 0, to: 0, noticed_at: Utc::now() }
    }

    /// What happened, and what was or is done about it.
    pub fn sentence(&self) -> String {
        let Self { part, from, to, .. } = self;
        let partition = self.partition.unwrap_or_default();
        let told = match self.kind {
            NoticeKind::LogReplaced => format!(
                "the topic {part} was deleted and made anew: both sinks read the new one from its beginning, and the \
                 next syncs read the tables again from where earlier ones began, and whole where rows don't tell when \
                 they were changed"
            ),
            NoticeKind::SinkReplaced => format!(
                "{part} is another than it was (made anew, emptied, restored or copied): it is filled from the beginning \
                 of the log{}",
                if self.is_of_store() { FORGOTTEN } else { "" }
            ),
            NoticeKind::RecordsRemoved => format!(
                "records {from} to {} of partition {partition} were removed from the log before {part} had applied them \
                 (its retention, or somebody deleted records): the next syncs append all rows again; set the topic's \
                 retention.ms and retention.bytes to -1",
                to - 1
            ),
            NoticeKind::LogCut => format!(
                "partition {partition} of the log ends at {to}, before {from}, which {part} had reached: it was cut or \
                 restored, and is read again from its beginning"
            ),
            NoticeKind::StoreWentBack => format!(
                "{part} stands at {to} of partition {partition} and had reached {from}: it was restored from an older \
                 state, and is filled again from there{FORGOTTEN}"
            ),
            NoticeKind::StoreIsNew => format!(
                "{part} is new, and the log holds records from before it: it is filled from the beginning of the log; its \
                 ledger of erasures is empty, and whoever was erased before comes back: erase them again"
            ),
            NoticeKind::TableDropped => {
                let table = part.rsplit_once('/').map_or(part.as_str(), |(_, table)| table);
                format!("the table {part} was dropped and is made anew: {}", lost_with(table))
            }
            NoticeKind::SourceReplaced => format!(
                "{part} is read from another project or table than before, by a key that sees other rows, with other columns or \
                 by other times: what changed there earlier may never have been read, so the first sync since then reads it \
                 from where those before began, and whole where rows don't tell when they were changed"
            ),
        };
        format!("{told} (noticed {})", self.noticed_at.format("%Y-%m-%dT%H:%M:%SZ"))
    }

    /// Whether it is of the store, or one of its tables: indices go by an address or a path.
    pub fn is_of_store(&self) -> bool {
        matches!(self.part.split('/').next(), Some("postgres" | "sqlite"))
    }

    /// Whether rows may be missing that only the source still has.
    pub fn owes(&self) -> bool {
        matches!(self.kind, NoticeKind::RecordsRemoved)
    }
}

/// What else a store lost that is not what it was.
const FORGOTTEN: &str = "; its ledger of erasures may lack those made since, and whoever was erased then comes back: erase them again";

/// What it means that a table of sluice's own was dropped, and what is to be done.
pub(crate) fn lost_with(table: &str) -> &'static str {
    match table {
        "sluice_erased" => {
            "the ledger of erasures is empty, and whoever was erased comes back with what is read, replayed or rebuilt \
             next: restore the table from a backup before that, or erase them again"
        }
        "sluice_erasure" => {
            "the salt of the ledger of erasures is gone, so it knows nobody any more, and whoever was erased comes back with \
             what is read, replayed or rebuilt next: restore the table from a backup before that, or erase them again"
        }
        "eventos_agregados" => "it was added up again from eventos_raw and what trimmed events gave to it",
        "sluice_trimmed" => {
            "which events were trimmed is not known any more: one that is delivered again is stored and counted again"
        }
        "sluice_trimmed_windows" => {
            "what trimmed events gave to eventos_agregados is known from that table alone now: do not drop it"
        }
        "sluice_housekeeping" => "when old events were trimmed last is not known any more",
        "sluice_offsets" => {
            "the log is read again from its beginning, which changes nothing of what is there"
        }
        "sluice_tables" => "every column is filled again from the stored events",
        "sluice_schedules" => "the schedules are gone; set them again",
        "sluice_alerts" => "the alerts are gone; create them again",
        "sluice_alert_queue" => "alerts do not hear of what waited there to be looked at",
        "sluice_alert_outbox" => {
            "alerts tell no more of what waited there, and may tell again of what they told"
        }
        "sluice_pauses" => "sinks that were paused are drained again",
        "sluice_resolved_letters" => "dead letters that were settled count as open; settle them again",
        "sluice_parked_letters" => {
            "open dead letters do not settle by themselves any more; settle them by hand"
        }
        "sluice_readers" => {
            "a login for questions keeps what it was granted; run `sluice migrate --create-reader` once more"
        }
        "sluice_appended" | "sluice_coverage" | "sluice_owed" | "sluice_removed" => {
            "what was read of the source is not known any more; `sluice reconcile TABLE` reads the whole of a table and proves it"
        }
        "log_records" | "log_identity" | "log_starts" | "log_groups" => {
            "the next syncs append all rows again; `sluice reconcile TABLE` reads the whole of a table and proves it"
        }
        _ => "nothing of the stored rows is lost by it",
    }
}

/// A table whose history must be read from the source again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Owed {
    #[schemars(with = "String")]
    pub table: TableName,
    /// Rows last written since then.
    pub from: DateTime<Utc>,
    /// When it came to be owed; tells one debt from the next.
    pub since: DateTime<Utc>,
}

/// The part of the store port that tells one part from another of the same name.
#[async_trait]
pub trait Notices: Send + Sync {
    /// Remembers the log as it is. Where it replaced another at the same place, that is noticed, every table that was
    /// read into the old one is owed, and the old id returned: to one caller only.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn meet_log(&self, log: &Identity) -> Result<Option<String>, Fault>;

    /// Remembers a sink's piece as it is; as [`Notices::meet_log`], but the log owes nothing for it. Where it replaced
    /// another, no sync counts as drained any more.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn meet_sink(&self, piece: &Identity) -> Result<Option<String>, Fault>;

    /// Remembers which index is filled, by the [`Identity::id`] of the piece that each has. Where that is another than
    /// before, be it at another place, no sync counts as drained any more; a place that is new is nothing to be told of.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn meet_index(&self, id: &str) -> Result<(), Fault>;

    /// Where a table was read from last, by [`Identity::id`].
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn met_source(&self, place: &str) -> Result<Option<String>, Fault>;

    /// Remembers where a table is read from; as [`Notices::meet_log`], but this table alone is owed, and told of by its latest
    /// notice alone.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn meet_source(&self, table: &TableName, origin: &Identity) -> Result<Option<String>, Fault>;

    /// Remembers something noticed; the same again changes nothing. Where it owes, all that was read into this log is
    /// owed, and what was appended to it counts as appended no more.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn note(&self, notice: &Notice) -> Result<(), Fault>;

    /// What was noticed since then, the latest first, as far as people read.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn notices(&self, since: DateTime<Utc>) -> Result<Vec<Notice>, Fault>;

    /// Everything of these kinds that was noticed since then, for what depends on there being none.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn every_notice(&self, kinds: &[NoticeKind], since: DateTime<Utc>) -> Result<Vec<Notice>, Fault>;

    /// The tables that are owed.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn owed(&self) -> Result<Vec<Owed>, Fault>;

    /// Settles a debt; one that came to be since stays.
    ///
    /// # Errors
    /// When the store can't be reached.
    async fn settle_owed(&self, owed: &Owed) -> Result<(), Fault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_what_happened_and_what_is_done() {
        for kind in NoticeKind::ALL {
            let notice = Notice {
                kind,
                part: "postgres".to_owned(),
                log: "c/eventos/a".to_owned(),
                partition: Some(2),
                from: 10,
                to: 60,
                noticed_at: DateTime::UNIX_EPOCH,
            };
            let sentence = notice.sentence();
            let is_removed = kind == NoticeKind::RecordsRemoved;
            assert_eq!(sentence.contains("retention.ms and retention.bytes to -1"), is_removed, "{sentence}");
            let of = |part: &str| Notice { part: part.to_owned(), ..notice.clone() };
            let names_the_erased = |part| of(part).sentence().contains("erase them again");
            for store in ["postgres/leads", "sqlite", "sqlite/leads"] {
                assert_eq!(names_the_erased(store), names_the_erased("postgres"), "{kind:?} of {store}");
            }
            assert!(sentence.contains("postgres") && sentence.contains("1970-01-01"), "{sentence}");
            assert_eq!(NoticeKind::from_name(kind.as_str()), Some(kind));
        }
    }
}
