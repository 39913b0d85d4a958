//! What tests of several hosts need: a steady load, who wrote what in progress, and owners that aren't hosts.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::ResourceSpecifier;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::broker::config;
use crate::{Message, PATIENCE, World, from_row};

/// How long one partition made no progress, and how long a message of it waited at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pause {
    /// The partition of `task-status`.
    pub partition: i32,
    /// The longest time between the beginnings of two batches, in milliseconds.
    pub gap_ms: i64,
    /// The longest time from a message's timestamp to its batch's beginning, in milliseconds.
    pub wait_ms: i64,
}

from_row!(
    Pause: partition, gap_ms, wait_ms
);

/// A change of a progress row, in the order in which they took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The topic's real name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The epoch after it.
    pub epoch: i64,
    /// Whether it raised the epoch: a claim.
    pub claim: bool,
    /// The last batch after it.
    pub batch: i64,
    /// The client id of the host that wrote it, behind `taskhost `.
    pub writer: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

from_row!(
    Step: topic, partition, epoch, claim, batch, writer, at_ms
);

/// What a steady load came to.
pub struct Steady<T> {
    /// How many messages each partition got.
    pub sent: usize,
    /// What was done meanwhile.
    pub result: T,
}

/// Creates a task through each of the first partitions of `task-status` at every turn, whoever is slow, while
/// something is done. The task's id is `p<partition>-<load>-<number>`; the message's timestamp is when it was due.
///
/// # Panics
/// If what is done panics.
pub fn steady<T>(
    world: &World,
    partitions: i32,
    every: Duration,
    act: impl FnOnce() -> T,
) -> Steady<T> {
    static LOADS: AtomicU32 = AtomicU32::new(0);
    let load = LOADS.fetch_add(1, Ordering::Relaxed);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (began, mut sent) = (Instant::now(), 0);
            let first = since_1970();
            while !done.load(Ordering::Relaxed) {
                let turn = every.mul_f64(f64::from(sent));
                thread::sleep(turn.saturating_sub(began.elapsed()));
                let due = first + turn;
                let messages: Vec<Message> = (0..partitions)
                    .map(|partition| new_task(partition, &format!("{load}-{sent}"), due))
                    .collect();
                world.client.post(&messages, |topic| world.topic(topic));
                sent += 1;
            }
            world.client.flush();
            usize::try_from(sent).expect("a count")
        });
        // Also when it fails: the sender has to end.
        let result = catch_unwind(AssertUnwindSafe(act));
        done.store(true, Ordering::Relaxed);
        let sent = sender.join().expect("the sender");
        Steady {
            sent,
            result: result.unwrap_or_else(|panic| resume_unwind(panic)),
        }
    })
}

fn new_task(partition: i32, name: &str, due: Duration) -> Message {
    let id = format!("p{partition}-{name}");
    Message::to("task-status")
        .partition(partition)
        .key(id.clone())
        .at(i64::try_from(due.as_millis()).expect("a time of our age"))
        .json(&json!({"taskId": id, "status": "new"}))
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time after 1970")
}

/// Now, as the database and the messages tell time.
#[must_use]
pub fn now_ms() -> i64 {
    i64::try_from(since_1970().as_millis()).expect("a time of our age")
}

/// Notes every change of `progress` but those of `published` and `owners` alone.
const AUDIT: &str = "
CREATE TABLE taskhost.audit (
    number bigint GENERATED ALWAYS AS IDENTITY, topic text, partition int, epoch bigint, claim bool, batch bigint,
    writer text, at timestamptz DEFAULT clock_timestamp()
);
CREATE FUNCTION taskhost.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO taskhost.audit (topic, partition, epoch, claim, batch, writer) VALUES (
        NEW.topic, NEW.partition, NEW.epoch, NEW.epoch <> OLD.epoch, NEW.batch, current_setting('application_name')
    );
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON taskhost.progress FOR EACH ROW
    WHEN ((NEW.epoch, NEW.batch, NEW.next_offset) IS DISTINCT FROM (OLD.epoch, OLD.batch, OLD.next_offset))
    EXECUTE FUNCTION taskhost.audit()";

impl World {
    /// Gives this world's group settings of its own on the broker, as `consumer.session.timeout.ms`.
    pub fn configure_group(&self, settings: &[(&str, &str)]) {
        self.runtime.block_on(
            self.client
                .configure(ResourceSpecifier::Group(&self.group()), settings),
        );
    }

    /// Sessions of the newer group protocol as short as those of the older one: there they are the broker's settings.
    pub fn shorten_sessions(&self, session_ms: u32, heartbeat_ms: u32) {
        self.configure_group(&[
            ("consumer.session.timeout.ms", &session_ms.to_string()),
            ("consumer.heartbeat.interval.ms", &heartbeat_ms.to_string()),
        ]);
    }

    /// Begins to note who changes `progress`. The schema is there.
    pub fn audit(&self) {
        self.execute(AUDIT);
    }

    /// What was noted.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        self.rows(
            "SELECT topic, partition, epoch, claim, batch, writer, (extract(epoch FROM at) * 1000)::bigint AS at_ms \
             FROM audit ORDER BY number",
            None,
        )
    }

    /// Whoever advances a partition is the one who claimed it last.
    ///
    /// # Panics
    /// If somebody else did.
    pub fn assert_only_owners_wrote(&self) {
        let mut owners: BTreeMap<(String, i32), String> = BTreeMap::new();
        for step in self.steps() {
            let place = (step.topic.clone(), step.partition);
            if step.claim {
                owners.insert(place, step.writer);
            } else {
                // A claim before the notes began is not known.
                let owner = owners.entry(place).or_insert_with(|| step.writer.clone());
                assert_eq!(*owner, step.writer, "{step:?}");
            }
        }
    }

    /// For each partition of `task-status` the longest pause between two moments, in milliseconds since 1970.
    #[must_use]
    pub fn pauses(&self, from_ms: i64, to_ms: i64) -> Vec<Pause> {
        let topic = self.topic("task-status");
        let sql = format!(
            "WITH batches AS (
                SELECT DISTINCT ON (cause_partition, stored_at) cause_partition AS partition,
                    extract(epoch FROM stored_at) * 1000 AS done, extract(epoch FROM at) * 1000 AS due
                FROM task_history WHERE cause_topic = '{topic}' ORDER BY cause_partition, stored_at, at
             ), steps AS (
                SELECT partition, done, done - due AS wait, done - lag(done) OVER (PARTITION BY partition ORDER BY done) AS gap
                FROM batches
             )
             SELECT partition, max(gap)::bigint AS gap_ms, max(wait)::bigint AS wait_ms FROM steps
             WHERE done BETWEEN {from_ms} AND {to_ms} GROUP BY partition ORDER BY partition"
        );
        let rows = sqlx::query_as(AssertSqlSafe(sql));
        let rows = self.runtime.block_on(rows.fetch_all(&self.database.pool));
        rows.expect("the pauses")
    }

    /// Takes a transactional id, as a host that recovers does: whoever had it is fenced.
    ///
    /// # Panics
    /// If the broker refuses.
    #[must_use]
    pub fn take_transactional_id(&self, id: &str) -> BaseProducer {
        let own = [
            ("transactional.id", id),
            ("transaction.timeout.ms", "600000"),
        ];
        let producer: BaseProducer = config(self.brokers(), &own).create().expect("a producer");
        producer
            .init_transactions(PATIENCE)
            .expect("the transactional id");
        producer
    }

    /// A transaction with a message in every partition of a topic, which nobody ends: as a dead host leaves it.
    ///
    /// # Panics
    /// If the broker refuses.
    #[must_use]
    pub fn open_transaction(&self, id: &str, topic: &str) -> BaseProducer {
        let producer = self.take_transactional_id(id);
        producer.begin_transaction().expect("a transaction");
        let topic = self.topic(topic);
        for ((topic, partition), _) in self.client.ends(&[topic]) {
            let record = BaseRecord::<str, str>::to(&topic)
                .partition(partition)
                .payload("left open");
            producer
                .send(record)
                .map_err(|(error, _)| error)
                .expect("room in the queue");
        }
        producer.flush(PATIENCE).expect("the broker has them");
        producer
    }
}
