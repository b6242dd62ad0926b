//! The names of all settings. `.env.example` is where they are listed, so that none exists that people are not told of.

use url::Url;

use super::secret;

/// Every setting there is, as people are told of them.
const EXPLAINED: &str = include_str!("../../.env.example");

/// What all of sluice's own names begin with.
const PREFIX: &str = "SLUICE_";

/// Followed by a column's name: whether it is read that a definition reads only on request. One of them is explained.
pub const INCLUDE: &str = "SUPABASE_INCLUDE_";

/// Names with the prefix that are no settings: this repository's scripts read them, or examples name a client's token so.
const OTHERS: [&str; 12] = [
    "SLUICE_BENCH_BINARY",
    "SLUICE_ELASTICSEARCH_PORT",
    "SLUICE_FAIL_POINT",
    "SLUICE_KAFKA_PORT",
    "SLUICE_MODEL_SECONDS",
    "SLUICE_OPENSEARCH_PORT",
    "SLUICE_POSTGRES_PORT",
    "SLUICE_REPOSITORY",
    "SLUICE_SAMPLE_PORT",
    "SLUICE_SERVICES_DIR",
    "SLUICE_SUITES",
    "SLUICE_TOKEN",
];

/// Parameters of an address that hold no secret. Whatever is not listed counts as one.
const HARMLESS_PARAMETERS: [&str; 14] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "ssl-ca",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// The names of all settings, in the order they are explained in: lines such as `NAME=` and `#NAME=default`.
pub fn names() -> impl Iterator<Item = &'static str> {
    EXPLAINED.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix('#').unwrap_or(line).split_once('=')?;
        let legal = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        (!name.is_empty() && name.chars().all(legal)).then_some(name)
    })
}

/// The names that stand for settings which may be kept elsewhere.
pub fn stand_ins() -> impl Iterator<Item = String> {
    secret::SECRETS.into_iter().flat_map(secret::stand_ins).filter(|name| !is_explained(name))
}

fn is_explained(name: &str) -> bool {
    names().any(|known| known == name)
}

/// Whether a setting is called so.
pub fn is_known(name: &str) -> bool {
    is_explained(name) || secret::stands_for(name).is_some() || name.starts_with(INCLUDE)
}

/// Why a variable that is no setting can't be left alone: it has a name of sluice's, or is a typing mistake away from
/// one that is not set.
pub(super) fn mistake(name: &str, value: &str, is_set: impl Fn(&str) -> bool) -> Option<String> {
    let is_ours = name.starts_with(PREFIX);
    if OTHERS.contains(&name) || is_ours && is_of_kubernetes(name, value) {
        return None;
    }
    let all = || names().map(str::to_owned).chain(stand_ins());
    if let Some(meant) = all().find(|known| is_slip(name, known) && !is_set(known)) {
        let way_out = if is_ours { "" } else { " If another program reads it, set it to nothing for sluice" };
        return Some(format!("is no setting; did you mean {meant}?{way_out}"));
    }
    is_ours.then(|| match nearest(name) {
        Some(meant) => format!("is no setting; did you mean {meant}?"),
        None => "is no setting; .env.example lists those there are".to_owned(),
    })
}

/// One slip of the fingers: a character too many, too few, wrong, or two in the wrong order; or only the case.
fn is_slip(name: &str, known: &str) -> bool {
    name.len().abs_diff(known.len()) <= 1
        && strsim::osa_distance(&name.to_ascii_uppercase().replace('-', "_"), known) <= 1
}

/// The setting with the most similar name, if any is.
fn nearest(name: &str) -> Option<&'static str> {
    let rest = name.strip_prefix(PREFIX)?;
    // What other programs call it; by its letters it is like others of the log's.
    if rest == "LOG_LEVEL" {
        return Some("SLUICE_LOG");
    }
    let likeness = |known: &str| strsim::jaro_winkler(rest, known.strip_prefix(PREFIX).unwrap_or_default());
    let ours = names().filter(|known| known.starts_with(PREFIX));
    let nearest = ours.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(nearest) > 0.8).then_some(nearest)
}

/// What Kubernetes tells every container of a service that is called `sluice` or `sluice-…`.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || is_address && name.contains("_PORT")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| {
            let mut words = rest.split('_');
            words.next().is_some_and(|port| port.parse::<u16>().is_ok())
                && matches!(words.next(), Some("TCP" | "UDP" | "SCTP"))
        })
}

/// Whether a setting's value must not be shown: what is called a secret, addresses that carry one, and commands, in which
/// one may stand. The file that one is kept in is none.
pub fn is_secret(name: &str, value: &str) -> bool {
    if secret::stands_for(name).is_some() {
        return name.ends_with(secret::COMMAND);
    }
    let called_so = name.split('_').any(|word| {
        matches!(word, "HEADERS" | "KEY" | "PASSWORD" | "TARGETS" | "TOKEN" | "TOKENS" | "SECRET")
    });
    called_so
        || (name.ends_with("_URL") || name.ends_with("_ENDPOINT")) && carries_secret(value)
        || name.ends_with("_SERVERS") && value.contains('@')
}

/// Whether an address carries a secret, or can't be read well enough to be sure.
fn carries_secret(value: &str) -> bool {
    let Some(url) = Url::parse(value).ok().filter(Url::has_host) else { return true };
    // Databases are told the user's name in the URL; what else stands there for others is a token.
    let harmless_user = url.username().is_empty() || matches!(url.scheme(), "postgres" | "postgresql");
    !harmless_user
        || url.password().is_some()
        || url.fragment().is_some()
        || url.query_pairs().any(|(key, _)| !HARMLESS_PARAMETERS.contains(&&*key))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn mistaken(name: &str) -> Option<String> {
        mistake(name, "x", |_| false)
    }

    #[test]
    fn a_name_a_slip_away_from_a_setting_is_answered_with_the_one_that_was_meant() {
        for (name, meant) in [
            ("SUPABSE_URL", "SUPABASE_URL"),
            ("SUPABASE_ULR", "SUPABASE_URL"),
            ("supabase_url", "SUPABASE_URL"),
            ("SUPABASE-KEY", "SUPABASE_KEY"),
            ("DATABASE_URI", "DATABASE_URL"),
            ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
            ("ELASTICSEARCHS_URL", "ELASTICSEARCH_URL"),
            ("SLUCE_DATA_DIR", "SLUICE_DATA_DIR"),
            ("SLUICE_DATADIR", "SLUICE_DATA_DIR"),
            ("SLUICE_READONLY", "SLUICE_READ_ONLY"),
            ("SLUICE_HTTP_TOKEN", "SLUICE_HTTP_TOKENS"),
            ("SLUICE_LOG_LEVEL", "SLUICE_LOG"),
            ("DATABASE_URL_FIL", "DATABASE_URL_FILE"),
            ("DATABASE_URL_COMAND", "DATABASE_URL_COMMAND"),
            ("SUPABASE_KEY_FLIE", "SUPABASE_KEY_FILE"),
        ] {
            let told = mistaken(name).unwrap_or_else(|| panic!("{name} is left alone"));
            assert!(told.contains(&format!("did you mean {meant}?")), "{name}: {told}");
        }
    }

    #[test]
    fn an_unknown_name_of_sluices_own_is_a_mistake_even_where_nothing_is_near() {
        for name in ["SLUICE_FROBNICATION_INTERVAL", "SLUICE_"] {
            let told = mistaken(name).expect("a mistake");
            assert!(told.contains(".env.example"), "{name}: {told}");
        }
    }

    #[test]
    fn names_of_other_programs_are_left_alone() {
        for name in [
            "KAFKA_HOME",
            "KAFKA_OPTS",
            "KAFKA_HEAP_OPTS",
            "KAFKA_LOG_DIRS",
            "DATABASE_HOST",
            "DATABASE_SSL",
            "ELASTICSEARCH_HOSTS",
            "ES_JAVA_OPTS",
            "SUPABASE_ANON_KEY",
            "SUPABASE_SERVICE_ROLE_KEY",
            "SUPABASE_ACCESS_TOKEN",
            "PATH",
            "HTTPS_PROXY",
            "PGHOST",
        ] {
            assert_eq!(mistaken(name), None, "{name}");
        }
        let both = mistake("DATABASE_URI", "x", |name| name == "DATABASE_URL");
        assert_eq!(both, None, "whoever set DATABASE_URL did not mean it by DATABASE_URI");
    }

    #[test]
    fn what_kubernetes_tells_of_a_service_called_sluice_is_no_mistake() {
        for (name, value) in [
            ("SLUICE_SERVICE_HOST", "10.0.0.7"),
            ("SLUICE_SERVICE_PORT", "8765"),
            ("SLUICE_MCP_SERVICE_PORT_HTTP", "8765"),
            ("SLUICE_PORT", "tcp://10.0.0.7:8765"),
            ("SLUICE_PORT_8765_TCP", "tcp://10.0.0.7:8765"),
            ("SLUICE_HTTP_PORT_8765_TCP_PROTO", "tcp"),
            ("SLUICE_PORT_8765_TCP_ADDR", "10.0.0.7"),
        ] {
            assert_eq!(mistake(name, value, |_| false), None, "{name}");
        }
        assert!(mistake("SLUICE_HTTP_PORT", "8765", |_| false).is_some());
    }

    #[test]
    fn keys_passwords_and_addresses_that_carry_a_secret_are_secrets() {
        for (name, value, secret) in [
            ("SUPABASE_KEY", "sb_secret_x", true),
            ("KAFKA_SASL_PASSWORD", "x", true),
            ("ELASTICSEARCH_API_KEY", "x", true),
            ("SLUICE_HTTP_TOKENS", "a:full:x", true),
            ("SUPABASE_KEY_FILE", "/run/secrets/key", false),
            ("SUPABASE_KEY_COMMAND", "curl -H 'X-Vault-Token: segredo' vault", true),
            ("DATABASE_URL", "postgres://sluice:senha@db/sluice", true),
            ("DATABASE_URL", "postgres://sluice@db/sluice?password=senha", true),
            ("DATABASE_URL", "postgres://sluice@db/sluice?options=-c%20x.key%3Dsenha", true),
            ("DATABASE_URL", "postgres://sluice:sen#ha@db/sluice", true),
            ("DATABASE_URL", "sluice:senha@db/sluice", true),
            ("DATABASE_URL", "postgres://sluice@db/sluice", false),
            ("DATABASE_URL", "postgres://sluice@db/sluice?sslmode=verify-full&sslrootcert=/ca.pem", false),
            ("ELASTICSEARCH_URL", "http://localhost:9200", false),
            ("ELASTICSEARCH_URL", "https://es.example/base/", false),
            ("ELASTICSEARCH_URL", "https://es.example/?api_key=segredo", true),
            ("ELASTICSEARCH_URL", "https://es.example/?x=segredo", true),
            ("ELASTICSEARCH_URL", "https://es.example/#segredo", true),
            ("ELASTICSEARCH_URL", "https://segredo@es.example", true),
            ("ELASTICSEARCH_URL", "ana:segredo@es.example:9200", true),
            ("SUPABASE_URL", "https://abc.supabase.co/?apikey=segredo", true),
            ("SUPABASE_URL", "https://abc.supabase.co", false),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=x", true),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://otel.example/v1/traces?key=segredo", true),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.example:4318", false),
            ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092", false),
            ("KAFKA_BOOTSTRAP_SERVERS", "ana:segredo@localhost:9092", true),
        ] {
            assert_eq!(is_secret(name, value), secret, "{name}={value}");
        }
    }

    fn files(folder: &Path, found: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files(&path, found);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push_str(&text);
            }
        }
    }

    #[test]
    fn every_explained_setting_is_read_and_explained_once() {
        let mut code = String::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        files(&root.join("src"), &mut code);
        let mut names: Vec<&str> = names().collect();
        for name in &names {
            assert!(code.contains(&format!("\"{name}\"")), "{name} is explained and nothing reads it");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a setting is explained twice");
    }

    #[test]
    fn the_names_that_scripts_read_are_no_mistakes() {
        let mut scripts = String::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in ["tools", "tests/clients", "examples", ".github"] {
            files(&root.join(folder), &mut scripts);
        }
        let legal = |c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        let named = scripts.split(legal).filter(|word| {
            word.strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty() && !rest.ends_with('_'))
        });
        for name in named {
            // Patterns name groups: `^SLUICE_(HTTP|DATA)`, and a pattern ends in the middle of a name.
            assert!(is_known(name) || mistaken(name).is_none(), "{name}: {:?}", mistaken(name));
        }
    }
}
