//! Client configuration, and where the clients' own words go.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
};
use secrecy::ExposeSecret;

use super::{password::Password, refusals::Refusals};
use crate::{config::KafkaSettings, redaction};

/// What a client is made with, and where all of them tell why they are refused.
#[derive(Debug, Clone)]
pub(super) struct Config {
    rdkafka: ClientConfig,
    pub(super) refusals: Arc<Refusals>,
    pub(super) password: Arc<Password>,
}

impl Deref for Config {
    type Target = ClientConfig;

    fn deref(&self) -> &ClientConfig {
        &self.rdkafka
    }
}

impl DerefMut for Config {
    fn deref_mut(&mut self) -> &mut ClientConfig {
        &mut self.rdkafka
    }
}

impl Config {
    /// A client that logs in with the password as it is now. Hides the library's own, which knows of none.
    pub(super) fn create_with_context<C, T>(&self, context: C) -> KafkaResult<T>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C>,
    {
        let mut config = self.rdkafka.clone();
        if let Some(password) = self.password.current() {
            config.set("sasl.password", password.value().expose_secret());
        }
        config.create_with_context(context)
    }

    /// For clients that only ask or append.
    pub(super) fn quiet(&self) -> QuietContext {
        QuietContext(self.refusals.clone())
    }
}

/// What every client shares: addresses and credentials.
pub(super) fn base_config(settings: &KafkaSettings) -> Config {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.bootstrap_servers)
        .set("client.id", "sluice")
        .set("security.protocol", &settings.security_protocol)
        // Brokers close idle connections; that is no error worth a line.
        .set("log.connection.close", "false")
        // Partitions that are added, and a topic that is made anew, are seen within seconds, not five minutes.
        .set("topic.metadata.refresh.interval.ms", "5000")
        // Reconnect within seconds of a broker's return, not minutes.
        .set("reconnect.backoff.max.ms", "3000")
        .set_log_level(RDKafkaLogLevel::Warning);
    for (key, value) in [
        ("sasl.mechanism", &settings.sasl_mechanism),
        ("sasl.username", &settings.sasl_username),
        ("ssl.ca.location", &settings.ssl_ca_location),
    ] {
        if let Some(value) = value {
            config.set(key, value);
        }
    }
    let password = Arc::new(Password::new(settings.sasl_password.clone()));
    Config { rdkafka: config, refusals: Arc::new(Refusals::new(password.clone())), password }
}

/// Hears what a client that is only asked has to tell: its log waits until somebody polls.
pub(super) fn listen(client: &BaseConsumer<impl ConsumerContext>) {
    /// Errors that came meanwhile stand in between.
    const EVENTS: usize = 16;
    for _ in 0..EVENTS {
        client.poll(Duration::ZERO);
    }
}

/// For a client that asks for the metadata itself, each time: it need not ask by itself too.
pub(super) fn ask_only(config: &mut Config) {
    config.set("topic.metadata.refresh.interval.ms", "-1");
}

/// Sends librdkafka's log to ours.
#[derive(Debug, Clone)]
pub(super) struct QuietContext(Arc<Refusals>);

impl ClientContext for QuietContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.hear(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        forward_error(&error, reason);
    }
}

impl ConsumerContext for QuietContext {}

pub(super) fn forward_log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    let message = redaction::words(message);
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", facility, message),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, message),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, message);
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, message),
    }
}

/// Whoever waits for an answer gets a fault of his own, so this is detail.
pub(super) fn forward_error(error: &KafkaError, reason: &str) {
    tracing::debug!(target: "librdkafka", %error, reason = redaction::words(reason));
}
