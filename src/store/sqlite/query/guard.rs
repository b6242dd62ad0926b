//! What a connection for questions can't do.
//!
//! SQLite asks an authorizer for every table, every function and every other thing a statement would do, while it
//! prepares the statement; what is not on a list is refused. Lengths, widths and depths are limited, so that no single
//! step takes long; between steps a handler looks at the clock.

use std::{collections::HashSet, sync::Arc};

use rusqlite::{
    Connection,
    config::DbConfig,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
};

use super::{Deadline, Readable, functions};

/// Longer statements are not people's or assistants' questions.
pub(super) const MAX_STATEMENT: usize = 20_000;

/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 1_000;

/// What a statement may be made of, and make.
const LIMITS: [(Limit, i32); 9] = [
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 << 10),
    // Of subqueries, and of the tables themselves.
    (Limit::SQLITE_LIMIT_COLUMN, 500),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
    (Limit::SQLITE_LIMIT_VDBE_OP, 100_000),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 100),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    // LIKE and GLOB take the product of both lengths, in one step.
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];

/// Tables without rows of their own, made from a value.
const TABLE_FUNCTIONS: [&str; 2] = ["json_each", "json_tree"];

/// Takes everything from the connection that a question has no use for, and tells it what it may read.
pub(super) fn restrict(
    connection: &mut Connection,
    readable: &Arc<Readable>,
    deadline: Deadline,
) -> rusqlite::Result<()> {
    let longest = i32::try_from(functions::MAX_VALUE).unwrap_or(i32::MAX);
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, longest)?;
    for (limit, most) in LIMITS {
        connection.set_limit(limit, most)?;
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // A name in double quotes that no column has would be a text, and the comparison with it false.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    // On disk, sorting and recursion could fill it; in memory the limit of the heap ends them.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "query_only", true)?;
    // As in PostgreSQL; ILIKE is made of it and of letters in lower case.
    connection.pragma_update(None, "case_sensitive_like", true)?;
    functions::register(connection)?;
    // The catalogue is read in the transaction that the question is asked in.
    connection.execute_batch("BEGIN")?;
    let catalogue = catalogue(connection)?;
    connection.progress_handler(STEPS, Some(move || deadline.is_over()))?;
    let readable = readable.clone();
    connection.authorizer(Some(move |context: AuthContext<'_>| {
        if may(&context.action, &readable, &catalogue) { Authorization::Allow } else { Authorization::Deny }
    }))
}

fn may(action: &AuthAction<'_>, readable: &Readable, catalogue: &HashSet<String>) -> bool {
    match action {
        AuthAction::Select | AuthAction::Recursive => true,
        AuthAction::Read { table_name, .. }
            if readable.has(table_name)
                || TABLE_FUNCTIONS.iter().any(|name| name.eq_ignore_ascii_case(table_name)) =>
        {
            true
        }
        // Rows are counted of something none of whose columns are read. Where no table has the name, it is one that
        // the statement gave to a query of its own; what that reads is asked for by itself.
        AuthAction::Read { table_name, column_name: "" } => {
            let name = table_name.to_ascii_lowercase();
            !name.starts_with("sqlite_") && !name.starts_with("pragma_") && !catalogue.contains(&name)
        }
        AuthAction::Function { function_name } => functions::is_allowed(function_name),
        _ => false,
    }
}

/// The names of everything in the file, and of what SQLite makes tables of without one.
fn catalogue(connection: &Connection) -> rusqlite::Result<HashSet<String>> {
    let mut statement = connection
        .prepare("SELECT lower(name) FROM sqlite_schema UNION SELECT lower(name) FROM pragma_module_list")?;
    let names = statement.query_map([], |row| row.get(0))?;
    names.collect()
}
