//! A `read_committed` reader at the end of a topic, who notes when each record came.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::Client;
use crate::{PATIENCE, World};

/// A record that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its key.
    pub key: String,
    /// The partition of the topic that is read.
    pub partition: i32,
    /// When it came.
    pub at: Instant,
}

/// Reads in a thread of its own until it is dropped.
pub struct Tail {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl World {
    /// Begins to read a topic behind its present end.
    ///
    /// # Panics
    /// If the topic is not there.
    #[must_use]
    pub fn tail(&self, topic: &str) -> Tail {
        let topic = self.topic(topic);
        let consumer = self.client.consumer(&[
            ("isolation.level", "read_committed"),
            ("fetch.wait.max.ms", "10"),
        ]);
        let mut list = TopicPartitionList::new();
        for partition in Client::partitions(&consumer, &topic) {
            let (_, end) = consumer
                .fetch_watermarks(&topic, partition, PATIENCE)
                .expect("the partition's end");
            list.add_partition_offset(&topic, partition, Offset::Offset(end))
                .expect("an offset");
        }
        consumer.assign(&list).expect("an assignment");
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || read(&consumer, &seen, &stop)
        });
        Tail {
            seen,
            stop,
            thread: Some(thread),
        }
    }
}

fn read(consumer: &BaseConsumer, seen: &Mutex<Vec<Seen>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        // A reader without a broker waits for it.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            let key = message.key().unwrap_or_default();
            lock(seen).push(Seen {
                key: String::from_utf8_lossy(key).into_owned(),
                partition: message.partition(),
                at: Instant::now(),
            });
        }
    }
}

impl Tail {
    /// All that came so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// The longest time without a record, of those that count, between two moments.
    #[must_use]
    pub fn longest_gap(
        &self,
        from: Instant,
        to: Instant,
        counts: impl Fn(&Seen) -> bool,
    ) -> Duration {
        let seen = self.seen();
        let times = seen
            .iter()
            .filter(|seen| (from..to).contains(&seen.at) && counts(seen))
            .map(|seen| seen.at);
        let (mut last, mut longest) = (from, Duration::ZERO);
        for at in times.chain([to]) {
            longest = longest.max(at.saturating_duration_since(last));
            last = at;
        }
        longest
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A reader that panicked has said so.
            thread.join().ok();
        }
    }
}

fn lock(seen: &Mutex<Vec<Seen>>) -> MutexGuard<'_, Vec<Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
