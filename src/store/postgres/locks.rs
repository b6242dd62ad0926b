//! How long preparing waits for locks, and who has them.
//!
//! Guarantee: nobody who reads or writes a table waits for more than [`TABLE_TIMEOUT`] because a table is prepared. Whoever
//! waits for a lock on a table stands before all who come later, so what is not given in that time is given up, and tried
//! again when they had their turn. Nothing waits for ever without a word: the fault tells who has the lock.

use std::{convert::Infallible, time::Duration};

use sqlx::{Executor, PgConnection};

use super::{connection::Connector, faults};
use crate::{fault::Fault, redaction::words};

/// What sessions that prepare are called.
pub(super) const PREPARING: &str = "sluice migrate";

/// How long a lock on a table is waited for: as long, everybody else may have to wait.
pub(super) const TABLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it is waited for another process that prepares, or has a row: nobody else is held up.
pub(super) const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is looked who has what is waited for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A process of the server that has what another waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    /// 0 for a prepared transaction.
    process: i32,
    application: Option<String>,
    state: Option<String>,
}

/// Waits until no other process prepares. The turn ends with the session; from then on locks on tables are waited for.
pub(super) async fn take_turn(connection: &mut PgConnection) -> Result<(), Fault> {
    let taken = async {
        wait_at_most(connection, TURN_TIMEOUT).await?;
        connection
            .execute("SELECT pg_advisory_lock(hashtextextended('sluice tables ' || current_schema(), 0))")
            .await?;
        wait_at_most(connection, TABLE_TIMEOUT).await
    };
    taken.await.map_err(|error| faults::fault("wait for another process to have prepared the tables", &error))
}

/// From then on locks are waited for as long.
pub(super) async fn wait_at_most(connection: &mut PgConnection, limit: Duration) -> Result<(), sqlx::Error> {
    connection.execute(&*format!("SET lock_timeout = {}", limit.as_millis())).await.map(drop)
}

/// Does what waits for locks in this process of the server; where it gave up on one, the fault names who has it.
pub(super) async fn watched<T>(
    connector: &Connector,
    process: i32,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let mut holders = Vec::new();
    let outcome = tokio::select! {
        outcome = work => outcome,
        never = look(connector, process, &mut holders) => match never {},
    };
    outcome.map_err(|fault| {
        if faults::sqlstate(&fault) == Some(faults::LOCK_TIMEOUT) { named(fault, &holders) } else { fault }
    })
}

/// Keeps who was last seen to be in the way.
async fn look(connector: &Connector, process: i32, holders: &mut Vec<Holder>) -> Infallible {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        match holders_of(connector, process).await {
            Ok(found) if found.is_empty() => {}
            Ok(found) => *holders = found,
            Err(fault) => tracing::debug!(error = %fault, "it can't be told who has a lock"),
        }
    }
}

async fn holders_of(connector: &Connector, process: i32) -> Result<Vec<Holder>, Fault> {
    const ATTEMPT: &str = "ask who has a lock";
    let mut connection = connector.acquire(ATTEMPT).await?;
    // Whose the others are, their name is told to everybody, and their state to whoever may see it.
    let found = sqlx::query_as::<_, (i32, Option<String>, Option<String>)>(
        "SELECT b.pid, a.application_name, a.state
         FROM (SELECT DISTINCT unnest(pg_blocking_pids($1)) AS pid) AS b LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid
         ORDER BY b.pid",
    )
    .bind(process)
    .fetch_all(&mut *connection)
    .await;
    let found = connection.settle(ATTEMPT, found)?;
    let to_holder = |(process, application, state)| Holder { process, application, state };
    Ok(found.into_iter().map(to_holder).collect())
}

/// The fault of a lock that was not given, with who has it and what to do about them.
fn named(fault: Fault, holders: &[Holder]) -> Fault {
    const AFTERWARDS: &str = "a worker tries again by itself, and a command can be given again; what waits is given up every few \
         seconds, so that nobody else is held up for longer";
    let Some(first) = holders.first() else {
        return Fault {
            advice: format!(
                "look for old transactions in pg_stat_activity and pg_prepared_xacts; {AFTERWARDS}"
            )
            .into(),
            ..fault
        };
    };
    let told: Vec<String> = holders.iter().map(Holder::told).collect();
    let verb = if holders.len() == 1 { "has" } else { "have" };
    let step = if holders.iter().all(Holder::prepares) {
        "wait until that process of sluice has prepared the tables".to_owned()
    } else if first.process == 0 {
        "commit it or roll it back".to_owned()
    } else {
        format!(
            "let that transaction end, or end its session: SELECT pg_terminate_backend({}), as its user or a superuser",
            first.process
        )
    };
    Fault {
        message: format!("{}: {} {verb} the lock", fault.message, told.join(" and ")),
        advice: format!("{step}; {AFTERWARDS}").into(),
        ..fault
    }
}

impl Holder {
    fn prepares(&self) -> bool {
        self.application.as_deref() == Some(PREPARING)
    }

    fn told(&self) -> String {
        if self.process == 0 {
            return "a prepared transaction (pg_prepared_xacts)".to_owned();
        }
        let application = self.application.as_deref().filter(|name| !name.is_empty()).map(words);
        let application = application.unwrap_or_else(|| "of no name".to_owned());
        let state = self.state.as_deref().map(|state| format!(", {state}")).unwrap_or_default();
        format!("process {} ({application}{state})", self.process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    fn told(holders: &[(i32, &str, Option<&str>)]) -> Fault {
        let holder = |&(process, application, state): &(i32, &str, Option<&str>)| Holder {
            process,
            application: Some(application.to_owned()),
            state: state.map(str::to_owned),
        };
        let fault = Fault::transient("postgres", "make the table leads: timeout (SQLSTATE 55P03)", "wait");
        named(fault, &holders.iter().map(holder).collect::<Vec<_>>())
    }

    #[test]
    fn a_lock_that_is_not_given_is_told_with_who_has_it_and_what_to_do() {
        let reader = told(&[(71, "psql", Some("idle in transaction")), (90, "", None)]);
        assert_eq!(reader.kind, FaultKind::Transient);
        assert!(
            reader.message.ends_with(
                "process 71 (psql, idle in transaction) and process 90 (of no name) have the lock"
            ),
            "{reader}"
        );
        assert!(reader.advice.to_string().contains("pg_terminate_backend(71)"), "{reader}");
        let sibling = told(&[(71, PREPARING, Some("active"))]);
        assert!(sibling.advice.to_string().starts_with("wait until that process of sluice"), "{sibling}");
        assert!(!sibling.to_string().contains("terminate"), "{sibling}");
        let nobody = told(&[]);
        assert!(nobody.advice.to_string().contains("pg_stat_activity"), "{nobody}");
        let prepared = told(&[(0, "", None)]);
        assert!(prepared.to_string().contains("pg_prepared_xacts) has the lock; commit it"), "{prepared}");
    }
}
