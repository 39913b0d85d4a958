//! A host's connection to the brokers: the log's and the publisher's ports, over the network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use taskhost::kafka::{Disposition, Error, Result};
use taskhost::log::{
    Blame, Delivered, Feeder, Group, GroupOffset, Log, Ownership, Producer, Stop, Tag,
    Transactions, Undelivered,
};
use taskhost_core::record::{Offset, Record, TopicPartition};
use taskhost_core::recovery::Log as Bounds;
use taskhost_core::watermark::Watermark;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::cluster::{Cluster, Refused};
use crate::net::{Broken, Net, Process, Server};

/// The brokers, behind the network.
#[derive(Debug, Default)]
pub(crate) struct Brokers {
    cluster: Mutex<Cluster>,
    pub(crate) changed: Arc<Notify>,
}

impl Brokers {
    /// The cluster, for a look or a change from outside.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Cluster) -> T) -> T {
        let seen = look(&mut self.lock());
        self.changed.notify_waiters();
        seen
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An assigned partition: its tag, its feeder, and the next offset to fetch; none while it isn't read.
pub(crate) type Reading = (Tag, Feeder, Option<Offset>);

/// What all of a process' clients share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) process: Process,
    pub(crate) net: Arc<Net>,
    pub(crate) brokers: Arc<Brokers>,
    pub(crate) ownership: Arc<Ownership>,
    /// The group's generation as this member knows it; none while it is none.
    pub(crate) generation: Mutex<Option<i32>>,
    /// What is assigned.
    pub(crate) reading: Mutex<BTreeMap<TopicPartition, Reading>>,
    /// Which ids were fenced, and when that began.
    fenced: Mutex<BTreeMap<String, Instant>>,
}

impl Client {
    pub(crate) fn new(net: Arc<Net>, process: Process, brokers: Arc<Brokers>) -> Arc<Self> {
        Arc::new(Self {
            process,
            net,
            brokers,
            ownership: Arc::new(Ownership::new()),
            generation: Mutex::default(),
            reading: Mutex::default(),
            fenced: Mutex::default(),
        })
    }

    pub(crate) async fn call<T: Send + 'static>(
        &self,
        mut serve: impl FnMut(&mut Cluster) -> T + Send + 'static,
    ) -> std::result::Result<T, Broken> {
        let (brokers, changed) = (self.brokers.clone(), self.brokers.changed.clone());
        let serve = move || Some(serve(&mut brokers.lock()));
        self.net
            .call(self.process, Server::Kafka, changed, serve)
            .await
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn trouble(doing: &'static str) -> Error {
    Error::new(doing, Disposition::Trouble, "no answer")
}

#[async_trait]
impl Log for Client {
    async fn bounds(&self, partition: &TopicPartition) -> Result<Option<Bounds>> {
        let of = partition.clone();
        let bounds = self.call(move |cluster| {
            let topic_id = cluster.topic_id(&of.topic)?;
            let (low, high) = cluster.bounds(&of);
            Some(Bounds {
                topic_id,
                low,
                high,
            })
        });
        bounds
            .await
            .map_err(|_| trouble("reading the log's bounds"))
    }

    async fn committed(&self, partition: &TopicPartition) -> Result<Watermark> {
        let of = partition.clone();
        let committed = self.call(move |cluster| cluster.committed(&of)).await;
        let committed = committed.ok().flatten();
        committed.ok_or_else(|| trouble("reading the committed offset"))
    }

    async fn fence(&self, former: &str, since: Instant) -> Result<()> {
        let began = Instant::now();
        let done = locked(&self.fenced).get(former).copied();
        if done.is_some_and(|done| done >= since) {
            return Ok(());
        }
        let id = former.to_owned();
        let taken = self.call(move |cluster| cluster.take(&id)).await;
        taken.map_err(|_| trouble("fencing a previous owner"))?;
        locked(&self.fenced).insert(former.to_owned(), began);
        Ok(())
    }

    fn add(&self, partition: &TopicPartition, offset: Offset, tag: Tag) -> Result<bool> {
        let held = self.ownership.lock();
        if !held.holds(partition, tag) {
            return Ok(false);
        }
        let mut reading = locked(&self.reading);
        let Some((_, feeder, next)) = reading.get_mut(partition) else {
            return Ok(false);
        };
        feeder.start();
        *next = Some(offset);
        self.brokers.changed.notify_waiters();
        Ok(true)
    }

    async fn remove(&self, partition: &TopicPartition, tag: Tag) -> Result<bool> {
        let mut reading = locked(&self.reading);
        let known = reading
            .get_mut(partition)
            .filter(|(known, ..)| *known == tag);
        let Some((_, feeder, next)) = known else {
            return Ok(false);
        };
        feeder.stop();
        *next = None;
        Ok(true)
    }

    fn ownership(&self) -> &Arc<Ownership> {
        &self.ownership
    }
}

impl Group for Client {
    type Membership = i32;

    fn membership(&self) -> Option<i32> {
        *locked(&self.generation)
    }

    fn generation(membership: &i32) -> (String, i32) {
        ("member".to_owned(), *membership)
    }

    fn ownership(&self) -> &Arc<Ownership> {
        &self.ownership
    }
}

/// Makes a process' producers.
#[derive(Debug)]
pub(crate) struct Producers(pub(crate) Arc<Client>);

impl Transactions for Producers {
    type Producer = MemoryProducer;
    type Group = Client;

    async fn connect(&self, ids: &[String]) -> Vec<Result<MemoryProducer>> {
        let mut connected = Vec::with_capacity(ids.len());
        for id in ids {
            let taken = id.clone();
            let epoch = self.0.call(move |cluster| cluster.take(&taken)).await;
            connected.push(match epoch {
                Ok(epoch) => Ok(MemoryProducer {
                    client: self.0.clone(),
                    id: id.clone(),
                    epoch,
                    queued: Mutex::default(),
                }),
                Err(_) => Err(trouble("taking the transactional id")),
            });
        }
        connected
    }

    fn group(&self) -> Option<Arc<Client>> {
        Some(self.0.clone())
    }
}

/// A producer under its id.
pub(crate) struct MemoryProducer {
    client: Arc<Client>,
    id: String,
    epoch: i64,
    queued: Mutex<Vec<Record>>,
}

impl MemoryProducer {
    /// A call of the transaction's coordinator, which the client repeats until there is an answer.
    async fn coordinate(
        &self,
        mut serve: impl FnMut(&mut Cluster, &str, i64) -> std::result::Result<(), Refused>
        + Send
        + 'static,
    ) -> std::result::Result<(), Stop> {
        let (id, epoch) = (self.id.clone(), self.epoch);
        let served = self.client.call(move |cluster| serve(cluster, &id, epoch));
        match served.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Refused::Outdated)) => Err(Stop::Abort {
                outdated: true,
                reason: "the generation is outdated".to_owned(),
            }),
            Ok(Err(Refused::NoTopic)) => Err(Stop::Abort {
                outdated: false,
                reason: "there is no such topic".to_owned(),
            }),
            Ok(Err(Refused::Fenced)) => Err(Stop::Unknown("fenced".to_owned())),
            Err(Broken::Refused) => Err(Stop::Abort {
                outdated: false,
                reason: "no connection".to_owned(),
            }),
            Err(Broken::Unanswered) => Err(Stop::Unknown("no answer".to_owned())),
        }
    }
}

impl Producer for MemoryProducer {
    type Group = Client;

    async fn begin(&self) -> std::result::Result<(), Stop> {
        Ok(())
    }

    fn produce(&self, record: &Record) -> std::result::Result<(), Undelivered> {
        locked(&self.queued).push(record.clone());
        Ok(())
    }

    async fn drain(&self) -> Delivered {
        let mut delivered = Delivered::default();
        let queued = std::mem::take(&mut *locked(&self.queued));
        if queued.is_empty() {
            return delivered;
        }
        let (id, epoch, sent) = (self.id.clone(), self.epoch, queued.clone());
        let answers = self.client.call(move |cluster| {
            let answers = sent.iter().map(|record| cluster.send(&id, epoch, record));
            answers.collect::<Vec<_>>()
        });
        let answers = answers.await.unwrap_or_default();
        for (number, record) in queued.into_iter().enumerate() {
            let (blame, reason) = match answers.get(number) {
                Some(Ok(())) => {
                    *delivered.sent.entry(record.topic).or_default() += 1;
                    continue;
                }
                Some(Err(Refused::NoTopic)) => (Blame::UnknownTopic, "no such topic"),
                Some(Err(_)) => (Blame::Trouble, "fenced"),
                None => (Blame::Trouble, "no answer"),
            };
            delivered.failed.push(Undelivered {
                topic: record.topic,
                blame,
                reason: reason.to_owned(),
            });
        }
        delivered
    }

    async fn send_offsets(
        &self,
        offsets: &[GroupOffset<'_>],
        _: &Client,
        membership: &i32,
    ) -> std::result::Result<(), Stop> {
        let offsets = offsets.iter();
        let offsets: Vec<_> = offsets
            .map(|one| (one.partition.clone(), one.mark))
            .collect();
        let member = (self.client.process, *membership);
        self.coordinate(move |cluster, id, epoch| {
            cluster.send_offsets((id, epoch), member, &offsets)
        })
        .await
    }

    async fn commit(&self) -> std::result::Result<(), Stop> {
        let committed = self.coordinate(Cluster::commit).await;
        // Whatever the client couldn't send may have been sent: nobody knows after a commit.
        committed.map_err(|stop| match stop {
            Stop::Abort { reason, .. } | Stop::Unknown(reason) => Stop::Unknown(reason),
        })
    }

    async fn abort(&self) -> std::result::Result<(), Stop> {
        locked(&self.queued).clear();
        self.coordinate(Cluster::abort).await
    }

    async fn is_missing(&self, topic: &str) -> bool {
        let topic = topic.to_owned();
        let found = self.client.call(move |cluster| cluster.topic_id(&topic));
        found.await == Ok(None)
    }
}
