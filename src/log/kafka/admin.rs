//! Questions to the cluster, and the topics it must have. Everything here blocks and runs off the async threads.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::TopicPartitionListElem,
};

use super::{
    PART,
    client::{self, Config, QuietContext},
    faults::fault,
    password::Version,
};
use crate::{
    deadline,
    fault::Fault,
    log::{Extent, LogFacts, Position, TopicLimits},
};

/// A topic that has to exist.
#[derive(Debug, Clone)]
pub(super) struct WantedTopic {
    pub(super) name: String,
    pub(super) partitions: i32,
    pub(super) replication_factor: i32,
    pub(super) max_message_bytes: usize,
    /// How long it keeps its records; `None` for ever.
    pub(super) retention: Option<Duration>,
}

/// What these partitions hold: two questions to each broker, however many partitions it leads.
pub(super) fn extents<X: ConsumerContext>(
    client: &impl Consumer<X>,
    topic: &str,
    partitions: &[i32],
    timeout: Duration,
) -> Result<Vec<Extent>, Fault> {
    let ask = |end: Offset| -> Result<HashMap<i32, i64>, Fault> {
        let what = |partition: i32| format!("reading the offsets of {topic}/{partition}");
        let first = partitions.first().copied().unwrap_or_default();
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            // In a question about times these stand for the first and the last.
            asked
                .add_partition_offset(topic, *partition, end)
                .map_err(|error| fault(&what(*partition), &error))?;
        }
        let answered =
            client.offsets_for_times(asked, timeout).map_err(|error| fault(&what(first), &error))?;
        let offset = |element: TopicPartitionListElem<'_>| {
            let partition = element.partition();
            element.error().map_err(|error| fault(&what(partition), &error))?;
            match element.offset() {
                Offset::Offset(offset) => Ok((partition, offset)),
                _ => Err(fault(&what(partition), &KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset))),
            }
        };
        answered.elements().into_iter().map(offset).collect()
    };
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let (lows, highs) = (ask(Offset::Beginning)?, ask(Offset::End)?);
    let extent = |partition: &i32| match (lows.get(partition), highs.get(partition)) {
        (Some(&low), Some(&high)) => Ok(Extent { partition: *partition, low, high }),
        _ => Err(fault(
            &format!("reading the offsets of {topic}/{partition}"),
            &KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset),
        )),
    };
    partitions.iter().map(extent).collect()
}

/// Clients kept for questions: making one costs a connection and a thread.
pub(super) struct Admin {
    config: Config,
    timeout: Duration,
    kept: Mutex<Kept>,
}

/// One client a group and one without, all made with the same password.
#[derive(Default)]
struct Kept {
    version: Version,
    clients: HashMap<Option<String>, Arc<BaseConsumer<QuietContext>>>,
}

impl Admin {
    pub(super) fn new(config: Config, timeout: Duration) -> Self {
        Self { config, timeout, kept: Mutex::default() }
    }

    fn timeout(&self) -> Duration {
        deadline::cut(self.timeout)
    }

    pub(super) fn cluster_id(&self) -> Result<String, Fault> {
        let client = self.query_client(None)?;
        let timeout = self.timeout();
        client.client().fetch_cluster_id(timeout).ok_or_else(|| {
            Fault::transient(
                PART,
                format!("no broker told the cluster's id within {} s", timeout.as_secs_f32().round()),
                "check that the brokers in KAFKA_BOOTSTRAP_SERVERS run and can be reached from here, and that \
                 KAFKA_SECURITY_PROTOCOL is what they speak",
            )
        })
    }

    pub(super) fn extents(&self, topic: &str) -> Result<Vec<Extent>, Fault> {
        let client = self.query_client(None)?;
        extents(&*client, topic, &self.partitions(&client, topic)?, self.timeout())
    }

    pub(super) fn committed(&self, topic: &str, group: &str) -> Result<Vec<Position>, Fault> {
        let client = self.query_client(Some(group))?;
        let mut asked = TopicPartitionList::new();
        for partition in self.partitions(&client, topic)? {
            asked.add_partition(topic, partition);
        }
        let answered = client
            .committed_offsets(asked, self.timeout())
            .map_err(|error| fault(&format!("reading the offsets of group {group}"), &error))?;
        let positions = answered.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some(Position { partition: element.partition(), offset }),
            _ => None,
        });
        Ok(positions.collect())
    }

    fn partitions(&self, client: &BaseConsumer<QuietContext>, topic: &str) -> Result<Vec<i32>, Fault> {
        let what = || format!("reading the metadata of {topic}");
        let metadata =
            client.fetch_metadata(Some(topic), self.timeout()).map_err(|error| fault(&what(), &error))?;
        let topic = metadata.topics().first().filter(|topic| topic.error().is_none());
        let mut partitions: Vec<i32> = topic
            .map(|topic| topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
            .unwrap_or_default();
        if partitions.is_empty() {
            return Err(fault(
                &what(),
                &KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition),
            ));
        }
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// How a topic's partitions are spread; what only its configuration tells is left out.
    pub(super) fn facts(&self, topic: &str) -> Result<LogFacts, Fault> {
        let client = self.query_client(None)?;
        let metadata = client
            .fetch_metadata(Some(topic), self.timeout())
            .map_err(|error| fault(&format!("reading the metadata of {topic}"), &error))?;
        let partitions = metadata.topics().first().map(rdkafka::metadata::MetadataTopic::partitions);
        let partitions = partitions.unwrap_or_default();
        Ok(LogFacts {
            partitions: partitions.len(),
            replicas: partitions.iter().map(|one| one.replicas().len()).min(),
            under_replicated: partitions.iter().filter(|one| one.isr().len() < one.replicas().len()).count(),
            events: TopicLimits::default(),
            letters: TopicLimits::default(),
        })
    }

    /// A client that may ask for a group's offsets, where one is named, and never joins it. The library takes a tenth of a
    /// second to close one that has a group.
    fn query_client(&self, group: Option<&str>) -> Result<Arc<BaseConsumer<QuietContext>>, Fault> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.config.password.version();
        if kept.version != version {
            *kept = Kept { version, clients: HashMap::new() };
        }
        let group = group.map(str::to_owned);
        if let Some(client) = kept.clients.get(&group) {
            return Ok(client.clone());
        }
        let mut config = self.config.clone();
        if let Some(group) = &group {
            config.set("group.id", group).set("enable.auto.commit", "false");
        }
        client::ask_only(&mut config);
        let client: BaseConsumer<QuietContext> = config
            .create_with_context(config.quiet())
            .map_err(|error| fault("making a client that asks", &error))?;
        let client = Arc::new(client);
        kept.clients.insert(group, client.clone());
        Ok(client)
    }

    /// Hears why questions fail.
    pub(super) fn listen(&self) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clients.values().for_each(|consumer| client::listen(consumer));
    }

    /// Whether all of these topics exist.
    pub(super) fn exist(&self, topics: &[WantedTopic]) -> Result<bool, Fault> {
        let client = self.query_client(None)?;
        let metadata = client
            .fetch_metadata(None, self.timeout())
            .map_err(|error| fault("listing the topics", &error))?;
        Ok(topics.iter().all(|wanted| metadata.topics().iter().any(|topic| topic.name() == wanted.name)))
    }
}

/// Asks for a topic's configuration. A user who may not ask is told the least.
pub(super) async fn topic_limits(
    config: &Config,
    timeout: Duration,
    topic: &str,
) -> Result<TopicLimits, Fault> {
    let client: AdminClient<QuietContext> = config
        .create_with_context(config.quiet())
        .map_err(|error| fault("making an admin client", &error))?;
    let options = AdminOptions::new().request_timeout(Some(deadline::cut(timeout)));
    let what = format!("reading the configuration of {topic}");
    let answered = client
        .describe_configs(&[ResourceSpecifier::Topic(topic)], &options)
        .await
        .map_err(|error| fault(&what, &error))?;
    let resource = match answered.into_iter().next() {
        Some(Ok(resource)) => resource,
        None
        | Some(Err(
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed,
        )) => {
            return Ok(TopicLimits::default());
        }
        Some(Err(code)) => return Err(fault(&what, &rdkafka::error::KafkaError::AdminOp(code))),
    };
    let value = |name| resource.get(name).and_then(|entry| entry.value.as_ref());
    Ok(TopicLimits {
        // A negative one is none.
        retention: value("retention.ms").and_then(|value| value.parse().ok()).map(Duration::from_millis),
        retention_bytes: value("retention.bytes").and_then(|value| value.parse().ok()),
        max_message_bytes: value("max.message.bytes").and_then(|value| value.parse().ok()),
        is_compacted: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
    })
}

/// Has the records of a partition below an offset deleted.
pub(super) async fn remove(
    config: &Config,
    timeout: Duration,
    topic: &str,
    below: Position,
) -> Result<(), Fault> {
    let what = format!("removing settled letters of {topic}/{}", below.partition);
    let client: AdminClient<QuietContext> = config
        .create_with_context(config.quiet())
        .map_err(|error| fault("making an admin client", &error))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, below.partition, Offset::Offset(below.offset))
        .map_err(|error| fault(&what, &error))?;
    let options = AdminOptions::new().operation_timeout(Some(timeout)).request_timeout(Some(timeout));
    let removed = client.delete_records(&list, &options).await.map_err(|error| fault(&what, &error))?;
    removed
        .elements()
        .iter()
        .try_for_each(TopicPartitionListElem::error)
        .map_err(|error| fault(&what, &error))
}

/// Creates what is missing and leaves what exists alone.
pub(super) async fn create_topics(
    config: &Config,
    timeout: Duration,
    topics: &[WantedTopic],
) -> Result<(), Fault> {
    let client: AdminClient<QuietContext> = config
        .create_with_context(config.quiet())
        .map_err(|error| fault("making an admin client", &error))?;
    let limits: Vec<(String, String)> = topics
        .iter()
        .map(|topic| {
            // The log is what a sink that was down, or an index built anew, is fed from: it forgets nothing unless an
            // operator decides so.
            let retention = topic.retention.map_or("-1".to_owned(), |kept| kept.as_millis().to_string());
            (topic.max_message_bytes.to_string(), retention)
        })
        .collect();
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .zip(&limits)
        .map(|(topic, (max_message_bytes, retention))| {
            NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(topic.replication_factor))
                .set("retention.ms", retention)
                .set("retention.bytes", "-1")
                .set("max.message.bytes", max_message_bytes)
                .set("cleanup.policy", "delete")
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(timeout)).request_timeout(Some(timeout));
    let outcome =
        client.create_topics(&new, &options).await.map_err(|error| fault("creating the topics", &error))?;
    for result in outcome {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(fault(
                    &format!("creating topic {name}"),
                    &rdkafka::error::KafkaError::AdminOp(code),
                ));
            }
        }
    }
    Ok(())
}
