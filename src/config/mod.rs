//! Every setting, typed and validated before anything starts. Secrets can't be printed.
//!
//! A part is the real one where its address is set, else the embedded one. Nothing else decides, so a part that is
//! named and does not answer is an error, and one whose address was forgotten while its other settings are there is
//! one, too.

mod http;
mod reader;

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;
use url::Url;

pub use http::{HostPattern, HttpSettings, OriginPattern, Token, parse_address};
use reader::Reader;
pub use reader::SettingsError;

/// Everything sluice can be told. [`Settings::load`] is the reference of names, units and defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None` for the sample project.
    pub supabase: Option<SupabaseSettings>,
    /// `None` for the embedded log.
    pub kafka: Option<KafkaSettings>,
    /// `None` for the embedded store.
    pub postgres: Option<PostgresSettings>,
    /// `None` for the embedded index.
    pub elasticsearch: Option<ElasticsearchSettings>,
    /// Where the embedded parts keep their files.
    pub data_dir: PathBuf,
    pub drain: DrainSettings,
    pub http: HttpSettings,
    pub mcp: McpSettings,
}

/// What MCP clients are shown.
#[derive(Debug, Clone)]
pub struct McpSettings {
    /// Offer only tools that change nothing.
    pub read_only: bool,
    /// Show e-mail addresses, phone numbers and IP addresses instead of masking them.
    pub reveal_pii: bool,
}

/// How sinks are drained.
#[derive(Debug, Clone)]
pub struct DrainSettings {
    /// Consumer groups are named `<prefix>.<sink>`.
    pub group_prefix: String,
    /// Records a batch holds at most.
    pub batch_records: usize,
    /// Bytes of records a batch holds at most.
    pub batch_bytes: usize,
}

/// Where rows come from.
#[derive(Debug, Clone)]
pub struct SupabaseSettings {
    /// The project's root, without `/rest/v1`.
    pub url: Url,
    /// A `sb_secret_…` or `sb_publishable_…` key, or a legacy JWT.
    pub key: SecretString,
    /// The exposed schema the tables are in.
    pub schema: String,
    /// Rows to ask for at a time; the server may cap it lower.
    pub page_size: u32,
    /// Bound on one HTTP call, retries not included.
    pub timeout: Duration,
    /// Bound on one read with its retries, after which it fails.
    pub retry_for: Duration,
    /// Whether chat sessions carry their visitors' addresses.
    pub include_ip_address: bool,
}

/// Where events are logged.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    pub topic: String,
    pub dead_letter_topic: String,
    /// Partitions of a topic that has to be created; one that exists keeps its own.
    pub partitions: i32,
    /// Replicas of a topic that has to be created; -1 for the broker's default.
    pub replication_factor: i32,
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub security_protocol: String,
    pub sasl_mechanism: Option<String>,
    pub sasl_username: Option<String>,
    pub sasl_password: Option<SecretString>,
    pub ssl_ca_location: Option<String>,
    /// Bound on making a batch durable, and on every question to the broker.
    pub timeout: Duration,
}

/// Where rows and progress are stored.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// Holds the password.
    pub url: SecretString,
    /// The same database, or a copy of it, under a login that may only read: questions run there.
    pub read_url: Option<SecretString>,
    /// Where the password of a login made for questions is kept.
    pub data_dir: PathBuf,
    pub max_connections: u32,
    /// Bound on getting a connection and on a statement.
    pub timeout: Duration,
}

/// Where documents are searched.
#[derive(Debug, Clone)]
pub struct ElasticsearchSettings {
    pub url: Url,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub api_key: Option<SecretString>,
    /// Put before `eventos`, `leads` and `chat_sessions`; empty in production.
    pub index_prefix: String,
    /// Bound on one HTTP call.
    pub timeout: Duration,
}

impl Settings {
    /// Reads and checks every setting.
    ///
    /// # Errors
    /// Lists every variable that is missing or wrong, never its value.
    pub fn load(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, SettingsError> {
        let mut read = Reader::new(variables);
        let data_dir = data_dir(&mut read);
        let settings = Self {
            supabase: read
                .part("SUPABASE_URL", &["SUPABASE_KEY", "SUPABASE_SCHEMA"])
                .then(|| SupabaseSettings::read(&mut read)),
            kafka: read
                .part(
                    "KAFKA_BOOTSTRAP_SERVERS",
                    &["KAFKA_TOPIC", "KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_USERNAME"],
                )
                .then(|| KafkaSettings::read(&mut read)),
            postgres: read
                .part(
                    "DATABASE_URL",
                    &["DATABASE_READ_URL", "DATABASE_MAX_CONNECTIONS", "DATABASE_TIMEOUT_SECONDS"],
                )
                .then(|| PostgresSettings::read(&mut read, data_dir.clone())),
            elasticsearch: read
                .part(
                    "ELASTICSEARCH_URL",
                    &["ELASTICSEARCH_API_KEY", "ELASTICSEARCH_USERNAME", "ELASTICSEARCH_INDEX_PREFIX"],
                )
                .then(|| ElasticsearchSettings::read(&mut read)),
            data_dir,
            drain: DrainSettings::read(&mut read),
            http: HttpSettings::read(&mut read),
            mcp: McpSettings {
                read_only: read.flag("SLUICE_READ_ONLY", false),
                reveal_pii: read.flag("SLUICE_REVEAL_PII", false),
            },
        };
        read.finish().map(|()| settings)
    }
}

/// The user's data folder, unless told otherwise.
fn data_dir(read: &mut Reader) -> PathBuf {
    if let Some(named) = read.optional("SLUICE_DATA_DIR") {
        return named.into();
    }
    let Some(folder) = dirs::data_local_dir() else {
        read.problem("SLUICE_DATA_DIR", "is not set, and this system names no data folder for its user");
        return PathBuf::new();
    };
    folder.join("sluice")
}

impl SupabaseSettings {
    /// Rows asked for at a time, unless told otherwise: as many as Supabase gives.
    pub const PAGE_SIZE: u32 = 1000;

    fn read(read: &mut Reader) -> Self {
        let key = read.required("SUPABASE_KEY", "sb_secret_… (the project's API settings show it)");
        Self {
            url: read.url("SUPABASE_URL", &["https", "http"], "https://abcdefgh.supabase.co"),
            key: SecretString::from(key),
            schema: read.text("SUPABASE_SCHEMA", "public"),
            page_size: read.number("SUPABASE_PAGE_SIZE", Self::PAGE_SIZE, 1..=10_000),
            timeout: read.seconds("SUPABASE_TIMEOUT_SECONDS", 30),
            retry_for: read.seconds("SUPABASE_RETRY_SECONDS", 60),
            include_ip_address: read.flag("SUPABASE_INCLUDE_IP_ADDRESS", false),
        }
    }
}

impl KafkaSettings {
    fn read(read: &mut Reader) -> Self {
        let topic = read.text("KAFKA_TOPIC", "eventos");
        let settings = Self {
            bootstrap_servers: read.required("KAFKA_BOOTSTRAP_SERVERS", "broker-1:9092,broker-2:9092"),
            dead_letter_topic: read.text("KAFKA_DEAD_LETTER_TOPIC", &format!("{topic}.dlq")),
            topic,
            partitions: read.number("KAFKA_PARTITIONS", 6, 1..=1000),
            replication_factor: read.number("KAFKA_REPLICATION_FACTOR", -1, -1..=100),
            security_protocol: read.one_of(
                "KAFKA_SECURITY_PROTOCOL",
                "plaintext",
                &["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"],
            ),
            sasl_mechanism: read.optional("KAFKA_SASL_MECHANISM"),
            sasl_username: read.optional("KAFKA_SASL_USERNAME"),
            sasl_password: read.secret("KAFKA_SASL_PASSWORD"),
            ssl_ca_location: read.optional("KAFKA_SSL_CA_LOCATION"),
            timeout: read.seconds("KAFKA_TIMEOUT_SECONDS", 30),
        };
        settings.check(read);
        settings
    }

    fn check(&self, read: &mut Reader) {
        if self.topic == self.dead_letter_topic {
            read.problem("KAFKA_DEAD_LETTER_TOPIC", "must differ from KAFKA_TOPIC");
        }
        for (name, topic) in
            [("KAFKA_TOPIC", &self.topic), ("KAFKA_DEAD_LETTER_TOPIC", &self.dead_letter_topic)]
        {
            let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if topic.len() > 249 || !topic.chars().all(legal) {
                read.problem(name, "must be at most 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'");
            }
        }
        let brokers = &self.bootstrap_servers;
        let has_port = |server: &str| {
            server
                .trim()
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if !brokers.is_empty() && !brokers.split(',').all(has_port) {
            read.problem("KAFKA_BOOTSTRAP_SERVERS", "must be host:port, several separated by commas");
        }
        if self.security_protocol.starts_with("sasl") {
            if self.sasl_username.is_none() {
                read.problem("KAFKA_SASL_USERNAME", "is needed by KAFKA_SECURITY_PROTOCOL=sasl_…");
            }
            if self.sasl_password.is_none() {
                read.problem("KAFKA_SASL_PASSWORD", "is needed by KAFKA_SECURITY_PROTOCOL=sasl_…");
            }
        }
    }
}

impl PostgresSettings {
    const SCHEMES: [&str; 2] = ["postgres", "postgresql"];

    fn read(read: &mut Reader, data_dir: PathBuf) -> Self {
        let url = read.url("DATABASE_URL", &Self::SCHEMES, "postgres://sluice@localhost:5432/sluice");
        let read_url = read.optional("DATABASE_READ_URL").is_some().then(|| {
            let example = "postgres://sluice_reader@localhost:5432/sluice";
            read.url("DATABASE_READ_URL", &Self::SCHEMES, example)
        });
        Self {
            url: SecretString::from(url.to_string()),
            read_url: read_url.map(|url| SecretString::from(url.to_string())),
            data_dir,
            max_connections: read.number("DATABASE_MAX_CONNECTIONS", 8, 3..=1000),
            timeout: read.seconds("DATABASE_TIMEOUT_SECONDS", 30),
        }
    }
}

impl ElasticsearchSettings {
    fn read(read: &mut Reader) -> Self {
        let settings = Self {
            url: read.url("ELASTICSEARCH_URL", &["http", "https"], "http://localhost:9200"),
            username: read.optional("ELASTICSEARCH_USERNAME"),
            password: read.secret("ELASTICSEARCH_PASSWORD"),
            api_key: read.secret("ELASTICSEARCH_API_KEY"),
            index_prefix: read.text("ELASTICSEARCH_INDEX_PREFIX", ""),
            timeout: read.seconds("ELASTICSEARCH_TIMEOUT_SECONDS", 30),
        };
        if settings.username.is_some() != settings.password.is_some() {
            read.problem(
                "ELASTICSEARCH_USERNAME",
                "and ELASTICSEARCH_PASSWORD are set together or not at all",
            );
        }
        if settings.username.is_some() && settings.api_key.is_some() {
            read.problem("ELASTICSEARCH_API_KEY", "can't be used together with ELASTICSEARCH_USERNAME");
        }
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
        if !settings.index_prefix.chars().all(legal) || settings.index_prefix.starts_with(['_', '-', '.']) {
            read.problem(
                "ELASTICSEARCH_INDEX_PREFIX",
                "must be lower-case letters, digits, '_', '-' or '.', and start with a letter or digit",
            );
        }
        settings
    }
}

impl DrainSettings {
    fn read(read: &mut Reader) -> Self {
        Self {
            group_prefix: read.text("SLUICE_GROUP_PREFIX", "sluice"),
            batch_records: read.number("SLUICE_BATCH_RECORDS", 5000, 1..=100_000),
            batch_bytes: read.number("SLUICE_BATCH_MIB", 16, 1..=256) * 1024 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(changes: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let mut variables: std::collections::BTreeMap<String, String> = [
            ("SUPABASE_URL", "https://abc.supabase.co"),
            ("SUPABASE_KEY", "sb_secret_segredo"),
            ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
            ("DATABASE_URL", "postgres://sluice:senha@localhost/sluice"),
            ("ELASTICSEARCH_URL", "http://localhost:9200"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (name, value) in changes {
            variables.insert((*name).to_owned(), (*value).to_owned());
        }
        Settings::load(variables)
    }

    fn problems(changes: &[(&str, &str)]) -> String {
        load(changes).expect_err("settings that can't be right").to_string()
    }

    #[test]
    fn four_addresses_and_a_key_are_enough() {
        let settings = load(&[]).expect("valid settings");
        let kafka = settings.kafka.expect("Kafka is named");
        assert_eq!(kafka.topic, "eventos");
        assert_eq!(kafka.dead_letter_topic, "eventos.dlq");
        assert!(!settings.supabase.expect("Supabase is named").include_ip_address);
    }

    #[test]
    fn what_is_not_named_is_embedded() {
        let settings = Settings::load([("SLUICE_DATA_DIR".to_owned(), "/data".to_owned())]).expect("valid");
        assert!(settings.supabase.is_none() && settings.kafka.is_none());
        assert!(settings.postgres.is_none() && settings.elasticsearch.is_none());
        assert_eq!(settings.data_dir, PathBuf::from("/data"));
    }

    #[test]
    fn a_forgotten_address_is_no_choice_of_the_embedded_part() {
        for (address, other) in [
            ("SUPABASE_URL", "SUPABASE_KEY"),
            ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPIC"),
            ("DATABASE_URL", "DATABASE_MAX_CONNECTIONS"),
            ("DATABASE_URL", "DATABASE_READ_URL"),
            ("ELASTICSEARCH_URL", "ELASTICSEARCH_INDEX_PREFIX"),
        ] {
            let error =
                Settings::load([(other.to_owned(), "5".to_owned())]).expect_err("an address is missing");
            let text = error.to_string();
            assert!(text.contains(&format!("{address}: is not set")) && text.contains(other), "{text}");
        }
    }

    #[test]
    fn every_problem_is_listed_at_once() {
        let error = load(&[
            ("SUPABASE_URL", "nada"),
            ("SUPABASE_KEY", ""),
            ("KAFKA_BOOTSTRAP_SERVERS", "nada"),
            ("KAFKA_PARTITIONS", "many"),
            ("DATABASE_URL", "nada"),
            ("ELASTICSEARCH_URL", "nada"),
        ])
        .expect_err("nothing is right");
        for name in [
            "SUPABASE_URL",
            "SUPABASE_KEY",
            "KAFKA_BOOTSTRAP_SERVERS",
            "DATABASE_URL",
            "ELASTICSEARCH_URL",
            "KAFKA_PARTITIONS",
        ] {
            let named = error.problems.iter().filter(|p| p.starts_with(&format!("{name}:"))).count();
            assert_eq!(named, 1, "{name} in {error}");
        }
    }

    #[test]
    fn a_problem_names_the_variable_and_hides_its_value() {
        for (name, value) in [
            ("SUPABASE_URL", "segredo"),
            ("DATABASE_URL", "mysql://u:segredo@h/d"),
            ("DATABASE_READ_URL", "mysql://u:segredo@h/d"),
            ("KAFKA_BOOTSTRAP_SERVERS", "segredo"),
            ("SUPABASE_INCLUDE_IP_ADDRESS", "segredo"),
            ("SLUICE_BATCH_RECORDS", "0"),
            ("KAFKA_TOPIC", "eventos novos"),
            ("ELASTICSEARCH_INDEX_PREFIX", "_Segredo"),
        ] {
            let text = problems(&[(name, value)]);
            assert!(text.contains(&format!("{name}:")), "{text}");
            assert!(!text.to_lowercase().contains("segredo"), "{text}");
        }
    }

    #[test]
    fn sasl_needs_its_credentials() {
        let text = problems(&[("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")]);
        assert!(text.contains("KAFKA_SASL_USERNAME") && text.contains("KAFKA_SASL_PASSWORD"), "{text}");
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let settings = load(&[
            ("ELASTICSEARCH_API_KEY", "chave-segredo"),
            ("DATABASE_READ_URL", "postgres://leitor:senha@localhost/sluice"),
        ])
        .expect("valid settings");
        let text = format!("{settings:?}");
        assert!(!text.contains("segredo") && !text.contains("senha"), "{text}");
    }
}
