//! Cuts an answer to a size that a model can take in, and says how to see the rest.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::SearchFound;
use crate::{
    index::{Hit, IndexName, SEARCH_WINDOW, SearchAnswer, SearchRequest, Sort, ValueCounts},
    mcp::{
        answer::ToolError,
        bounded::{AROUND, LARGEST_ANSWER, LONGEST_VALUE, shorten, shorten_to, size, without_repeats},
        output::Outgoing,
    },
};

/// Bytes that the hits may take in any case.
const LEAST_FOR_HITS: usize = 10_000;
/// Days shown; the latest ones.
const MOST_DAYS: usize = 400;

/// How much of each document is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Detail {
    #[default]
    Concise,
    Detailed,
}

/// Where the next page begins, of which question.
pub(super) struct Cursor;

impl Cursor {
    /// Tells a question from another.
    pub(super) fn question(index: IndexName, query: Option<&str>, sort: Sort) -> u32 {
        let digest = Sha256::digest(format!("{index}\0{sort:?}\0{}", query.unwrap_or("*")));
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
    }

    fn write(from: u32, question: u32) -> String {
        URL_SAFE_NO_PAD.encode([from.to_be_bytes(), question.to_be_bytes()].concat())
    }

    pub(super) fn read(cursor: &str, question: u32) -> Result<u32, ToolError> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().filter(|bytes| bytes.len() == 8);
        let Some((from, asked)) = bytes.as_deref().and_then(|bytes| bytes.split_first_chunk::<4>()) else {
            return Err(ToolError::argument(
                "cursor",
                "is none of ours; copy `next_cursor`, or leave it out",
            ));
        };
        if asked != question.to_be_bytes() {
            let problem = "belongs to another question; keep index, query, filters and sort as they were, \
                           or leave the cursor out";
            return Err(ToolError::argument("cursor", problem));
        }
        Ok(u32::from_be_bytes(*from))
    }
}

/// As much of the answer as fits.
pub(super) fn fit(
    request: &SearchRequest,
    detail: Detail,
    answer: SearchAnswer,
    question: u32,
    outgoing: &Outgoing,
) -> SearchFound {
    let SearchAnswer { total, hits, mut counts, mut days } = answer;
    let mut hints = Vec::new();
    for counted in &mut counts {
        mask(counted, outgoing);
    }
    if days.len() > MOST_DAYS {
        days.drain(..days.len() - MOST_DAYS);
        hints.push(format!(
            "Only the latest {MOST_DAYS} days are counted here: narrow `timestamp` for others."
        ));
    }
    if counts.iter().any(|counted| counted.others > 0) {
        hints.push(
            "Counts list the most frequent values; others has the rest: narrow the query to see them."
                .to_owned(),
        );
    }
    let taken = size(&counts) + size(&days);
    let room = (LARGEST_ANSWER - AROUND).saturating_sub(taken).max(LEAST_FOR_HITS);
    let found = hits.len();
    let (shown, is_cut) = hits_that_fit(request.index, detail, hits, room, outgoing);
    let next = request.from + u32::try_from(shown.len()).unwrap_or_default();
    if shown.len() < found {
        hints.push(format!(
            "Only {} of {found} hits fit: ask for fewer, use detail: concise, or go on with next_cursor.",
            shown.len()
        ));
    }
    if is_cut {
        hints.push(match detail {
            Detail::Concise => {
                "Long texts and lists are cut; detail: detailed shows more of them.".to_owned()
            }
            Detail::Detailed => "Long texts and lists are cut; query_store reads them in parts.".to_owned(),
        });
    }
    let more = u64::from(next) < total && request.size > 0;
    let reachable = next + request.size <= SEARCH_WINDOW;
    if more && reachable && shown.len() == found {
        hints.push("There are more hits: pass next_cursor as cursor, or narrow the query.".to_owned());
    }
    if more && !reachable {
        hints.push(format!(
            "Hits beyond {SEARCH_WINDOW} can't be paged to: narrow the query, by `timestamp` for example."
        ));
    }
    SearchFound {
        index: request.index.as_str(),
        total,
        hits: shown,
        counts,
        days,
        existing: Vec::new(),
        behind: Vec::new(),
        next_cursor: (more && reachable).then(|| Cursor::write(next, question)),
        hint: (!hints.is_empty()).then(|| hints.join(" ")),
    }
}

/// The values of a count as they may leave.
pub(super) fn mask(counted: &mut ValueCounts, outgoing: &Outgoing) {
    for value in &mut counted.values {
        outgoing.field(&counted.field, &mut value.value);
        shorten(&mut value.value, LONGEST_VALUE);
    }
}

/// The first hits that fit, and whether anything in them was cut.
fn hits_that_fit(
    index: IndexName,
    detail: Detail,
    hits: Vec<Hit>,
    room: usize,
    outgoing: &Outgoing,
) -> (Vec<Map<String, Value>>, bool) {
    let (mut shown, mut is_cut) = (Vec::new(), false);
    let mut taken = 0;
    for hit in hits {
        let mut document = Value::Object(match detail {
            Detail::Concise => telling(index, hit.source),
            Detail::Detailed => once(hit.source),
        });
        outgoing.value(&mut document);
        // One document alone must fit, however long its texts and lists are.
        let longest = if detail == Detail::Concise { 200 } else { 4000 };
        let cut = shorten_to(&mut document, longest, room);
        taken += size(&document);
        if taken > room && !shown.is_empty() {
            break;
        }
        is_cut |= cut;
        if let Value::Object(document) = document {
            shown.push(document);
        }
    }
    (shown, is_cut)
}

/// A document in which nothing of its row is repeated.
fn once(mut source: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Object(mut metadata)) = source.remove("metadata") else { return source };
    match source.get("dados") {
        Some(Value::Object(row)) => without_repeats(&mut metadata, row),
        _ => without_repeats(&mut metadata, &source),
    }
    if !metadata.is_empty() {
        source.insert("metadata".to_owned(), Value::Object(metadata));
    }
    source
}

/// The fields that tell what a document is about.
fn telling(index: IndexName, source: Map<String, Value>) -> Map<String, Value> {
    let told = index.telling();
    let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    source.into_iter().filter(|(name, value)| told.contains(&name.as_str()) && !is_empty(value)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(size: u32) -> SearchRequest {
        SearchRequest {
            index: IndexName::Eventos,
            query: None,
            sort: Sort::Newest,
            from: 40,
            size,
            count_by: Vec::new(),
            count_by_day: false,
            zone: chrono_tz::Tz::UTC,
        }
    }

    fn fitted(detail: Detail, hits: usize, text: usize, total: u64) -> SearchFound {
        let source =
            json!({"id": "x", "usuario": "é".repeat(text), "dados": {"l": vec!["y".repeat(text); 50]}});
        let source = source.as_object().cloned().expect("an object");
        let hits = (0..hits).map(|_| Hit { id: String::new(), source: source.clone() }).collect();
        let answer = SearchAnswer { total, hits, ..SearchAnswer::default() };
        fit(&request(100), detail, answer, 7, &Outgoing::new(None, crate::domain::Catalog::built_in()))
    }

    #[test]
    fn every_answer_is_bounded_and_goes_on_where_it_was_cut() {
        for (detail, hits, text) in [
            (Detail::Concise, 100, 100_000),
            (Detail::Detailed, 100, 1000),
            (Detail::Detailed, 100, 100_000),
            (Detail::Detailed, 1, 3_000_000),
        ] {
            let found = fitted(detail, hits, text, 1000);
            assert!(size(&found) < LARGEST_ANSWER, "{detail:?} {hits} {text}: {}", size(&found));
            assert!(!found.hits.is_empty());
            let next =
                Cursor::read(&found.next_cursor.expect("more"), 7).unwrap_or_else(|_| panic!("our cursor"));
            assert_eq!(next as usize, 40 + found.hits.len());
        }
    }

    #[test]
    fn the_last_page_has_no_cursor_and_a_concise_hit_no_raw_row() {
        let found = fitted(Detail::Concise, 10, 5, 50);
        assert!(found.next_cursor.is_none() && found.hint.is_none());
        assert!(found.hits[0].contains_key("usuario") && !found.hits[0].contains_key("dados"));
    }

    #[test]
    fn a_cursor_of_another_question_or_none_at_all_is_refused() {
        let cursor = Cursor::write(10, 7);
        assert!(Cursor::read(&cursor, 8).is_err_and(|error| error.to_string().contains("another question")));
        for cursor in ["", "abc", "!!", "AAAAAAAAAAAAAAAAAAAA"] {
            assert!(Cursor::read(cursor, 7).is_err(), "{cursor}");
        }
    }
}
