//! The id that the brokers gave a topic when it was created (KIP-516): a topic that was deleted and made anew under the
//! same name has another.
//!
//! librdkafka reads it with every topic's metadata and keeps it; its binding for Rust hands out neither the id nor the
//! call that describes a topic, and a second client of Kafka's protocol would need TLS and SASL of its own. What the
//! library does tell is each change, in a line of its log: "Topic eventos changed id from … to …". So a client that does
//! nothing else asks for the metadata and listens. The library is built from source in the release that Cargo.lock
//! names, and `log_kafka` tests that a topic made anew has another id: a release that words it otherwise fails there.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    client::{self, Config},
    faults::fault,
    password::Version,
    refusals::Refusals,
};
use crate::{deadline, fault::Fault};

/// What the library calls no id at all.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// How long to wait for a line that a broker older than Kafka 2.8, which knows no ids, never brings about.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// Asks for the id of one topic.
pub(super) struct TopicId {
    config: Config,
    topic: String,
    timeout: Duration,
    client: Mutex<Option<(Version, BaseConsumer<Listener>)>>,
}

impl TopicId {
    pub(super) fn new(config: Config, topic: &str, timeout: Duration) -> Self {
        Self { config, topic: topic.to_owned(), timeout, client: Mutex::new(None) }
    }

    pub(super) fn name(&self) -> &str {
        &self.topic
    }

    /// The topic's id as of now; `None` where the brokers know none. Blocks.
    pub(super) fn ask(&self) -> Result<Option<String>, Fault> {
        let what = || format!("reading the metadata of {}", self.topic);
        // One question at a time: what is heard is about the last.
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.config.password.version();
        held.take_if(|(of, _)| *of != version);
        let (_, client) = match &*held {
            Some(client) => client,
            None => held.insert((version, self.connect().map_err(|error| fault(&what(), &error))?)),
        };
        let metadata = client
            .fetch_metadata(Some(&self.topic), deadline::cut(self.timeout))
            .inspect_err(|_| client::listen(client))
            .map_err(|error| fault(&what(), &error))?;
        let is_there = metadata
            .topics()
            .first()
            .is_some_and(|topic| topic.error().is_none() && !topic.partitions().is_empty());
        if !is_there {
            // Whatever is made under its name will be told of as a change.
            *held = None;
            let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
            return Err(fault(&what(), &unknown));
        }
        let listener = client.context();
        let until = Instant::now() + TOLD_WITHIN;
        loop {
            // The line is in the queue before the metadata is; polling hands it over.
            client.poll(Duration::from_millis(1));
            let id = listener.id();
            if id.is_some() || listener.was_asked_in_vain() {
                return Ok(id);
            }
            if Instant::now() > until {
                listener.note_silence();
            }
        }
    }

    fn connect(&self) -> Result<BaseConsumer<Listener>, KafkaError> {
        let mut config = self.config.clone();
        config.set("debug", "topic");
        config.set_log_level(RDKafkaLogLevel::Debug);
        client::ask_only(&mut config);
        let refusals = config.refusals.clone();
        config.create_with_context(Listener { topic: self.topic.clone(), heard: Mutex::default(), refusals })
    }
}

/// Hears the library's log.
struct Listener {
    topic: String,
    heard: Mutex<Heard>,
    refusals: Arc<Refusals>,
}

#[derive(Debug, Default)]
struct Heard {
    id: Option<String>,
    /// Brokers that tell no id are not waited for twice.
    nothing: bool,
}

impl Listener {
    fn id(&self) -> Option<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).id.clone()
    }

    fn was_asked_in_vain(&self) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).nothing
    }

    fn note_silence(&self) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).nothing = true;
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if let Some(id) = changed_id(&self.topic, message) {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).id =
                Some(id).filter(|id| !id.is_empty() && *id != NO_ID).map(str::to_owned);
        } else if !matches!(level, RDKafkaLogLevel::Debug) {
            self.refusals.hear(level, facility, message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::forward_error(&error, reason);
    }
}

impl ConsumerContext for Listener {}

/// The id that a line of the log says the topic has now; `None` for any other line.
fn changed_id<'a>(topic: &str, line: &'a str) -> Option<&'a str> {
    // Lines begin with the thread that wrote them: "[thrd:main]: Topic …".
    let (_, said) = line.split_once("Topic ")?;
    let (of, to) = said.split_once(" changed id from ")?;
    let (_, id) = to.split_once(" to ")?;
    (of == topic).then(|| id.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_from_the_line_about_this_topic_only() {
        let line =
            "[thrd:main]: Topic eventos changed id from AAAAAAAAAAAAAAAAAAAAAA to 7tUQxHkYRZ2rq1x9mX3b5A";
        assert_eq!(changed_id("eventos", line), Some("7tUQxHkYRZ2rq1x9mX3b5A"));
        assert_eq!(changed_id("eventos.dlq", line), None);
        assert_eq!(changed_id("eventos", "[thrd:main]: Topic eventos [0] Leader 1 Epoch 0"), None);
        let gone =
            "[thrd:main]: Topic eventos changed id from 7tUQxHkYRZ2rq1x9mX3b5A to AAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(changed_id("eventos", gone), Some(NO_ID));
    }
}
