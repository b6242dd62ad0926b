//! Asks the server and reads its answer.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{client::Client, dsl, templates::Names};
use crate::{
    domain::json::to_value,
    fault::Fault,
    index::{
        COUNTED_VALUES, DayCount, FieldKind, Fields, Hit, IndexName, Question, SearchAnswer, SearchError,
        SearchRequest, Sort, ValueCount, ValueCounts,
    },
};

const SEARCHING: &str = "searching";
const DAYS: &str = "days";

pub(super) async fn search(
    client: &Client,
    names: &Names,
    request: &SearchRequest,
    fields: &'static Fields,
) -> Result<SearchAnswer, SearchError> {
    let question = request.question(fields)?;
    let body = body(request, &question, fields.id());
    // Part of an answer is no answer.
    let path = format!("{}/_search?allow_partial_search_results=false", names.alias(request.index));
    let answer = client.post_body(&path, &body, SEARCHING).await?;
    let found: Found = client.parse(answer, SEARCHING)?;
    Ok(read(found, request, &question)?)
}

/// The order of hits; ids break ties.
pub(super) fn sort(sort: Sort, id: &str) -> Value {
    let by_id = json!({ id: { "order": "asc", "unmapped_type": "keyword" } });
    let by_time = |order: &str| json!({ "timestamp": { "order": order } });
    match sort {
        Sort::Newest => json!([by_time("desc"), by_id]),
        Sort::Oldest => json!([by_time("asc"), by_id]),
        Sort::Relevance => json!([{ "_score": { "order": "desc" } }, by_id]),
    }
}

fn body(request: &SearchRequest, question: &Question, id: &str) -> Value {
    let mut aggregations = Map::new();
    for (i, field) in question.counted.iter().enumerate() {
        let terms = json!({ "field": field.path, "size": COUNTED_VALUES,
            "order": [{ "_count": "desc" }, { "_key": "asc" }] });
        aggregations.insert(i.to_string(), json!({ "terms": terms }));
        aggregations.insert(missing(i), json!({ "missing": { "field": field.path } }));
    }
    if request.count_by_day {
        let days = json!({ "field": "timestamp", "calendar_interval": "day", "format": "yyyy-MM-dd",
            "time_zone": request.zone.name(), "min_doc_count": 1 });
        aggregations.insert(DAYS.to_owned(), json!({ "date_histogram": days }));
    }
    json!({
        "query": dsl::query(&question.query),
        "from": request.from,
        "size": request.size,
        "sort": sort(request.sort, id),
        "track_total_hits": true,
        "aggs": aggregations,
    })
}

/// The name of the count of documents without a value.
fn missing(i: usize) -> String {
    format!("missing {i}")
}

#[derive(Deserialize)]
struct Found {
    hits: FoundHits,
    #[serde(default)]
    aggregations: HashMap<String, Aggregation>,
}

#[derive(Deserialize)]
struct FoundHits {
    total: Total,
    hits: Vec<FoundHit>,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
}

#[derive(Deserialize)]
struct FoundHit {
    #[serde(rename = "_id")]
    id: String,
    /// As text: serde's own value holds neither every number nor every escape.
    #[serde(rename = "_source")]
    source: Box<RawValue>,
}

#[derive(Default, Deserialize)]
struct Aggregation {
    #[serde(default)]
    sum_other_doc_count: u64,
    #[serde(default)]
    doc_count: u64,
    #[serde(default)]
    buckets: Vec<Bucket>,
}

#[derive(Deserialize)]
struct Bucket {
    key: Box<RawValue>,
    key_as_string: Option<String>,
    doc_count: u64,
}

/// A text key that no server takes as an id stands in the document alone.
fn with_key(mut hit: Hit, index: IndexName) -> Hit {
    if let IndexName::Entities(table) = index
        && let Some(Value::String(key)) = hit.source.get(&table.key.column)
    {
        hit.id.clone_from(key);
    }
    hit
}

fn read(mut found: Found, request: &SearchRequest, question: &Question) -> Result<SearchAnswer, Fault> {
    let hits = found.hits.hits.into_iter().map(|hit| {
        Hit::of(hit.id, &hit.source).map(|hit| with_key(hit, request.index)).ok_or_else(|| {
            Fault::misconfigured(
                super::PART,
                "searching: the index holds a document that is no object",
                "somebody else writes into this index: remove that document, or set an index prefix",
            )
        })
    });
    let hits = hits.collect::<Result<_, Fault>>()?;
    let days = found
        .aggregations
        .remove(DAYS)
        .unwrap_or_default()
        .buckets
        .into_iter()
        .filter_map(|bucket| Some(DayCount { day: bucket.key_as_string?, count: bucket.doc_count }));
    let days = days.collect();
    let mut counts = Vec::new();
    for (i, (path, field)) in request.count_by.iter().zip(&question.counted).enumerate() {
        let counted = found.aggregations.remove(&i.to_string()).unwrap_or_default();
        let values = counted.buckets.into_iter().map(|bucket| ValueCount {
            count: bucket.doc_count,
            value: match (field.kind, bucket.key_as_string) {
                (FieldKind::Boolean, Some(text)) => Value::Bool(text == "true"),
                (FieldKind::Date, Some(text)) => Value::String(text),
                _ => to_value(bucket.key.get()),
            },
        });
        counts.push(ValueCounts {
            field: path.clone(),
            values: values.collect(),
            others: counted.sum_other_doc_count,
            missing: found.aggregations.remove(&missing(i)).unwrap_or_default().doc_count,
        });
    }
    Ok(SearchAnswer { total: found.hits.total.value, hits, counts, days })
}
