//! The functions a question may call.

use std::{borrow::Cow, collections::HashSet};

use chrono::Utc;
use rusqlite::{
    Connection, Error, ffi,
    functions::{Context, FunctionFlags},
    types::ValueRef,
};

use super::{aggregates, postgres, times::Moment};

/// As long as the longest row worth reading.
pub(super) const MAX_VALUE: usize = 8 << 20;

/// SQLite's own functions that only compute, and take time and room in proportion to what they are given.
const BUILT_IN: [&str; 98] = [
    "->",
    "->>",
    "abs",
    "avg",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "dense_rank",
    "first_value",
    "format",
    "glob",
    "group_concat",
    "hex",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_insert",
    "json_array_length",
    "json_error_position",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_pretty",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_type",
    "json_valid",
    "jsonb",
    "jsonb_array",
    "jsonb_array_insert",
    "jsonb_extract",
    "jsonb_group_array",
    "jsonb_group_object",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_remove",
    "jsonb_replace",
    "jsonb_set",
    "julianday",
    "lag",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "lower",
    "ltrim",
    "max",
    "min",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "printf",
    "quote",
    "random",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "soundex",
    "sqlite_version",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "subtype",
    "sum",
    "time",
    "timediff",
    "total",
    "trim",
    "typeof",
    "unicode",
    "unistr",
    "unistr_quote",
    "unixepoch",
    "unlikely",
    "upper",
];

/// Whether a question may call it.
pub(super) fn is_allowed(name: &str) -> bool {
    let own = postgres::FUNCTIONS.iter().map(|(function, ..)| *function);
    let aggregates = aggregates::AGGREGATES.iter().map(|(function, _)| *function);
    BUILT_IN
        .into_iter()
        .chain(own)
        .chain(aggregates)
        .chain([aggregates::PERCENTILE, aggregates::ONLY, "now"])
        .any(|function| function.eq_ignore_ascii_case(name))
}

const COMPUTES: FunctionFlags = FunctionFlags::SQLITE_UTF8
    .union(FunctionFlags::SQLITE_DETERMINISTIC)
    .union(FunctionFlags::SQLITE_INNOCUOUS);

/// Gives the connection its functions.
pub(super) fn register(connection: &Connection) -> rusqlite::Result<()> {
    // SQLite's own take the product of both lengths, in one step.
    connection.create_scalar_function("instr", 2, COMPUTES, |context| instr(context))?;
    connection.create_scalar_function("replace", 3, COMPUTES, |context| replace(context))?;
    for (name, start, end) in [("trim", true, true), ("ltrim", true, false), ("rtrim", false, true)] {
        connection.create_scalar_function(name, 2, COMPUTES, move |context| trim(context, start, end))?;
    }
    for (name, arguments, call) in postgres::FUNCTIONS {
        connection.create_scalar_function(name, arguments, COMPUTES, move |context| call(context))?;
    }
    aggregates::register(connection, COMPUTES)?;
    // PostgreSQL's: from 0 to less than 1. SQLite's own is any whole number.
    let varies = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("random", 0, varies, |_| Ok(rand::random::<f64>()))?;
    // One instant for the whole statement.
    let now = Moment::Instant(Utc::now()).write();
    connection.create_scalar_function("now", 0, COMPUTES, move |_| Ok(now.clone()))?;
    Ok(())
}

/// The place of the second text in the first, counted from 1, or 0.
fn instr(context: &Context<'_>) -> rusqlite::Result<Option<usize>> {
    let (Some(text), Some(part)) = (text(context, 0)?, text(context, 1)?) else { return Ok(None) };
    Ok(Some(text.find(&*part).map_or(0, |at| text[..at].chars().count() + 1)))
}

fn replace(context: &Context<'_>) -> rusqlite::Result<Option<String>> {
    let (Some(whole), Some(old), Some(new)) = (text(context, 0)?, text(context, 1)?, text(context, 2)?)
    else {
        return Ok(None);
    };
    if old.is_empty() {
        return Ok(Some(whole.into_owned()));
    }
    let grown = whole.matches(&*old).count().saturating_mul(new.len().saturating_sub(old.len()));
    if whole.len().saturating_add(grown) > MAX_VALUE {
        return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_TOOBIG), None));
    }
    Ok(Some(whole.replace(&*old, &new)))
}

fn trim(context: &Context<'_>, start: bool, end: bool) -> rusqlite::Result<Option<String>> {
    let (Some(whole), Some(characters)) = (text(context, 0)?, text(context, 1)?) else { return Ok(None) };
    let characters: HashSet<char> = characters.chars().collect();
    let mut rest = &*whole;
    if start {
        rest = rest.trim_start_matches(|character| characters.contains(&character));
    }
    if end {
        rest = rest.trim_end_matches(|character| characters.contains(&character));
    }
    Ok(Some(rest.to_owned()))
}

/// An argument as text, as SQLite would write it.
pub(super) fn text<'a>(context: &'a Context<'_>, i: usize) -> rusqlite::Result<Option<Cow<'a, str>>> {
    Ok(match context.get_raw(i) {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string().into()),
        ValueRef::Real(number) => Some(real(number).into()),
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes)),
        ValueRef::Blob(_) => return Err(unfit("a value is no text")),
    })
}

/// A number as SQLite writes it.
fn real(number: f64) -> String {
    let written =
        if (1e16..1e17).contains(&number.abs()) { format!("{number:.1}") } else { format!("{number:?}") };
    match written.split_once('e') {
        None => written,
        Some((digits, exponent)) => {
            let point = if digits.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with('-') { '-' } else { '+' };
            format!("{digits}{point}e{sign}{:0>2}", exponent.trim_start_matches('-'))
        }
    }
}

/// A value that a function has no answer for; the words must not repeat it.
pub(super) fn unfit(problem: &'static str) -> Error {
    Error::UserFunctionError(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SQLite's functions that questions have no use for: those that read or tell more than values, allocate without
    /// a value, or take longer than in proportion to what they are given.
    const NOT_ALLOWED: [&str; 29] = [
        "bm25",
        "changes",
        "fts3_tokenizer",
        "fts5",
        "fts5_get_locale",
        "fts5_insttoken",
        "fts5_locale",
        "fts5_source_id",
        "highlight",
        "json_patch",
        "jsonb_patch",
        "last_insert_rowid",
        "load_extension",
        "match",
        "matchinfo",
        "offsets",
        "optimize",
        "randomblob",
        "rtreecheck",
        "rtreedepth",
        "rtreenode",
        "snippet",
        "sqlite_compileoption_get",
        "sqlite_compileoption_used",
        "sqlite_log",
        "sqlite_source_id",
        "total_changes",
        "unhex",
        "zeroblob",
    ];

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().expect("a connection");
        register(&connection).expect("functions");
        connection
    }

    #[test]
    fn every_function_of_this_sqlite_was_decided_on() {
        let connection = Connection::open_in_memory().expect("a connection");
        let mut statement =
            connection.prepare("SELECT DISTINCT lower(name) FROM pragma_function_list").expect("a list");
        let names = statement.query_map([], |row| row.get(0)).expect("names");
        let undecided: Vec<String> = names
            .map(|name: rusqlite::Result<String>| name.expect("a name"))
            .filter(|name| is_allowed(name) == NOT_ALLOWED.contains(&name.as_str()))
            .collect();
        assert_eq!(undecided, Vec::<String>::new());
    }

    #[test]
    fn own_text_functions_answer_as_sqlite_s() {
        let (own, built_in) = (connection(), Connection::open_in_memory().expect("a connection"));
        let values = [
            "NULL",
            "''",
            "'a'",
            "'á'",
            "'ação é ação'",
            "'ção'",
            "'  x '",
            "' '",
            "12",
            "1",
            "-0.5",
            "2.0",
            "1e300",
            "1e-7",
            "0.1",
            "0.1 + 0.2",
            "0.0001",
            "0.00001",
            "1e15",
            "1e16",
            "123456789012345680.0",
            "-1.5e17",
            "2e20",
            "123456789012345678",
            "'xxaxx'",
            "'x'",
            "'xa'",
        ];
        for a in values {
            for b in values {
                for call in [
                    format!("instr({a}, {b})"),
                    format!("replace({a}, {b}, 'é')"),
                    format!("replace({a}, 'a', {b})"),
                    format!("trim({a}, {b})"),
                    format!("ltrim({a}, {b})"),
                    format!("rtrim({a}, {b})"),
                ] {
                    let ask = |connection: &Connection| -> rusqlite::types::Value {
                        connection
                            .query_row(&format!("SELECT {call}"), [], |row| row.get(0))
                            .expect("a value")
                    };
                    assert_eq!(ask(&own), ask(&built_in), "{call}");
                }
            }
        }
    }
}
