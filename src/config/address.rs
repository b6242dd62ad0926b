//! Addresses of servers: what may stand in one, and what of it may be shown.

use std::{fmt, ops::Deref};

use url::Url;

use super::reader::Reader;

/// Parameters that the client of PostgreSQL understands. It would write the value of any other into the log.
const POSTGRES_PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// A server's URL. Only scheme, host and port of it are ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(Url);

impl From<Url> for ServerUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl Deref for ServerUrl {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({})", self.0.origin().ascii_serialization())
    }
}

/// A URL below which paths are asked for; a query of its own no request would carry.
pub(super) fn base(read: &mut Reader, name: &str, example: &str) -> ServerUrl {
    let url = read.url(name, &["https", "http"], example);
    if url.query().is_some() || url.fragment().is_some() {
        read.problem(name, "must end before ? and #: no request would carry what follows them");
    }
    url.into()
}

/// As [`base`], where credentials are set apart.
fn base_without_user(read: &mut Reader, name: &str, key: &str, example: &str) -> ServerUrl {
    let url = base(read, name, example);
    if !url.username().is_empty() || url.password().is_some() {
        read.problem(name, format_args!("must name no user and no password; the secret goes into {key}"));
    }
    url
}

/// The root of a project at Supabase. Whether it may be reached would be answered below another path, too, and no table
/// be found there.
pub(super) fn project(read: &mut Reader) -> ServerUrl {
    const NAME: &str = "SUPABASE_URL";
    let url = base_without_user(read, NAME, "SUPABASE_KEY", "https://abcdefgh.supabase.co");
    if url.path().contains("/rest/v1") {
        read.problem(NAME, "must end before /rest/v1, which is put there for each request");
    }
    url
}

/// A URL that names everything a connection to a database needs, so that no variable of other programs decides where
/// it leads.
pub(super) fn database(read: &mut Reader, name: &str) -> Url {
    let url = read.url(name, &["postgres", "postgresql"], "postgres://sluice@localhost:5432/sluice");
    if url.fragment().is_some() {
        read.problem(name, "has a #; write it as %23 where it belongs to the password");
    }
    let names_host = url.host_str().is_some_and(|host| !host.is_empty())
        || url.query_pairs().any(|(key, value)| matches!(&*key, "host" | "hostaddr") && !value.is_empty());
    if !names_host {
        read.problem(
            name,
            "names no host, so that PGHOST would; write it as postgres://user@host:5432/database",
        );
    }
    let parameters: Vec<String> = url.query_pairs().map(|(key, _)| key.into_owned()).collect();
    let is_understood =
        |key: &str| POSTGRES_PARAMETERS.contains(&key) || key.starts_with("options[") && key.ends_with(']');
    for parameter in parameters.iter().filter(|key| !is_understood(key)) {
        // What is no word may be a piece of a password.
        let is_word =
            !parameter.is_empty() && parameter.chars().all(|c| c.is_ascii_lowercase() || "_-".contains(c));
        let shown = if is_word { parameter.as_str() } else { "that is no word" };
        read.problem(name, format_args!("has a parameter {shown}, which is not understood; remove it"));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::variables::Variables;

    fn problems(name: &str, value: &str, check: impl Fn(&mut Reader)) -> String {
        let variables: Variables = std::iter::once((name.to_owned(), value.to_owned())).collect();
        let mut read = Reader::new(variables);
        check(&mut read);
        read.finish().err().map(|error| error.problems.join("\n")).unwrap_or_default()
    }

    #[test]
    fn only_the_origin_of_a_url_is_shown() {
        let url = ServerUrl::from(
            Url::parse("https://ana:segredo@es:9243/segredo?k=segredo#segredo").expect("a URL"),
        );
        assert_eq!(format!("{url:?}"), "ServerUrl(https://es:9243)");
    }

    #[test]
    fn a_part_of_an_address_that_would_be_dropped_is_refused_and_not_shown() {
        for (value, expected) in [
            ("https://es:9200/?api_key=segredo", "ELASTICSEARCH_URL: must end before ?"),
            ("https://es:9200/#segredo", "ELASTICSEARCH_URL: must end before ?"),
        ] {
            let told = problems("ELASTICSEARCH_URL", value, |read| {
                base(read, "ELASTICSEARCH_URL", "http://localhost:9200");
            });
            assert!(told.starts_with(expected) && !told.contains("segredo"), "{told}");
        }
        let told = problems("SUPABASE_URL", "https://segredo@abc.supabase.co", |read| {
            project(read);
        });
        assert!(told.starts_with("SUPABASE_URL: must name no user") && !told.contains("segredo"), "{told}");
        for path in ["/rest/v1", "/rest/v1/", "/proxy/rest/v1/leads"] {
            let told = problems("SUPABASE_URL", &format!("https://abc.supabase.co{path}"), |read| {
                project(read);
            });
            assert!(told.starts_with("SUPABASE_URL: must end before /rest/v1"), "{path}: {told}");
        }
    }

    #[test]
    fn a_database_is_named_whole_and_with_parameters_that_are_understood() {
        let told = |value| {
            problems("DATABASE_URL", value, |read| {
                database(read, "DATABASE_URL");
            })
        };
        for value in [
            "postgres://sluice:senha@db/sluice?sslmode=verify-full&sslrootcert=/ca.pem&options[search_path]=x",
            "postgresql://sluice@db:5432/sluice?options=-c%20x=y&application_name=a",
            "postgres://sluice@%2Fvar%2Frun/sluice",
            "postgres:///sluice?host=/var/run/postgresql",
        ] {
            assert_eq!(told(value), "", "{value}");
        }
        for value in [
            "postgres:///sluice",
            "postgres://sluice@db/sluice?passwrod=segredo",
            "postgres://sluice@db/sluice?channel_binding=require",
            "postgres://sluice@db/sluice?Segredo!=1",
            "postgres://sluice@db/sluice#segredo",
        ] {
            let told = told(value);
            assert!(
                told.starts_with("DATABASE_URL: ") && !told.to_lowercase().contains("segredo"),
                "{value}: {told}"
            );
        }
    }
}
