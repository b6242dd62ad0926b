//! Client configuration, and where the clients' own words go.

use rdkafka::{
    ClientContext,
    config::{ClientConfig, RDKafkaLogLevel},
    error::KafkaError,
};
use secrecy::ExposeSecret;

use crate::{config::KafkaSettings, redaction};

/// What every client shares: addresses and credentials.
pub(super) fn base_config(settings: &KafkaSettings) -> ClientConfig {
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
    let secret = settings.sasl_password.as_ref().map(|password| password.expose_secret().to_owned());
    if let Some(secret) = &secret {
        redaction::keep(secret);
    }
    for (key, value) in [
        ("sasl.mechanism", &settings.sasl_mechanism),
        ("sasl.username", &settings.sasl_username),
        ("sasl.password", &secret),
        ("ssl.ca.location", &settings.ssl_ca_location),
    ] {
        if let Some(value) = value {
            config.set(key, value);
        }
    }
    config
}

/// Sends librdkafka's log to ours.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct QuietContext;

impl ClientContext for QuietContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        forward_log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        forward_error(&error, reason);
    }
}

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
