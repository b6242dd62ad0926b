//! The data stream that sluice keeps its own log in; on a server without data streams, as Elasticsearch's open builds are, an
//! alias of indices that are rolled over in the same way.
//!
//! Elasticsearch deletes old data by ILM or by lifecycles of data streams, OpenSearch by ISM, and each needs privileges and
//! versions of its own. So the writers see to it themselves, by what both have: a backing index that is a day old or large is
//! rolled over, and one whose successor is older than the retention is deleted. Both are conditions that the server decides,
//! or deletions that may be repeated, so any number of writers may do it at once.
//!
//! The mapping is closed: a field that is no word of the vocabulary stays in `_source`, and a value that does not fit its field
//! is left out of the index instead of refusing the line. A line's id is its writer's and its own number, so a line that is sent
//! again, because an answer was lost or others beside it were refused, is there once.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use uuid::Uuid;

use super::{PART, client::Client, faults};
use crate::{
    config::ElasticsearchSettings,
    fault::Fault,
    logging::{Field, Filter, HOST, Kind, LABELS, LEVEL, LogLine, PID, SEQUENCE, TIMESTAMP},
};

/// What follows the index prefix.
const NAME: &str = "sluice-logs";

/// Texts that are longer are kept and not indexed.
const MAX_KEYWORD: u32 = 1024;

const WRITING: &str = "writing lines of the log";
const READING: &str = "reading the log";

/// Lines that are read at once.
const PAGE: usize = 1000;

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
    /// Whether the server has no data streams.
    is_alias: bool,
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
            is_alias: false,
            tidied: None,
        })
    }

    fn origin(&self) -> &str {
        self.client.origin()
    }

    /// Writes lines.
    ///
    /// # Errors
    /// When it was not decided about all. They may all be handed over again.
    pub(crate) async fn write(&mut self, lines: &[Arc<str>]) -> Result<Outcome, Fault> {
        if self.tidied.is_none_or(|at| at.elapsed() >= TIDY_EVERY) {
            self.prepare().await?;
            self.tidy().await?;
            self.tidied = Some(Instant::now());
        }
        // An index of that name would be made up on the spot, with a guessed mapping.
        let guard = if self.is_alias { "&require_alias=true" } else { "" };
        let path = format!(
            "{}/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason{guard}",
            self.name
        );
        let answer = self.client.bulk_into(&path, self.body(lines).into(), WRITING).await?;
        if answer.status == 413 && lines.len() > 1 {
            let (one, other) = lines.split_at(lines.len() / 2);
            let mut outcome = Box::pin(self.write(one)).await?;
            let rest = Box::pin(self.write(other)).await?;
            outcome.refused += rest.refused;
            outcome.why = outcome.why.or(rest.why);
            return Ok(outcome);
        }
        let answer: BulkAnswer = self.client.parse(answer, WRITING)?;
        self.judge(lines.len(), answer)
    }

    fn body(&self, lines: &[Arc<str>]) -> String {
        let mut body = String::with_capacity(lines.iter().map(|line| line.len() + 80).sum());
        for line in lines {
            let _ = match serde_json::from_str(line) {
                Ok(Numbered { sequence }) => {
                    let writer = self.writer.simple();
                    writeln!(body, "{{\"create\":{{\"_id\":\"{writer}-{sequence}\"}}}}\n{line}")
                }
                Err(_) => writeln!(body, "{{\"create\":{{}}}}\n{line}"),
            };
        }
        body
    }

    /// What the server says of each line.
    fn judge(&mut self, lines: usize, answer: BulkAnswer) -> Result<Outcome, Fault> {
        let mut outcome = Outcome::default();
        if !answer.errors {
            return Ok(outcome);
        }
        // What nothing is said of counts as lost.
        outcome.refused = lines.saturating_sub(answer.items.len()) as u64;
        for Item { create: ItemResult { status, error } } in answer.items {
            let reason = error.map(|error| format!("{}: {}", error.kind, error.reason.unwrap_or_default()));
            let place = format!("{} on {}", self.name, self.origin());
            let told =
                || format!("{WRITING} to {place}: {status}, {}", reason.as_deref().unwrap_or("no reason"));
            match status {
                // It was written before, and the answer was lost.
                200..=299 | 409 => {}
                // Those that were taken are known by their ids when they come again.
                408 | 429 | 500.. => {
                    return Err(Fault::transient(
                        PART,
                        told(),
                        "the server is overloaded: it is asked again",
                    ));
                }
                // The alias is gone, and is made anew before the next try.
                404 => {
                    self.tidied = None;
                    return Err(Fault::transient(PART, told(), "it is made anew"));
                }
                403 => {
                    return Err(Fault::misconfigured(
                        PART,
                        told(),
                        "let sluice's user write there, and see to the disk's room",
                    ));
                }
                _ => {
                    outcome.refused += 1;
                    outcome.why.get_or_insert_with(told);
                }
            }
        }
        if outcome.refused > 0 {
            outcome
                .why
                .get_or_insert_with(|| format!("{WRITING} on {}: nothing is said of some", self.origin()));
        }
        Ok(outcome)
    }

    /// Makes what is missing, and brings the template up to date.
    async fn prepare(&mut self) -> Result<(), Fault> {
        const DOING: &str = "preparing what the log is kept in";
        const UNKNOWN: [u16; 2] = [400, 405];
        let name = self.name.clone();
        let stream = format!("_data_stream/{name}");
        let found = self.client.look(&stream, DOING).await?;
        self.is_alias = UNKNOWN.contains(&found.status);
        let template =
            self.client.put(&format!("_index_template/sluice-{name}"), &self.template(), DOING).await?;
        self.client.parse::<Value>(template, DOING)?;
        if found.is_success() {
            return Ok(());
        }
        let place = if self.is_alias { format!("_alias/{name}") } else { stream.clone() };
        if self.is_alias && self.client.look(&place, DOING).await?.is_success() {
            return Ok(());
        }
        let made = if self.is_alias {
            let first = json!({ "aliases": { &name: { "is_write_index": true } } });
            self.client.put(&format!("{name}-000001"), &first, DOING).await?
        } else {
            self.client.put_nothing(&stream, DOING).await?
        };
        // Another process may have been as quick.
        if made.is_success() || self.client.look(&place, DOING).await?.is_success() {
            return Ok(());
        }
        if made.status == 400 {
            let cause = faults::cause_of(&made.body).reason.unwrap_or_default();
            return Err(Fault::misconfigured(
                PART,
                format!("{DOING} on {}: {cause}", self.origin()),
                format!(
                    "rename or delete the index that is called {name}, or set another ELASTICSEARCH_INDEX_PREFIX"
                ),
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
        let pattern = if self.is_alias { format!("{}-*", self.name) } else { self.name.clone() };
        let mut template = json!({
            "index_patterns": [pattern],
            // Above every template of `logs-*-*` or of a prefix.
            "priority": 1000,
            "template": {
                "settings": { "index": { "number_of_shards": 1, "auto_expand_replicas": "0-1", "refresh_interval": "5s" } },
                "mappings": { "dynamic": false, "properties": properties },
            },
            "_meta": { "managed_by": "sluice" },
        });
        if !self.is_alias {
            template["data_stream"] = json!({});
        }
        template
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
        let mut begun: Vec<(i64, &str)> =
            indices.iter().map(|(index, backing)| (backing.created(), index.as_str())).collect();
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

/// What is said of a line, with its id.
type Identified = (String, LogLine);

impl LogStream {
    /// The last lines that match, the oldest first.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub(crate) async fn last(&self, filter: &Filter, most: usize) -> Result<Vec<Identified>, Fault> {
        let (mut lines, mut after) = (Vec::new(), None);
        while lines.len() < most
            && let Some((page, next)) = self.page(filter, after.take(), false).await?
        {
            lines.extend(page);
            after = Some(next);
        }
        lines.truncate(most);
        lines.reverse();
        Ok(lines)
    }

    /// Lines that match, and behind what the next page begins; `None` where there are no more.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub(crate) async fn page(
        &self,
        filter: &Filter,
        after: Option<Value>,
        is_ascending: bool,
    ) -> Result<Option<(Vec<Identified>, Value)>, Fault> {
        let order = if is_ascending { "asc" } else { "desc" };
        let sort = [TIMESTAMP, HOST, PID, SEQUENCE].map(|field| json!({ field: { "order": order } }));
        let mut request = json!({
            "size": PAGE,
            "track_total_hits": false,
            "query": { "bool": { "filter": self.conditions(filter) } },
            "sort": sort,
        });
        if let Some(after) = after {
            request["search_after"] = after;
        }
        let path = format!("{}/_search?ignore_unavailable=true", self.name);
        let answer = self.client.post_body(&path, &request, READING).await?;
        let Found { hits: Hits { hits } } = self.client.parse(answer, READING)?;
        let Some(next) = hits.last().map(|hit| hit.sort.clone()) else { return Ok(None) };
        let lines = hits.into_iter().map(|hit| (hit.id, LogLine::parse(hit.source.get().to_owned(), None)));
        Ok(Some((lines.filter(|(_, line)| filter.matches(line)).collect(), next)))
    }

    /// What the server leaves out; the rest of a filter is looked at here.
    fn conditions(&self, filter: &Filter) -> Vec<Value> {
        let mut conditions = Vec::new();
        if let Some(since) = filter.since {
            conditions.push(json!({ "range": { TIMESTAMP: { "gte": since.to_rfc3339() } } }));
        }
        if let Some(levels) = filter.levels() {
            conditions.push(json!({ "terms": { LEVEL: levels } }));
        }
        let is_keyword =
            |name: &str| self.fields.iter().any(|field| field.name == name && field.kind == Kind::Keyword);
        for (name, value) in
            filter.fields.iter().filter(|(name, value)| is_keyword(name) && value.len() < 256)
        {
            conditions.push(json!({ "term": { name: value } }));
        }
        conditions
    }
}

/// Of indices in the order they begin, those that were written for the last time before then: the next had begun.
fn outlived<'a>(begun: &[(i64, &'a str)], then: DateTime<Utc>) -> Vec<&'a str> {
    let ended = |pair: &[(i64, &'a str)]| (pair[1].0 < then.timestamp_millis()).then_some(pair[0].1);
    begun.windows(2).filter_map(ended).collect()
}

/// A line, by its number in its process.
#[derive(Deserialize)]
struct Numbered {
    #[serde(rename = "event.sequence")]
    sequence: u64,
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
struct Found {
    hits: Hits,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_source")]
    source: Box<RawValue>,
    sort: Value,
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

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::logging::FIELDS;

    fn stream() -> LogStream {
        let settings = ElasticsearchSettings {
            url: Url::parse("http://127.0.0.1:1").expect("a URL").into(),
            username: None,
            password: None,
            api_key: None,
            ssl_ca_location: None,
            index_prefix: "acme-".to_owned(),
            timeout: Duration::from_secs(1),
        };
        LogStream::new(&settings, Duration::from_hours(24), &FIELDS).expect("a stream")
    }

    fn judged(items: &Value) -> Result<Outcome, Fault> {
        let answer = json!({ "errors": true, "items": items }).to_string();
        stream()
            .judge(items.as_array().map_or(0, Vec::len), serde_json::from_str(&answer).expect("an answer"))
    }

    #[test]
    fn a_line_that_is_refused_is_counted_and_one_that_is_there_is_written() {
        let taken = json!({ "create": { "status": 201 } });
        let there =
            json!({ "create": { "status": 409, "error": { "type": "version_conflict_engine_exception" } } });
        let refused = json!({ "create": { "status": 400, "error": { "type": "mapper_parsing_exception", "reason": "no" } } });
        assert_eq!(judged(&json!([taken, there])).expect("taken"), Outcome::default());
        let outcome = judged(&json!([taken, refused, refused])).expect("decided");
        assert_eq!(outcome.refused, 2);
        let why = outcome.why.expect("a reason");
        assert!(
            why.contains("acme-sluice-logs on http://127.0.0.1:1: 400, mapper_parsing_exception: no"),
            "{why}"
        );
    }

    #[test]
    fn an_overloaded_server_a_block_and_a_missing_alias_are_failures_of_the_server_not_of_a_line() {
        for status in [429, 503, 403, 404] {
            let item = json!({ "create": { "status": status, "error": { "type": "x", "reason": "y" } } });
            let fault = judged(&json!([item])).expect_err("nothing is decided");
            assert!(fault.to_string().contains(&status.to_string()), "{fault}");
        }
    }

    #[test]
    fn a_line_has_the_same_id_whatever_it_is_sent_with() {
        let line =
            |number: u64| -> Arc<str> { json!({ "message": "x", SEQUENCE: number }).to_string().into() };
        let stream = stream();
        let (first, second) = (stream.body(&[line(7)]), stream.body(&[line(8)]));
        assert_ne!(first.lines().next(), second.lines().next());
        assert_eq!(stream.body(&[line(7), line(8)]), first + &second);
    }

    #[test]
    fn an_index_is_outlived_once_the_next_began_before_the_retention() {
        let then = DateTime::from_timestamp_millis(1_000).expect("a time");
        assert_eq!(outlived(&[(1, "a"), (500, "b"), (999, "c"), (2_000, "d")], then), ["a", "b"]);
        assert_eq!(outlived(&[(1, "a")], then), Vec::<&str>::new(), "what is written to stays");
    }

    #[test]
    fn the_mapping_is_closed_and_no_value_that_a_line_may_have_conflicts_with_it() {
        let template = stream().template();
        let mappings = &template["template"]["mappings"];
        assert_eq!(mappings["dynamic"], false);
        assert_eq!(mappings["properties"]["labels"], json!({ "type": "object", "enabled": false }));
        assert_eq!(mappings["properties"]["offset"], json!({ "type": "long", "ignore_malformed": true }));
        // Neither is a part of another's path, which would have to be an object and a value at once.
        for one in &FIELDS {
            let is_object = FIELDS.iter().any(|other| other.name.starts_with(&format!("{}.", one.name)));
            assert!(!is_object, "{} is a value and an object", one.name);
        }
    }
}
