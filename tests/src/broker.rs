//! The broker as a client sees it: messages in, records out, offsets and what groups committed.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use crate::PATIENCE;

/// How long one question may take, and the pause before it is asked again.
const ASK: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A message to send.
#[derive(Clone, Debug)]
pub struct Message {
    pub(crate) topic: String,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp: Option<i64>,
}

impl Message {
    /// To a topic by its logical name. Until told otherwise there is no key, no value and no header.
    #[must_use]
    pub fn to(topic: &str) -> Self {
        let topic = topic.to_owned();
        Self {
            topic,
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// The topic's logical name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// With that key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Without a key.
    #[must_use]
    pub fn no_key(mut self) -> Self {
        self.key = None;
        self
    }

    /// With those bytes as its value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Whether its value is that.
    #[must_use]
    pub fn is_value(&self, value: Option<&[u8]>) -> bool {
        self.value.as_deref() == value
    }

    /// With that JSON text as its value.
    #[must_use]
    pub fn json(self, value: &Value) -> Self {
        self.value(value.to_string())
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    /// With one more header, whose value is null.
    #[must_use]
    pub fn null_header(mut self, name: &str) -> Self {
        self.headers.push((name.to_owned(), None));
        self
    }

    /// With that timestamp, in milliseconds since 1970, instead of now.
    #[must_use]
    pub fn at(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// To that partition instead of the key's.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it was read.
    pub partition: i32,
    /// Where it was read.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes.
    pub value: Option<Vec<u8>>,
    /// All headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The value as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        let value = self.value.as_deref().expect("a value");
        serde_json::from_slice(value)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(value)))
    }

    /// The key as text; empty for none.
    #[must_use]
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// The last header of that name as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().rev().find(|(each, _)| each == name);
        let (_, value) = found?;
        value
            .as_deref()
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// What a group committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The next record to read.
    pub offset: i64,
    /// What the host wrote beside it.
    pub metadata: String,
}

/// Watermarks by real topic and partition.
pub(crate) type Watermarks = Vec<((String, i32), Option<Watermark>)>;

/// Ends by real topic and partition.
pub(crate) type Ends = Vec<((String, i32), i64)>;

impl Watermark {
    /// The number of the last published batch.
    #[must_use]
    pub fn batch(&self) -> Option<i64> {
        taskhost_core::watermark::Watermark::parse(0, &self.metadata).batch()
    }
}

/// A connection to the broker, as somebody who is not the host.
pub(crate) struct Client {
    brokers: String,
    producer: BaseProducer,
    pub(crate) admin: AdminClient<DefaultClientContext>,
}

pub(crate) fn config(brokers: &str, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "taskhost-tests");
    more.iter().for_each(|(name, value)| {
        config.set(*name, *value);
    });
    config
}

impl Client {
    pub(crate) fn new(brokers: &str) -> Self {
        // Keys meet in the partition where Java's and kafkajs' producers put them.
        let producing = [
            ("enable.idempotence", "true"),
            ("partitioner", "murmur2_random"),
            ("linger.ms", "1"),
            // What a topic takes is the topic's business.
            ("message.max.bytes", "67108864"),
        ];
        let producer = config(brokers, &producing).create().expect("a producer");
        let admin = config(brokers, &[]).create().expect("an admin client");
        Self {
            brokers: brokers.to_owned(),
            producer,
            admin,
        }
    }

    pub(crate) async fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let options = AdminOptions::new()
            .request_timeout(Some(PATIENCE))
            .operation_timeout(Some(PATIENCE));
        let made = self
            .admin
            .create_topics([&new], &options)
            .await
            .expect("an answer");
        made.into_iter().for_each(|made| {
            made.unwrap_or_else(|(topic, code)| panic!("topic {topic}: {code}"));
        });
    }

    /// Sends in order and waits until all are acknowledged.
    pub(crate) fn send(&self, messages: &[Message], real: impl Fn(&str) -> String) {
        self.post(messages, real);
        self.flush();
    }

    /// Waits until the broker has all that was posted.
    pub(crate) fn flush(&self) {
        self.producer
            .flush(PATIENCE)
            .expect("the broker to have every message");
    }

    /// Sends in order and waits for nothing.
    pub(crate) fn post(&self, messages: &[Message], real: impl Fn(&str) -> String) {
        for message in messages {
            let topic = real(&message.topic);
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
            for (key, value) in &message.headers {
                headers = headers.insert(Header {
                    key,
                    value: value.as_deref(),
                });
            }
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&topic);
            record.key = message.key.as_deref();
            record.payload = message.value.as_deref();
            record.partition = message.partition;
            record.timestamp = message.timestamp;
            if !message.headers.is_empty() {
                record.headers = Some(headers);
            }
            while let Err((error, again)) = self.producer.send(record) {
                let full =
                    error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull);
                assert!(full, "sending failed: {error}");
                record = again;
                self.producer.poll(Duration::from_millis(10));
            }
            self.producer.poll(Duration::ZERO);
        }
    }

    pub(crate) fn consumer(&self, more: &[(&str, &str)]) -> BaseConsumer {
        let mut config = config(
            &self.brokers,
            &[("enable.auto.commit", "false"), ("group.id", "none")],
        );
        more.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        config.create().expect("a consumer")
    }

    pub(crate) fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
        let metadata = answered("the topic's metadata", || {
            consumer.fetch_metadata(Some(topic), ASK)
        });
        let topic = metadata.topics().first().expect("the topic");
        topic
            .partitions()
            .iter()
            .map(rdkafka::metadata::MetadataPartition::id)
            .collect()
    }

    /// What a `read_committed` reader sees from the beginning to the end, partition by partition.
    pub(crate) fn read(&self, topic: &str) -> Vec<Record> {
        let consumer = self.consumer(&[
            ("isolation.level", "read_committed"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "error"),
            // The end is told at once instead of after half a second.
            ("fetch.wait.max.ms", "10"),
        ]);
        let mut left = Self::partitions(&consumer, topic);
        let mut list = TopicPartitionList::new();
        for partition in &left {
            list.add_partition_offset(topic, *partition, Offset::Beginning)
                .expect("an offset");
        }
        consumer.assign(&list).expect("an assignment");
        let mut records = Vec::new();
        while !left.is_empty() {
            match consumer
                .poll(PATIENCE)
                .unwrap_or_else(|| panic!("{topic}: neither a message nor its end"))
            {
                Ok(message) => records.push(record(&message)),
                Err(KafkaError::PartitionEOF(partition)) => left.retain(|each| *each != partition),
                Err(error) => panic!("reading {topic} failed: {error}"),
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// The end of each partition for a `read_committed` reader.
    pub(crate) fn ends(&self, topics: &[String]) -> Ends {
        self.ends_seen(topics, "read_committed")
    }

    /// The end of each partition; none while one of them has records of a transaction that is not over there.
    pub(crate) fn settled_ends(&self, topics: &[String]) -> Option<Ends> {
        let ends = self.ends(topics);
        (ends == self.ends_seen(topics, "read_uncommitted")).then_some(ends)
    }

    fn ends_seen(&self, topics: &[String], isolation: &str) -> Ends {
        let consumer = self.consumer(&[("isolation.level", isolation)]);
        let mut ends = Vec::new();
        for topic in topics {
            for partition in Self::partitions(&consumer, topic) {
                let (_, end) = answered("the partition's end", || {
                    consumer.fetch_watermarks(topic, partition, ASK)
                });
                ends.push(((topic.clone(), partition), end));
            }
        }
        ends
    }

    /// What the group committed for each partition of these topics.
    pub(crate) fn committed(&self, group: &str, topics: &[String]) -> Watermarks {
        answered("the group's offsets", || self.try_committed(group, topics))
    }

    /// [`Client::committed`], asked once: there is no answer while a transaction with one of the offsets is open.
    pub(crate) fn try_committed(
        &self,
        group: &str,
        topics: &[String],
    ) -> Result<Watermarks, KafkaError> {
        let consumer = self.consumer(&[("group.id", group), ("isolation.level", "read_committed")]);
        let mut list = TopicPartitionList::new();
        for topic in topics {
            Self::partitions(&consumer, topic)
                .into_iter()
                .for_each(|partition| {
                    list.add_partition(topic, partition);
                });
        }
        let committed = consumer.committed_offsets(list, ASK)?;
        let elements = committed.elements();
        elements.iter().try_for_each(|element| element.error())?;
        let watermark = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let Offset::Offset(offset) = element.offset() else {
                return None;
            };
            Some(Watermark {
                offset,
                metadata: element.metadata().to_owned(),
            })
        };
        let named = elements.into_iter().map(|element| {
            let partition = (element.topic().to_owned(), element.partition());
            (partition, watermark(element))
        });
        Ok(named.collect())
    }

    /// The group's state as the broker names it, and how many members it has.
    pub(crate) fn group(&self, group: &str) -> (String, usize) {
        let consumer = self.consumer(&[]);
        let list = answered("the group's description", || {
            consumer.fetch_group_list(Some(group), ASK)
        });
        list.groups()
            .iter()
            .find(|found| found.name() == group)
            .map_or_else(
                || ("Dead".to_owned(), 0),
                |found| (found.state().to_owned(), found.members().len()),
            )
    }
}

/// Asks until there is an answer, for at most [`PATIENCE`]: a broker that was just started still looks for its coordinators.
fn answered<T>(what: &str, ask: impl Fn() -> Result<T, KafkaError>) -> T {
    let mut refusal = None;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => refusal = Some(error),
        }
        thread::sleep(ASK_AGAIN);
    }
    panic!("{what}: {refusal:?}")
}

pub(crate) fn record(message: &rdkafka::message::BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect()
    });
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}
