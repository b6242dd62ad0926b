//! Whether questions are asked of the database that sluice fills: `DATABASE_READ_URL` may name another by mistake, and
//! answers from there would pass for answers from here.

use sqlx::PgConnection;

use super::faults::PART;
use crate::fault::Fault;

/// What tells one database from another, and what a physical replica has in common with it. Any login may read all of it
/// but the server's own id.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Marks {
    database: i64,
    /// What `sluice migrate` wrote where everybody may read it; `None` where it never ran.
    id: Option<String>,
    server: Option<i64>,
}

pub(super) async fn marks(connection: &mut PgConnection, schema: &str) -> Result<Marks, sqlx::Error> {
    let (database, id, may_ask): (i64, Option<String>, bool) = sqlx::query_as(
        "SELECT (SELECT oid::int8 FROM pg_database WHERE datname = current_database()),
                (SELECT obj_description(oid, 'pg_class') FROM pg_class
                 WHERE relnamespace::regnamespace::text = $1 AND relname = 'sluice_readers'),
                has_function_privilege('pg_control_system()', 'EXECUTE')",
    )
    .bind(schema)
    .persistent(false)
    .fetch_one(&mut *connection)
    .await?;
    let server = if may_ask {
        let ask = sqlx::query_scalar("SELECT system_identifier FROM pg_control_system()").persistent(false);
        Some(ask.fetch_one(connection).await?)
    } else {
        None
    };
    Ok(Marks { database, id, server })
}

/// Refuses another database than the one that sluice fills.
pub(super) fn check(own: &Marks, read: &Marks, place: &str) -> Result<(), Fault> {
    let servers_differ = own.server.zip(read.server).is_some_and(|(own, read)| own != read);
    if (own.database, &own.id) == (read.database, &read.id) && !servers_differ {
        return Ok(());
    }
    Err(Fault::misconfigured(
        PART,
        format!("sql: DATABASE_READ_URL names another database than DATABASE_URL: {place}"),
        "let DATABASE_READ_URL name the same database, or a physical replica of it, with a login that may only read; or remove \
         it and run `sluice migrate --create-reader`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_the_same_where_all_that_both_logins_may_read_agrees() {
        let marks = |database, id: &str, server| Marks { database, id: Some(id.to_owned()), server };
        let own = marks(5, "a", Some(1));
        let is_same = |read: &Marks| check(&own, read, "h:1/d").is_ok();
        assert!(is_same(&marks(5, "a", Some(1))));
        assert!(is_same(&marks(5, "a", None)), "the reader may not ask for the server's id");
        assert!(!is_same(&marks(5, "a", Some(2))), "a copy on another server");
        assert!(!is_same(&marks(6, "a", Some(1))), "a copy on the same server");
        assert!(!is_same(&marks(5, "b", None)), "another server whose databases are numbered alike");
        assert!(!is_same(&Marks { id: None, ..marks(5, "a", Some(1)) }), "it was never migrated");
    }
}
