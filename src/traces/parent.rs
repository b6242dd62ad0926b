//! `traceparent`, as W3C Trace Context writes it: on records, and in what clients of MCP send along.
//!
//! Anybody may write one: what is not exactly of that form is none, however large it is, and of a batch only so many are
//! looked at again.

use std::collections::HashMap;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use crate::log::Record;

/// The header of a record, and the member of a request's `_meta`.
pub(crate) const TRACEPARENT: &str = "traceparent";

const LENGTH: usize = 55;

/// Another span, maybe of another process: version 00, trace, span and flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TraceParent([u8; LENGTH]);

impl TraceParent {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text: [u8; LENGTH] = text.try_into().ok()?;
        let is_in_place = |(at, byte): (usize, &u8)| match at {
            0 | 1 => *byte == b'0',
            2 | 35 | 52 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        let parent = Self(text);
        let is_one = text.iter().enumerate().all(is_in_place);
        (is_one && parent.context()?.is_valid()).then_some(parent)
    }

    /// Of a span that is sampled: nothing is told of others.
    pub(super) fn of(span: &SpanContext) -> Option<Self> {
        let text = format!("00-{}-{}-01", span.trace_id(), span.span_id());
        Self::parse(text.as_bytes()).filter(|_| span.is_sampled())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn is_sampled(&self) -> bool {
        self.context().is_some_and(|context| context.is_sampled())
    }

    /// The span itself, as of another process.
    pub(super) fn context(&self) -> Option<SpanContext> {
        let text = std::str::from_utf8(&self.0).ok()?;
        let trace = TraceId::from_hex(&text[3..35]).ok()?;
        let span = SpanId::from_hex(&text[36..52]).ok()?;
        let flags = TraceFlags::new(u8::from_str_radix(&text[53..], 16).ok()?) & TraceFlags::SAMPLED;
        Some(SpanContext::new(trace, span, flags, true, TraceState::NONE))
    }
}

/// The sampled parents that records name, in the order of their first records, and how many records name each.
pub(super) fn parents_of(records: &[Record]) -> Vec<(TraceParent, usize)> {
    let mut parents: Vec<(TraceParent, usize)> = Vec::new();
    let mut places = HashMap::new();
    let mut last: Option<(&[u8], usize)> = None;
    for record in records {
        let Some((_, value)) = record.headers.iter().find(|(name, _)| name == TRACEPARENT) else { continue };
        let place = match last {
            // The records of a page stand together.
            Some((same, place)) if same == value.as_ref() => place,
            _ => {
                let Some(parent) = TraceParent::parse(value).filter(TraceParent::is_sampled) else {
                    continue;
                };
                let place = *places.entry(parent).or_insert(parents.len());
                if place == parents.len() {
                    parents.push((parent, 0));
                }
                last = Some((value, place));
                place
            }
        };
        parents[place].1 += 1;
    }
    parents
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn only_what_has_the_form_of_w3c_trace_context_is_a_parent() {
        let parent = TraceParent::parse(GOOD.as_bytes()).expect("a parent");
        let context = parent.context().expect("a context");
        assert!(context.is_remote() && context.is_sampled() && parent.is_sampled());
        assert_eq!(TraceParent::of(&context), Some(parent));
        let unsampled = TraceParent::parse(GOOD.replace("-01", "-fe").as_bytes()).expect("a parent");
        assert!(!unsampled.is_sampled() && TraceParent::of(&unsampled.context().expect("one")).is_none());
        for none in [
            String::new(),
            GOOD.to_uppercase(),
            GOOD.replace("00-0", "ff-0"),
            GOOD.replace("00-0", "01-0"),
            GOOD.replace('a', "g"),
            GOOD.replace('a', "+"),
            GOOD.replace('a', "é"),
            GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            format!("{GOOD}-more"),
            format!(" {GOOD}"),
            GOOD[1..].to_owned(),
            "0".repeat(LENGTH),
            "x".repeat(1 << 20),
        ] {
            assert_eq!(TraceParent::parse(none.as_bytes()), None, "{}", &none[..none.len().min(80)]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reading_of_a_parent(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(TraceParent::parse(&bytes).is_none_or(|parent| parent.as_bytes() == bytes));
        }
    }

    fn record(parent: Option<&str>) -> Record {
        let headers = parent.map(|text| (TRACEPARENT.to_owned(), Bytes::copy_from_slice(text.as_bytes())));
        Record {
            partition: 0,
            offset: 0,
            appended_at: None,
            key: None,
            value: None,
            headers: headers.into_iter().collect(),
            has_unreadable_headers: false,
        }
    }

    #[test]
    fn the_records_of_each_sampled_parent_are_counted_and_others_are_passed_over() {
        let other = GOOD.replace("b7ad", "b7ae");
        let unsampled = GOOD.replace("-01", "-00");
        let huge = "x".repeat(1 << 20);
        let of = [
            None,
            Some(GOOD),
            Some(GOOD),
            Some("?"),
            Some(&*other),
            Some(&huge),
            Some(GOOD),
            Some(&unsampled),
        ];
        let parents = parents_of(&of.map(record));
        let told: Vec<(&[u8], usize)> =
            parents.iter().map(|(parent, count)| (parent.as_bytes(), *count)).collect();
        assert_eq!(told, [(GOOD.as_bytes(), 3), (other.as_bytes(), 1)]);
    }
}
