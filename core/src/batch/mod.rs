//! Tasks and decisions → the write set of one transaction.
//!
//! A [`Fold`] takes the causes of a batch in the partition's order, each with what was decided, and
//! carries every task from cause to cause in memory. So a batch decided at once and a batch decided one
//! by one end in the same [`WriteSet`] (law 3), and each record in exactly one outcome (law 1).

mod fold;
mod publish;
mod replay;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::cause::{OnDeadLetter, Waited};
use crate::dead_letter::{DeadLetter, Replay};
use crate::descriptor::Descriptor;
use crate::outcome::Counts;
use crate::record::{Record, TopicPartition};
use crate::replay::Replayed;
use crate::task::{PluginVersion, RecordedDecider, Task, TaskEvent, TaskId};
use crate::waiting::{Rank, Why};

pub use fold::{Decided, Fold};

/// What a batch's decisions are carried out with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The consumer group: it stands in dead letters.
    pub group: Arc<str>,
    /// The partition that the batch is of.
    pub partition: TopicPartition,
    /// Kafka's id of the topic.
    pub topic_id: Uuid,
    /// Real name of the topic for task events.
    pub events_topic: Arc<str>,
    /// Real name of the partition's dead letter topic.
    pub dead_letter_topic: Arc<str>,
    /// Whether dead letters carry Spring Kafka's headers too.
    pub spring_headers: bool,
    /// How long a cause may wait.
    pub deferral: Deferral,
    /// How often a deadline is tried again.
    pub retries: Retries,
    /// How often a dead letter is decided again before it is parked.
    pub replays_max: u32,
    /// Bytes of a record that a topic takes, by real name: `max.message.bytes` of the broker. A topic
    /// that isn't here takes anything.
    pub record_bytes_max: Arc<BTreeMap<String, usize>>,
}

impl Settings {
    /// Whether the record fits its topic. Kafka counts the whole record batch, so its headers and each
    /// record's own framing are allowed for.
    pub fn fits(&self, record: &Record) -> bool {
        const BATCH_OVERHEAD: usize = 512;
        const HEADER_OVERHEAD: usize = 16;
        let size = record.size() + BATCH_OVERHEAD + HEADER_OVERHEAD * record.headers.len();
        self.record_bytes_max
            .get(&record.topic)
            .is_none_or(|max| size <= *max)
    }
}

/// How long and how often a cause may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferral {
    /// Decisions before it becomes a dead letter.
    pub attempts_max: u32,
    /// How long the partition works since it began to wait, before it becomes a dead letter.
    pub age_max: Duration,
    /// The shortest wait.
    pub delay_min: Duration,
    /// The longest wait.
    pub delay_max: Duration,
}

/// How often a cause that exceeds its deadline is tried again before that counts: with exponential backoff and full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Tries after the first.
    pub max: u32,
    /// Base of the backoff.
    pub backoff: Duration,
    /// The longest backoff.
    pub backoff_max: Duration,
}

/// A route's plugin, as the batch is decided with it.
#[derive(Debug, Clone)]
pub struct Decider {
    /// The route's name.
    pub route: Arc<str>,
    /// Which plugin.
    pub plugin: Arc<PluginVersion>,
    /// What it said of itself.
    pub descriptor: Arc<Descriptor>,
    /// Real names of the logical topics it produces to.
    pub topics: Arc<BTreeMap<String, String>>,
    /// The same as the history records it.
    pub record: Arc<RecordedDecider>,
    /// Set while its activation is on probation: a cause at which it faults spends no attempt and waits, for so long
    /// unless somebody makes it due before.
    pub hold: Option<Duration>,
    /// What becomes of later messages of a task when one of its messages becomes a dead letter.
    pub on_dead_letter: OnDeadLetter,
}

/// Everything that one batch writes, beside the progress row.
#[derive(Debug, Clone, Default, PartialEq)]
// Many fields: each is written to another place, in one transaction.
pub struct WriteSet {
    /// Tasks that did not exist, as the batch leaves them, in id order.
    pub created: Vec<Task>,
    /// Tasks that existed, as the batch leaves them, in id order.
    pub updated: Vec<Task>,
    /// Task events in the order they happened.
    pub events: Vec<TaskEvent>,
    /// Causes that begin to wait.
    pub waiting: Vec<Wakeup>,
    /// Causes that go on waiting.
    pub postponed: Vec<Postponed>,
    /// Waiting causes that were due and are blocked by an earlier one: each becomes [`Why::Turn`], without a due time.
    pub turned: BTreeSet<Uuid>,
    /// Tasks of which something waits, or waited before the batch: the first cause that blocks the others gets its
    /// turn, if it has no time of its own or waited for the task to exist.
    pub settled: BTreeSet<TaskId>,
    /// Wakeups that are done with.
    pub done: Vec<Uuid>,
    /// The last order for each timer that was set or cancelled, by task and name. Whoever owns the
    /// timer's row, it goes; a set one is stored as a new row.
    pub timers: BTreeMap<(TaskId, String), Option<Wakeup>>,
    /// Dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters that were decided again.
    pub replayed: Vec<Replayed>,
    /// Records to publish, in order.
    pub records: Vec<Record>,
    /// How the batch's records ended.
    pub counts: Counts,
    /// The same by route; records without one are under the empty name.
    pub counts_by_route: BTreeMap<String, Counts>,
}

/// A row for something the partition owes itself later.
#[derive(Debug, Clone, PartialEq, Eq)]
// Many fields: each is a column of its row.
pub struct Wakeup {
    /// Derived, so that deciding again makes the same row, and a replaced timer another.
    pub id: Uuid,
    /// What for.
    pub kind: WakeupKind,
    /// The task it is for.
    pub task_id: TaskId,
    /// A timer's name.
    pub name: Option<String>,
    /// The route's name.
    pub route: String,
    /// When to try, in milliseconds since 1970; none while it waits behind an earlier cause of its task.
    pub due: Option<i64>,
    /// The time that its deferral set, in milliseconds since 1970: an attempt before it isn't counted. Others may make a
    /// cause due sooner, when its task changes.
    pub counts_from: Option<i64>,
    /// Order among a task's waiting causes. A timer has none.
    pub rank: Rank,
    /// What it waits for.
    pub why: Why,
    /// How often the cause was deferred.
    pub attempt: i32,
    /// How often in a row it exceeded its deadline.
    pub tries: i32,
    /// When it began to wait, in milliseconds since 1970.
    pub since: i64,
    /// How long the partition had worked then, in milliseconds; none if its age counts from its next decision on.
    pub since_worked: Option<i64>,
    /// Why it waits, for people.
    pub reason: String,
    /// Who gave it up: its owner makes a dead letter of it when its turn comes, without asking its plugin.
    pub given_up_by: Option<String>,
    /// The cause ([`crate::cause::Stored`]).
    pub cause: Vec<u8>,
}

/// What a wakeup is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WakeupKind {
    /// A message that waits.
    Deferred,
    /// A timer of a task.
    Timer,
    /// A dead letter that is decided again. Its cause is in the dead letter's row.
    Replay,
}

impl WakeupKind {
    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deferred => "deferred",
            Self::Timer => "timer",
            Self::Replay => "replay",
        }
    }

    /// From its stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Deferred, Self::Timer, Self::Replay]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// A waiting cause that was tried and waits on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postponed {
    /// The row.
    pub id: Uuid,
    /// The task it is for.
    pub task_id: TaskId,
    /// What it waits for.
    pub why: Why,
    /// When to try again, in milliseconds since 1970. An attempt before it isn't counted.
    pub due: i64,
    /// How often the cause was deferred.
    pub attempt: i32,
    /// How often in a row it exceeded its deadline.
    pub tries: i32,
    /// As in [`Wakeup::since_worked`].
    pub since_worked: Option<i64>,
    /// Why it waits, for people.
    pub reason: String,
}

impl Wakeup {
    /// What a cause that comes from this row says of its waiting.
    pub fn waited(&self, replay: Option<Replay>) -> Waited {
        Waited {
            wakeup: self.id,
            task_id: self.task_id.clone(),
            rank: self.rank,
            why: self.why,
            due: self.due,
            counts_from: self.counts_from,
            attempt: self.attempt,
            tries: self.tries,
            since_worked: self.since_worked,
            replay,
        }
    }
}
