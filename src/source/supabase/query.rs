//! The query of one page: keyset, ordered by (time, id).
//!
//! PostgREST's operators are described at <https://docs.postgrest.org/en/stable/references/api/tables_views.html>.

use chrono::{DateTime, SecondsFormat, Utc};

use super::columns::Columns;
use crate::{
    domain::Table,
    source::{PageToken, Pass, RowQuery},
};

/// Name and value of each parameter.
pub(super) type Parameters = Vec<(String, String)>;

/// The parameters of the page after `token`.
pub(super) fn page(
    query: &RowQuery,
    columns: &Columns,
    token: &PageToken,
    size: u32,
    include_ip_address: bool,
) -> Parameters {
    let mut parameters =
        vec![parameter("select", columns.selection(include_ip_address)), parameter("limit", size)];
    // A table may have no time at all: then every row is read, by id.
    let time = columns.time();
    let mut conditions: Vec<String> = Vec::new();
    match (token.pass, time) {
        (Pass::Timed, Some(time)) => {
            parameters.push(parameter("order", format!("{time}.asc,id.asc")));
            conditions.push(recent(query, columns, time));
            if let Some((at, id)) = &token.last {
                let (at, id) = (quoted(at), quoted(id));
                conditions.push(format!("or({time}.gt.{at},and({time}.eq.{at},id.gt.{id}))"));
            }
        }
        (Pass::Timeless | Pass::Timed, time) => {
            parameters.push(parameter("order", "id.asc"));
            if let Some(time) = time {
                conditions.push(format!("{time}.is.null"));
                conditions.extend(created_recently(query, columns, time));
            }
            if let Some((_, id)) = &token.last {
                conditions.push(format!("id.gt.{}", quoted(id)));
            }
        }
    }
    if let Some(status) = &query.status {
        conditions.push(format!("status_lead.eq.{}", quoted(status)));
    }
    if let Some(least) = query.min_messages {
        conditions.push(format!("total_messages.gte.{least}"));
    }
    if !conditions.is_empty() {
        parameters.push(parameter("and", format!("({})", conditions.join(","))));
    }
    parameters
}

/// Rows of the window. A session that began before it and still goes on, or ended in it, belongs to it.
fn recent(query: &RowQuery, columns: &Columns, time: &str) -> String {
    let since = quoted(&spelled(query.since));
    let begun = format!("{time}.gte.{since}");
    if query.table != Table::ChatSessions {
        return begun;
    }
    let mut any = vec![begun];
    if columns.has("is_active") {
        any.push("is_active.is.true".to_owned());
    }
    if columns.has("ended_at") {
        any.push(format!("ended_at.gte.{since}"));
    }
    format!("or({})", any.join(","))
}

/// A row that was never modified is bounded by its creation, where it tells.
fn created_recently(query: &RowQuery, columns: &Columns, time: &str) -> Option<String> {
    let created = query.table.created_column();
    (created != time && columns.has(created))
        .then(|| format!("or({created}.gte.{},{created}.is.null)", quoted(&spelled(query.since))))
}

pub(super) fn parameter(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

pub(super) fn spelled(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A value inside a logic tree, where commas, dots, colons and parentheses have a meaning.
pub(super) fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(table: Table) -> RowQuery {
        RowQuery { table, since: DateTime::UNIX_EPOCH, status: None, min_messages: None, page_size: 10 }
    }

    fn condition(query: &RowQuery, pass: Pass, last: Option<(&str, &str)>) -> String {
        let token = PageToken { pass, last: last.map(|(at, id)| (at.to_owned(), id.to_owned())) };
        let parameters = page(query, &Columns::expected(query.table), &token, 10, false);
        parameters.into_iter().find(|(name, _)| name == "and").map(|(_, value)| value).unwrap_or_default()
    }

    #[test]
    fn pages_continue_after_the_last_time_and_id() {
        assert_eq!(
            condition(&query(Table::Leads), Pass::Timed, Some(("2026-05-01T12:00:00+00:00", "x"))),
            "(updated_at.gte.\"1970-01-01T00:00:00.000000Z\",or(updated_at.gt.\"2026-05-01T12:00:00+00:00\",\
             and(updated_at.eq.\"2026-05-01T12:00:00+00:00\",id.gt.\"x\")))"
        );
    }

    #[test]
    fn rows_without_a_time_are_read_by_id() {
        assert_eq!(
            condition(&query(Table::Leads), Pass::Timeless, Some(("", "x"))),
            "(updated_at.is.null,or(created_at.gte.\"1970-01-01T00:00:00.000000Z\",created_at.is.null),id.gt.\"x\")"
        );
        assert_eq!(condition(&query(Table::ChatSessions), Pass::Timeless, None), "(started_at.is.null)");
    }

    #[test]
    fn values_with_reserved_characters_are_quoted() {
        let query = RowQuery { status: Some("a,b(\"c\")\\".to_owned()), ..query(Table::Leads) };
        let condition = condition(&query, Pass::Timed, None);
        assert!(condition.ends_with(r#"status_lead.eq."a,b(\"c\")\\")"#), "{condition}");
    }
}
