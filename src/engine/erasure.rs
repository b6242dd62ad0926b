//! Erasing a person: from the store, from both kinds of indices, from the dead letters, and for good.
//!
//! The ledger comes first, in one transaction with what the store holds: from then on no sync appends what is about the
//! person, no drain of any process applies it, no replay brings it back, and a rebuild leaves it out. What drains had in
//! hand at that moment is removed by themselves before they commit it; see [`super::drain`]. Every step may be repeated, so
//! what a part that was down still holds is removed by erasing again. Of the documents, what refers to the
//! person goes first, and nothing more once something failed: when it is erased again, they tell what is left. No key and no
//! value of the person reaches the log of this process.

mod whom;

use std::{collections::BTreeMap, fmt, sync::Arc};

use chrono::Utc;
use schemars::JsonSchema;
use serde::Serialize;
use tracing::info;

use self::whom::Values;
use super::{EngineError, EntityKey, dead_letters, shared::Shared};
use crate::{
    domain::{Catalog, Table},
    fault::Fault,
    log::{Extent, Position, Record, Topic, TopicLimits},
    store::{AlertRule, Resolution, Settled},
};

/// Letters read at a time.
const LETTERS: i64 = 256;

/// The shortest key or value, in bytes, that what mentions it is about: a small number is mentioned by chance.
const UNMISTAKABLE: usize = 8;

/// Keys that whoever decides on an erasure is shown.
const SHOWN_KEYS: usize = 10;

/// Whom to erase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureRequest {
    pub table: Table,
    /// A value is looked for in every column that entities are looked up by.
    pub who: EntityKey,
    /// Also the entities of other tables that refer to it: a lead's chat sessions.
    pub related: bool,
}

impl ErasureRequest {
    /// What they are looked up by, where no key was given.
    fn value(&self) -> Option<&str> {
        match &self.who {
            EntityKey::Key(_) => None,
            EntityKey::Lookup { value, .. } => Some(value.trim()),
        }
    }
}

/// What an erasure came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ErasureReport {
    pub table: String,
    /// Keys of the erased entities of the table.
    pub keys: Vec<String>,
    /// Entities of other tables that were erased with them.
    pub related: u64,
    /// Nothing is left that could be removed now. Otherwise erase again once the parts that failed answer.
    pub complete: bool,
    pub removed: Vec<RemovedFrom>,
    pub remains: Vec<Remainder>,
}

/// What was removed from one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RemovedFrom {
    pub place: String,
    /// Rows, documents, letters or records.
    pub count: u64,
    /// Why not all of it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is still somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Remainder {
    pub place: String,
    /// What it is, and for how long.
    pub what: String,
}

/// Whom an erasure removes, in the words that whoever decides on it is shown.
pub struct ErasurePreview(Found);

impl fmt::Display for ErasurePreview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.0;
        let mut parts = Vec::new();
        if let Some((table, keys)) = found.targets.first().filter(|(_, keys)| !keys.is_empty()) {
            let mut shown: Vec<String> = keys.iter().take(SHOWN_KEYS).map(|key| format!("{key:?}")).collect();
            if keys.len() > SHOWN_KEYS {
                shown.push(format!("{} more", keys.len() - SHOWN_KEYS));
            }
            let called = if keys.len() == 1 { "key" } else { "keys" };
            parts.push(format!("{} of {table} ({called} {})", keys.len(), shown.join(", ")));
        }
        let mut related: BTreeMap<&str, usize> = BTreeMap::new();
        for (table, keys) in found.targets.iter().skip(1) {
            *related.entry(table.name()).or_default() += keys.len();
        }
        parts.extend(related.iter().map(|(table, count)| format!("{count} of {table} that refer to them")));
        match found.letters.len() {
            0 => {}
            1 => parts.push("1 dead letter about them".to_owned()),
            letters => parts.push(format!("{letters} dead letters about them")),
        }
        write!(
            f,
            "removes {} from the store, the index and the dead letters for good, and keeps them from coming back",
            parts.join(" and ")
        )?;
        if found.left > 0 {
            write!(f, "; {} entities of other tables that refer to them stay", found.left)?;
        }
        if found.erased_before > 0 {
            write!(f, "; {} of these had been erased before", found.erased_before)?;
        }
        if !found.is_whole() {
            f.write_str("; not every place could be asked, so there may be more")?;
        }
        Ok(())
    }
}

/// Erases people.
pub struct Erasures {
    shared: Arc<Shared>,
}

/// The keys of one table.
type Targets = Vec<(Table, Vec<String>)>;

/// Who is meant, and what is known of them besides what the sinks hold.
struct Found {
    /// Those of the table that was asked for first, then those that refer to what stands before them.
    targets: Targets,
    /// Those that refer to it and are not to be erased, nor were before.
    left: u64,
    /// How many of the targets the ledger holds already: something may be left of them, or a letter alone tells of them.
    erased_before: usize,
    /// What those of the table are looked up by at the source, where it was not what was asked for.
    values: Values,
    /// Rows that still stand at the source; `None` where it could not be asked.
    at_source: Result<u64, Fault>,
    /// Tables of which the source could not be asked what refers to them.
    referring_unasked: Vec<(Table, Fault)>,
    /// Why the index could not be asked who is meant, or what refers to them.
    index_unasked: Option<String>,
    /// What the store has not applied yet may tell of more.
    unapplied: Option<String>,
    letters: Vec<Resolution>,
    /// The dead letters that were looked at for these.
    looked_at: Vec<Extent>,
}

/// Others who may be the same person.
#[derive(Default)]
struct Namesakes {
    /// How many have, or had, the same value, by its column.
    found: Vec<(&'static str, u64)>,
    /// Why not all of them could be looked for.
    unasked: Option<Fault>,
}

impl Namesakes {
    /// What an answer says of them.
    fn told(&self) -> impl Iterator<Item = String> {
        let unasked = self.unasked.iter().map(|fault| {
            format!(
                "it could not be looked everywhere for others who have, or had, the same address, as in earlier versions of their rows \
                 ({}); erase by the address, which looks at all of them however long that takes",
                fault.message
            )
        });
        let found = self.found.iter().map(|(column, count)| {
            format!(
                "{count} others have, or had, the same {column}, and were left: look whether they are the same person, also under a \
                 key of before the table's key was replaced, and erase by {column}, or each by its key"
            )
        });
        unasked.chain(found)
    }
}

impl Found {
    /// Whether anything besides the keys themselves tells of them.
    fn is_known(&self) -> bool {
        !self.letters.is_empty()
            || self.targets.len() > 1
            || self.at_source.as_ref().is_ok_and(|rows| *rows > 0)
    }

    /// Whether every place told who is meant.
    fn is_whole(&self) -> bool {
        self.at_source.is_ok()
            && self.referring_unasked.is_empty()
            && self.index_unasked.is_none()
            && self.unapplied.is_none()
    }
}

impl Erasures {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Erases an entity; `by` is who asked.
    ///
    /// # Errors
    /// When nothing is known of such an entity; when it can't be told who is meant, or the ledger can't be written: then
    /// nothing was removed. What a part that is down still holds is told in the report.
    pub async fn erase(&self, request: &ErasureRequest, by: &str) -> Result<ErasureReport, EngineError> {
        let found = self.look(request, by).await?;
        self.remove(request, found, by).await
    }

    /// Erases whom a preview told, and nobody else. It is looked again where somebody `was_asked` since, which may take long.
    ///
    /// # Errors
    /// As [`Erasures::erase`], and when others are meant by now.
    pub async fn erase_previewed(
        &self,
        request: &ErasureRequest,
        by: &str,
        preview: ErasurePreview,
        was_asked: bool,
    ) -> Result<ErasureReport, EngineError> {
        if !was_asked {
            return self.remove(request, preview.0, by).await;
        }
        let found = self.look(request, by).await?;
        if found.targets != preview.0.targets {
            let problem =
                "who is meant has changed since it was asked; nothing was erased: call again".to_owned();
            return Err(EngineError::Invalid { field: "confirm", problem });
        }
        self.remove(request, found, by).await
    }

    /// Whom an erasure that is asked for `by` somebody would remove; nothing is removed.
    ///
    /// # Errors
    /// When nothing is known of such an entity, or it can't be told who is meant.
    pub async fn preview(&self, request: &ErasureRequest, by: &str) -> Result<ErasurePreview, EngineError> {
        let found = self.look(request, by).await?;
        // Who has a value was found somewhere.
        if matches!(request.who, EntityKey::Key(_)) && self.is_unknown(&found).await? {
            return Err(EngineError::UnknownEntity { table: request.table, key: request.who.clone() });
        }
        Ok(ErasurePreview(found))
    }

    async fn look(&self, request: &ErasureRequest, by: &str) -> Result<Found, EngineError> {
        self.shared.ready_store().await?;
        self.shared.ready_log().await?;
        self.find(request, by).await
    }

    async fn remove(
        &self,
        request: &ErasureRequest,
        mut found: Found,
        by: &str,
    ) -> Result<ErasureReport, EngineError> {
        let (table, store) = (request.table, &self.shared.store);
        // Before their events are gone, which tell of the address.
        let namesakes = match &request.who {
            EntityKey::Key(_) => self.namesakes(table, &found).await,
            EntityKey::Lookup { .. } => Namesakes::default(),
        };
        let keys = found.targets.first().map(|(_, keys)| keys.clone()).unwrap_or_default();
        let is_known = found.is_known();
        let mut rows = 0;
        // What refers to an entity goes before it: where that fails, it is found again.
        for (table, keys) in found.targets.iter().rev() {
            let Some(erased) = store.erase(*table, keys, is_known).await? else {
                return Err(EngineError::UnknownEntity { table: *table, key: request.who.clone() });
            };
            // It names the last key that was read.
            store.keep_reading(&(*table).into(), None).await?;
            rows += erased.entities + erased.events + erased.marks;
        }
        // From here on whatever fails is told with the keys: the ledger holds them.
        let kept = store.forget_erased().await.err().map(|fault| fault.to_string());
        let letters = self.settle_letters(request, &mut found, by).await;
        let from_log = self.empty_records(&found).await;
        let keeps_records = from_log.is_none();
        // Nobody is needed to find again what a journal keeps.
        let is_left = letters.error.is_some() || from_log.as_ref().is_some_and(|log| log.error.is_some());
        let from_store = RemovedFrom {
            place: store.name().to_owned(),
            count: rows,
            error: kept.or_else(|| found.unapplied.clone()),
        };
        let mut removed = vec![from_store, self.remove_documents(&found, is_left).await, letters];
        removed.extend(from_log);
        removed.extend(self.remove_exports());
        let complete = removed.iter().all(|place| place.error.is_none());
        let related = found.targets.iter().skip(1).map(|(_, keys)| keys.len() as u64).sum();
        info!(%table, entities = keys.len(), related, complete, "entities erased");
        Ok(ErasureReport {
            table: table.name().to_owned(),
            keys,
            related,
            complete,
            removed,
            remains: self.remains(&found, &namesakes, keeps_records).await,
        })
    }

    /// Whom an export holds is not known without reading it: every one is removed, those that are being made, too.
    fn remove_exports(&self) -> Option<RemovedFrom> {
        let (count, error) = match self.shared.exports.remove_all() {
            Ok(0) => return None,
            Ok(count) => (count, None),
            Err(error) => (0, Some(error.to_string())),
        };
        Some(RemovedFrom { place: "exports".to_owned(), count, error })
    }

    /// What refers to an entity goes before it, and nothing goes where something `is_left` elsewhere or the documents could not
    /// be asked: whoever erases again learns from them whom that was about.
    async fn remove_documents(&self, found: &Found, is_left: bool) -> RemovedFrom {
        let (place, error) = (self.shared.index.name().to_owned(), found.index_unasked.clone());
        let mut removed = RemovedFrom { place, count: 0, error };
        if is_left || removed.error.is_some() {
            let waits = || "it tells what is left elsewhere, so nothing was removed; erase again".to_owned();
            removed.error.get_or_insert_with(waits);
            return removed;
        }
        for (table, keys) in found.targets.iter().rev() {
            match self.shared.index.erase(*table, keys).await {
                Ok(count) => removed.count += count,
                Err(fault) => {
                    removed.error = Some(fault.to_string());
                    break;
                }
            }
        }
        removed
    }

    /// Letters are settled as erased, so that nobody is shown them. What was parked since it was looked is found now; what a
    /// sync parks after this, it settles itself.
    async fn settle_letters(&self, request: &ErasureRequest, found: &mut Found, by: &str) -> RemovedFrom {
        let settled = async {
            self.note_letters(request, found, by).await?;
            let letters = self.shared.log.dead_letters_identity().await?.to_string();
            self.shared.store.settle(&letters, &found.letters).await
        };
        let error = settled.await.err().map(|fault| fault.to_string());
        let count = if error.is_none() { found.letters.len() as u64 } else { 0 };
        RemovedFrom { place: "dead letters".to_owned(), count, error }
    }

    /// `None` where the log keeps its records until its retention removes them.
    async fn empty_records(&self, found: &Found) -> Option<RemovedFrom> {
        let log = &self.shared.log;
        let at = |letter: &Resolution| Position { partition: letter.partition, offset: letter.offset };
        let letters: Vec<Position> = found.letters.iter().map(at).collect();
        let mut removed = RemovedFrom { place: log.name().to_owned(), count: 0, error: None };
        for (table, keys) in &found.targets {
            match log.erase(&table.entity, keys, &letters).await {
                Ok(count) => removed.count += count?,
                Err(fault) => removed.error = Some(fault.to_string()),
            }
        }
        Some(removed)
    }

    /// Notes every dead letter, open or settled, that is about the targets, but for those that were looked at.
    async fn note_letters(&self, request: &ErasureRequest, found: &mut Found, by: &str) -> Result<(), Fault> {
        let (by, catalog) = (format!("{by} on {}", self.shared.settings.owner), self.shared.catalog);
        let Found { targets, letters, looked_at, .. } = found;
        let each = |record: &Record| {
            if is_about(catalog, record, targets, request.value()) {
                letters.push(Resolution {
                    partition: record.partition,
                    offset: record.offset,
                    letter: dead_letters::letter_id(record),
                    settled: Settled::Erased,
                    by: by.clone(),
                    at: Utc::now(),
                });
            }
        };
        *looked_at = self.walk_letters(looked_at, each).await?;
        Ok(())
    }

    /// Shows every dead letter, open or settled, that is still in the log behind those that were looked at. Returns where there
    /// are letters.
    async fn walk_letters(
        &self,
        looked_at: &[Extent],
        mut each: impl FnMut(&Record) + Send,
    ) -> Result<Vec<Extent>, Fault> {
        let extents = self.shared.log.dead_letter_extents().await?;
        for extent in &extents {
            let mut low = first_behind(looked_at, extent);
            while low < extent.high {
                let high = extent.high.min(low + LETTERS);
                let range = Extent { partition: extent.partition, low, high };
                let records = self.shared.log.records(Topic::DeadLetters, &[range]).await?;
                records.iter().for_each(&mut each);
                low = high;
            }
        }
        Ok(extents)
    }

    /// Schedules and alerts that ask by columns that may name somebody: they go on as they were asked for.
    async fn standing_conditions(&self, targets: &[(Table, Vec<String>)]) -> Result<Vec<String>, Fault> {
        let store = &self.shared.store;
        let mut standing = Vec::new();
        for schedule in store.schedules().await? {
            standing.push(("the schedule of", schedule.request.table, schedule.request.conditions));
        }
        for alert in store.alerts(false).await? {
            if let AlertRule::Row { table, conditions } = alert.rule {
                standing.push(("an alert about rows of", table, conditions));
            }
        }
        let mut told = Vec::new();
        for (what, of, conditions) in standing {
            let Some((table, _)) = targets.iter().find(|(table, _)| table.name() == of.0) else { continue };
            let asked = |column: &&str| conditions.iter().any(|condition| condition.column == *column);
            let columns: Vec<&str> = table.definition().naming_columns().filter(asked).collect();
            if !columns.is_empty() {
                told.push(format!(
                    "{what} {of} asks by {}: look whether it names them, and remove it if so",
                    columns.join(", ")
                ));
            }
        }
        Ok(told)
    }

    /// What is still somewhere, and for how long.
    async fn remains(&self, found: &Found, namesakes: &Namesakes, keeps_records: bool) -> Vec<Remainder> {
        let Shared { source, log, store, index, .. } = &*self.shared;
        let mut remains = Vec::new();
        let mut remain =
            |place: &str, what: String| remains.push(Remainder { place: place.to_owned(), what });
        match &found.at_source {
            Ok(0) => {}
            Ok(rows) => remain(
                source.name(),
                format!(
                    "{rows} of these rows still stand at the source: delete them there; until then every sync reads them and \
                     leaves them out"
                ),
            ),
            Err(fault) => remain(
                source.name(),
                format!(
                    "it could not be asked whether the rows still stand there ({fault}); look, and delete them"
                ),
            ),
        }
        for (other, fault) in &found.referring_unasked {
            remain(
                source.name(),
                format!(
                    "it could not be asked which rows of {other} refer to them ({fault}); look, and delete them: those that were \
                     never read come with the next sync"
                ),
            );
        }
        if found.left > 0 {
            remain(
                store.name(),
                format!(
                    "{} entities of other tables refer to what was erased, and were left as asked",
                    found.left
                ),
            );
        }
        for what in namesakes.told() {
            remain(store.name(), what);
        }
        match self.standing_conditions(&found.targets).await {
            Ok(conditions) => conditions.into_iter().for_each(|what| remain(store.name(), what)),
            Err(fault) => remain(
                store.name(),
                format!(
                    "it could not be asked whether a schedule or an alert names them ({fault}); look at both"
                ),
            ),
        }
        if keeps_records {
            match log.facts().await {
                Ok(facts) => {
                    remain(
                        log.name(),
                        format!("the topic's records, which nobody applies any more, {}", kept(facts.events)),
                    );
                    if !found.letters.is_empty() {
                        let kept = kept(facts.letters);
                        remain(
                            log.name(),
                            format!("the dead letters' records, which nobody is shown any more, {kept}"),
                        );
                    }
                }
                Err(fault) => remain(
                    log.name(),
                    format!(
                        "records, which nobody applies any more; for how long could not be asked ({fault})"
                    ),
                ),
            }
        }
        for sink in [store.left_behind(), index.left_behind()].into_iter().zip([store.name(), index.name()]) {
            if let (Some(what), name) = sink {
                remain(name, what.to_owned());
            }
        }
        remain(
            "exports",
            "files that somebody wrote with `sluice export` or downloaded before, which you delete; those that other machines \
             keep are given to nobody any more, and removed within minutes while their server runs"
                .to_owned(),
        );
        remain(
            "backups",
            "copies of store, index and log from before, as long as you keep them; whoever restores one erases again"
                .to_owned(),
        );
        remains
    }
}

/// How long a topic keeps its records.
fn kept(limits: TopicLimits) -> String {
    match limits.retention {
        Some(retention) => format!("stay {} days at most", retention.as_secs().div_ceil(24 * 60 * 60)),
        None if limits.retention_bytes.is_some() => {
            "stay until newer ones fill the topic's retention.bytes: give the topic a retention.ms, too"
                .to_owned()
        }
        None => "stay for ever: give the topic a retention.ms, or new topics one by KAFKA_RETENTION_DAYS"
            .to_owned(),
    }
}

/// The first offset of a partition behind what was looked at; its first of all where it was made anew since.
fn first_behind(looked_at: &[Extent], extent: &Extent) -> i64 {
    let before = looked_at.iter().find(|before| before.partition == extent.partition);
    let behind = before.map(|before| before.high).filter(|high| *high <= extent.high);
    behind.map_or(extent.low, |high| high.max(extent.low))
}

/// A letter names its entity; one that can't, since its bytes are no event or its row has no key, is about them where it
/// mentions them.
fn is_about(
    catalog: Catalog,
    letter: &Record,
    targets: &[(Table, Vec<String>)],
    value: Option<&str>,
) -> bool {
    if letter.is_erased() {
        return false;
    }
    if let Some((table, Some(key))) = dead_letters::about(catalog, letter) {
        return targets.iter().any(|(of, keys)| *of == table && keys.contains(&key));
    }
    let of_key = letter.key.as_deref().unwrap_or_default();
    let text = String::from_utf8_lossy(letter.value.as_deref().unwrap_or_default()).to_lowercase();
    let mut named = targets.iter().flat_map(|(_, keys)| keys).map(String::as_str).chain(value);
    named.any(|name| {
        let name = name.trim();
        let is_mentioned = name.len() >= UNMISTAKABLE && text.contains(&name.to_lowercase());
        name.as_bytes() == of_key || is_mentioned
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn whoever_decides_on_an_erasure_is_told_how_many_by_which_keys_and_what_refers_to_them() {
        let table = |name| Catalog::built_in().get(name).expect("a table");
        let keys = |count: u32| (10..10 + count).map(|n| n.to_string()).collect::<Vec<_>>();
        let told = |targets: Targets, left, letters, erased_before, is_whole: bool| {
            let (letter, at) = (uuid::Uuid::nil(), Utc::now());
            let settled = Resolution {
                partition: 0,
                offset: 0,
                letter,
                settled: Settled::Erased,
                by: String::new(),
                at,
            };
            let found = Found {
                targets,
                left,
                erased_before,
                values: Values::new(),
                at_source: Ok(0),
                referring_unasked: Vec::new(),
                index_unasked: (!is_whole).then(String::new),
                unapplied: None,
                letters: vec![settled; letters],
                looked_at: Vec::new(),
            };
            ErasurePreview(found).to_string()
        };
        let sessions = || (table("chat_sessions"), keys(2));
        assert_eq!(
            told(vec![(table("leads"), keys(3)), sessions(), sessions()], 0, 0, 0, true),
            "removes 3 of leads (keys \"10\", \"11\", \"12\") and 4 of chat_sessions that refer to them from the store, the \
             index and the dead letters for good, and keeps them from coming back"
        );
        let many = told(vec![(table("leads"), keys(12))], 2, 1, 0, false);
        assert!(many.contains("\"19\", 2 more) and 1 dead letter about them from"), "{many}");
        assert!(
            many.contains("; 2 entities of other tables") && many.ends_with("there may be more"),
            "{many}"
        );
        let mentioned = told(vec![(table("leads"), Vec::new())], 0, 2, 0, true);
        assert!(mentioned.starts_with("removes 2 dead letters about them from"), "{mentioned}");
        let again = told(vec![(table("leads"), keys(1)), sessions()], 0, 1, 3, true);
        assert!(again.ends_with("; 3 of these had been erased before"), "{again}");
    }

    #[test]
    fn letters_are_looked_at_again_only_where_the_topic_was_made_anew() {
        let of = |partition, low, high| Extent { partition, low, high };
        let looked_at = [of(0, 0, 10), of(1, 5, 20)];
        for (extent, first) in
            [(of(0, 0, 10), 10), (of(0, 0, 13), 10), (of(1, 25, 30), 25), (of(1, 0, 19), 0), (of(2, 3, 9), 3)]
        {
            assert_eq!(first_behind(&looked_at, &extent), first, "{extent:?}");
        }
    }

    #[test]
    fn a_letter_is_about_whom_it_names_or_else_mentions_beyond_mistake() {
        let catalog = Catalog::built_in();
        let table = |name| catalog.get(name).expect("a table");
        let key = "5f0c2f6e-7f0a-4f7a-9a55-0d3b8f6f1a01".to_owned();
        let about = |headers: &[(&str, &str)], of_key: &'static str, value: String| {
            let header =
                |(name, value): &(&str, &str)| ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes()));
            let letter = Record {
                partition: 0,
                offset: 0,
                appended_at: None,
                key: Some(Bytes::from_static(of_key.as_bytes())),
                value: Some(Bytes::from(value)),
                headers: headers.iter().map(header).collect(),
                has_unreadable_headers: false,
            };
            let targets = [(table("leads"), vec![key.clone(), "7".to_owned()])];
            is_about(catalog, &letter, &targets, Some("ana@x.example"))
        };
        let upper = key.to_uppercase();
        assert!(about(&[("table", "leads"), ("entity", &upper)], "", "{}".to_owned()));
        let other = [("table", "leads"), ("entity", "5f0c2f6e-7f0a-4f7a-9a55-0d3b8f6f1a02")];
        assert!(!about(&other, "", format!("{{\"amiga\": \"{key}\"}}")), "it names somebody else");
        assert!(!about(
            &[("table", "chat_sessions"), ("entity", &key)],
            "",
            format!("{{\"lead_id\": \"{key}\"}}")
        ));
        assert!(
            about(&[("table", "leads")], "", "{\"email\": \"Ana@X.example\"}".to_owned()),
            "a row without a key"
        );
        assert!(about(&[], "", format!("{{cortado {key}")), "bytes that are no event");
        assert!(about(&[], "7", "{cortado".to_owned()));
        assert!(!about(&[], "8", "{\"total\": 7".to_owned()), "a number that happens to be there");
    }
}
