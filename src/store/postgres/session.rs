//! Connections for questions: few, apart from those that drains and syncs use, and under a login of their own.
//!
//! Guarantee: a question's transaction only reads, ends in time, finds nothing but the server's own functions and operators,
//! and never runs as somebody who could reach past the tables, such as a superuser. Whatever a question leaves
//! behind in its session, advisory locks included, is discarded before its answer is given; a session that
//! can't be discarded is closed. A question that was given up on keeps its place until the server has ended it, so
//! that never more than two run, however long the server needs to notice.

use std::{sync::Arc, time::Duration};

use sqlx::{ConnectOptions as _, Executor as _, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    connection::{Borrowed, IDLE_TIMEOUT},
    faults::{self, PART},
    login::{Login, Logins, Origin},
};
use crate::{
    backoff::Backoff,
    fault::{Fault, FaultKind},
};

/// Questions that run at the same time.
pub(super) const MAX_QUESTIONS: u32 = 2;

/// The longest a question waits for its turn: whoever asked is waiting, too.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the server is asked whether a question that was given up on still runs.
const STILL_RUNNING_INTERVAL: Duration = Duration::from_secs(1);

/// The longest pause between two looks while the server lets nobody look.
const REFUSED_INTERVAL: Duration = Duration::from_mins(1);

/// How long the server may take over such a look, and over the end of a session.
const HOUSEKEEPING_TIMEOUT: Duration = Duration::from_secs(10);

/// Memory for each sort and hash table; beyond it they go to disk.
const WORK_MEM: &str = "16MB";

/// The sessions that questions run in.
#[derive(Clone)]
pub(super) struct QuestionSessions {
    logins: Logins,
    pool: Arc<Mutex<Option<(Login, PgPool)>>>,
    places: Arc<Semaphore>,
}

/// A question's transaction, begun, and under whose login.
pub(super) struct Session {
    connection: Borrowed,
    pub identity: Identity,
    /// Given back when the session has ended, on the server, too.
    place: Option<(OwnedSemaphorePermit, Backend)>,
}

/// The server's process behind a session; its number is used again once it has gone.
struct Backend {
    logins: Logins,
    login: Login,
    pid: i32,
    began: String,
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
        let places = Arc::new(Semaphore::new(MAX_QUESTIONS as usize));
        Self { logins, pool: Arc::default(), places }
    }

    /// A transaction for one question, under a login that may ask it.
    ///
    /// # Errors
    /// When the login is one that could reach past the tables, the places stay taken, or the server can't be reached in time.
    pub(super) async fn begin(&self, limit: Duration) -> Result<Session, Fault> {
        let session = self.begin_as_anybody(limit).await?;
        match session.identity.refusal() {
            None => Ok(session),
            Some(refusal) => {
                session.end().await?;
                Err(refusal)
            }
        }
    }

    /// The same whoever the login is: for looking only at what it may do.
    pub(super) async fn begin_as_anybody(&self, limit: Duration) -> Result<Session, Fault> {
        let Ok(Ok(place)) = timeout(TURN_TIMEOUT, self.places.clone().acquire_owned()).await else {
            return Err(Fault::transient(
                PART,
                format!(
                    "sql: {MAX_QUESTIONS} other questions are running, as many as may at once, and none has ended in {} s",
                    TURN_TIMEOUT.as_secs()
                ),
                "wait for their answers and ask again; narrower questions end sooner. One that the server can't stop keeps its place until it ends",
            ));
        };
        let (mut login, pool) = self.pool().await?;
        let mut acquired = pool.acquire().await;
        if let Err(error) = &acquired
            && self.logins.renew(&login, error).await
        {
            let renewed = self.pool().await?;
            login = renewed.0;
            acquired = renewed.1.acquire().await;
        }
        let connection = acquired.map_err(|error| connecting(&login, &error))?;
        let mut connection = Borrowed::new(connection);
        let (identity, pid, began) =
            timeout(HOUSEKEEPING_TIMEOUT, begin(&mut connection, login.origin, limit))
                .await
                .map_err(|_| silent("begin a question"))?
                .map_err(|error| faults::fault("begin a question", &error))?;
        let backend = Backend { logins: self.logins.clone(), login, pid, began };
        Ok(Session { connection, identity, place: Some((place, backend)) })
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
        const ATTEMPT: &str = "discard a question's session";
        // Each by itself: together they would be one transaction, in which nothing can be discarded.
        for statement in ["ROLLBACK", "DISCARD ALL"] {
            timeout(HOUSEKEEPING_TIMEOUT, self.connection.execute(sqlx::raw_sql(statement)))
                .await
                .map_err(|_| silent(ATTEMPT))?
                .map_err(|error| faults::fault(ATTEMPT, &error))?;
        }
        self.connection.settled();
        self.place = None;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Nobody waits any more, but the server may not have noticed.
        if let (Some((place, backend)), Ok(runtime)) =
            (self.place.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                backend.gone().await;
                drop(place);
            });
        }
    }
}

impl Backend {
    /// Waits until the server has ended it. The server is asked as the login it runs under: it may be another server
    /// than sluice's own login is at.
    async fn gone(mut self) {
        let mut told = false;
        let mut refused = Backoff::new(STILL_RUNNING_INTERVAL, REFUSED_INTERVAL);
        loop {
            let mut pause = STILL_RUNNING_INTERVAL;
            // What asks is a connection of its own: those of the pool may both be what is waited for.
            match timeout(HOUSEKEEPING_TIMEOUT, self.is_running()).await {
                Ok(Ok(false)) => break,
                Ok(Ok(true)) if !told => {
                    told = true;
                    tracing::warn!(
                        pid = self.pid,
                        "the server goes on with a question that was given up on; it keeps its place"
                    );
                }
                Ok(Ok(true)) => {}
                Ok(Err(error)) if faults::is_refused_login(&error) => {
                    if !self.follow(&error).await {
                        break;
                    }
                    pause = refused.next_pause(None);
                }
                Ok(Err(error)) => {
                    tracing::debug!(error = %error, "the server can't be asked whether a question runs");
                }
                Err(_) => tracing::debug!("the server does not tell whether a question runs"),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// After a refusal: takes a password that was changed meanwhile. False where questions run under another user by now: this
    /// one may never be let in again, and its question ends by its time limit.
    async fn follow(&mut self, error: &sqlx::Error) -> bool {
        self.logins.renew(&self.login, error).await;
        match self.logins.current() {
            Ok(now) if now.options.get_username() == self.login.options.get_username() => self.login = now,
            Ok(_) => return false,
            Err(fault) => tracing::debug!(error = %fault, "no login to ask whether a question runs"),
        }
        true
    }

    async fn is_running(&self) -> Result<bool, sqlx::Error> {
        let options = self.login.options.clone().application_name("sluice questions' end");
        let mut connection = options.connect().await?;
        // Where the process hears of it at all, it need not wait for its next look at its client.
        let running = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE pid = $1 AND backend_start::text = $2",
        )
        .bind(self.pid)
        .bind(&self.began)
        .fetch_one(&mut connection)
        .await;
        let _ = sqlx::Connection::close(connection).await;
        running
    }
}

fn silent(attempt: &str) -> Fault {
    Fault::transient(
        PART,
        format!("{attempt}: the server does not answer"),
        "check that the server runs and can be reached",
    )
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
    limit: Duration,
) -> Result<(Identity, i32, String), sqlx::Error> {
    let limit = limit.as_millis();
    // One message. What is not in `pg_catalog` is found by nobody who does not name its schema.
    let statements = format!(
        "BEGIN READ ONLY;
         SET LOCAL search_path = pg_catalog, pg_temp;
         SET LOCAL statement_timeout = {limit};
         SET LOCAL lock_timeout = {limit};
         SET LOCAL idle_in_transaction_session_timeout = {limit};
         SET LOCAL work_mem = '{WORK_MEM}';
         SET LOCAL timezone = 'UTC';
         SET LOCAL standard_conforming_strings = on"
    );
    connection.execute(sqlx::raw_sql(&statements)).await?;
    // `session_user`, as whoever is only `current_user` can go back to it.
    // Where the server can tell that nobody waits any more, it need not go on, beside the questions that are counted.
    let (login, pid, began, power, _): (String, i32, String, Option<String>, Option<String>) = sqlx::query_as(
        "SELECT session_user::text, pg_backend_pid(),
             (SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()), CASE
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
    Ok((Identity { login, origin, power }, pid, began))
}

fn connecting(login: &Login, error: &sqlx::Error) -> Fault {
    let (host, port) = (login.options.get_host(), login.options.get_port());
    let attempt = format!("connect as {} to {host}:{port} for a question", login.options.get_username());
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return Fault::transient(
            PART,
            format!("{attempt}: not within {} s", TURN_TIMEOUT.as_secs()),
            "check that the server runs and can be reached, and takes further connections",
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
