//! The log on Apache Kafka.
//!
//! A record is reported as appended only when all in-sync replicas have it, and the offsets of a group move only
//! when a drain says so: nothing is committed or stored behind its back.

mod admin;
mod client;
mod faults;
mod password;
mod producer;
mod ranges;
mod reader;
mod refusals;
mod topic_id;

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use self::{
    admin::{Admin, WantedTopic},
    client::Config,
    producer::Producer,
    reader::KafkaReader,
    topic_id::TopicId,
};
use super::{Extent, Log, LogFacts, LogReader, NewRecord, Position, Record, Topic, TopicLimits};
use crate::{backoff::Backoff, config::KafkaSettings, deadline, fault::Fault, identity::Identity};

const PART: &str = "kafka";

/// What a broker allows where nobody told it otherwise: assumed where a topic's own limit may not be asked.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

/// How long a topic's configuration is taken for what it was: an operator may change it.
const TAKEN_FOR: Duration = Duration::from_mins(1);

/// What is appended there may vanish before it is read.
fn compacted(topic: &str) -> Fault {
    Fault::misconfigured(
        PART,
        format!(
            "appending to {topic}: the topic is compacted, so of events of one row only the last would stay"
        ),
        format!(
            "set its cleanup.policy to delete (kafka-configs.sh --alter --entity-type topics --entity-name {topic} \
             --add-config cleanup.policy=delete); within a minute events are appended again, and what the compaction took of a \
             table comes back with a sync of all of it"
        ),
    )
}

/// The log on a Kafka cluster.
pub struct KafkaLog {
    config: Config,
    timeout: Duration,
    session_timeout: Duration,
    events: WantedTopic,
    dead_letters: WantedTopic,
    producer: Producer,
    admin: Arc<Admin>,
    event_topic: Arc<TopicId>,
    letter_topic: Arc<TopicId>,
    cluster: OnceCell<String>,
    max_message_bytes: usize,
    /// What each topic's configuration said when it was last asked.
    limits: tokio::sync::Mutex<[Option<(Instant, TopicLimits)>; 2]>,
}

impl KafkaLog {
    /// Makes the clients; the brokers need not be up yet.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, Fault> {
        let config = client::base_config(settings);
        let topic = |name: &str, partitions| WantedTopic {
            name: name.to_owned(),
            partitions,
            replication_factor: settings.replication_factor,
            max_message_bytes: settings.max_message_bytes,
            retention: settings.retention_days.map(|days| Duration::from_hours(24) * days),
        };
        Ok(Self {
            timeout: settings.timeout,
            session_timeout: settings.session_timeout,
            events: topic(&settings.topic, settings.partitions),
            // Dead letters are few and read by people, in order: one partition.
            dead_letters: topic(&settings.dead_letter_topic, 1),
            producer: Producer::new(config.clone(), settings)?,
            admin: Arc::new(Admin::new(config.clone(), settings.timeout)),
            event_topic: Arc::new(TopicId::new(config.clone(), &settings.topic, settings.timeout)),
            letter_topic: Arc::new(TopicId::new(
                config.clone(),
                &settings.dead_letter_topic,
                settings.timeout,
            )),
            config,
            cluster: OnceCell::new(),
            max_message_bytes: settings.max_message_bytes,
            limits: tokio::sync::Mutex::default(),
        })
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Admin) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let admin = self.admin.clone();
        self.told(blocking(move || question(&admin).inspect_err(|_| admin.listen())).await)
    }

    /// With the reason of a fault, where the brokers refuse this client.
    fn told<T>(&self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        outcome.map_err(|fault| self.config.refusals.explain(fault))
    }

    /// Waits until the brokers answer for new topics: the controller knows them before the brokers do.
    async fn await_topics(&self) -> Result<(), Fault> {
        let until = Instant::now() + self.timeout;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        for topic in [&self.events.name, &self.dead_letters.name] {
            while let Err(fault) = self.extents_of(topic).await {
                if Instant::now() >= until {
                    return Err(fault);
                }
                tokio::time::sleep(backoff.next_pause(None)).await;
            }
        }
        Ok(())
    }

    fn name_of(&self, topic: Topic) -> &str {
        match topic {
            Topic::Events => &self.events.name,
            Topic::DeadLetters => &self.dead_letters.name,
        }
    }

    async fn identity_of(&self, topic: &Arc<TopicId>) -> Result<Identity, Fault> {
        let cluster = self.cluster.get_or_try_init(|| self.ask(Admin::cluster_id)).await?;
        let place = format!("{cluster}/{}", topic.name());
        let topic = topic.clone();
        // Brokers before Kafka 2.8 give topics no id: there, a topic is known by its name alone.
        let id = self.told(blocking(move || topic.ask()).await)?.unwrap_or_default();
        // As Kafka's own tools spell it; librdkafka's has slashes, by which a place is told from an id.
        Ok(Identity { place, id: id.replace('/', "_").replace('+', "-") })
    }

    async fn limits_of(&self, topic: Topic) -> Result<TopicLimits, Fault> {
        let mut limits = self.limits.lock().await;
        let known = &mut limits[usize::from(topic == Topic::DeadLetters)];
        if let Some((_, limits)) = known.filter(|(asked, _)| asked.elapsed() < TAKEN_FOR) {
            return Ok(limits);
        }
        let limits = admin::topic_limits(&self.config, self.timeout, self.name_of(topic)).await?;
        *known = Some((Instant::now(), limits));
        Ok(limits)
    }

    async fn extents_of(&self, topic: &str) -> Result<Vec<Extent>, Fault> {
        let topic = topic.to_owned();
        self.ask(move |admin| admin.extents(&topic)).await
    }
}

#[async_trait]
impl Log for KafkaLog {
    fn name(&self) -> &'static str {
        PART
    }

    fn topic(&self) -> &str {
        self.name_of(Topic::Events)
    }

    async fn identity(&self) -> Result<Identity, Fault> {
        self.identity_of(&self.event_topic).await
    }

    async fn dead_letters_identity(&self) -> Result<Identity, Fault> {
        self.identity_of(&self.letter_topic).await
    }

    async fn is_made(&self) -> Result<bool, Fault> {
        let topics = [self.events.clone(), self.dead_letters.clone()];
        self.ask(move |admin| admin.exist(&topics)).await
    }

    async fn ensure_topics(&self) -> Result<(), Fault> {
        if self.is_made().await? {
            return Ok(());
        }
        let topics = [self.events.clone(), self.dead_letters.clone()];
        self.told(admin::create_topics(&self.config, self.timeout, &topics).await)?;
        self.await_topics().await
    }

    async fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, Fault> {
        if self.limits_of(topic).await?.is_compacted {
            return Err(compacted(self.name_of(topic)));
        }
        self.told(self.producer.append(self.name_of(topic), records).await)
    }

    async fn reader(&self, group: &str) -> Result<Box<dyn LogReader>, Fault> {
        let topic = &self.events.name;
        let reader =
            KafkaReader::join(self.config.clone(), topic, group, self.timeout, self.session_timeout)?;
        Ok(Box::new(reader))
    }

    async fn extents(&self) -> Result<Vec<Extent>, Fault> {
        self.extents_of(&self.events.name).await
    }

    async fn committed(&self, group: &str) -> Result<Vec<Position>, Fault> {
        let (topic, group) = (self.events.name.clone(), group.to_owned());
        self.ask(move |admin| admin.committed(&topic, &group)).await
    }

    async fn max_record(&self, topic: Topic) -> Result<usize, Fault> {
        let limits = self.limits_of(topic).await?;
        Ok(limits.max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES).min(self.max_message_bytes))
    }

    async fn is_compacted(&self) -> Result<bool, Fault> {
        Ok(self.limits_of(Topic::Events).await?.is_compacted)
    }

    async fn records(&self, topic: Topic, ranges: &[Extent]) -> Result<Vec<Record>, Fault> {
        let (config, topic, timeout) = (self.config.clone(), self.name_of(topic).to_owned(), self.timeout);
        let ranges = ranges.to_vec();
        self.told(blocking(move || ranges::read(config, &topic, &ranges, timeout)).await)
    }

    async fn holds_none(&self, range: Extent) -> Result<bool, Fault> {
        let (config, topic, timeout) = (self.config.clone(), self.events.name.clone(), self.timeout);
        blocking(move || {
            let mut is_empty = true;
            ranges::each(config, &topic, &[range], timeout, |_| {
                is_empty = false;
                ControlFlow::Break(())
            })?;
            Ok(is_empty)
        })
        .await
    }

    async fn dead_letter_extents(&self) -> Result<Vec<Extent>, Fault> {
        self.extents_of(&self.dead_letters.name).await
    }

    async fn remove(&self, topic: Topic, below: Position) -> Result<(), Fault> {
        let topic = self.name_of(topic);
        self.told(admin::remove(&self.config, self.timeout, topic, below).await)
    }

    async fn facts(&self) -> Result<LogFacts, Fault> {
        let topic = self.events.name.clone();
        let mut facts = self.ask(move |admin| admin.facts(&topic)).await?;
        facts.events = admin::topic_limits(&self.config, self.timeout, &self.events.name).await?;
        facts.letters = admin::topic_limits(&self.config, self.timeout, &self.dead_letters.name).await?;
        Ok(facts)
    }
}

/// Runs what blocks off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let deadline = deadline::current();
    let work = move || deadline::blocking_by(deadline, work);
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(Fault::transient(
            PART,
            "a question to the log ended badly",
            "report this with the log lines before it",
        ))
    })
}
