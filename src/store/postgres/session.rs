//! Connections for questions: few, apart from those that drains and syncs use, and under a login of their own.
//!
//! Guarantee: a question's transaction only reads, ends in time, finds nothing but the server's own functions and operators,
//! and never runs as somebody who could reach past the tables, such as a superuser. Whatever a question leaves
//! behind in its session, advisory locks included, is discarded before its answer is given; a session that
//! can't be discarded is closed.

use std::{sync::Arc, time::Duration};

use sqlx::{Executor as _, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::sync::Mutex;

use super::{
    connection::{Borrowed, IDLE_TIMEOUT},
    faults::{self, PART},
    login::{Login, Logins, Origin},
};
use crate::fault::{Fault, FaultKind};

/// Questions that run at the same time.
const MAX_QUESTIONS: u32 = 2;

/// The longest a question waits for its turn: whoever asked is waiting, too.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Memory for each sort and hash table; beyond it they go to disk.
const WORK_MEM: &str = "16MB";

/// The sessions that questions run in.
#[derive(Clone)]
pub(super) struct QuestionSessions {
    logins: Logins,
    pool: Arc<Mutex<Option<(Login, PgPool)>>>,
}

/// A question's transaction, begun, and under whose login.
pub(super) struct Session {
    connection: Borrowed,
    pub identity: Identity,
}

/// Whom the server takes a session's questions for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub login: String,
    pub origin: Origin,
    /// What makes this login one that questions must not run under.
    power: Option<String>,
}

impl QuestionSessions {
    pub(super) fn new(logins: Logins) -> Self {
        Self { logins, pool: Arc::default() }
    }

    /// A transaction for one question, under a login that may ask it.
    ///
    /// # Errors
    /// When the login is one that could reach past the tables, or the server can't be reached in time.
    pub(super) async fn begin(&self, timeout: Duration) -> Result<Session, Fault> {
        let session = self.begin_as_anybody(timeout).await?;
        match session.identity.refusal() {
            None => Ok(session),
            Some(refusal) => {
                session.end().await?;
                Err(refusal)
            }
        }
    }

    /// The same whoever the login is: for looking only at what it may do.
    pub(super) async fn begin_as_anybody(&self, timeout: Duration) -> Result<Session, Fault> {
        let (login, pool) = self.pool().await?;
        let connection = pool.acquire().await.map_err(|error| connecting(&login, &error))?;
        let mut connection = Borrowed::new(connection);
        let identity = begin(&mut connection, login.origin, timeout)
            .await
            .map_err(|error| faults::fault("begin a question", &error))?;
        Ok(Session { connection, identity })
    }

    pub(super) async fn close(&self) {
        if let Some((_, pool)) = &*self.pool.lock().await {
            pool.close().await;
        }
    }

    pub(super) fn logins(&self) -> &Logins {
        &self.logins
    }

    /// The pool of the login that counts now.
    async fn pool(&self) -> Result<(Login, PgPool), Fault> {
        let login = self.logins.current()?;
        let mut current = self.pool.lock().await;
        if let Some((of, pool)) = &*current
            && of.is(&login)
        {
            return Ok((login, pool.clone()));
        }
        // Prepared statements would not outlive what is discarded.
        let options = login.options.clone().application_name("sluice questions").statement_cache_capacity(0);
        let pool = PgPoolOptions::new()
            .max_connections(MAX_QUESTIONS)
            .acquire_timeout(TURN_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .connect_lazy_with(options);
        // Whoever still asks under the login before ends undisturbed.
        *current = Some((login.clone(), pool.clone()));
        Ok((login, pool))
    }
}

impl Session {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Ends the transaction and discards everything the session may have kept.
    ///
    /// # Errors
    /// When it can't be; the connection is then closed, and the server ends the session.
    pub(super) async fn end(mut self) -> Result<(), Fault> {
        // Each by itself: together they would be one transaction, in which nothing can be discarded.
        for statement in ["ROLLBACK", "DISCARD ALL"] {
            self.connection
                .execute(sqlx::raw_sql(statement))
                .await
                .map_err(|error| faults::fault("discard a question's session", &error))?;
        }
        self.connection.give_back();
        Ok(())
    }
}

impl Identity {
    /// What to tell whoever asked, where the answer came under sluice's own login.
    pub(super) fn warning(&self) -> Option<String> {
        (self.origin == Origin::Own).then(|| {
            format!(
                "questions run under sluice's own login, {}, which may also write; {MAKE_READER}, which may only read",
                self.login
            )
        })
    }

    /// Why questions don't run under this login.
    pub(super) fn refusal(&self) -> Option<Fault> {
        let power = self.power.as_ref()?;
        let advice = match self.origin {
            Origin::Named => "let DATABASE_READ_URL name a login that may only read".to_owned(),
            Origin::Kept => "take the role from the login, or give it only what it was made with".to_owned(),
            Origin::Own => format!("{MAKE_READER}, and questions run under it from then on"),
        };
        let message = format!("sql: questions are not run as {}, {power}", self.login);
        Some(Fault::new(PART, FaultKind::Misconfigured, message, advice))
    }
}

/// The one command that mends it.
const MAKE_READER: &str = "`sluice migrate --create-reader` makes a login for them";

async fn begin(
    connection: &mut PgConnection,
    origin: Origin,
    timeout: Duration,
) -> Result<Identity, sqlx::Error> {
    let timeout = timeout.as_millis();
    // One message. What is not in `pg_catalog` is found by nobody who does not name its schema.
    let statements = format!(
        "BEGIN READ ONLY;
         SET LOCAL search_path = pg_catalog, pg_temp;
         SET LOCAL statement_timeout = {timeout};
         SET LOCAL lock_timeout = {timeout};
         SET LOCAL idle_in_transaction_session_timeout = {timeout};
         SET LOCAL work_mem = '{WORK_MEM}';
         SET LOCAL timezone = 'UTC';
         SET LOCAL standard_conforming_strings = on"
    );
    connection.execute(sqlx::raw_sql(&statements)).await?;
    // `session_user`, as whoever is only `current_user` can go back to it.
    // Where the server can tell that nobody waits any more, it need not go on, beside the questions that are counted.
    let (login, power, _): (String, Option<String>, Option<String>) = sqlx::query_as(
        "SELECT session_user::text, CASE
             WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = session_user)
                 THEN 'a superuser, who can read files and run programs of the server'
             WHEN EXISTS (SELECT FROM pg_roles WHERE rolsuper AND pg_has_role(session_user, oid, 'MEMBER'))
                 THEN 'who may become a superuser'
             WHEN pg_has_role(session_user, 'pg_execute_server_program', 'MEMBER')
                 THEN 'who can run programs of the server (pg_execute_server_program)'
             WHEN pg_has_role(session_user, 'pg_read_server_files', 'MEMBER')
                 THEN 'who can read files of the server (pg_read_server_files)'
             WHEN pg_has_role(session_user, 'pg_write_server_files', 'MEMBER')
                 THEN 'who can write files of the server (pg_write_server_files)'
         END, CASE WHEN version() LIKE '%linux%' THEN set_config('client_connection_check_interval', '1s', true) END",
    )
    .persistent(false)
    .fetch_one(connection)
    .await?;
    Ok(Identity { login, origin, power })
}

fn connecting(login: &Login, error: &sqlx::Error) -> Fault {
    let (host, port) = (login.options.get_host(), login.options.get_port());
    let attempt = format!("connect as {} to {host}:{port} for a question", login.options.get_username());
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return Fault::transient(
            PART,
            format!("{attempt}: not within {} s", TURN_TIMEOUT.as_secs()),
            format!(
                "at most {MAX_QUESTIONS} questions run at once: ask again when others have ended; \
                 if none runs, check that the server runs and can be reached"
            ),
        );
    }
    let fault = faults::fault(&attempt, error);
    let refused = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let advice = match login.origin {
        Origin::Named => "check user and password in DATABASE_READ_URL and the server's pg_hba.conf",
        Origin::Kept => {
            "if its password was changed elsewhere, run `sluice migrate --create-reader --new-password`; \
             else check the server's pg_hba.conf"
        }
        Origin::Own => return fault,
    };
    if refused.is_some_and(|code| code.starts_with("28") || code.starts_with("42501")) {
        return Fault { advice: advice.into(), ..fault };
    }
    fault
}
