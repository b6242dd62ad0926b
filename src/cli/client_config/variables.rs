//! The settings to hand on to a client: those that are set now, of those that `.env.example` explains.

use std::collections::BTreeMap;

use url::Url;

/// Every setting there is, as people are told of them.
const EXPLAINED: &str = include_str!("../../../.env.example");

/// A setting that is set.
#[derive(Clone)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) secret: bool,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Those of sluice's settings that have a value, in the order they are explained in.
pub(super) fn set(environment: &BTreeMap<String, String>) -> Vec<Variable> {
    names().filter_map(|name| variable(name, environment)).collect()
}

/// One setting by its name; none where it has no value.
pub(super) fn variable(name: &str, environment: &BTreeMap<String, String>) -> Option<Variable> {
    let value = environment.get(name)?.trim();
    (!value.is_empty()).then(|| Variable {
        name: name.to_owned(),
        value: value.to_owned(),
        secret: is_secret(name, value),
    })
}

/// Lines such as `NAME=` and `#NAME=default`.
fn names() -> impl Iterator<Item = &'static str> {
    EXPLAINED.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix('#').unwrap_or(line).split_once('=')?;
        let legal = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        (!name.is_empty() && name.chars().all(legal)).then_some(name)
    })
}

/// What is called a secret, and addresses that carry one.
fn is_secret(name: &str, value: &str) -> bool {
    let called_so =
        name.split('_').any(|word| matches!(word, "KEY" | "PASSWORD" | "TOKEN" | "TOKENS" | "SECRET"));
    let carries_one = || {
        Url::parse(value).is_ok_and(|url| {
            url.password().is_some() || url.query_pairs().any(|(key, _)| key.contains("password"))
        })
    };
    called_so || carries_one()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_what_sluice_reads_and_what_has_a_value_is_handed_on() {
        let found = set(&environment(&[
            ("PATH", "/bin"),
            ("KAFKA_TOPIC", "eventos"),
            ("SUPABASE_KEY", " "),
            ("KAFKA_HEAP_OPTS", "-Xmx1g"),
            ("SUPABASE_URL", "https://abc.supabase.co"),
        ]));
        let names: Vec<&str> = found.iter().map(|variable| variable.name.as_str()).collect();
        assert_eq!(names, ["SUPABASE_URL", "KAFKA_TOPIC"]);
    }

    #[test]
    fn keys_passwords_and_addresses_with_passwords_are_secrets() {
        for (name, value, secret) in [
            ("SUPABASE_KEY", "sb_secret_x", true),
            ("KAFKA_SASL_PASSWORD", "x", true),
            ("ELASTICSEARCH_API_KEY", "x", true),
            ("DATABASE_URL", "postgres://sluice:senha@db/sluice", true),
            ("DATABASE_URL", "postgres://sluice@db/sluice?password=senha", true),
            ("DATABASE_URL", "postgres://sluice@db/sluice", false),
            ("ELASTICSEARCH_URL", "http://localhost:9200", false),
            ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092", false),
        ] {
            assert_eq!(is_secret(name, value), secret, "{name}={value}");
        }
    }

    #[test]
    fn a_variable_never_shows_its_value() {
        let found = set(&environment(&[("SUPABASE_KEY", "segredo")]));
        assert!(found[0].secret && !format!("{found:?}").contains("segredo"));
    }
}
