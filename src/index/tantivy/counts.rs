//! Counts the values that matching documents have in a field, exactly.

use std::{cmp::Reverse, collections::HashMap, hash::Hash};

use chrono::{DateTime, Datelike as _, NaiveDate, SecondsFormat};
use chrono_tz::Tz;
use serde_json::Value;
use tantivy::{
    DocId, Score, SegmentOrdinal, SegmentReader,
    collector::{Collector, SegmentCollector},
    columnar::{Column, StrColumn},
};

use super::schema::column_name;
use crate::index::{COUNTED_VALUES, DayCount, Field, FieldKind, ValueCount, ValueCounts};

/// A value, in its order among others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    /// No value at all.
    Missing,
    Text(String),
    Whole(i64),
    /// A double's bits, in the order of the numbers.
    Double(i64),
    Boolean(bool),
}

/// The counts of one field.
pub(super) type Counts = HashMap<Key, u64>;

/// What is counted.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    column: String,
    kind: FieldKind,
    /// Instants are counted by the day of this zone.
    days: Option<Tz>,
}

impl Counted {
    pub(super) fn values(field: &Field) -> Self {
        Self { column: column_name(&field.path), kind: field.kind, days: None }
    }

    pub(super) fn days(field: &str, zone: Tz) -> Self {
        Self { column: column_name(field), kind: FieldKind::Date, days: Some(zone) }
    }
}

/// Counts several fields in one go.
pub(super) struct CountAll(pub(super) Vec<Counted>);

impl Collector for CountAll {
    type Fruit = Vec<Counts>;
    type Child = SegmentCounts;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<SegmentCounts> {
        let fields = segment.fast_fields();
        let open = |counted: &Counted| -> tantivy::Result<Values> {
            let column = counted.column.as_str();
            Ok(match counted.kind {
                FieldKind::Keyword => match fields.str(column)? {
                    Some(texts) => {
                        let counts = vec![0; texts.num_terms()];
                        Values::Texts(texts, counts)
                    }
                    None => Values::Absent,
                },
                FieldKind::Long | FieldKind::Date => whole_or_absent(fields.column_opt(column)?, |values| {
                    Values::Wholes(values, counted.days, HashMap::new())
                }),
                FieldKind::Double => whole_or_absent(fields.column_opt(column)?, |values| {
                    Values::Doubles(values, HashMap::new())
                }),
                FieldKind::Boolean => whole_or_absent(fields.column_opt(column)?, |values| {
                    Values::Booleans(values, HashMap::new())
                }),
                FieldKind::Text | FieldKind::Ip | FieldKind::Stored => Values::Absent,
            })
        };
        let values = self.0.iter().map(|counted| Ok((open(counted)?, 0)));
        Ok(SegmentCounts(values.collect::<tantivy::Result<_>>()?))
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, segments: Vec<tantivy::Result<Vec<Counts>>>) -> tantivy::Result<Vec<Counts>> {
        let mut merged = vec![Counts::new(); self.0.len()];
        for segment in segments {
            for (counts, more) in merged.iter_mut().zip(segment?) {
                for (key, count) in more {
                    *counts.entry(key).or_default() += count;
                }
            }
        }
        Ok(merged)
    }
}

fn whole_or_absent<T>(column: Option<Column<T>>, values: impl FnOnce(Column<T>) -> Values) -> Values {
    column.map_or(Values::Absent, values)
}

/// The counts of one segment, and the documents without a value.
pub(super) struct SegmentCounts(Vec<(Values, u64)>);

enum Values {
    Texts(StrColumn, Vec<u64>),
    Wholes(Column<i64>, Option<Tz>, HashMap<i64, u64>),
    Doubles(Column<f64>, HashMap<i64, u64>),
    Booleans(Column<bool>, HashMap<bool, u64>),
    Absent,
}

impl SegmentCollector for SegmentCounts {
    type Fruit = tantivy::Result<Vec<Counts>>;

    fn collect(&mut self, doc: DocId, _: Score) {
        for (values, missing) in &mut self.0 {
            let found = match values {
                Values::Texts(column, counts) => {
                    let ordinals = once_each(column.term_ords(doc));
                    for &ordinal in &ordinals {
                        if let Some(count) = usize::try_from(ordinal).ok().and_then(|at| counts.get_mut(at)) {
                            *count += 1;
                        }
                    }
                    !ordinals.is_empty()
                }
                Values::Wholes(column, days, counts) => {
                    let counted = |value| days.map_or(value, |zone| day_of(value, zone));
                    add_each(counts, column.values_for_doc(doc).map(counted))
                }
                Values::Doubles(column, counts) => add_each(counts, column.values_for_doc(doc).map(ordered)),
                Values::Booleans(column, counts) => add_each(counts, column.values_for_doc(doc)),
                Values::Absent => false,
            };
            *missing += u64::from(!found);
        }
    }

    fn harvest(self) -> Self::Fruit {
        let counts = |(values, missing): (Values, u64)| -> tantivy::Result<Counts> {
            let mut counts = values.counts()?;
            counts.insert(Key::Missing, missing);
            Ok(counts)
        };
        self.0.into_iter().map(counts).collect()
    }
}

impl Values {
    fn counts(self) -> tantivy::Result<Counts> {
        Ok(match self {
            Self::Texts(column, counts) => {
                let mut texts = Counts::new();
                for (ordinal, count) in (0..).zip(counts).filter(|(_, count)| *count > 0) {
                    let mut text = String::new();
                    column.ord_to_str(ordinal, &mut text)?;
                    texts.insert(Key::Text(text), count);
                }
                texts
            }
            Self::Wholes(_, _, counts) => keyed(counts, Key::Whole),
            Self::Doubles(_, counts) => keyed(counts, Key::Double),
            Self::Booleans(_, counts) => keyed(counts, Key::Boolean),
            Self::Absent => Counts::new(),
        })
    }
}

/// The day of an instant in milliseconds, as a number.
fn day_of(millis: i64, zone: Tz) -> i64 {
    let at = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    at.with_timezone(&zone).date_naive().num_days_from_ce().into()
}

fn keyed<T>(counts: HashMap<T, u64>, key: impl Fn(T) -> Key) -> Counts {
    counts.into_iter().map(|(value, count)| (key(value), count)).collect()
}

/// Counts a document's values; whether it has any.
fn add_each<T: Ord + Hash + Copy>(counts: &mut HashMap<T, u64>, values: impl Iterator<Item = T>) -> bool {
    let values = once_each(values);
    for &value in &values {
        *counts.entry(value).or_default() += 1;
    }
    !values.is_empty()
}

/// A document that has a value twice counts once.
fn once_each<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// As `f64::total_cmp` orders: the transformation is its own inverse.
fn ordered(value: f64) -> i64 {
    flipped(value.to_bits().cast_signed())
}

fn flipped(bits: i64) -> i64 {
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

/// The most frequent values, and how many more there are.
pub(super) fn most_frequent(path: &str, kind: FieldKind, mut counts: Counts) -> ValueCounts {
    let missing = counts.remove(&Key::Missing).unwrap_or_default();
    let mut counts: Vec<(Key, u64)> = counts.into_iter().collect();
    counts.sort_unstable_by(|(a, more), (b, less)| (Reverse(more), a).cmp(&(Reverse(less), b)));
    let shown = usize::try_from(COUNTED_VALUES).unwrap_or(usize::MAX);
    let others = counts.iter().skip(shown).map(|(_, count)| count).sum();
    let values = counts.into_iter().take(shown);
    let values = values.map(|(key, count)| ValueCount { value: value(key, kind), count }).collect();
    ValueCounts { field: path.to_owned(), values, others, missing }
}

fn value(key: Key, kind: FieldKind) -> Value {
    match key {
        Key::Missing => Value::Null,
        Key::Text(text) => text.into(),
        Key::Whole(millis) if kind == FieldKind::Date => DateTime::from_timestamp_millis(millis)
            .map_or_else(|| millis.into(), |at| at.to_rfc3339_opts(SecondsFormat::Millis, true).into()),
        Key::Whole(whole) => whole.into(),
        Key::Double(bits) => f64::from_bits(flipped(bits).cast_unsigned()).into(),
        Key::Boolean(boolean) => boolean.into(),
    }
}

/// Days in order.
pub(super) fn by_day(counts: Counts) -> Vec<DayCount> {
    let mut days: Vec<(Key, u64)> = counts.into_iter().collect();
    days.sort_unstable();
    let shown = |(key, count)| match key {
        Key::Whole(day) => {
            let day = NaiveDate::from_num_days_from_ce_opt(i32::try_from(day).ok()?)?.to_string();
            Some(DayCount { day, count })
        }
        _ => None,
    };
    days.into_iter().filter_map(shown).collect()
}
