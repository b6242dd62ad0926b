//! The data stream that sluice keeps its own log in.
//!
//! Elasticsearch deletes old data by ILM or by lifecycles of data streams, OpenSearch by ISM, and each needs privileges and
//! versions of its own. So the writers see to it themselves, by what both have: a backing index that is a day old or large is
//! rolled over, and one whose successor is older than the retention is deleted. Both are conditions that the server decides,
//! or deletions that may be repeated, so any number of writers may do it at once.
//!
//! The mapping is closed: a field that is no word of the vocabulary stays in `_source`, and a value that does not fit its field
//! is left out of the index instead of refusing the line. A line's id is its writer's, so a line that is sent again because an
//! answer was lost is there once.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{PART, client::Client, faults};
use crate::{
    config::ElasticsearchSettings,
    fault::Fault,
    logging::{Field, Kind, LABELS},
};

/// What follows the index prefix.
const NAME: &str = "sluice-logs";

/// Texts that are longer are kept and not indexed.
const MAX_KEYWORD: u32 = 1024;

const WRITING: &str = "writing lines of the log";
const READING: &str = "reading the log";

/// How often old indices are looked for.
const TIDY_EVERY: Duration = Duration::from_hours(1);

/// The stream.
#[derive(Debug)]
pub(crate) struct LogStream {
    client: Client,
    name: String,
    retention: Duration,
    fields: &'static [Field],
    /// What the ids of this process's lines begin with.
    writer: Uuid,
    sent: u64,
    /// When old indices were looked for last.
    tidied: Option<Instant>,
}

/// What became of lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Lines that are never taken.
    pub(crate) refused: u64,
    /// Why the first of them is not.
    pub(crate) why: Option<String>,
}

impl LogStream {
    /// Makes the adapter; the server need not be up yet.
    ///
    /// # Errors
    /// When the settings can't be used.
    pub(crate) fn new(
        settings: &ElasticsearchSettings,
        retention: Duration,
        fields: &'static [Field],
    ) -> Result<Self, Fault> {
        Ok(Self {
            client: Client::new(settings)?,
            name: format!("{}{NAME}", settings.index_prefix),
            retention,
            fields,
            writer: Uuid::new_v4(),
            sent: 0,
            tidied: None,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn origin(&self) -> &str {
        self.client.origin()
    }

    /// Writes lines. After a failure the same lines are to be handed over again, as the next ones.
    ///
    /// # Errors
    /// When none was decided about.
    pub(crate) async fn write(&mut self, lines: &[Arc<str>]) -> Result<Outcome, Fault> {
        if self.tidied.is_none_or(|at| at.elapsed() >= TIDY_EVERY) {
            self.prepare().await?;
            self.tidy().await?;
            self.tidied = Some(Instant::now());
        }
        let mut body = String::with_capacity(lines.iter().map(|line| line.len() + 80).sum());
        for (line, number) in lines.iter().zip(self.sent..) {
            body.push_str(&format!("{{\"create\":{{\"_id\":\"{}-{number}\"}}}}\n{line}\n", self.writer.simple()));
        }
        let path = format!("{}/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason", self.name);
        let answer = self.client.bulk_into(&path, body.into(), WRITING).await?;
        if answer.status == 413 && lines.len() > 1 {
            let (one, other) = lines.split_at(lines.len() / 2);
            let mut outcome = Box::pin(self.write(one)).await?;
            let rest = Box::pin(self.write(other)).await?;
            outcome.refused += rest.refused;
            outcome.why = outcome.why.or(rest.why);
            return Ok(outcome);
        }
        if answer.status == 404 {
            self.tidied = None;
        }
        let answer: BulkAnswer = self.client.parse(answer, WRITING)?;
        let outcome = self.judge(answer)?;
        self.sent += lines.len() as u64;
        Ok(outcome)
    }

    /// What the server says of each line.
    fn judge(&self, answer: BulkAnswer) -> Result<Outcome, Fault> {
        let mut outcome = Outcome::default();
        if !answer.errors {
            return Ok(outcome);
        }
        for Item { create } in answer.items {
            let ItemResult { status, error } = create;
            let reason = error.map(|error| format!("{}: {}", error.kind, error.reason.unwrap_or_default()));
            let told = || {
                let reason = reason.as_deref().unwrap_or("no reason");
                format!("{WRITING} on {}: {} answered {status} for a line, {reason}", self.origin(), self.name)
            };
            match status {
                // It was written before, and the answer was lost.
                200..=299 | 409 => {}
                // Those that were taken are known by their ids when they come again.
                408 | 429 | 500.. => {
                    return Err(Fault::transient(PART, told(), "the server is overloaded: it is asked again"));
                }
                403 => {
                    return Err(Fault::misconfigured(PART, told(), "let sluice's user write there, and see to the disk's room"));
                }
                _ => {
                    outcome.refused += 1;
                    outcome.why.get_or_insert_with(told);
                }
            }
        }
        Ok(outcome)
    }

    /// Makes what is missing, and brings the template up to date.
    async fn prepare(&self) -> Result<(), Fault> {
        const DOING: &str = "preparing the data stream of the log";
        let name = &self.name;
        let template = self.client.put(&format!("_index_template/{name}"), &self.template(), DOING).await?;
        self.client.parse::<Value>(template, DOING)?;
        let made = self.client.put_nothing(&format!("_data_stream/{name}"), DOING).await?;
        if made.is_success() {
            return Ok(());
        }
        let there = self.client.look(&format!("_data_stream/{name}"), DOING).await?;
        if there.is_success() {
            return Ok(());
        }
        let cause = faults::cause_of(&made.body);
        if made.status == 400 && cause.reason.as_deref().is_some_and(|reason| reason.contains("exists")) {
            return Err(Fault::misconfigured(
                PART,
                format!("{DOING} on {}: there is an index or alias {name} that is no data stream", self.origin()),
                "rename or delete it, or set another ELASTICSEARCH_INDEX_PREFIX",
            ));
        }
        self.client.parse::<Value>(made, DOING).map(drop)
    }

    fn template(&self) -> Value {
        let mut properties = Map::new();
        for field in self.fields {
            let mapping = match field.kind {
                Kind::Keyword => json!({ "type": "keyword", "ignore_above": MAX_KEYWORD }),
                Kind::Long => json!({ "type": "long", "ignore_malformed": true }),
                kind => json!({ "type": kind.name() }),
            };
            properties.insert(field.name.to_owned(), mapping);
        }
        properties.insert(LABELS.to_owned(), json!({ "type": "object", "enabled": false }));
        json!({
            "index_patterns": [self.name],
            "data_stream": {},
            // Above every template of `logs-*-*` or of a prefix.
            "priority": 1000,
            "template": {
                "settings": { "index": { "number_of_shards": 1, "auto_expand_replicas": "0-1", "refresh_interval": "5s" } },
                "mappings": { "dynamic": false, "properties": properties },
            },
            "_meta": { "managed_by": "sluice" },
        })
    }

    /// Rolls over what is a day old, and deletes what is older than the retention.
    async fn tidy(&self) -> Result<(), Fault> {
        const DOING: &str = "rolling over the data stream of the log";
        let name = &self.name;
        let conditions = json!({ "conditions": { "max_age": "1d", "max_size": "2gb" } });
        let rolled = self.client.post_body(&format!("{name}/_rollover"), &conditions, DOING).await?;
        self.client.parse::<Value>(rolled, DOING)?;
        let path = format!("{name}/_settings/index.creation_date");
        let indices: BTreeMap<String, Backing> = self.client.get(&path, DOING).await?;
        let mut begun: Vec<(i64, &str)> = indices.iter().map(|(index, backing)| (backing.created(), index.as_str())).collect();
        begun.sort_unstable();
        for index in outlived(&begun, Utc::now() - self.retention) {
            let deleted = self.client.delete(index, "deleting an old index of the log").await?;
            // Another process may have done so.
            if deleted.status != 404 {
                self.client.parse::<Value>(deleted, DOING)?;
            }
        }
        Ok(())
    }
}

/// Of indices in the order they begin, those that were written for the last time before then: the next had begun.
fn outlived<'a>(begun: &[(i64, &'a str)], then: DateTime<Utc>) -> Vec<&'a str> {
    let ended = |pair: &[(i64, &'a str)]| (pair[1].0 < then.timestamp_millis()).then_some(pair[0].1);
    begun.windows(2).filter_map(ended).collect()
}

#[derive(Deserialize)]
struct BulkAnswer {
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: ItemResult,
}

#[derive(Deserialize)]
struct ItemResult {
    status: u16,
    error: Option<ItemError>,
}

#[derive(Deserialize)]
struct ItemError {
    #[serde(rename = "type")]
    kind: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Backing {
    settings: BackingSettings,
}

#[derive(Deserialize)]
struct BackingSettings {
    index: Creation,
}

#[derive(Deserialize)]
struct Creation {
    creation_date: String,
}

impl Backing {
    /// Milliseconds, which the server tells as text. One that can't be read counts as new.
    fn created(&self) -> i64 {
        self.settings.index.creation_date.parse().unwrap_or(i64::MAX)
    }
}
