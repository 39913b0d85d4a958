//! Messages in, task events out.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

/// How long the broker may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

/// Makes topics with that many partitions, and waits until the broker has them: it answers a little before that, and a message
/// that comes meanwhile is refused for good.
pub(crate) fn create(brokers: &str, topics: &[&str], partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    let topics: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1)))
        .collect();
    let done = admin.create_topics(&topics, &AdminOptions::new());
    let results = futures_lite(done)?;
    for result in results {
        let name = result.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
        for partition in 0..partitions {
            await_partition(&admin, &name, partition)?;
        }
    }
    Ok(())
}

/// Waits until a partition tells its offsets.
fn await_partition(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
    partition: i32,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = admin.inner().fetch_watermarks(topic, partition, PATIENCE) {
        anyhow::ensure!(
            Instant::now() < deadline,
            "partition {partition} of {topic} does not come up: {error}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Removes every topic with this in its name, so that rounds don't fill the disk.
pub(crate) fn remove(brokers: &str, part: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    let metadata = admin.inner().fetch_metadata(None, PATIENCE)?;
    let names = metadata.topics().iter().map(MetadataTopic::name);
    let topics: Vec<&str> = names.filter(|name| name.contains(part)).collect();
    // A topic that is gone already is fine.
    drop(futures_lite(
        admin.delete_topics(&topics, &AdminOptions::new()),
    )?);
    Ok(())
}

/// How many messages a `read_committed` reader finds in a topic from these offsets on, one for each partition.
pub(crate) fn count_from(brokers: &str, topic: &str, offsets: &[i64]) -> anyhow::Result<u64> {
    let consumer: BaseConsumer = client(brokers)
        .set("group.id", format!("count-{topic}"))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut list = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(offsets) {
        list.add_partition_offset(topic, partition, Offset::Offset(*offset))?;
    }
    consumer.assign(&list)?;
    let (mut ended, mut count) = (HashSet::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    while ended.len() < offsets.len() {
        anyhow::ensure!(
            Instant::now() < deadline,
            "{topic} can't be read to its end"
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(message) => {
                message?;
                count += 1;
            }
            None => {}
        }
    }
    Ok(count)
}

/// The offsets that a group has committed, 0 where there is none.
pub(crate) fn committed(
    brokers: &str,
    group: &str,
    topic: &str,
    partitions: i32,
) -> anyhow::Result<Vec<i64>> {
    let consumer: BaseConsumer = client(brokers).set("group.id", group).create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(topic, partition);
    }
    let found = consumer.committed_offsets(list, PATIENCE)?;
    Ok(found
        .elements()
        .iter()
        .map(|element| element.offset().to_raw().unwrap_or(0).max(0))
        .collect())
}

/// Waits for a future whose work librdkafka's own threads do.
fn futures_lite<T>(
    future: impl Future<Output = Result<T, rdkafka::error::KafkaError>>,
) -> anyhow::Result<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return Ok(done?);
        }
        anyhow::ensure!(Instant::now() < deadline, "no answer of the broker in 30 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the broker refused: a round with fewer messages than it says measures something else.
#[derive(Default)]
struct Refused {
    messages: AtomicU64,
    first: OnceLock<String>,
}

impl ClientContext for Refused {}

impl ProducerContext for Refused {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = delivered {
            self.messages.fetch_add(1, Ordering::Relaxed);
            let (topic, partition) = (message.topic(), message.partition());
            let _ = self
                .first
                .set(format!("partition {partition} of {topic}: {error}"));
        }
    }
}

/// Sends messages.
pub(crate) struct Source {
    producer: BaseProducer<Refused>,
}

impl Source {
    pub(crate) fn new(brokers: &str) -> anyhow::Result<Self> {
        Self::lingering(brokers, "5")
    }

    /// With that many milliseconds to gather messages.
    pub(crate) fn lingering(brokers: &str, linger: &str) -> anyhow::Result<Self> {
        let producer = client(brokers)
            .set("linger.ms", linger)
            .set("queue.buffering.max.messages", "1000000")
            .set("partitioner", "murmur2_random")
            .create_with_context(Refused::default())?;
        Ok(Self { producer })
    }

    pub(crate) fn send(&self, topic: &str, key: &str, value: &str) -> anyhow::Result<()> {
        let mut record = BaseRecord::to(topic).key(key).payload(value);
        while let Err((error, unsent)) = self.producer.send(record) {
            anyhow::ensure!(
                error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                "{error}"
            );
            self.producer.poll(Duration::from_millis(10));
            record = unsent;
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Waits until the broker has all of them.
    ///
    /// # Errors
    /// If it refused one.
    pub(crate) fn flush(&self) -> anyhow::Result<()> {
        self.producer.flush(Duration::from_secs(60))?;
        let refused = self.producer.context();
        match refused.first.get() {
            Some(first) => {
                let messages = refused.messages.load(Ordering::Relaxed);
                anyhow::bail!("{messages} messages were refused, the first by {first}")
            }
            None => Ok(()),
        }
    }
}

/// Reads task events as others do: committed ones only.
pub(crate) struct Sink {
    consumer: BaseConsumer,
}

impl Sink {
    pub(crate) fn new(brokers: &str, topic: &str, partitions: i32) -> anyhow::Result<Self> {
        Self::isolated(brokers, topic, partitions, "read_committed")
    }

    /// With that isolation level.
    pub(crate) fn isolated(
        brokers: &str,
        topic: &str,
        partitions: i32,
        isolation: &str,
    ) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = client(brokers)
            .set("group.id", format!("reader-{topic}"))
            .set("isolation.level", isolation)
            .set("fetch.wait.max.ms", "10")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(Self { consumer })
    }

    /// The next event's id, or none if nothing comes for a while.
    pub(crate) fn next_id(&self, patience: Duration) -> anyhow::Result<Option<String>> {
        let Some(message) = self.consumer.poll(patience) else {
            return Ok(None);
        };
        let message = message?;
        let headers = message.headers().context("an event without headers")?;
        let id = headers.iter().find(|header| header.key == "eventId");
        let id = id.and_then(|header| header.value);
        let id = id.context("an event without an eventId")?;
        Ok(Some(String::from_utf8(id.to_vec())?))
    }

    /// The next event's key, or none if nothing comes for a while.
    pub(crate) fn next(&self, patience: Duration) -> anyhow::Result<Option<String>> {
        match self.consumer.poll(patience) {
            None => Ok(None),
            Some(message) => {
                let message = message?;
                let key = message.key().context("an event without a key")?;
                Ok(Some(String::from_utf8(key.to_vec())?))
            }
        }
    }
}

/// The document's request, with an id.
pub(crate) fn request(id: &str) -> String {
    let now = now_millis();
    format!(
        r#"{{"headers":{{"requestId":"{id}","requestType":"web-crawl","timestamp":"2024-01-01T00:00:00.000Z","traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7"}},"message":{{"userEmail":"user@example.com","userQuery":"Find product information {now}","originalUrl":"https://example.com","requestedAt":"2024-01-01T00:00:00.000Z"}}}}"#
    )
}

/// A status message of the document, for a task.
pub(crate) fn status(id: &str, status: &str) -> String {
    let more = match status {
        "completed" => {
            r#","result":"Found 5 products matching criteria","finishedAt":"2024-01-01T00:00:00.000Z""#
        }
        "started" => r#","startedAt":"2024-01-01T00:00:00.000Z""#,
        _ => {
            r#","userEmail":"user@example.com","userQuery":"Find product information","originalUrl":"https://example.com""#
        }
    };
    format!(
        r#"{{"headers":{{"taskId":"{id}","taskType":"web-crawl","timestamp":"2024-01-01T00:00:00.000Z","traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7"}},"message":{{"taskId":"{id}","status":"{status}"{more}}}}}"#
    )
}

fn now_millis() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis()
}
