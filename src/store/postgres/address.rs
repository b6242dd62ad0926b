//! Where a server is and who connects there, as `DATABASE_URL` and `DATABASE_READ_URL` say it; read again from where the
//! secret stands once the server refuses the login.
//!
//! Guarantee: a secret that was changed leads to the same database as before, under another login or password. One that leads
//! elsewhere is not followed before sluice starts anew: rows would go on into a store that knows nothing of the earlier.

use std::sync::{Arc, PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use tracing::{info, warn};
use url::Url;

use super::{connection::parsed_url, faults, login::database_key};
use crate::{config::Secret, fault::Fault};

/// An address that is read again when its login is refused.
pub(super) struct Address {
    variable: &'static str,
    current: RwLock<Arc<Known>>,
    /// One reads at a time: a command may ask a person.
    reading: tokio::sync::Mutex<()>,
}

/// An address as it was read.
pub(super) struct Known {
    secret: Secret,
    pub(super) options: PgConnectOptions,
}

impl Known {
    fn new(variable: &str, secret: Secret) -> Result<Self, Fault> {
        // The engine reports what is slow; statements in the log would repeat it for every batch.
        let options =
            parsed_url(variable, secret.value())?.application_name("sluice").disable_statement_logging();
        Ok(Self { secret, options })
    }

    /// What stands in its place now; nothing where it is the same.
    async fn renewed(&self, variable: &str) -> Result<Option<Self>, String> {
        let Some(secret) = self.secret.changed().await? else { return Ok(None) };
        let is_elsewhere =
            || "it leads to another server or database, or there in another way; restart sluice to follow it";
        if place(secret.value()) != place(self.secret.value()) {
            return Err(is_elsewhere().to_owned());
        }
        let renewed = Self::new(variable, secret).map_err(|fault| fault.to_string())?;
        // A URL without a database names the one called like the login.
        if database_key(&renewed.options) != database_key(&self.options) {
            return Err(is_elsewhere().to_owned());
        }
        Ok(Some(renewed))
    }
}

impl Address {
    pub(super) fn new(variable: &'static str, secret: &Secret) -> Result<Self, Fault> {
        let current = RwLock::new(Arc::new(Known::new(variable, secret.clone())?));
        Ok(Self { variable, current, reading: tokio::sync::Mutex::default() })
    }

    pub(super) fn current(&self) -> Arc<Known> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After an error: whether it is a refusal of the login, and another stands in its place by now. `take` has it before
    /// anybody else.
    pub(super) async fn renew(
        &self,
        used: &Arc<Known>,
        error: &sqlx::Error,
        take: impl FnOnce(&PgConnectOptions),
    ) -> bool {
        if !faults::is_refused_login(error) {
            return false;
        }
        let _reading = self.reading.lock().await;
        if !Arc::ptr_eq(used, &self.current()) {
            return true;
        }
        match used.renewed(self.variable).await {
            Ok(Some(renewed)) => {
                take(&renewed.options);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
                info!(
                    setting = self.variable,
                    "PostgreSQL refused the login, and the one that stands in its place is used"
                );
                true
            }
            Ok(None) => false,
            Err(problem) => {
                warn!(
                    setting = self.variable,
                    problem, "PostgreSQL refuses the login, and there is no other in its place"
                );
                false
            }
        }
    }
}

/// A URL without who connects.
fn place(url: &SecretString) -> Option<Url> {
    let mut url = Url::parse(url.expose_secret()).ok()?;
    // One without a host can hold neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .into_owned()
        .filter(|(key, _)| !matches!(key.as_str(), "user" | "password"))
        .collect();
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_same(one: &str, other: &str) -> bool {
        place(&one.into()) == place(&other.into())
    }

    #[test]
    fn an_address_is_the_same_whoever_connects_and_another_where_anything_else_differs() {
        let url = "postgres://sluice:um@db:5433/dados?sslmode=require";
        for same in [
            "postgres://sluice:dois@db:5433/dados?sslmode=require",
            "postgres://outro:d%40is@db:5433/dados?sslmode=require&password=x",
        ] {
            assert!(is_same(url, same), "{same}");
        }
        for other in [
            "postgres://sluice:um@db:5433/outros?sslmode=require",
            "postgres://sluice:um@db2:5433/dados?sslmode=require",
            "postgres://sluice:um@db:5433/dados?sslmode=disable",
            "postgres://sluice:um@db:5433/dados?sslmode=require&host=db2",
            "postgres://sluice:um@db/dados?sslmode=require",
        ] {
            assert!(!is_same(url, other), "{other}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_login_that_names_the_database_can_t_be_changed_by_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("url");
        let secret = crate::config::Secret::in_file("postgres://sluice:um@db", &path);
        let known = Known::new("DATABASE_URL", secret).expect("a URL");
        crate::private_files::replace(&path, "postgres://sluice:dois@db".as_bytes()).expect("written");
        let renewed = known.renewed("DATABASE_URL").await.expect("the same place").expect("another password");
        crate::private_files::replace(&path, "postgres://outra:dois@db".as_bytes()).expect("written");
        let told = renewed.renewed("DATABASE_URL").await.err().expect("another database");
        assert!(told.contains("another server or database") && !told.contains("dois"), "{told}");
        crate::private_files::replace(&path, "nada".as_bytes()).expect("written");
        assert!(renewed.renewed("DATABASE_URL").await.is_err());
    }
}
