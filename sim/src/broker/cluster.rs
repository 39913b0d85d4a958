//! Kafka's brokers in memory: logs with commit markers, transactions with their ids' epochs, and one consumer group.

use std::collections::{BTreeMap, BTreeSet};

use taskhost_core::record::{Offset, Record, TopicPartition};
use taskhost_core::watermark::{Mark, Watermark};
use tokio::time::Instant;
use uuid::Uuid;

use super::group::Group;
use crate::net::Process;

/// All brokers.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    topics: BTreeMap<String, Topic>,
    /// Transactional ids.
    ids: BTreeMap<String, Id>,
    pub(crate) group: Group,
    /// The group's offsets, with their metadata.
    offsets: BTreeMap<TopicPartition, (Offset, String)>,
}

#[derive(Debug)]
struct Topic {
    id: Uuid,
    partitions: Vec<Partition>,
}

/// A partition's log.
#[derive(Debug, Default)]
struct Partition {
    entries: Vec<Entry>,
    /// Where records of open transactions are.
    open: BTreeSet<usize>,
}

/// What stands at an offset.
#[derive(Debug)]
enum Entry {
    Record { record: Record, state: State },
    Marker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Committed,
    Aborted,
}

/// A transactional id.
#[derive(Debug, Default)]
struct Id {
    epoch: i64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    records: Vec<(String, usize, usize)>,
    offsets: BTreeMap<TopicPartition, (Offset, String)>,
}

/// What a read_committed reader gets.
pub(crate) enum Fetched {
    Record(Offset, Record),
    /// Nothing more until this offset.
    End(Offset),
}

/// Why the coordinator or a leader refuses a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Somebody else has taken the id.
    Fenced,
    /// The member or its generation is outdated.
    Outdated,
    /// There is no such topic.
    NoTopic,
}

impl Cluster {
    pub(crate) fn create(&mut self, topic: &str, id: Uuid, partitions: usize) {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        self.topics
            .insert(topic.to_owned(), Topic { id, partitions });
    }

    pub(crate) fn topic_id(&self, topic: &str) -> Option<Uuid> {
        self.topics.get(topic).map(|topic| topic.id)
    }

    /// A record that somebody else produces, outside of transactions or in one that is committed at once.
    pub(crate) fn append(&mut self, partition: &TopicPartition, record: Record, marked: bool) {
        let log = self.log_mut(partition);
        log.entries.push(Entry::Record {
            record,
            state: State::Committed,
        });
        if marked {
            log.entries.push(Entry::Marker);
        }
    }

    /// The first offset and the stable end: nobody reads beyond a record of an open transaction.
    pub(crate) fn bounds(&self, partition: &TopicPartition) -> (Offset, Offset) {
        let log = self.log(partition);
        let stable = log.and_then(|log| log.open.first().copied());
        let stable = stable.or_else(|| log.map(|log| log.entries.len()));
        (0, offset(stable.unwrap_or(0)))
    }

    /// What comes at or after an offset, at most so many.
    pub(crate) fn fetch(
        &self,
        partition: &TopicPartition,
        from: Offset,
        most: usize,
    ) -> Vec<Fetched> {
        let (_, end) = self.bounds(partition);
        let (from, stable) = (index(from), index(end));
        let mut fetched = Vec::new();
        let entries = self.log(partition).map_or(&[][..], |log| &log.entries);
        for (at, entry) in entries.iter().enumerate().take(stable).skip(from) {
            if fetched.len() == most {
                return fetched;
            }
            if let Entry::Record {
                record,
                state: State::Committed,
            } = entry
            {
                fetched.push(Fetched::Record(offset(at), record.clone()));
            }
        }
        fetched.push(Fetched::End(end));
        fetched
    }

    /// All records that a read_committed reader sees of a topic, partition by partition.
    pub(crate) fn read(&self, topic: &str) -> Vec<Record> {
        let logs = self.topics.get(topic).into_iter();
        let entries = logs.flat_map(|topic| topic.partitions.iter().flat_map(|log| &log.entries));
        let records = entries.filter_map(|entry| match entry {
            Entry::Record {
                record,
                state: State::Committed,
            } => Some(record.clone()),
            _ => None,
        });
        records.collect()
    }

    /// Takes a transactional id: aborts what is open under it. The new epoch.
    pub(crate) fn take(&mut self, id: &str) -> i64 {
        self.abort_open(id);
        let id = self.ids.entry(id.to_owned()).or_default();
        id.epoch += 1;
        id.epoch
    }

    /// A record of a transaction.
    pub(crate) fn send(&mut self, id: &str, epoch: i64, record: &Record) -> Result<(), Refused> {
        self.check(id, epoch)?;
        let topic = self.topics.get_mut(&record.topic).ok_or(Refused::NoTopic)?;
        let key = record.key.as_deref().unwrap_or_default();
        let hash = key.iter().fold(7u64, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
        let partition = usize::try_from(hash).unwrap_or(0) % topic.partitions.len();
        let log = &mut topic.partitions[partition];
        let place = log.entries.len();
        log.open.insert(place);
        log.entries.push(Entry::Record {
            record: record.clone(),
            state: State::Open,
        });
        let at = (record.topic.clone(), partition, place);
        self.open(id).records.push(at);
        Ok(())
    }

    /// Offsets of a transaction, under a membership.
    pub(crate) fn send_offsets(
        &mut self,
        (id, epoch): (&str, i64),
        (member, generation): (Process, i32),
        offsets: &[(TopicPartition, Mark)],
    ) -> Result<(), Refused> {
        self.check(id, epoch)?;
        if !self.group.is_current(member, generation) {
            return Err(Refused::Outdated);
        }
        let open = self.open(id);
        for (partition, mark) in offsets {
            let committed = (mark.offset, mark.metadata());
            open.offsets.insert(partition.clone(), committed);
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self, id: &str, epoch: i64) -> Result<(), Refused> {
        self.check(id, epoch)?;
        if let Some(open) = self.ids.get_mut(id).and_then(|id| id.open.take()) {
            self.end(&open, State::Committed);
            self.offsets.extend(open.offsets);
        }
        Ok(())
    }

    pub(crate) fn abort(&mut self, id: &str, epoch: i64) -> Result<(), Refused> {
        self.check(id, epoch)?;
        self.abort_open(id);
        Ok(())
    }

    /// The ids with an open transaction, and since when.
    pub(crate) fn open_since(&self) -> Vec<(String, Instant)> {
        let ids = self.ids.iter();
        let open = ids.filter_map(|(id, state)| Some((id.clone(), state.open.as_ref()?.since)));
        open.collect()
    }

    /// Aborts transactions that are open for too long, and fences their producers.
    pub(crate) fn expire(&mut self, before: Instant) {
        let is_old = |id: &Id| id.open.as_ref().is_some_and(|open| open.since < before);
        let old = self.ids.iter().filter(|(_, id)| is_old(id));
        let old: Vec<String> = old.map(|(name, _)| name.clone()).collect();
        for id in old {
            self.take(&id);
        }
    }

    /// The group's offset in a partition; none while a transaction is open that would change it.
    pub(crate) fn committed(&self, partition: &TopicPartition) -> Option<Watermark> {
        let mut open = self.ids.values().filter_map(|id| id.open.as_ref());
        if open.any(|open| open.offsets.contains_key(partition)) {
            return None;
        }
        let stored = self.offsets.get(partition);
        Some(stored.map_or(Watermark::None, |(offset, metadata)| {
            Watermark::parse(*offset, metadata)
        }))
    }

    fn check(&self, id: &str, epoch: i64) -> Result<(), Refused> {
        match self.ids.get(id).is_some_and(|id| id.epoch == epoch) {
            true => Ok(()),
            false => Err(Refused::Fenced),
        }
    }

    fn open(&mut self, id: &str) -> &mut Open {
        let id = self.ids.entry(id.to_owned()).or_default();
        id.open.get_or_insert_with(|| Open {
            since: Instant::now(),
            records: Vec::new(),
            offsets: BTreeMap::new(),
        })
    }

    fn abort_open(&mut self, id: &str) {
        if let Some(open) = self.ids.get_mut(id).and_then(|id| id.open.take()) {
            self.end(&open, State::Aborted);
        }
    }

    /// Ends a transaction: each partition that it wrote to gets a marker.
    fn end(&mut self, open: &Open, state: State) {
        let mut marked = BTreeSet::new();
        for (topic, partition, at) in &open.records {
            let Some(topic) = self.topics.get_mut(topic) else {
                continue;
            };
            let log = &mut topic.partitions[*partition];
            log.open.remove(at);
            if let Some(Entry::Record { state: known, .. }) = log.entries.get_mut(*at) {
                *known = state;
            }
        }
        for (topic, partition, _) in &open.records {
            if marked.insert((topic, partition))
                && let Some(topic) = self.topics.get_mut(topic)
            {
                topic.partitions[*partition].entries.push(Entry::Marker);
            }
        }
    }

    fn log(&self, partition: &TopicPartition) -> Option<&Partition> {
        let topic = self.topics.get(&*partition.topic);
        let number = usize::try_from(partition.partition).unwrap_or(usize::MAX);
        topic.and_then(|topic| topic.partitions.get(number))
    }

    fn log_mut(&mut self, partition: &TopicPartition) -> &mut Partition {
        let number = usize::try_from(partition.partition).unwrap_or(0);
        let topic = self.topics.entry(partition.topic.to_string());
        let topic = topic.or_insert_with(|| Topic {
            id: Uuid::nil(),
            partitions: Vec::new(),
        });
        while topic.partitions.len() <= number {
            topic.partitions.push(Partition::default());
        }
        &mut topic.partitions[number]
    }
}

fn offset(index: usize) -> Offset {
    Offset::try_from(index).unwrap_or(Offset::MAX)
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset).unwrap_or(0)
}
