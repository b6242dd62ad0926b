//! The query of one page: keyset, ordered by time and key.
//!
//! PostgREST's operators are described at <https://docs.postgrest.org/en/stable/references/api/tables_views.html>.

use chrono::{DateTime, Offset, SecondsFormat, TimeDelta, Utc};

use super::columns::Columns;
use crate::{
    domain::Table,
    source::{BEGINNING, Condition, PageToken, Pass, Place, RowQuery, Scope},
};

/// Rows without a key that are shown, for people to see what they are.
const KEYLESS_SHOWN: u32 = 100;

/// Name and value of each parameter.
pub(super) type Parameters = Vec<(String, String)>;

/// The parameters of the page after `token`.
pub(super) fn page(
    query: &RowQuery,
    columns: &Columns,
    token: &PageToken,
    size: u32,
    asked_for: &[String],
) -> Parameters {
    let size = if token.pass == Pass::Keyless { size.min(KEYLESS_SHOWN) } else { size };
    let mut parameters = vec![parameter("select", columns.selection(asked_for)), parameter("limit", size)];
    let key = name(query.table.definition().key_source());
    // A table may have no time at all: then every row is read, by key.
    let time = columns.time().map(name).filter(|_| query.scope == Scope::Changed);
    let mut conditions: Vec<String> = Vec::new();
    match (token.pass, time) {
        (Pass::Timed, Some(time)) => {
            parameters.push(parameter("order", format!("{time}.asc,{key}.asc")));
            conditions.push(recent(query, columns, &time));
            if let Some(Place { at, key: last }) = &token.last {
                let (at, last) = (quoted(at), quoted(last));
                conditions.push(format!("or({time}.gt.{at},and({time}.eq.{at},{key}.gt.{last}))"));
            }
        }
        (Pass::Timeless | Pass::Timed, time) => {
            parameters.push(parameter("order", format!("{key}.asc")));
            if let Some(time) = time {
                conditions.push(format!("{time}.is.null"));
                conditions.extend(created_recently(query, columns, &time));
            }
            if let Some(Place { key: last, .. }) = &token.last {
                conditions.push(format!("{key}.gt.{}", quoted(last)));
            }
        }
        (Pass::Keyless, time) => {
            parameters.extend(time.map(|time| parameter("order", format!("{time}.asc"))));
        }
    }
    conditions.push(if token.pass == Pass::Keyless {
        format!("{key}.is.null")
    } else {
        format!("{key}.not.is.null")
    });
    match &query.scope {
        Scope::Keys(keys) => conditions.push(one_of(&key, keys)),
        Scope::Having { column, values } => {
            conditions.push(one_of(&name(query.table.definition().source_of(column)), values));
        }
        Scope::Holding { column, text } => {
            let column = name(query.table.definition().source_of(column));
            conditions.push(format!("{column}.ilike.{}", quoted(&format!("*{}*", pattern(text)))));
        }
        Scope::Changed | Scope::Whole => {}
    }
    conditions.extend(query.conditions.iter().map(|asked| condition(query.table, asked)));
    if !conditions.is_empty() {
        parameters.push(parameter("and", format!("({})", conditions.join(","))));
    }
    parameters
}

/// A condition that a column, by its name in a parameter, is one of these values.
fn one_of(column: &str, values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("{column}.in.({})", values.join(","))
}

/// A condition inside a logic tree, by the column's name in the project.
pub(super) fn condition(table: Table, asked: &Condition) -> String {
    let column = name(table.definition().source_of(&asked.column));
    format!("{column}.{}.{}", asked.compare.as_str(), quoted(&asked.value))
}

/// Rows of the window. A row that came before it and still goes on, or ended in it, belongs to it where the
/// definition says so.
fn recent(query: &RowQuery, columns: &Columns, time: &str) -> String {
    if query.since <= BEGINNING {
        return format!("{time}.not.is.null");
    }
    let since = quoted(&earliest(query.since, query.table));
    let rule = &query.table.definition().time;
    let mut any = vec![format!("{time}.gte.{since}")];
    any.extend(columns.source(rule.active.as_ref()).map(|active| format!("{}.is.true", name(active))));
    any.extend(columns.source(rule.ended.as_ref()).map(|ended| format!("{}.gte.{since}", name(ended))));
    match &any[..] {
        [only] => only.clone(),
        // One without a time was shown before, and can't be read on from.
        _ => format!("{time}.not.is.null,or({})", any.join(",")),
    }
}

/// A row that was never modified is bounded by its creation, where it tells.
fn created_recently(query: &RowQuery, columns: &Columns, time: &str) -> Option<String> {
    let created = name(columns.source(query.table.definition().time.created.as_ref())?);
    let since = query.created_since.unwrap_or(query.since);
    let is_bounded = created != time && since > BEGINNING;
    let since = quoted(&earliest(since, query.table));
    is_bounded.then(|| format!("or({created}.gte.{since},{created}.is.null)"))
}

pub(super) fn parameter(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

/// An instant in the table's zone: a column without a zone is compared by the clock's face alone, one with a zone by
/// the instant.
pub(super) fn spelled(instant: DateTime<Utc>, table: Table) -> String {
    instant.with_timezone(&table.zone()).to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The earliest face that a row may bear that is written from an instant on: where clocks go back soon after it, what
/// is written then bears a face from before.
fn earliest(instant: DateTime<Utc>, table: Table) -> String {
    /// Longer than any clock is set back.
    const SOON: TimeDelta = TimeDelta::hours(3);
    let offset = |at: DateTime<Utc>| at.with_timezone(&table.zone()).offset().fix().local_minus_utc();
    let back = offset(instant).saturating_sub(offset(instant + SOON)).max(0);
    spelled(instant - TimeDelta::seconds(back.into()), table)
}

/// A column's name as every parameter takes it.
pub(super) fn name(column: &str) -> String {
    let plain = column.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { column.to_owned() } else { quoted(column) }
}

/// A text as a pattern of itself. Nothing takes its meaning from `*`, so it becomes any one character.
fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '*' => pattern.push('_'),
            '\\' | '%' | '_' => pattern.extend(['\\', c]),
            _ => pattern.push(c),
        }
    }
    pattern
}

/// A value inside a logic tree, where commas, dots, colons and parentheses have a meaning.
pub(super) fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;
    use crate::domain::{Catalog, Compare, Definition};

    fn query(table: &str) -> RowQuery {
        of(Catalog::built_in().get(table).expect("a table"))
    }

    fn of(table: Table) -> RowQuery {
        let scope = Scope::Changed;
        RowQuery {
            table,
            scope,
            since: BEGINNING + TimeDelta::days(1),
            created_since: None,
            conditions: Vec::new(),
            page_size: 10,
        }
    }

    fn asked(query: &RowQuery, pass: Pass, last: Option<(&str, &str)>) -> Parameters {
        let last = last.map(|(at, key)| Place { at: at.to_owned(), key: key.to_owned() });
        let token = PageToken { pass, last };
        page(query, &Columns::expected(query.table), &token, 10, &[])
    }

    fn value(parameters: Parameters, name: &str) -> String {
        parameters.into_iter().find(|(named, _)| named == name).map(|(_, value)| value).unwrap_or_default()
    }

    fn conditions(query: &RowQuery, pass: Pass, last: Option<(&str, &str)>) -> String {
        value(asked(query, pass, last), "and")
    }

    #[test]
    fn pages_continue_after_the_last_time_and_key() {
        assert_eq!(
            conditions(&query("leads"), Pass::Timed, Some(("2026-05-01T12:00:00+00:00", "x"))),
            "(updated_at.gte.\"1970-01-02T00:00:00.000000Z\",or(updated_at.gt.\"2026-05-01T12:00:00+00:00\",\
             and(updated_at.eq.\"2026-05-01T12:00:00+00:00\",id.gt.\"x\")),id.not.is.null)"
        );
    }

    #[test]
    fn rows_without_a_time_are_read_by_key() {
        let further = RowQuery {
            since: DateTime::<Utc>::MAX_UTC,
            created_since: Some(BEGINNING + TimeDelta::days(1)),
            ..query("leads")
        };
        assert!(conditions(&further, Pass::Timeless, None).contains("created_at.gte.\"1970-01-02"));
        assert_eq!(
            conditions(&query("leads"), Pass::Timeless, Some(("", "x"))),
            "(updated_at.is.null,or(created_at.gte.\"1970-01-02T00:00:00.000000Z\",created_at.is.null),id.gt.\"x\",id.not.is.null)"
        );
        assert_eq!(
            conditions(&query("chat_sessions"), Pass::Timeless, None),
            "(started_at.is.null,id.not.is.null)"
        );
    }

    #[test]
    fn a_row_that_goes_on_or_ended_in_the_window_belongs_to_it() {
        assert_eq!(
            conditions(&query("chat_sessions"), Pass::Timed, None),
            "(started_at.not.is.null,or(started_at.gte.\"1970-01-02T00:00:00.000000Z\",is_active.is.true,\
             ended_at.gte.\"1970-01-02T00:00:00.000000Z\"),id.not.is.null)"
        );
    }

    #[test]
    fn from_the_beginning_on_rows_are_read_whatever_they_are_dated() {
        for table in ["leads", "chat_sessions"] {
            let all = RowQuery { since: BEGINNING - TimeDelta::days(1), ..query(table) };
            for pass in [Pass::Timed, Pass::Timeless] {
                let asked = conditions(&all, pass, None);
                assert!(!asked.contains(".gte."), "{asked}");
            }
        }
        let all = RowQuery { since: BEGINNING, ..query("leads") };
        assert_eq!(conditions(&all, Pass::Timed, None), "(updated_at.not.is.null,id.not.is.null)");
    }

    #[test]
    fn a_whole_table_and_given_keys_are_read_in_the_order_of_keys_whatever_the_rows_times() {
        let whole = RowQuery { scope: Scope::Whole, ..query("leads") };
        assert_eq!(conditions(&whole, Pass::Timeless, None), "(id.not.is.null)");
        assert_eq!(conditions(&whole, Pass::Timeless, Some(("", "x"))), "(id.gt.\"x\",id.not.is.null)");
        assert_eq!(value(asked(&whole, Pass::Timeless, None), "order"), "id.asc");
        let scope = Scope::Holding { column: "email".into(), text: "a_b%c*\\@x".into() };
        assert!(
            conditions(&RowQuery { scope, ..query("leads") }, Pass::Timed, None)
                .contains(r#"email.ilike."*a\\_b\\%c_\\\\@x*""#),
            "only the text itself matches, but for a star"
        );
        let keys = RowQuery { scope: Scope::Keys(vec!["a".into(), "b,\"c".into()]), ..query("leads") };
        assert_eq!(conditions(&keys, Pass::Timeless, None), "(id.not.is.null,id.in.(\"a\",\"b,\\\"c\"))");
        let scope = Scope::Having { column: "lead_id".into(), values: vec!["a".into(), "b".into()] };
        let referring = RowQuery { scope, ..query("chat_sessions") };
        assert_eq!(
            conditions(&referring, Pass::Timeless, Some(("", "x"))),
            "(id.gt.\"x\",id.not.is.null,lead_id.in.(\"a\",\"b\"))"
        );
    }

    #[test]
    fn a_window_takes_in_what_is_written_after_clocks_go_back() {
        let definition = r#"
            name = "visitas"
            about = "visits"
            entity = "visita"
            key = { column = "id", type = "bigint" }
            time = { modified = "mudou_em", zone = "America/New_York" }
            event = { categoria = "vendas", evento = "visita" }
            columns = [{ name = "mudou_em", type = "timestamp" }]
        "#;
        let table = Table::new(Definition::parse(definition).expect("a definition"));
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("an instant");
        // Clocks go back an hour at 06:00Z: what is written at 06:02Z bears 01:02.
        assert_eq!(earliest(at("2026-11-01T05:50:00Z"), table), "2026-11-01T00:50:00.000000-04:00");
        assert_eq!(earliest(at("2026-11-01T06:10:00Z"), table), "2026-11-01T01:10:00.000000-05:00");
        assert_eq!(spelled(at("2026-11-01T05:50:00Z"), table), "2026-11-01T01:50:00.000000-04:00");
        assert_eq!(
            earliest(at("2026-03-08T06:50:00Z"), table),
            "2026-03-08T01:50:00.000000-05:00",
            "forward"
        );
    }

    #[test]
    fn names_are_those_of_the_project_and_values_are_quoted() {
        let definition = Definition::parse(
            r#"
            name = "pedidos"
            about = "orders"
            entity = "pedido"
            key = { column = "codigo", from = "Código", type = "text" }
            time = { modified = "mudou_em", zone = "America/Sao_Paulo" }
            event = { categoria = "vendas", evento = "pedido" }
            columns = [
                { name = "mudou_em", from = "changed at", type = "timestamp" },
                { name = "telefone", from = "phone", type = "text" },
            ]
            "#,
        );
        let mut query = of(Table::new(definition.expect("a definition")));
        let compare = Compare::Eq;
        query.conditions =
            vec![Condition { column: "telefone".into(), compare, value: "a,b(\"c\")\\".into() }];
        let last = Some(("2026-05-01T09:00:00", "7\"a"));
        assert_eq!(value(asked(&query, Pass::Timed, last), "order"), "\"changed at\".asc,\"Código\".asc");
        assert_eq!(
            conditions(&query, Pass::Timed, last),
            "(\"changed at\".gte.\"1970-01-01T21:00:00.000000-03:00\",or(\"changed at\".gt.\"2026-05-01T09:00:00\",\
             and(\"changed at\".eq.\"2026-05-01T09:00:00\",\"Código\".gt.\"7\\\"a\")),\"Código\".not.is.null,phone.eq.\"a,b(\\\"c\\\")\\\\\")"
        );
        assert_eq!(query.table.zone(), Tz::America__Sao_Paulo);
    }
}
