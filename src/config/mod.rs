//! Every setting, typed and validated before anything starts. Secrets can't be printed.
//!
//! A part is the real one where its address is set, else the embedded one. Nothing else decides, so a part that is
//! named and does not answer is an error, and one whose address was forgotten while its other settings are there is
//! one, too. Generated rows go into a real part only where that is asked for by name.

mod address;
mod alerts;
mod env_file;
mod http;
pub(crate) mod known;
mod logs;
mod reader;
mod secret;
#[cfg(test)]
mod tests;
mod traces;
mod variables;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::TimeDelta;
use chrono_tz::Tz;

pub use address::ServerUrl;
pub use alerts::AlertSettings;
pub use env_file::SyntaxError;
pub use http::{
    HostPattern, HttpLimits, HttpSettings, OriginPattern, PublicUrl, Token, TokensFile, is_address,
    parse_address,
};
pub use logs::LogSettings;
use reader::Reader;
pub use reader::SettingsError;
pub use secret::Secret;
pub use traces::{TraceExport, TraceSettings};
pub use variables::{ENV_FILE, Taken, Variables};

use crate::{
    domain::{Catalog, CatalogError},
    language::Language,
};

/// Everything sluice can be told. [`Settings::load`] is the reference of names, units and defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None` for the sample project.
    pub supabase: Option<SupabaseSettings>,
    /// The tables to move: those in the binary, and the user's own.
    pub catalog: Catalog,
    /// Where the user's own tables are defined.
    pub tables_dir: PathBuf,
    /// Nobody named that folder.
    pub tables_dir_is_default: bool,
    /// The file of settings, where it holds a secret and others may read or change it.
    pub open_file: Option<PathBuf>,
    /// How far behind its coverage a scheduled sync reads again: rows are committed after the time they bear.
    pub overlap: TimeDelta,
    pub reconcile: ReconcileLimits,
    /// Whose days count, wherever something speaks of days.
    pub zone: Tz,
    /// In which titles of reports and of the App are.
    pub language: Language,
    /// `None` for the embedded log.
    pub kafka: Option<KafkaSettings>,
    /// `None` for the embedded store.
    pub postgres: Option<PostgresSettings>,
    /// `None` for the embedded index.
    pub elasticsearch: Option<ElasticsearchSettings>,
    /// Where the embedded parts keep their files.
    pub data_dir: PathBuf,
    pub drain: DrainSettings,
    pub exports: ExportLimits,
    /// How many days events are kept whose rows have moved on; `None` for ever.
    pub events_retention_days: Option<u32>,
    /// How many days letters are kept after they were settled; `None` for ever.
    pub letters_retention_days: Option<u32>,
    /// How many days it is remembered what became of a sync; `None` for ever.
    pub syncs_retention_days: Option<u32>,
    /// How many days the embedded log keeps what every sink has applied; `None` for ever.
    pub embedded_log_retention_days: Option<u32>,
    pub http: HttpSettings,
    pub alerts: AlertSettings,
    pub logs: LogSettings,
    pub traces: TraceSettings,
    pub mcp: McpSettings,
}

/// What MCP clients are shown.
#[derive(Debug, Clone)]
pub struct McpSettings {
    /// Offer only tools that change nothing.
    pub read_only: bool,
    /// Show e-mail addresses, phone numbers and IP addresses instead of masking them.
    pub reveal_pii: bool,
    /// Where not to everybody: the names of tools, and `token:` with the name of whoever may see them.
    pub reveal_to: BTreeSet<String>,
    /// The groups of tools to offer, where the command line names none.
    pub tools: Vec<String>,
}

/// How long files of exports are kept, and how large each may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportLimits {
    pub lifetime: TimeDelta,
    pub max_bytes: u64,
}

/// How tables are reconciled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconcileLimits {
    /// So many rows that are gone are removed without asking, however small the table.
    pub delete_rows: u64,
    /// So large a part of a table is removed without asking, in percent.
    pub delete_percent: u32,
    /// Rows read in a second at most; `None` for as many as the project gives.
    pub rows_per_second: Option<u32>,
    /// How long a sink may apply nothing before a reconciliation gives up on it.
    pub patience: Duration,
    /// The hour of the day, in the user's zone, from which tables with a schedule are reconciled; `None` for never.
    pub hour: Option<u32>,
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
    pub url: ServerUrl,
    /// A `sb_secret_…` or `sb_publishable_…` key, or a legacy JWT.
    pub key: Secret,
    /// A file of certificate authorities that are trusted besides the system's.
    pub ssl_ca_location: Option<PathBuf>,
    /// The exposed schema the tables are in.
    pub schema: String,
    /// Rows to ask for at a time; the server may cap it lower.
    pub page_size: u32,
    /// Bound on one HTTP call, retries not included.
    pub timeout: Duration,
    /// Bound on one read with its retries, after which it fails.
    pub retry_for: Duration,
    /// Columns, by their names downstream, that are read although their definitions say only on request.
    pub include_columns: Vec<String>,
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
    pub sasl_password: Option<Secret>,
    pub ssl_ca_location: Option<String>,
    /// Bound on making a batch durable, and on every question to the broker.
    pub timeout: Duration,
    /// How long a worker that was killed keeps its partitions.
    pub session_timeout: Duration,
    /// The largest record: topics that have to be created allow as much, and of others the smaller limit holds.
    pub max_message_bytes: usize,
    /// How many days topics that have to be created keep their records; `None` for ever.
    pub retention_days: Option<u32>,
}

/// Where rows and progress are stored.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// Holds the password.
    pub url: Secret,
    /// The same database, or a copy of it, under a login that may only read: questions run there.
    pub read_url: Option<Secret>,
    /// Where the password of a login made for questions is kept.
    pub data_dir: PathBuf,
    pub max_connections: u32,
    /// Bound on getting a connection and on a statement.
    pub timeout: Duration,
}

/// Where documents are searched.
#[derive(Debug, Clone)]
pub struct ElasticsearchSettings {
    pub url: ServerUrl,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub api_key: Option<Secret>,
    /// A file of certificate authorities that are trusted besides the system's.
    pub ssl_ca_location: Option<PathBuf>,
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
        Self::from_variables(variables.into_iter().collect())
    }

    /// As [`Settings::load`], with variables that may come from two places.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn from_variables(variables: Variables) -> Result<Self, SettingsError> {
        let open_file = variables.open_file();
        let mut read = Reader::new(variables);
        let catalog = catalog(&mut read);
        let data_dir = data_dir(&mut read);
        let has_elasticsearch = read.optional("ELASTICSEARCH_URL").is_some();
        let settings = Self {
            supabase: read
                .part("SUPABASE_URL", "SUPABASE_")
                .then(|| SupabaseSettings::read(&mut read, catalog)),
            kafka: read.part("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_").then(|| KafkaSettings::read(&mut read)),
            postgres: read
                .part("DATABASE_URL", "DATABASE_")
                .then(|| PostgresSettings::read(&mut read, data_dir.clone())),
            elasticsearch: read
                .part("ELASTICSEARCH_URL", "ELASTICSEARCH_")
                .then(|| ElasticsearchSettings::read(&mut read)),
            catalog,
            tables_dir: tables_dir(&mut read),
            tables_dir_is_default: read.optional("SLUICE_TABLES_DIR").is_none(),
            open_file,
            overlap: TimeDelta::minutes(read.number("SLUICE_OVERLAP_MINUTES", 10, 0..=10_080)),
            reconcile: ReconcileLimits::read(&mut read),
            zone: zone(&mut read),
            language: language(&mut read),
            data_dir,
            drain: DrainSettings::read(&mut read),
            exports: ExportLimits {
                lifetime: TimeDelta::hours(read.number("SLUICE_EXPORT_HOURS", 24, 1..=720)),
                max_bytes: read.number("SLUICE_EXPORT_MAX_MIB", 1024_u64, 1..=1_048_576) << 20,
            },
            events_retention_days: days(&mut read, "SLUICE_EVENTS_RETENTION_DAYS", 0),
            letters_retention_days: days(&mut read, "SLUICE_LETTERS_RETENTION_DAYS", 0),
            syncs_retention_days: days(&mut read, "SLUICE_SYNCS_RETENTION_DAYS", 90),
            embedded_log_retention_days: embedded_log_days(&mut read),
            http: HttpSettings::read(&mut read),
            alerts: AlertSettings::read(&mut read),
            logs: LogSettings::read(&mut read, has_elasticsearch),
            traces: TraceSettings::read(&read),
            mcp: McpSettings {
                read_only: read.flag("SLUICE_READ_ONLY", false),
                reveal_pii: read.flag("SLUICE_REVEAL_PII", false),
                reveal_to: list(&read, "SLUICE_REVEAL_PII_TO"),
                tools: list(&read, "SLUICE_TOOLS").into_iter().collect(),
            },
        };
        settings.check_reveal(&mut read);
        settings.check_sample(&mut read);
        check_log(&mut read);
        read.finish().map(|()| settings)
    }

    /// A token that nobody has would leave its holder without what was meant for them.
    fn check_reveal(&self, read: &mut Reader) {
        let named = self.mcp.reveal_to.iter().filter_map(|name| name.strip_prefix("token:"));
        for name in named.filter(|name| self.http.tokens.iter().all(|token| token.name != **name)) {
            read.problem(
                "SLUICE_REVEAL_PII_TO",
                format_args!("names the token '{name}', and SLUICE_HTTP_TOKENS has none of that name"),
            );
        }
    }

    /// Generated rows among real ones are worse than none.
    fn check_sample(&self, read: &mut Reader) {
        let asked = read.choice("SLUICE_SAMPLE");
        let addresses = [
            ("KAFKA_BOOTSTRAP_SERVERS", self.kafka.is_some()),
            ("DATABASE_URL", self.postgres.is_some()),
            ("ELASTICSEARCH_URL", self.elasticsearch.is_some()),
        ];
        let address = addresses.into_iter().find_map(|(name, is_real)| is_real.then_some(name));
        match (self.supabase.is_some(), asked, address) {
            (true, Some(true), _) => read.problem(
                "SLUICE_SAMPLE",
                "asks for generated rows although SUPABASE_URL is set; remove one of the two",
            ),
            (false, Some(false), _) if !read.has_problem("SUPABASE_URL") => {
                read.problem(
                    "SUPABASE_URL",
                    "is not set, and SLUICE_SAMPLE=false refuses generated rows; set it",
                );
            }
            (false, None, Some(address)) if !read.has_problem("SUPABASE_URL") => read.problem(
                "SUPABASE_URL",
                format_args!(
                    "is not set although {address} is, and generated rows would go there; set SUPABASE_URL and \
                     SUPABASE_KEY, or SLUICE_SAMPLE=true if generated rows are what you want"
                ),
            ),
            _ => {}
        }
    }
}

/// A level that is misspelt would be taken for a module's name, and nothing would be logged.
fn check_log(read: &mut Reader) {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let text = read.optional("SLUICE_LOG").unwrap_or_default();
    let is_level = |text: &str| LEVELS.contains(&text.to_ascii_lowercase().as_str());
    let is_right = |part: &str| match part.split_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(part),
    };
    if !text.split(',').map(str::trim).filter(|part| !part.is_empty()).all(is_right) {
        read.problem(
            "SLUICE_LOG",
            format_args!("must be one of {}, or a list such as warn,sluice=debug", LEVELS.join(", ")),
        );
    }
}

/// The tables in the binary and those of the user's folder.
fn catalog(read: &mut Reader) -> Catalog {
    let zone = zone_named(read, "SUPABASE_TIMEZONE").unwrap_or(Tz::UTC);
    let named = read.optional("SLUICE_TABLES_DIR").is_some();
    // One that can't be looked at may hold definitions: without them the tables of others would be taken for other ones.
    let is_there = |folder: &Path| {
        let nothing = [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory];
        !folder.symlink_metadata().is_err_and(|error| nothing.contains(&error.kind()))
    };
    let folder = Some(tables_dir(read)).filter(|folder| named || is_there(folder));
    Catalog::load(folder.as_deref(), zone).unwrap_or_else(|error| {
        match &error {
            CatalogError::NoFolder { folder, error } if error.kind() == std::io::ErrorKind::NotFound => {
                read.problem(
                    "SLUICE_TABLES_DIR",
                    format_args!("is not there: make the folder {}, or name the right one", folder.display()),
                );
            }
            CatalogError::NoFolder { .. } => {
                read.problem("SLUICE_TABLES_DIR", format_args!("is no folder that can be read: {error}"));
            }
            _ => read.problem("SLUICE_TABLES_DIR", format_args!("holds a file that is no table: {error}")),
        }
        Catalog::built_in()
    })
}

/// What stands between commas.
fn list(read: &Reader, setting: &str) -> BTreeSet<String> {
    let text = read.optional(setting).unwrap_or_default();
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

fn zone_named(read: &mut Reader, setting: &str) -> Option<Tz> {
    let zone = read.optional(setting)?.trim().parse();
    if zone.is_err() {
        read.problem(setting, "is no time zone's name; for example America/Sao_Paulo");
    }
    zone.ok()
}

/// The zone whose days count: the one that is named, else the machine's, as its programs find it.
fn zone(read: &mut Reader) -> Tz {
    zone_named(read, "SLUICE_TIMEZONE").unwrap_or_else(|| {
        let named = std::env::var("TZ").ok().and_then(|name| name.trim_start_matches(':').parse().ok());
        named.or_else(|| iana_time_zone::get_timezone().ok()?.parse().ok()).unwrap_or(Tz::UTC)
    })
}

/// The language that is named, else the machine's, as its programs find it.
fn language(read: &mut Reader) -> Language {
    if let Some(tag) = read.optional("SLUICE_LANGUAGE") {
        return Language::from_tag(&tag).unwrap_or_else(|| {
            read.problem("SLUICE_LANGUAGE", format_args!("must be {}", Language::TAGS));
            Language::default()
        });
    }
    let set = |name: &str| std::env::var(name).ok().filter(|locale| !locale.is_empty());
    let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set);
    locale.and_then(|locale| Language::from_tag(&locale)).unwrap_or_default()
}

/// The folder of the user's definitions: in the data folder, unless told otherwise.
fn tables_dir(read: &mut Reader) -> PathBuf {
    read.optional("SLUICE_TABLES_DIR").map_or_else(|| data_dir(read).join("tables"), PathBuf::from)
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

    fn read(read: &mut Reader, catalog: Catalog) -> Self {
        read.required("SUPABASE_KEY", "sb_secret_… (the project's API settings show it)");
        Self {
            url: address::project(read),
            key: read.renewable("SUPABASE_KEY").unwrap_or_else(|| "".into()),
            ssl_ca_location: read.optional("SUPABASE_SSL_CA_LOCATION").map(PathBuf::from),
            schema: read.text("SUPABASE_SCHEMA", "public"),
            page_size: read.number("SUPABASE_PAGE_SIZE", Self::PAGE_SIZE, 1..=10_000),
            timeout: read.seconds("SUPABASE_TIMEOUT_SECONDS", 30),
            retry_for: read.seconds("SUPABASE_RETRY_SECONDS", 60),
            include_columns: include_columns(read, catalog),
        }
    }
}

/// `SUPABASE_INCLUDE_<COLUMN>`, for each column that a definition reads only on request.
fn include_columns(read: &mut Reader, catalog: Catalog) -> Vec<String> {
    let columns = catalog.tables().flat_map(|table| table.definition().columns.iter());
    let columns: BTreeSet<&str> =
        columns.filter(|column| column.on_request).map(|column| column.name.as_str()).collect();
    let mut included = Vec::new();
    for setting in read.beginning_with(known::INCLUDE) {
        let name = setting[known::INCLUDE.len()..].to_lowercase();
        if columns.contains(name.as_str()) {
            if read.flag(&setting, false) {
                included.push(name);
            }
        // Where the definitions can't be read, that is the problem.
        } else if !read.has_problem("SLUICE_TABLES_DIR") {
            let there_are: Vec<&str> = columns.iter().copied().collect();
            read.problem(
                &setting,
                format_args!(
                    "names no column that a definition reads only on request (on_request = true); those there are: {}",
                    there_are.join(", ")
                ),
            );
        }
    }
    included
}

/// Days that something is kept; `None`, spelt 0, for ever.
fn days(read: &mut Reader, name: &str, default: u32) -> Option<u32> {
    Some(read.number(name, default, 0..=36_500)).filter(|days| *days > 0)
}

/// Whoever sets it beside brokers means their topics.
fn embedded_log_days(read: &mut Reader) -> Option<u32> {
    const NAME: &str = "SLUICE_EMBEDDED_LOG_RETENTION_DAYS";
    let days = days(read, NAME, 0);
    if days.is_some() && read.optional("KAFKA_BOOTSTRAP_SERVERS").is_some() {
        read.problem(NAME, "is for the embedded log, and KAFKA_BOOTSTRAP_SERVERS is set; set KAFKA_RETENTION_DAYS, or the topic's retention.ms");
    }
    days
}

impl KafkaSettings {
    /// The largest record unless told otherwise, in bytes: a row is stored twice in it, once cut short.
    pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

    fn read(read: &mut Reader) -> Self {
        let topic = read.text("KAFKA_TOPIC", "eventos");
        let security_protocol = read.one_of(
            "KAFKA_SECURITY_PROTOCOL",
            "plaintext",
            &["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"],
        );
        let settings = Self {
            bootstrap_servers: read.required("KAFKA_BOOTSTRAP_SERVERS", "broker-1:9092,broker-2:9092"),
            dead_letter_topic: read.text("KAFKA_DEAD_LETTER_TOPIC", &format!("{topic}.dlq")),
            topic,
            partitions: read.number("KAFKA_PARTITIONS", 6, 1..=1000),
            replication_factor: read.number("KAFKA_REPLICATION_FACTOR", -1, -1..=100),
            security_protocol: security_protocol.clone(),
            sasl_mechanism: Some(read.text("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"))
                .filter(|_| security_protocol.starts_with("sasl")),
            sasl_username: read.optional("KAFKA_SASL_USERNAME"),
            sasl_password: read.renewable("KAFKA_SASL_PASSWORD"),
            ssl_ca_location: read.optional("KAFKA_SSL_CA_LOCATION"),
            timeout: read.seconds("KAFKA_TIMEOUT_SECONDS", 30),
            // Brokers allow no less, unless they are told to.
            session_timeout: Duration::from_secs(read.number("KAFKA_SESSION_TIMEOUT_SECONDS", 10, 6..=300)),
            max_message_bytes: read.number(
                "KAFKA_MAX_MESSAGE_BYTES",
                Self::MAX_MESSAGE_BYTES,
                16_384..=512 << 20,
            ),
            retention_days: days(read, "KAFKA_RETENTION_DAYS", 0),
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
        if brokers.contains('@') {
            read.problem(
                "KAFKA_BOOTSTRAP_SERVERS",
                "has a login in it, which nobody sends; set KAFKA_SASL_USERNAME and …_PASSWORD",
            );
        } else if !brokers.is_empty() && !brokers.split(',').all(has_port) {
            read.problem("KAFKA_BOOTSTRAP_SERVERS", "must be host:port, several separated by commas");
        }
        if self.security_protocol.starts_with("sasl") {
            if self.sasl_username.is_none() {
                read.problem("KAFKA_SASL_USERNAME", "is needed by KAFKA_SECURITY_PROTOCOL=sasl_…");
            }
            if self.sasl_password.is_none() {
                read.problem("KAFKA_SASL_PASSWORD", "is needed by KAFKA_SECURITY_PROTOCOL=sasl_…");
            }
        } else if self.sasl_username.is_some()
            || self.sasl_password.is_some()
            || read.optional("KAFKA_SASL_MECHANISM").is_some()
        {
            let problem = format!(
                "is {}, which logs in nobody; set it to sasl_ssl, or remove KAFKA_SASL_…",
                self.security_protocol
            );
            read.problem("KAFKA_SECURITY_PROTOCOL", problem);
        }
        if self.ssl_ca_location.is_some() && !self.security_protocol.ends_with("ssl") {
            let problem = format!(
                "is {}, which encrypts nothing; set it to ssl or sasl_ssl, or remove KAFKA_SSL_CA_LOCATION",
                self.security_protocol
            );
            read.problem("KAFKA_SECURITY_PROTOCOL", problem);
        }
    }
}

impl PostgresSettings {
    fn read(read: &mut Reader, data_dir: PathBuf) -> Self {
        let read_url = read.renewable("DATABASE_READ_URL");
        if read_url.is_some() {
            address::database(read, "DATABASE_READ_URL");
        }
        address::database(read, "DATABASE_URL");
        Self {
            url: read.renewable("DATABASE_URL").unwrap_or_else(|| "".into()),
            read_url,
            data_dir,
            max_connections: read.number("DATABASE_MAX_CONNECTIONS", 8, 3..=1000),
            timeout: read.seconds("DATABASE_TIMEOUT_SECONDS", 30),
        }
    }
}

impl ElasticsearchSettings {
    fn read(read: &mut Reader) -> Self {
        let settings = Self {
            url: address::base(read, "ELASTICSEARCH_URL", "http://localhost:9200"),
            username: read.optional("ELASTICSEARCH_USERNAME"),
            password: read.renewable("ELASTICSEARCH_PASSWORD"),
            api_key: read.renewable("ELASTICSEARCH_API_KEY"),
            ssl_ca_location: read.optional("ELASTICSEARCH_SSL_CA_LOCATION").map(PathBuf::from),
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

impl ReconcileLimits {
    fn read(read: &mut Reader) -> Self {
        let rows_per_second = read.number("SLUICE_RECONCILE_ROWS_PER_SECOND", 5_000, 0..=1_000_000);
        Self {
            delete_rows: read.number("SLUICE_RECONCILE_DELETES", 10, 0..=1_000_000_000),
            delete_percent: read.number("SLUICE_RECONCILE_DELETES_PERCENT", 10, 0..=100),
            rows_per_second: Some(rows_per_second).filter(|rows| *rows > 0),
            patience: read.seconds("SLUICE_RECONCILE_PATIENCE_SECONDS", 60),
            hour: match read.optional("SLUICE_RECONCILE_HOUR").as_deref() {
                Some("off") => None,
                _ => Some(read.number("SLUICE_RECONCILE_HOUR", 3, 0..=23)),
            },
        }
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
