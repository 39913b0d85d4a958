//! Words to tell the tests in: a cluster with topics, and hosts with what they are assigned.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use taskhost::background::Background;
use taskhost::kafka::{
    Admin, Assignment, Consumer, Limits, Sender, Settings, publisher, read_committed,
};
use taskhost::log::{Fed, Feed, Ownership, PublishObserver, Publisher, Tag};
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::record::{Message, Offset, Record, TopicPartition};
use taskhost_core::watermark::{Mark, Watermark};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn unique(name: &str) -> String {
    format!("{name}-{}", Uuid::new_v4().simple())
}

fn brokers() -> String {
    std::env::var("TEST_KAFKA_BROKERS")
        .expect("TEST_KAFKA_BROKERS must name a Kafka broker to test against, as host:port")
}

/// Settings of a host in that group, under that group protocol.
pub(crate) fn settings_with(group: &str, protocol: &str) -> Settings {
    let list = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let mut consumer = list(&[("group.protocol", protocol)]);
    if protocol == "classic" {
        consumer.extend(list(&[
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "500"),
        ]));
    }
    Settings {
        client: list(&[
            ("bootstrap.servers", &brokers()),
            ("client.id", "taskhost-test"),
        ]),
        consumer,
        producer: list(&[
            ("transaction.timeout.ms", "15000"),
            ("socket.timeout.ms", "10000"),
        ]),
        group: group.to_owned(),
        transactional_prefix: group.to_owned(),
        at_least_once: false,
        transaction_bytes_max: 16 * 1024 * 1024,
    }
}

pub(crate) fn settings(group: &str) -> Settings {
    settings_with(group, "classic")
}

/// Awaits something that has to happen soon.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

/// Runs something that blocks.
pub(crate) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(run)
        .await
        .expect("it does not panic")
}

pub(crate) async fn topic(name: &str, partitions: i32) -> String {
    topic_with(name, partitions, &[]).await
}

pub(crate) async fn topic_with(name: &str, partitions: i32, config: &[(&str, &str)]) -> String {
    let name = unique(name);
    let admin = Admin::new(&settings("none"), PATIENCE).unwrap();
    assert!(admin.create_with(&name, partitions, config).await.unwrap());
    name
}

pub(crate) async fn delete(topic: &str) {
    let client: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .create()
        .unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let deleted = client.delete_topics(&[topic], &options).await.unwrap();
    assert_eq!(deleted, [Ok(topic.to_owned())]);
}

pub(crate) fn record(topic: &str, value: impl Into<Vec<u8>>) -> Record {
    Record {
        topic: topic.to_owned(),
        key: Some(b"k".to_vec()),
        value: Some(value.into()),
        headers: vec![],
        timestamp: None,
    }
}

pub(crate) async fn send(records: Vec<Record>) {
    blocking(move || {
        Sender::new(&settings("none"))
            .unwrap()
            .send(&records, PATIENCE)
            .unwrap()
    })
    .await;
}

pub(crate) async fn read(topic: &str) -> Vec<Message> {
    let topic = topic.to_owned();
    blocking(move || read_committed(&settings("none"), &topic, PATIENCE).unwrap()).await
}

/// The token of all batches.
pub(crate) const TOKEN: Option<Uuid> = Some(Uuid::from_u128(7));

/// The watermark of a batch.
pub(crate) fn mark(batch: BatchNumber, offset: Offset) -> Mark {
    Mark {
        batch,
        offset,
        token: TOKEN,
    }
}

pub(crate) fn frame(batch: BatchNumber, next_offset: Offset, records: Vec<Record>) -> Arc<Frame> {
    Arc::new(Frame {
        batch,
        next_offset,
        records,
    })
}

/// What a host holds of one partition.
pub(crate) struct Held {
    pub(crate) tag: Tag,
    pub(crate) feed: Feed,
    pub(crate) draining: CancellationToken,
}

/// A host's Kafka side.
pub(crate) struct Host {
    pub(crate) settings: Settings,
    pub(crate) ownership: Arc<Ownership>,
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) publisher: Publisher,
    pub(crate) counts: Arc<Counts>,
    pub(crate) held: BTreeMap<TopicPartition, Held>,
    pub(crate) lost: Vec<(TopicPartition, Tag)>,
    assignments: mpsc::UnboundedReceiver<Assignment>,
}

impl Host {
    pub(crate) fn start(mut settings: Settings, topic: &str) -> Self {
        // Several hosts of a test share a process.
        settings.transactional_prefix = unique("id");
        let (sender, assignments) = mpsc::unbounded_channel();
        let ownership = Arc::new(Ownership::new());
        let background = Background::unsupervised();
        let consumer = Arc::new(
            Consumer::start(
                &settings,
                &[topic],
                Arc::clone(&ownership),
                sender,
                &background,
            )
            .unwrap(),
        );
        let counts = Arc::new(Counts::default());
        let (publisher, following) = publisher(
            settings.clone(),
            Arc::new(Limits::new()),
            Arc::<Counts>::clone(&counts),
            &background,
        )
        .unwrap();
        following.follow(Arc::clone(&consumer));
        let (held, lost) = (BTreeMap::new(), Vec::new());
        Self {
            settings,
            ownership,
            consumer,
            publisher,
            counts,
            held,
            lost,
            assignments,
        }
    }

    /// A host that has been assigned all of a topic's partitions.
    pub(crate) async fn of_all(settings: Settings, topic: &str, partitions: usize) -> Self {
        let mut host = Self::start(settings, topic);
        host.until(|host| host.held.len() == partitions).await;
        host
    }

    /// Follows the rebalances until something holds.
    pub(crate) async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            match soon("a rebalance", self.assignments.recv()).await {
                Some(Assignment::Assigned {
                    partition,
                    tag,
                    feed,
                    draining,
                }) => {
                    self.held.insert(
                        partition,
                        Held {
                            tag,
                            feed,
                            draining,
                        },
                    );
                }
                Some(Assignment::Revoked { partition, tag, .. }) => {
                    self.held.remove(&partition).unwrap();
                    self.lost.push((partition, tag));
                }
                Some(Assignment::Trouble(error) | Assignment::Gone(error)) => {
                    eprintln!("trouble: {error}")
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn tag(&self, partition: &TopicPartition) -> Tag {
        self.held[partition].tag
    }

    pub(crate) fn add(&self, partition: &TopicPartition, offset: Offset) {
        assert!(
            self.consumer
                .add(partition, offset, self.tag(partition))
                .unwrap()
        );
    }

    pub(crate) fn begin(&self, partition: &TopicPartition, watermark: Option<BatchNumber>) {
        self.publisher
            .begin(partition, self.tag(partition), watermark);
    }

    pub(crate) async fn publish(
        &self,
        partition: &TopicPartition,
        frame: Arc<Frame>,
    ) -> taskhost::log::Answer {
        soon(
            "an answer",
            self.publisher
                .publish(partition, self.tag(partition), frame, TOKEN),
        )
        .await
        .unwrap()
    }

    pub(crate) async fn committed(&self, partition: &TopicPartition) -> Watermark {
        let (consumer, partition) = (Arc::clone(&self.consumer), partition.clone());
        blocking(move || consumer.committed(&partition, PATIENCE).unwrap()).await
    }

    pub(crate) async fn next(&mut self, partition: &TopicPartition) -> Fed {
        let feed = &mut self.held.get_mut(partition).unwrap().feed;
        soon("something to be fed", feed.next()).await.unwrap()
    }

    /// Messages up to the end, and the end's offset.
    pub(crate) async fn read_to_end(
        &mut self,
        partition: &TopicPartition,
    ) -> (Vec<Offset>, Offset) {
        let mut offsets = Vec::new();
        loop {
            match self.next(partition).await {
                Fed::Message(message) => offsets.push(message.position.offset),
                Fed::End { offset } => return (offsets, offset),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// An observer that remembers.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) sent: Mutex<HashMap<String, u64>>,
    pub(crate) failed: Mutex<HashMap<String, u64>>,
    pub(crate) transactions: Mutex<Vec<Duration>>,
}

impl PublishObserver for Counts {
    fn sent(&self, topic: &str, messages: u64) {
        *self
            .sent
            .lock()
            .unwrap()
            .entry(topic.to_owned())
            .or_default() += messages;
    }

    fn failed(&self, topic: &str, messages: u64) {
        *self
            .failed
            .lock()
            .unwrap()
            .entry(topic.to_owned())
            .or_default() += messages;
    }

    fn transaction(&self, _: u64, duration: Duration) {
        self.transactions.lock().unwrap().push(duration);
    }
}
