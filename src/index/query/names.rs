//! Fields by the names that people write.

use super::{
    QueryError,
    lexer::{At, error, shown},
};
use crate::index::{Field, FieldKind, Fields};

/// Fields offered to somebody who named one that is not there.
const MAX_OFFERED: usize = 5;

/// The searchable field of that path.
pub(super) fn field(fields: &'static Fields, name: &str, at: At) -> Result<&'static Field, QueryError> {
    match fields.get(name) {
        Some(field) if field.kind == FieldKind::Stored => Err(error(
            at,
            format!("`{name}` is kept in the documents and can't be searched"),
            format!("search one of: {}", fields.known()),
        )),
        Some(field) => Ok(field),
        None => Err(unknown(fields, name, at)),
    }
}

fn unknown(fields: &Fields, name: &str, at: At) -> QueryError {
    let shown = shown(name);
    let close = fields.close_to(name, MAX_OFFERED);
    let instead = if close.is_empty() {
        format!("the fields are {}", fields.known())
    } else {
        format!("did you mean {}", close.join(" or "))
    };
    error(at, format!("there is no field `{shown}`"), instead)
}
