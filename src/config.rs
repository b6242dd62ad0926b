//! Every setting, typed and validated before anything starts. Secrets can't be printed.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

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
