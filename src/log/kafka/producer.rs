//! Appending: a batch is enqueued at once and awaited as a whole.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _},
};

use super::{
    PART,
    client::{Config, QuietContext},
    faults::fault,
    password::Version,
};
use crate::{
    config::KafkaSettings,
    fault::Fault,
    log::{NewRecord, Position},
};

type Client = FutureProducer<QuietContext>;

/// How long a client that nobody appends with is kept. Its thread looks for acknowledgements ten times a second and spins
/// for the rest of a millisecond each time: most of what an idle process would cost.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// An idempotent producer that is closed while nobody appends, and made anew when it can't go on.
pub(super) struct Producer {
    config: Config,
    kept: Arc<Mutex<Kept>>,
}

struct Kept {
    client: Option<Arc<Client>>,
    version: Version,
    used: Instant,
}

impl Producer {
    pub(super) fn new(mut config: Config, settings: &KafkaSettings) -> Result<Self, Fault> {
        config
            // Implies acks=all and keeps the order of a partition through retries.
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            // The Java client's choice for keyed records: whoever else writes a lead's event hits its partition.
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "5")
            .set("batch.size", "1048576")
            .set("message.timeout.ms", settings.timeout.as_millis().to_string())
            // The client's own limit is 1,000,000 bytes, whatever the topic allows.
            .set("message.max.bytes", settings.max_message_bytes.to_string())
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "65536");
        let kept =
            Arc::new(Mutex::new(Kept { client: None, version: Version::default(), used: Instant::now() }));
        let producer = Self { config, kept };
        // Settings that the library refuses are told of at the start.
        producer.client()?;
        Ok(producer)
    }

    /// Appends records; returns when all are acknowledged by all in-sync replicas.
    pub(super) async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Position>, Fault> {
        let client = self.client()?;
        let result = append_all(&client, topic, &records).await;
        let mut kept = lock(&self.kept);
        kept.used = Instant::now();
        if result.is_err() && client.client().fatal_error().is_some() {
            // An idempotent producer that lost its sequence refuses everything from then on.
            kept.client = None;
        }
        result
    }

    fn client(&self) -> Result<Arc<Client>, Fault> {
        let mut kept = lock(&self.kept);
        kept.used = Instant::now();
        let version = self.config.password.version();
        if let Some(client) = kept.client.as_ref().filter(|_| kept.version == version) {
            return Ok(client.clone());
        }
        let client: Client = self
            .config
            .create_with_context(self.config.quiet())
            .map_err(|error| fault("making a producer", &error))?;
        let client = Arc::new(client);
        kept.version = version;
        // Whoever appends with an earlier one goes on with it.
        if let Some(before) = kept.client.replace(client.clone()) {
            tokio::task::spawn_blocking(move || drop(before));
            return Ok(client);
        }
        tokio::spawn(close_unused(Arc::downgrade(&self.kept)));
        Ok(client)
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn close_unused(kept: Weak<Mutex<Kept>>) {
    loop {
        tokio::time::sleep(KEPT_FOR).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = lock(&kept);
        let is_in_use = kept.client.as_ref().is_some_and(|client| Arc::strong_count(client) > 1);
        if !is_in_use && kept.used.elapsed() >= KEPT_FOR {
            let client = kept.client.take();
            // Its threads are waited for.
            tokio::task::spawn_blocking(move || drop(client));
            return;
        }
    }
}

async fn append_all(client: &Client, topic: &str, records: &[NewRecord]) -> Result<Vec<Position>, Fault> {
    let what = || format!("appending {} records to {topic}", records.len());
    let mut pending: VecDeque<DeliveryFuture> = VecDeque::with_capacity(records.len());
    let mut positions = Vec::with_capacity(records.len());
    for record in records {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new_with_capacity(record.headers.len()), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value.as_ref()) })
            });
        let mut outgoing =
            FutureRecord::to(topic).key(record.key.as_ref()).payload(record.value.as_ref()).headers(headers);
        loop {
            match client.send_result(outgoing) {
                Ok(delivery) => {
                    pending.push_back(delivery);
                    break;
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    // Backpressure: room comes with the next acknowledgement.
                    match pending.pop_front() {
                        Some(delivery) => positions.push(delivered(delivery, &what()).await?),
                        None => tokio::task::yield_now().await,
                    }
                    outgoing = refused;
                }
                Err((error, _)) => return Err(fault(&what(), &error)),
            }
        }
    }
    for delivery in pending {
        positions.push(delivered(delivery, &what()).await?);
    }
    Ok(positions)
}

async fn delivered(delivery: DeliveryFuture, what: &str) -> Result<Position, Fault> {
    match delivery.await {
        Ok(Ok(delivery)) => Ok(Position { partition: delivery.partition, offset: delivery.offset }),
        Ok(Err((error, _))) => Err(fault(what, &error)),
        Err(_) => Err(Fault::transient(
            PART,
            format!("{what} failed: the producer ended before the acknowledgement"),
            "tried again by itself",
        )),
    }
}
