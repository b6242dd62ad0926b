//! An index's fields as tantivy keeps them, and a document's values under them.
//!
//! Values are taken as the search servers take them: lists and single values alike, numbers in text as numbers,
//! what does not fit its field left out of it. The document itself is kept whole, byte for byte.

use std::{borrow::Cow, collections::HashMap, net::IpAddr};

use serde_json::value::RawValue;
use tantivy::{
    TantivyDocument,
    schema::{
        BytesOptions, FAST, Field as Column, FieldEntry, FieldType, INDEXED, IndexRecordOption,
        NumericOptions, STORED, STRING, Schema, TextFieldIndexing, TextOptions,
    },
};

use crate::{
    domain::{Members, json},
    index::{Field, FieldKind, Fields, MAX_KEYWORD, REMOVED, query},
};

/// The name of the analyzer of texts. It takes another when it makes other words, so that documents are indexed anew.
pub(super) const WORDS: &str = "words-2";
/// The name under which tantivy keeps texts whole.
const WHOLE: &str = "raw";
/// The version of an entity.
pub(super) const VERSION: &str = "_version";

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
    /// The name of the column that ids are ordered by.
    pub(super) id_order: String,
    fields: Vec<(&'static Field, Column)>,
    by_path: HashMap<&'static str, Column>,
}

/// How an index that is there stands to the layout it should have.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Of the same fields, though another analyzer may have cut their texts.
    Same,
    /// Fields came or went; those of the same name are of the same type.
    Extended,
    /// This field is of another type.
    Changed(String),
}

impl Layout {
    pub(super) fn of(fields: &'static Fields) -> Self {
        let mut schema = Schema::builder();
        let words = TextFieldIndexing::default()
            .set_tokenizer(WORDS)
            .set_index_option(IndexRecordOption::WithFreqsAndPositions);
        let words = TextOptions::default().set_indexing_options(words);
        let id = schema.add_bytes_field("_id", BytesOptions::default().set_indexed().set_stored());
        let version = schema.add_i64_field(VERSION, FAST);
        let present = schema.add_text_field("_present", STRING);
        let source = schema.add_bytes_field("_source", STORED);
        let id_order = column_name(fields.id());
        let mut columns = Vec::new();
        for field in fields.iter() {
            let name = column_name(&field.path);
            let column = match field.kind {
                FieldKind::Text => schema.add_text_field(&name, words.clone()),
                FieldKind::Keyword => schema.add_text_field(&name, STRING | FAST),
                FieldKind::Long => schema.add_i64_field(&name, FAST),
                // A date is its milliseconds: nanoseconds would end in 2262. Coercing is for JSON, of which tantivy is
                // given none: here it tells a date from a number.
                FieldKind::Date => {
                    schema.add_i64_field(&name, NumericOptions::default().set_fast().set_coerce())
                }
                FieldKind::Double => schema.add_f64_field(&name, FAST),
                FieldKind::Boolean => schema.add_bool_field(&name, FAST | INDEXED),
                FieldKind::Ip => schema.add_ip_addr_field(&name, FAST | INDEXED),
                FieldKind::Stored => continue,
            };
            columns.push((field, column));
        }
        let by_path = columns.iter().map(|(field, column)| (field.path.as_str(), *column)).collect();
        Self { schema: schema.build(), id, version, present, source, id_order, fields: columns, by_path }
    }

    /// Where a searchable field is kept.
    pub(super) fn column(&self, field: &Field) -> Option<Column> {
        self.by_path.get(field.path.as_str()).copied()
    }

    /// Whether an index that was made with this schema can be used.
    pub(super) fn fit(&self, made: &Schema) -> Fit {
        let mut pairs = self.schema.fields().zip(made.fields());
        if self.schema.num_fields() == made.num_fields()
            && pairs.all(|((_, entry), (_, made))| is_alike(entry, made))
        {
            return Fit::Same;
        }
        let changed = self.schema.fields().find(|(_, entry)| {
            made.get_field(entry.name()).is_ok_and(|column| !is_alike(entry, made.get_field_entry(column)))
        });
        match changed {
            Some((_, entry)) => Fit::Changed(entry.name().replace('/', ".")),
            None => Fit::Extended,
        }
    }

    /// Whether an index that was made with this schema has every field.
    pub(super) fn is_within(&self, made: &Schema) -> bool {
        self.schema.fields().all(|(_, entry)| made.get_field(entry.name()).is_ok())
    }

    /// The columns that an index which was made with this schema lacks.
    pub(super) fn gained(&self, made: &Schema) -> Vec<String> {
        let is_new = |field: &Field| made.get_field(&column_name(&field.path)).is_err();
        let columns = self.fields.iter().map(|(field, _)| *field).filter(|field| field.path == field.source);
        columns.filter(|field| is_new(field)).map(|field| field.path.clone()).collect()
    }

    /// What is to be added for a document. `None` when its body is no JSON object.
    pub(super) fn document(&self, id: &str, version: Option<i64>, body: &[u8]) -> Option<TantivyDocument> {
        let members = by_name(std::str::from_utf8(body).ok()?)?;
        if version.is_some() && members.contains_key(REMOVED) {
            let mut out = TantivyDocument::new();
            out.add_bytes(self.id, id.as_bytes());
            out.add_bytes(self.source, body);
            out.add_i64(self.version, version.unwrap_or_default());
            out.add_text(self.present, REMOVED);
            return Some(out);
        }
        let mut inner: HashMap<&str, HashMap<Cow<'_, str>, &str>> = HashMap::new();
        let mut out = TantivyDocument::with_capacity(body.len() * 3);
        out.add_bytes(self.id, id.as_bytes());
        out.add_bytes(self.source, body);
        if let Some(version) = version {
            out.add_i64(self.version, version);
        }
        for (field, column) in &self.fields {
            let value = match field.source.split_once('.') {
                None => members.get(field.source.as_str()),
                Some((object, name)) => inner
                    .entry(object)
                    .or_insert_with(|| members.get(object).and_then(|json| by_name(json)).unwrap_or_default())
                    .get(name),
            };
            let mut has_value = false;
            if let Some(value) = value {
                each_scalar(value, &mut |scalar| has_value |= add(&mut out, field.kind, *column, scalar));
            }
            if has_value {
                out.add_text(self.present, &field.path);
            }
        }
        Some(out)
    }
}

/// How an index that was made with this schema keeps a path; `None` where it does not search it.
pub(super) fn kind_in(made: &Schema, path: &str) -> Option<FieldKind> {
    let column = made.get_field(&column_name(path)).ok()?;
    match made.get_field_entry(column).field_type() {
        kind @ FieldType::Str(_) => Some(if is_cut(kind) { FieldKind::Text } else { FieldKind::Keyword }),
        FieldType::I64(options) if options.should_coerce() => Some(FieldKind::Date),
        FieldType::I64(_) => Some(FieldKind::Long),
        FieldType::F64(_) => Some(FieldKind::Double),
        FieldType::Bool(_) => Some(FieldKind::Boolean),
        FieldType::IpAddr(_) => Some(FieldKind::Ip),
        _ => None,
    }
}

/// Whether texts are cut into words, by whichever analyzer.
fn is_cut(kind: &FieldType) -> bool {
    let FieldType::Str(options) = kind else { return false };
    options.get_indexing_options().is_some_and(|options| options.tokenizer() != WHOLE)
}

/// Whether two fields are one, but for the analyzer that cuts their texts.
fn is_alike(a: &FieldEntry, b: &FieldEntry) -> bool {
    a == b || (a.name() == b.name() && is_cut(a.field_type()) && is_cut(b.field_type()))
}

/// tantivy reads meaning into dots.
pub(super) fn column_name(path: &str) -> String {
    path.replace('.', "/")
}

/// An object's members; `None` where the text is no object.
fn by_name(json: &str) -> Option<HashMap<Cow<'_, str>, &str>> {
    let members = Members::of(json)?;
    Some(members.iter().map(|member| (member.name.clone(), member.value)).collect())
}

fn each_scalar(json: &str, take: &mut impl FnMut(&str)) {
    match json.as_bytes().first() {
        Some(b'[') => {
            // A document's lists are JSON, as the document is.
            let items: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
            for item in items {
                each_scalar(item.get(), take);
            }
        }
        Some(b'n' | b'{') | None => {}
        Some(_) => take(json),
    }
}

/// Whether the value fits its field.
fn add(out: &mut TantivyDocument, kind: FieldKind, column: Column, json: &str) -> bool {
    let text = json::text(json).unwrap_or(Cow::Borrowed(json));
    match kind {
        FieldKind::Text => {
            out.add_text(column, text);
            true
        }
        FieldKind::Keyword => {
            let fits = text.encode_utf16().count() <= MAX_KEYWORD;
            if fits {
                out.add_text(column, text);
            }
            fits
        }
        FieldKind::Long => text.parse().map(|long: i64| out.add_i64(column, long)).is_ok(),
        FieldKind::Double => {
            let double = text.parse().ok().filter(|double: &f64| double.is_finite());
            double.map(|double| out.add_f64(column, double)).is_some()
        }
        FieldKind::Boolean => text.parse().map(|boolean: bool| out.add_bool(column, boolean)).is_ok(),
        FieldKind::Date => query::instant(&text).map(|millis| out.add_i64(column, millis)).is_some(),
        FieldKind::Ip => {
            let address = text.parse().map(|address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            });
            address.map(|address| out.add_ip_addr(column, address)).is_ok()
        }
        FieldKind::Stored => false,
    }
}
