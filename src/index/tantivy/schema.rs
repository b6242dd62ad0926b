//! An index's fields as tantivy keeps them, and a document's values under them.
//!
//! Values are taken as the search servers take them: lists and single values alike, numbers in text as numbers,
//! what does not fit its field left out of it. The document itself is kept whole.

use std::{collections::HashMap, net::IpAddr};

use serde_json::{Map, Value};
use tantivy::{
    TantivyDocument,
    schema::{
        BytesOptions, FAST, Field as Column, INDEXED, IndexRecordOption, STORED, STRING, Schema,
        TextFieldIndexing, TextOptions,
    },
};

use crate::index::{Field, FieldKind, Fields, IndexName, documents::Document, query};

/// The name of the analyzer of texts.
pub(super) const WORDS: &str = "words";
/// The version of an entity.
pub(super) const VERSION: &str = "_version";
/// A longer value is no keyword: `ignore_above` of the mappings, in UTF-16 units.
const LONGEST_KEYWORD: usize = 1024;

/// Where everything of one index is kept.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) schema: Schema,
    /// The document's id, as bytes.
    pub(super) id: Column,
    pub(super) version: Column,
    /// The paths that have a value.
    pub(super) present: Column,
    /// The document, as JSON.
    pub(super) source: Column,
    fields: Vec<(&'static Field, Column)>,
    by_path: HashMap<&'static str, Column>,
}

impl Layout {
    pub(super) fn of(index: IndexName) -> Self {
        let mut schema = Schema::builder();
        let words = TextFieldIndexing::default()
            .set_tokenizer(WORDS)
            .set_index_option(IndexRecordOption::WithFreqsAndPositions);
        let words = TextOptions::default().set_indexing_options(words);
        let id = schema.add_bytes_field("_id", BytesOptions::default().set_indexed());
        let version = schema.add_i64_field(VERSION, FAST);
        let present = schema.add_text_field("_present", STRING);
        let source = schema.add_bytes_field("_source", STORED);
        let mut fields = Vec::new();
        for field in Fields::of(index).iter() {
            let name = column_name(&field.path);
            let column = match field.kind {
                FieldKind::Text => schema.add_text_field(&name, words.clone()),
                FieldKind::Keyword => schema.add_text_field(&name, STRING | FAST),
                // A date is its milliseconds: nanoseconds would end in 2262.
                FieldKind::Long | FieldKind::Date => schema.add_i64_field(&name, FAST),
                FieldKind::Double => schema.add_f64_field(&name, FAST),
                FieldKind::Boolean => schema.add_bool_field(&name, FAST | INDEXED),
                FieldKind::Ip => schema.add_ip_addr_field(&name, FAST | INDEXED),
                FieldKind::Stored => continue,
            };
            fields.push((field, column));
        }
        let by_path = fields.iter().map(|(field, column)| (field.path.as_str(), *column)).collect();
        Self { schema: schema.build(), id, version, present, source, fields, by_path }
    }

    /// Where a searchable field is kept.
    pub(super) fn column(&self, field: &Field) -> Option<Column> {
        self.by_path.get(field.path.as_str()).copied()
    }

    /// What is to be added for a document. `None` when its body is no JSON object.
    pub(super) fn document(&self, document: &Document) -> Option<TantivyDocument> {
        let body: Map<String, Value> = serde_json::from_slice(&document.body).ok()?;
        let mut out = TantivyDocument::with_capacity(document.body.len() * 3);
        out.add_bytes(self.id, document.id.as_bytes());
        out.add_bytes(self.source, &document.body);
        if let Some(version) = document.version {
            out.add_i64(self.version, version);
        }
        for (field, column) in &self.fields {
            let mut has_value = false;
            if let Some(value) = member(&body, &field.source) {
                each_scalar(value, &mut |scalar| has_value |= add(&mut out, field.kind, *column, scalar));
            }
            if has_value {
                out.add_text(self.present, &field.path);
            }
        }
        Some(out)
    }
}

/// tantivy reads meaning into dots.
pub(super) fn column_name(path: &str) -> String {
    path.replace('.', "/")
}

fn member<'a>(body: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => body.get(path),
        Some((head, tail)) => member(body.get(head)?.as_object()?, tail),
    }
}

fn each_scalar(value: &Value, take: &mut impl FnMut(&Value)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| each_scalar(item, take)),
        Value::Null | Value::Object(_) => {}
        scalar => take(scalar),
    }
}

/// Whether the value fits its field.
fn add(out: &mut TantivyDocument, kind: FieldKind, column: Column, value: &Value) -> bool {
    let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match kind {
        FieldKind::Text => {
            out.add_text(column, text());
            true
        }
        FieldKind::Keyword => {
            let text = text();
            let fits = text.encode_utf16().count() <= LONGEST_KEYWORD;
            if fits {
                out.add_text(column, text);
            }
            fits
        }
        FieldKind::Long => long(value).map(|long| out.add_i64(column, long)).is_some(),
        FieldKind::Double => double(value).map(|double| out.add_f64(column, double)).is_some(),
        FieldKind::Boolean => boolean(value).map(|boolean| out.add_bool(column, boolean)).is_some(),
        FieldKind::Date => {
            let millis = value.as_i64().or_else(|| query::instant(value.as_str()?));
            millis.map(|millis| out.add_i64(column, millis)).is_some()
        }
        FieldKind::Ip => {
            let address = value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
            let address = address.map(|address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            });
            address.map(|address| out.add_ip_addr(column, address)).is_some()
        }
        FieldKind::Stored => false,
    }
}

/// A whole number; a fraction is cut off.
#[allow(clippy::cast_possible_truncation)]
fn long(value: &Value) -> Option<i64> {
    if let Some(long) = value.as_i64().or_else(|| value.as_str()?.parse().ok()) {
        return Some(long);
    }
    double(value).filter(|double| double.abs() < 9.2e18).map(|double| double as i64)
}

fn double(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|double| double.is_finite())
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(boolean) => Some(*boolean),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}
