//! A document as two lines of a bulk request.

use std::{borrow::Cow, fmt::Write as _, ops::Range};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    index::{documents::Document, values::quoted},
    log::Position,
};

/// What a place begins with.
const INDEX: &str = r#""_index":""#;

/// What a document stands for, and so what a conflict about it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Immutable: a conflict is a duplicate.
    Event,
    /// The newest version counts: a conflict is a stale one, or of equal versions.
    Entity {
        version: i64,
        /// Whether it replaces a document of its own version.
        replaces_equal: bool,
    },
}

/// One document to write.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    /// The event it comes from.
    pub(super) position: Position,
    pub(super) event: Uuid,
    pub(super) kind: Kind,
    /// Where to write, and under which id, as members of an object.
    pub(super) place: String,
    /// The line that says what to do.
    action: String,
    /// The line to do it with.
    document: Bytes,
}

impl Operation {
    /// `alias` is where to write.
    pub(super) fn new(alias: &str, document: Document) -> Self {
        // A key is any text.
        let place = format!(r#"{INDEX}{alias}","_id":{}"#, quoted(&server_id(&document.id)));
        let kind = match document.version {
            None => Kind::Event,
            Some(version) => Kind::Entity { version, replaces_equal: false },
        };
        let Document { position, event, body: document, .. } = document;
        Self { position, event, kind, action: action(kind, &place), place, document }
    }

    /// The same, of an entity whose document is of the same version and of another event.
    pub(super) fn replacing_equal(&self) -> Self {
        let mut replacing = self.clone();
        if let Kind::Entity { replaces_equal, .. } = &mut replacing.kind {
            *replaces_equal = true;
        }
        replacing.action = action(replacing.kind, &self.place);
        replacing
    }

    /// Where to write.
    pub(super) fn index(&self) -> &str {
        self.place.strip_prefix(INDEX).and_then(|place| place.split('"').next()).unwrap_or_default()
    }

    /// Whether it replaces a document of its own version.
    pub(super) fn replaces_equal(&self) -> bool {
        matches!(self.kind, Kind::Entity { replaces_equal: true, .. })
    }

    /// What it takes in a request.
    pub(super) fn size(&self) -> usize {
        self.action.len() + self.document.len() + 2
    }

    /// Writes it, and keeps of the document only where it stands then: a request of some MiB is not held twice.
    pub(super) fn written(mut self, body: &mut Vec<u8>) -> (Self, Range<usize>) {
        self.write(body);
        let end = body.len() - 1;
        let at = end - self.document.len()..end;
        self.document = Bytes::new();
        (self, at)
    }

    /// The same with the document that stands there in a body.
    pub(super) fn standing_in(self, body: &Bytes, at: Range<usize>) -> Self {
        Self { document: body.slice(at), ..self }
    }

    pub(super) fn write(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(self.action.as_bytes());
        body.push(b'\n');
        body.extend_from_slice(&self.document);
        body.push(b'\n');
    }
}

fn action(kind: Kind, place: &str) -> String {
    match kind {
        Kind::Event => format!(r#"{{"create":{{{place}}}}}"#),
        Kind::Entity { version, replaces_equal } => {
            let version_type = if replaces_equal { "external_gte" } else { "external" };
            format!(r#"{{"index":{{{place},"version":{version},"version_type":"{version_type}"}}}}"#)
        }
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
    let place = r#""_index":"eventos","_id":"1""#.to_owned();
    let document = Bytes::copy_from_slice(document.as_bytes());
    let position = Position { partition: 0, offset };
    Operation { position, event: Uuid::nil(), kind, action: action(kind, &place), place, document }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::index::IndexName;

    const ID: &str = "a \"b\"\n\\";

    fn operation_of(version: Option<i64>) -> Operation {
        let position = Position { partition: 0, offset: 1 };
        let (index, event) = (IndexName::Eventos, Uuid::nil());
        let document =
            Document { position, index, id: ID.to_owned(), event, version, body: Bytes::from_static(b"{}") };
        Operation::new("t_alias", document)
    }

    fn action_of(operation: &Operation) -> Value {
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
    fn an_operation_that_was_written_is_written_again_as_it_was() {
        let mut body = b"before\n".to_vec();
        let (first, at) = operation_of(None).written(&mut body);
        let (second, behind) = operation_of(Some(7)).written(&mut body);
        let body = Bytes::from(body);
        let mut again = b"before\n".to_vec();
        first.standing_in(&body, at).write(&mut again);
        second.standing_in(&body, behind).write(&mut again);
        assert_eq!(again, body);
    }

    #[test]
    fn an_event_is_created_and_an_entity_replaced_by_its_version() {
        let created = action_of(&operation_of(None));
        assert_eq!(created, json!({"create": {"_index": "t_alias", "_id": ID}}));
        let entity = operation_of(Some(7));
        for (operation, version_type) in [(entity.replacing_equal(), "external_gte"), (entity, "external")] {
            let expected =
                json!({"_index": "t_alias", "_id": ID, "version": 7, "version_type": version_type});
            assert_eq!(action_of(&operation), json!({ "index": expected }));
        }
    }
}
