//! A document as two lines of a bulk request.

use std::{borrow::Cow, fmt::Write as _};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    index::{documents::Document, values::quoted},
    log::Position,
};

/// What a document stands for, and so what a conflict about it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Immutable: a conflict is a duplicate.
    Event,
    /// The newest version counts: a conflict is a stale one.
    Entity,
}

/// One document to write.
#[derive(Debug)]
pub(super) struct Operation {
    /// The event it comes from.
    pub(super) position: Position,
    pub(super) kind: Kind,
    /// The line that says what to do.
    action: String,
    /// The line to do it with.
    document: Bytes,
}

impl Operation {
    /// `alias` is where to write.
    pub(super) fn new(alias: &str, document: Document) -> Self {
        // A key is any text.
        let id = quoted(&server_id(&document.id));
        let (kind, action) = match document.version {
            None => (Kind::Event, format!(r#"{{"create":{{"_index":"{alias}","_id":{id}}}}}"#)),
            Some(version) => (
                Kind::Entity,
                format!(
                    r#"{{"index":{{"_index":"{alias}","_id":{id},"version":{version},"version_type":"external_gte"}}}}"#
                ),
            ),
        };
        Self { position: document.position, kind, action, document: document.body }
    }

    /// What it takes in a request.
    pub(super) fn size(&self) -> usize {
        self.action.len() + self.document.len() + 2
    }

    pub(super) fn write(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(self.action.as_bytes());
        body.push(b'\n');
        body.extend_from_slice(&self.document);
        body.push(b'\n');
    }
}

/// A document's id as servers take it, who refuse an empty one and one of more than 512 bytes: of those, and of what
/// looks like one, the digest.
pub(super) fn server_id(id: &str) -> Cow<'_, str> {
    const MAX_BYTES: usize = 512;
    const DIGEST: &str = "sha256:";
    if (1..=MAX_BYTES).contains(&id.len()) && !id.starts_with(DIGEST) {
        return Cow::Borrowed(id);
    }
    let mut short = DIGEST.to_owned();
    for byte in Sha256::digest(id) {
        // Writing to a string can't fail.
        let _ = write!(short, "{byte:02x}");
    }
    Cow::Owned(short)
}

#[cfg(test)]
pub(super) fn operation(offset: i64, kind: Kind, document: &str) -> Operation {
    let action = r#"{"create":{"_index":"eventos","_id":"1"}}"#.to_owned();
    let document = Bytes::copy_from_slice(document.as_bytes());
    Operation { position: Position { partition: 0, offset }, kind, action, document }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::index::IndexName;

    const ID: &str = "a \"b\"\n\\";

    fn action(version: Option<i64>) -> Value {
        let position = Position { partition: 0, offset: 1 };
        let index = IndexName::Eventos;
        let document =
            Document { position, index, id: ID.to_owned(), version, body: Bytes::from_static(b"{}") };
        let operation = Operation::new("t_alias", document);
        let mut body = Vec::new();
        operation.write(&mut body);
        assert_eq!(body.len(), operation.size());
        let text = String::from_utf8(body).expect("text");
        serde_json::from_str(text.lines().next().expect("a line")).expect("JSON")
    }

    #[test]
    fn an_id_that_no_server_takes_is_its_digest_and_no_other_id_looks_like_it() {
        let long = "é".repeat(257);
        for taken in ["a", " \n", &long[2..]] {
            assert_eq!(server_id(taken), taken);
        }
        let of_empty = server_id("");
        assert_eq!(of_empty, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_ne!(server_id(&of_empty), of_empty);
        assert!(server_id(&long).len() < 100 && server_id(&long) != of_empty);
    }

    #[test]
    fn an_event_is_created_and_an_entity_replaced_by_its_version() {
        assert_eq!(action(None), json!({"create": {"_index": "t_alias", "_id": ID}}));
        let expected = json!({"_index": "t_alias", "_id": ID, "version": 7, "version_type": "external_gte"});
        assert_eq!(action(Some(7)), json!({ "index": expected }));
    }
}
