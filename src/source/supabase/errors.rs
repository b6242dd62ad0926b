//! What PostgREST's answers mean for the engine, in one table.
//!
//! Message and hint are told where they speak of the request and the schema. What Postgres says of values, and what the
//! project's own functions say, may quote rows and is not; nor is `details`, which is never read.

use std::fmt::Write as _;

use serde::Deserialize;

use super::PART;
use crate::{
    fault::{Fault, FaultKind},
    redaction::Redaction,
};

/// PostgREST's error body; every member may be missing, and a gateway's body is no JSON at all.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(default)]
    pub(super) code: Option<String>,
    #[serde(default)]
    pub(super) message: Option<String>,
    #[serde(default)]
    pub(super) hint: Option<String>,
}

impl ErrorBody {
    pub(super) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// Without what the request was sent with: a gateway may repeat it.
    pub(super) fn redacted(self, redaction: &Redaction) -> Self {
        let clean = |text: Option<String>| text.map(|text| redaction.text(&text));
        Self { code: clean(self.code), message: clean(self.message), hint: clean(self.hint) }
    }

    pub(super) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    /// The column that error 42703 says `table` lacks. Its name may have dots, as the table's may.
    pub(super) fn missing_column(&self, table: &str) -> Option<&str> {
        if self.code() != "42703" {
            return None;
        }
        let (_, after) = self.message.as_deref()?.split_once("column ")?;
        let (told, _) = after.rsplit_once(" does not exist")?;
        if let Some(quoted) = told.strip_prefix('"') {
            return quoted.strip_suffix('"');
        }
        let of_table = told.strip_prefix(table).and_then(|rest| rest.strip_prefix('.'));
        of_table.or_else(|| told.split_once('.').map(|(_, name)| name)).or(Some(told))
    }

    /// Whether its message may quote a row, or what a row was asked for by: all but what is known to speak of the schema,
    /// the connection and the server.
    fn may_quote_values(&self) -> bool {
        const SPEAK_OF_NONE: [&str; 11] = ["08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58"];
        // Where it could not be read, the message has the filter with its values.
        const UNPARSED: &str = "PGRST100";
        match self.code() {
            UNPARSED => true,
            // A gateway's own words.
            "" => false,
            code => {
                !code.starts_with("PGRST")
                    && !code.get(..2).is_some_and(|class| SPEAK_OF_NONE.contains(&class))
            }
        }
    }

    /// The key's role may not read the table; other tables it may.
    pub(super) fn is_forbidden(&self) -> bool {
        self.code() == "42501"
    }

    /// The table or view that was asked for is not there.
    pub(super) fn is_missing_table(&self) -> bool {
        matches!(self.code(), "PGRST205" | "42P01")
    }
}

/// Whether a refused request is worth repeating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Retry,
    /// The same with a smaller page: the statement took too long.
    Smaller,
    Stop,
}

pub(super) fn verdict(status: u16, code: &str) -> Verdict {
    match (status, code) {
        (_, "57014") => Verdict::Smaller,
        (_, code) if code.starts_with("40") || code.starts_with("53") => Verdict::Retry,
        (408 | 425 | 429 | 500 | 502..=504 | 520..=530, _) => Verdict::Retry,
        _ => Verdict::Stop,
    }
}

/// A refused request as a fault.
pub(super) fn refused(what: &str, host: &str, status: u16, error: &ErrorBody) -> Fault {
    let (kind, advice) = meaning(status, error.code());
    let mut message = format!("{what} from {host} failed: HTTP {status}");
    let told = if error.may_quote_values() {
        [None, None]
    } else {
        [error.message.as_deref(), error.hint.as_deref()]
    };
    let [said, hint] = told;
    let is_code = |code: &&str| code.len() <= 12 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    for (name, value) in [("", error.code.as_deref().filter(is_code)), ("", said), ("hint: ", hint)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let value: String = value.chars().take(300).collect();
            let _ = write!(message, ", {name}{value}");
        }
    }
    Fault::new(PART, kind, message, advice)
}

fn meaning(status: u16, code: &str) -> (FaultKind, &'static str) {
    use FaultKind::{Invalid, Misconfigured, Transient};
    match (status, code) {
        (_, "PGRST301" | "PGRST302" | "PGRST303") => (
            Misconfigured,
            "the key is no valid JWT of this project, or has expired: copy it anew from the project's API settings into SUPABASE_KEY",
        ),
        (_, "42501") => (
            Misconfigured,
            "the key's role may not read this table: grant SELECT, or use a secret key in SUPABASE_KEY",
        ),
        (_, "PGRST205" | "42P01") => (
            Misconfigured,
            "the table does not exist in this schema: check SUPABASE_URL and SUPABASE_SCHEMA, create it, or name it in source.table of its definition",
        ),
        (_, "PGRST106" | "PGRST107") => (
            Misconfigured,
            "the schema is not exposed: add it to the project's API settings, or change SUPABASE_SCHEMA",
        ),
        (_, "42703") => (
            Misconfigured,
            "the table lacks this column: leave it out of what is asked for, or name it as the project does in `from` of its definition",
        ),
        (400 | 406 | 409 | 422, code) if ["22", "23"].iter().any(|class| code.starts_with(class)) => (
            Invalid,
            "a value does not fit what it is compared with or made into, in the filters given or in what a view computes; the \
             project's Postgres logs have the value, which is not repeated here",
        ),
        (400, code) if code.starts_with("P0") => (
            Invalid,
            "a function of the project raised this; its Postgres logs have the words, which are not repeated here",
        ),
        (_, "57014") => {
            (Transient, "the statement took too long even for a small page: index the time column")
        }
        (401, _) => (
            Misconfigured,
            "the key is refused: copy it from the project's API settings into SUPABASE_KEY, and check that SUPABASE_URL is the same project",
        ),
        (403, _) => {
            (Misconfigured, "access is refused: check the key's role and the project's network restrictions")
        }
        (404, _) => (Misconfigured, "nothing is served there: check SUPABASE_URL, without /rest/v1"),
        (400 | 406 | 416, _) => (Invalid, "the request was not understood: check the filters given"),
        (414 | 431, _) => (
            Invalid,
            "the request is too long for what is between here and the project: let the proxy take longer addresses",
        ),
        (429, _) => (Transient, "the project limits its request rate: try again later"),
        (500..=599, _) => {
            (Transient, "the project does not answer properly: look at its status page and try again")
        }
        _ => (Misconfigured, "check SUPABASE_URL and SUPABASE_KEY"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, code: &str) -> FaultKind {
        let error = ErrorBody { code: Some(code.to_owned()), ..ErrorBody::default() };
        refused("reading leads", "abc.supabase.co", status, &error).kind
    }

    #[test]
    fn what_passes_is_retried() {
        for (status, code) in [
            (503, "PGRST000"),
            (503, "PGRST002"),
            (504, "PGRST003"),
            (429, ""),
            (500, "40001"),
            (500, "53300"),
            (502, ""),
        ] {
            assert_eq!(verdict(status, code), Verdict::Retry, "{status} {code}");
        }
        assert_eq!(verdict(500, "57014"), Verdict::Smaller);
        for (status, code) in
            [(401, "PGRST301"), (403, "42501"), (404, "PGRST205"), (400, "PGRST100"), (400, "42703")]
        {
            assert_eq!(verdict(status, code), Verdict::Stop, "{status} {code}");
        }
    }

    #[test]
    fn a_wrong_key_a_missing_permission_and_a_bad_request_are_told_apart() {
        assert_eq!(kind(401, "PGRST301"), FaultKind::Misconfigured);
        assert_eq!(kind(400, "PGRST100"), FaultKind::Invalid);
        assert_eq!(kind(503, "PGRST000"), FaultKind::Transient);
        let permission = refused("reading leads", "h", 403, &ErrorBody::read(br#"{"code":"42501","message":"permission denied for table leads","details":"segredo","hint":"ask"}"#));
        let text = permission.to_string();
        assert!(text.contains("42501, permission denied for table leads, hint: ask"), "{text}");
        assert!(text.contains("grant SELECT") && !text.contains("segredo"), "{text}");
    }

    #[test]
    fn what_may_quote_a_row_is_told_by_its_code_alone() {
        let told = |code: &str| {
            let body = ErrorBody {
                code: Some(code.to_owned()),
                message: Some("invalid input: \"Joana, ana@exemplo.com.br\"".to_owned()),
                hint: Some("Joana has another".to_owned()),
            };
            refused("reading leads", "h", 400, &body).to_string()
        };
        for code in
            ["22P02", "22003", "23505", "P0001", "21000", "XX000", "PGRST100", "Joana de Souza", "ça", "2"]
        {
            let text = told(code);
            assert!(!text.contains("Joana") && !text.contains("ana@"), "{text}");
        }
        assert!(told("22P02").contains("HTTP 400, 22P02; a value does not fit"), "{}", told("22P02"));
        assert!(told("P0001").contains("a function of the project raised this"));
        for code in ["42703", "PGRST205", "57014", "53300", "40001"] {
            assert!(told(code).contains("Joana"), "{code}");
        }
    }

    #[test]
    fn a_gateway_s_html_is_an_answer_like_any_other() {
        let fault = refused("reading leads", "h", 502, &ErrorBody::read(b"<html>Bad gateway</html>"));
        assert_eq!(fault.kind, FaultKind::Transient);
        assert!(!fault.message.contains("html"));
    }

    #[test]
    fn the_missing_column_is_read_from_the_message() {
        for (told, table, column) in [
            ("leads.updated_at", "leads", "updated_at"),
            ("leads.a.b", "leads", "a.b"),
            ("v1.leads.a.b", "v1.leads", "a.b"),
            ("pgrst_source.nome", "leads", "nome"),
            ("\"a.b\"", "leads", "a.b"),
        ] {
            let message = format!("column {told} does not exist");
            let error =
                ErrorBody { code: Some("42703".to_owned()), message: Some(message), ..ErrorBody::default() };
            assert_eq!(error.missing_column(table), Some(column), "{told}");
        }
        assert_eq!(ErrorBody::default().missing_column("leads"), None);
    }
}
