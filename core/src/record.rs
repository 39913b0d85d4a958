//! Kafka records as plain data: where they are, what came in, what goes out.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Position in a partition's log. Wherever it stands for progress it means *the next record to read*.
pub type Offset = i64;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Real name of the topic on the broker.
    pub topic: Arc<str>,
    /// Number of the partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }

    /// The record at an offset of this partition.
    pub fn at(&self, offset: Offset) -> Position {
        Position {
            topic: self.topic.clone(),
            partition: self.partition,
            offset,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// Where a record is: the coordinates that never change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Real name of the topic on the broker.
    #[serde(with = "arc_text")]
    pub topic: Arc<str>,
    /// Number of the partition, from 0.
    pub partition: i32,
    /// The record's own offset.
    pub offset: Offset,
}

impl Position {
    /// A UUIDv5 of topic id, partition and offset (RFC 9562, 5.5): the topic's id is the namespace and
    /// `<partition>:<offset>` the name. The same record has the same seed however often it is read, and
    /// a record of a topic that was deleted and made again has another.
    pub fn seed(&self, topic_id: Uuid) -> Uuid {
        Uuid::new_v5(
            &topic_id,
            format!("{}:{}", self.partition, self.offset).as_bytes(),
        )
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]@{}", self.topic, self.partition, self.offset)
    }
}

/// A shared text in serde's forms, as a plain string.
pub(crate) mod arc_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}

/// One header of a record. Kafka allows a name to stand more than once and a value to be null.
pub type Header = (String, Option<Vec<u8>>);

/// Headers in serde's forms, with values as bytes at once instead of number by number.
mod header_list {
    use serde::{Deserialize, Deserializer, Serializer};
    use serde_bytes::{ByteBuf, Bytes};

    use super::Header;

    pub(super) fn serialize<S: Serializer>(headers: &[Header], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(
            headers
                .iter()
                .map(|(name, value)| (name, value.as_deref().map(Bytes::new))),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Header>, D::Error> {
        let headers = Vec::<(String, Option<ByteBuf>)>::deserialize(from)?;
        let owned = |(name, value): (_, Option<ByteBuf>)| (name, value.map(ByteBuf::into_vec));
        Ok(headers.into_iter().map(owned).collect())
    }
}

/// A record as it was consumed, with every byte kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Where it was read.
    pub position: Position,
    /// The record's timestamp in milliseconds since 1970, whoever set it; -1 if it has none.
    pub timestamp: i64,
    /// The record's key.
    #[serde(with = "serde_bytes")]
    pub key: Option<Vec<u8>>,
    /// The record's value; none is a tombstone.
    #[serde(with = "serde_bytes")]
    pub value: Option<Vec<u8>>,
    /// The record's headers in order.
    #[serde(with = "header_list")]
    pub headers: Vec<Header>,
}

impl Message {
    /// How many bytes it counts against the bounds on batches: key, value, and headers.
    pub fn size(&self) -> usize {
        size(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }

    /// The last header of that name whose value is not null: the one that counts when a name repeats.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .rev()
            .filter(|(key, _)| key == name)
            .find_map(|(_, value)| value.as_deref())
    }
}

/// A record to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Real name of the topic on the broker.
    pub topic: String,
    /// The record's key, from which the producer chooses the partition.
    #[serde(with = "serde_bytes")]
    pub key: Option<Vec<u8>>,
    /// The record's value; none is a tombstone.
    #[serde(with = "serde_bytes")]
    pub value: Option<Vec<u8>>,
    /// The record's headers in order.
    #[serde(with = "header_list")]
    pub headers: Vec<Header>,
    /// Milliseconds since 1970; none takes the time of publishing.
    pub timestamp: Option<i64>,
}

impl Record {
    /// How many bytes it counts against the bounds on frames and transactions.
    pub fn size(&self) -> usize {
        size(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

fn size(key: Option<&Vec<u8>>, value: Option<&Vec<u8>>, headers: &[Header]) -> usize {
    let length = |bytes: Option<&Vec<u8>>| bytes.map_or(0, Vec::len);
    let named = |(name, value): &Header| name.len() + length(value.as_ref());
    length(key) + length(value) + headers.iter().map(named).sum::<usize>()
}

/// Sets a header, replacing every one of that name (a retry must not leave two).
pub fn set_header(headers: &mut Vec<Header>, name: &str, value: impl Into<Vec<u8>>) {
    headers.retain(|(key, _)| key != name);
    headers.push((name.to_owned(), Some(value.into())));
}
