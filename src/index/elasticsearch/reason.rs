//! The server's complaint about a document, without the document's values.
//!
//! Its texts quote them ("Preview of field's value: '…'"), and what is told about a rejected event reaches dead
//! letters, logs and tool answers. Only what is known to be no value is kept: error types and names of fields.

use super::faults::Cause;

/// `mapper_parsing_exception: field [valor] of type [double] (number_format_exception)`
pub(super) fn of(status: u16, cause: &Cause) -> String {
    let mut text = identifier(&cause.kind).map_or_else(|| format!("status {status}"), str::to_owned);
    if let Some(field) = cause.reason.as_deref().and_then(field_of) {
        text.push_str(": ");
        text.push_str(&field);
    }
    if let Some(deeper) = cause.innermost().and_then(|inner| identifier(&inner.kind)) {
        text.push_str(" (");
        text.push_str(deeper);
        text.push(')');
    }
    text
}

fn field_of(reason: &str) -> Option<String> {
    // Elasticsearch 8 begins with the place in the document: "[1:27] failed to parse …".
    let reason = match reason.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((place, rest)) if place.chars().all(|c| c.is_ascii_digit() || c == ':') => rest,
        _ => reason,
    };
    if let Some(rest) = reason.strip_prefix("failed to parse field [") {
        let (field, rest) = rest.split_once(']')?;
        let kind =
            rest.strip_prefix(" of type [").and_then(|rest| rest.split_once(']')).map(|(kind, _)| kind);
        return match kind.and_then(identifier) {
            Some(kind) => Some(format!("field [{}] of type [{kind}]", identifier(field)?)),
            None => Some(format!("field [{}]", identifier(field)?)),
        };
    }
    let shapes = [
        ("object mapping for [", ']'),
        ("mapping set to strict, dynamic introduction of [", ']'),
        ("Could not dynamically add mapping for field [", ']'),
        ("Document contains at least one immense term in field=\"", '"'),
    ];
    let (_, rest, end) = shapes
        .into_iter()
        .find_map(|(start, end)| reason.strip_prefix(start).map(|rest| (start, rest, end)))?;
    Some(format!("field [{}]", identifier(rest.split_once(end)?.0)?))
}

/// A name of a field or an error, or nothing: text with a space or a quote in it is somebody's value.
fn identifier(text: &str) -> Option<&str> {
    let named = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    (!text.is_empty() && text.len() <= 128 && text.chars().all(named)).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(error: Value) -> String {
        of(400, &serde_json::from_value(error).expect("an error"))
    }

    #[test]
    fn the_field_and_its_type_are_told_and_the_value_is_not() {
        let elasticsearch_7 = json!({
            "type": "mapper_parsing_exception",
            "reason": "failed to parse field [valor] of type [double] in document with id '3'. Preview of field's value: 'segredo'",
            "caused_by": {"type": "number_format_exception", "reason": "For input string: \"segredo\""}
        });
        let expected = "mapper_parsing_exception: field [valor] of type [double] (number_format_exception)";
        assert_eq!(told(elasticsearch_7), expected);
        let elasticsearch_8 = json!({
            "type": "document_parsing_exception",
            "reason": "[1:27] failed to parse field [metadata.is_active] of type [boolean] in document with id '1'. Preview of field's value: 'segredo'",
            "caused_by": {"type": "illegal_argument_exception", "reason": "Failed to parse value [segredo] as only [true] or [false] are allowed."}
        });
        let expected = "document_parsing_exception: field [metadata.is_active] of type [boolean] (illegal_argument_exception)";
        assert_eq!(told(elasticsearch_8), expected);
    }

    #[test]
    fn other_complaints_keep_what_names_a_field() {
        for (reason, expected) in [
            (
                "object mapping for [metadata] tried to parse field [metadata] as object, but found a concrete value",
                "x: field [metadata]",
            ),
            ("Could not dynamically add mapping for field [nome.x]. Existing mapping …", "x: field [nome.x]"),
            (
                "mapping set to strict, dynamic introduction of [extra] within [_doc] is not allowed",
                "x: field [extra]",
            ),
            (
                "Document contains at least one immense term in field=\"nome\" (whose UTF8 encoding is longer than …): 'segredo'",
                "x: field [nome]",
            ),
        ] {
            assert_eq!(told(json!({"type": "x", "reason": reason})), expected);
        }
    }

    #[test]
    fn a_text_of_no_known_shape_is_dropped_whole() {
        let opensearch = json!({
            "type": "mapper_parsing_exception", "reason": "failed to parse",
            "caused_by": {"type": "json_parse_exception", "reason": "Duplicate field 'segredo'\n at [Source: REDACTED]"}
        });
        assert_eq!(told(opensearch), "mapper_parsing_exception (json_parse_exception)");
        assert_eq!(
            told(json!({"type": "x", "reason": "failed to parse field [segredo total] of type [y]"})),
            "x"
        );
        assert_eq!(told(json!({"type": "o segredo", "reason": "segredo"})), "status 400");
        assert_eq!(told(json!({"type": "x"})), "x");
    }
}
