//! How connections are made, and how long anything may take.
//!
//! Guarantee: nothing but a migration waits for ever. The server ends a statement, or a transaction left idle, after the
//! configured timeout; the client gives up on a server that does not answer at all a little later, and then
//! throws the connection away. Nor is a connection kept whose server takes no writes any more: after a failover another
//! stands at the same address, and only a new connection reaches it.

use std::{
    future::Future,
    ops::{Deref, DerefMut},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    address::{Address, Known},
    faults::{self, PART},
};
use crate::{config::PostgresSettings, deadline, fault::Fault, redaction, store::PoolUse};

/// A call is a handful of statements, each bounded by the server: only a server that fell silent takes longer.
const STATEMENTS_IN_A_CALL: u32 = 4;

/// How long a server may take to say why it gives no connection.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Idle connections are looked after, so that a network that drops them in silence is noticed.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// The way to the server: a lazily filled pool, and single connections that live as long as their user.
#[derive(Clone)]
pub(super) struct Connector {
    pool: PgPool,
    address: Arc<Address>,
    timeout: Duration,
    demoted: Demoted,
}

impl Connector {
    /// Prepares the way without going it: the server may be down.
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self, Fault> {
        let address = Arc::new(Address::new("DATABASE_URL", &settings.url)?);
        let demoted = Demoted::default();
        let known = demoted.clone();
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections.max(1))
            .acquire_timeout(settings.timeout)
            .idle_timeout(IDLE_TIMEOUT)
            .before_acquire(move |_, connection| {
                let is_kept = !known.has_met(connection.age);
                Box::pin(async move { Ok(is_kept) })
            })
            .connect_lazy_with(pooled(&address.current().options, settings.timeout));
        Ok(Self { pool, address, timeout: settings.timeout, demoted })
    }

    pub(super) fn pool_use(&self) -> PoolUse {
        let most = self.pool.options().get_max_connections() as usize;
        PoolUse { open: self.pool.size() as usize, idle: self.pool.num_idle(), most }
    }

    /// A connection of the pool, for one call.
    pub(super) async fn acquire(&self, attempt: &str) -> Result<Borrowed, Fault> {
        let patience = deadline::cut(self.timeout);
        // Somebody who waits for the answer is to be told why there is none.
        let patience = if deadline::current().is_some() { patience * 2 / 3 } else { patience };
        let used = self.address.current();
        let mut acquired = tokio::time::timeout(patience, self.pool.acquire()).await;
        if let Ok(Err(error)) = &acquired
            && self.renew(&used, error).await
        {
            acquired = tokio::time::timeout(patience, self.pool.acquire()).await;
        }
        let error = match acquired.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(connection) => {
                return Ok(Borrowed { connection, settled: false, demoted: self.demoted.clone() });
            }
            // The pool waits for a server that refuses connections, and tells of the time alone.
            Err(sqlx::Error::PoolTimedOut) => self.refusal().await.unwrap_or(sqlx::Error::PoolTimedOut),
            Err(error) => error,
        };
        let (host, port) = (used.options.get_host(), used.options.get_port());
        Err(faults::fault(&format!("{attempt} on {host}:{port}"), &error))
    }

    /// Why the server gives no connection; nothing where it does.
    async fn refusal(&self) -> Option<sqlx::Error> {
        let timeout = deadline::cut(REFUSAL_TIMEOUT);
        match tokio::time::timeout(timeout, self.connect(|options| options)).await {
            Ok(Ok(connection)) => {
                connection.close().await.ok();
                None
            }
            Ok(Err(error)) => Some(error),
            Err(_) => Some(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }

    /// How connections are made now.
    pub(super) fn address(&self) -> Arc<Known> {
        self.address.current()
    }

    /// After an error: whether another login stands in the place of the one that was refused.
    pub(super) async fn renew(&self, used: &Arc<Known>, error: &sqlx::Error) -> bool {
        let take = |options: &PgConnectOptions| self.pool.set_connect_options(pooled(options, self.timeout));
        self.address.renew(used, error, take).await
    }

    /// A connection of its own.
    async fn connect(
        &self,
        with: impl Fn(PgConnectOptions) -> PgConnectOptions,
    ) -> Result<PgConnection, sqlx::Error> {
        let used = self.address.current();
        match with(used.options.clone()).connect().await {
            Err(error) if self.renew(&used, &error).await => {
                with(self.address.current().options.clone()).connect().await
            }
            outcome => outcome,
        }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// A connection outside the pool, under a name DBAs can tell apart.
    pub(super) async fn dedicated(
        &self,
        name: &str,
        statement_timeout: Duration,
    ) -> Result<PgConnection, Fault> {
        let bound = statement_timeout.as_millis().to_string();
        // The peer of a machine that vanished must learn it: until then the connection keeps its locks.
        let settings = [
            ("statement_timeout", bound.as_str()),
            ("tcp_keepalives_idle", "30"),
            ("tcp_keepalives_interval", "10"),
            ("tcp_keepalives_count", "3"),
        ];
        let known = self.address.current();
        let attempt = format!("connecting to {}:{}", known.options.get_host(), known.options.get_port());
        self.bounded(&attempt, async {
            let connected = self.connect(|options| options.application_name(name).options(settings)).await;
            connected.map_err(|error| faults::fault(&attempt, &error))
        })
        .await
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Gives up when the server does not answer at all.
    pub(super) async fn bounded<T, E: From<Fault>>(
        &self,
        attempt: &str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        bounded(self.timeout, attempt, call).await
    }
}

/// When a server that connections lead to took no write: all that were there by then may lead to it.
#[derive(Clone, Default)]
struct Demoted(Arc<Mutex<Option<Instant>>>);

impl Demoted {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection of this age was there when it was noted last.
    fn has_met(&self, age: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < age)
    }
}

/// How a pool connects.
fn pooled(options: &PgConnectOptions, timeout: Duration) -> PgConnectOptions {
    let bound = timeout.as_millis().to_string();
    // A worker that froze inside a transaction would otherwise keep its successor out.
    let bounds =
        [("statement_timeout", bound.as_str()), ("idle_in_transaction_session_timeout", bound.as_str())];
    options.clone().options(bounds)
}

/// What a URL says, or that it is none.
pub(super) fn parsed_url(variable: &str, url: &SecretString) -> Result<PgConnectOptions, Fault> {
    let url = url.expose_secret();
    let password = url::Url::parse(url).ok().and_then(|url| url.password().map(str::to_owned));
    if let Some(password) = password {
        redaction::keep(&percent_decode_str(&password).decode_utf8_lossy());
    }
    // The parser takes any scheme, and its message may quote the URL, and with it the password.
    PgConnectOptions::from_str(url)
        .ok()
        .filter(|_| url.starts_with("postgres://") || url.starts_with("postgresql://"))
        .ok_or_else(|| {
            Fault::misconfigured(
                PART,
                format!("{variable} is not a URL of a PostgreSQL server"),
                "write it as postgres://user:password@host:5432/database and percent-encode the password",
            )
        })
}

/// A pooled connection that goes back only when its user says that no reply is outstanding. Dropped in the middle
/// of a call (given up on, cancelled) it is closed, and the server rolls back what it had begun.
pub(super) struct Borrowed {
    connection: PoolConnection<Postgres>,
    settled: bool,
    demoted: Demoted,
}

impl Borrowed {
    pub(super) fn new(connection: PoolConnection<Postgres>) -> Self {
        Self { connection, settled: false, demoted: Demoted::default() }
    }

    /// No reply is outstanding: it may go back to the pool.
    pub(super) fn settled(&mut self) {
        self.settled = true;
    }

    /// The same after a fault, unless another connection may reach a server that does what this one does not.
    pub(super) fn settled_after(&mut self, fault: &Fault) {
        match faults::sqlstate(fault) {
            Some(faults::READ_ONLY) => self.demoted.note(),
            Some(code) if code.starts_with("57P") => {}
            _ => self.settled(),
        }
    }

    /// Gives the connection back to the pool and names what failed, if anything did.
    pub(super) fn settle<T>(mut self, attempt: &str, outcome: Result<T, sqlx::Error>) -> Result<T, Fault> {
        let outcome = outcome.map_err(|error| faults::fault(attempt, &error));
        match &outcome {
            Ok(_) => self.settled(),
            Err(fault) => self.settled_after(fault),
        }
        outcome
    }
}

impl Deref for Borrowed {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if !self.settled {
            self.connection.close_on_drop();
        }
    }
}

/// Gives up when the server does not answer at all.
pub(super) async fn bounded<T, E: From<Fault>>(
    timeout: Duration,
    attempt: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(deadline::cut(timeout * STATEMENTS_IN_A_CALL), call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(E::from(Fault::transient(
            PART,
            format!("{attempt}: the server does not answer"),
            "check that the server runs and can be reached",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    fn settings(url: &str) -> PostgresSettings {
        PostgresSettings {
            url: url.to_owned().into(),
            read_url: None,
            data_dir: std::env::temp_dir(),
            max_connections: 2,
            timeout: Duration::from_millis(300),
        }
    }

    #[test]
    fn an_unreadable_url_is_refused_without_its_password() {
        for url in ["postgres://u:s3gredo@host:porta/db", "u:s3gredo@host", "mysql://u:s3gredo@host/db"] {
            let fault = Connector::new(&settings(url)).err().expect("a fault");
            assert_eq!(fault.kind, FaultKind::Misconfigured);
            assert!(!fault.to_string().contains("s3gredo"), "{fault}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_down_is_noticed_only_when_needed_and_is_transient() {
        let connector =
            Connector::new(&settings("postgres://u:s3gredo@127.0.0.1:1/db")).expect("a connector");
        let fault = connector.acquire("apply").await.err().expect("nobody listens there");
        assert_eq!(fault.kind, FaultKind::Transient);
        assert!(fault.message.contains("Connection refused"), "{fault}");
        assert!(!fault.to_string().contains("s3gredo"), "{fault}");
    }
}
