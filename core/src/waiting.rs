//! What waits of a task in a partition: its order, what blocks what, and which rows a batch takes.
//!
//! A message waits behind every earlier message of its task and partition that waits. Earlier means by [`Rank`]. One
//! exception: a message that its plugin deferred while the task had no row ([`Why::TaskMissing`]) blocks nothing as long
//! as the task has none, so that a later message can create the task. From the creation on it blocks like all others.
//! So nothing ever waits for something behind it.
//!
//! [`Chain`] is what a partition has waiting of one task, as read before a batch; [`select`] says which of its rows are
//! decided now. [`Ahead`] is what a batch knows of the rows that it did not load.

use uuid::Uuid;

use crate::task::TaskId;

/// The place of a cause among those of its task that one partition has: first by the record's offset, then by the order
/// in which rows with the same offset were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// The record's offset, also for the replay of a dead letter of this partition. Records of an earlier topic id have
    /// negative ones. For an imported dead letter, the last record that was decided when its partition took it.
    pub sequence: i64,
    /// 0 for a record of this partition; the order of the requests for imported dead letters, which share a sequence.
    pub place: i64,
}

impl Rank {
    /// The rank of a record of this partition.
    pub fn of_record(offset: i64) -> Self {
        Self {
            sequence: offset,
            place: 0,
        }
    }
}

/// What a waiting cause waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Its time or its turn: it was not decided yet.
    Turn,
    /// The plugin deferred it; a change of its task makes it due.
    Deferral,
    /// The plugin deferred it while the task didn't exist; the task's creation makes it due. Until then it blocks nothing.
    TaskMissing,
    /// It exceeded its deadline and is tried again.
    Deadline,
    /// The plugin faulted on probation; whatever ends the probation makes it due.
    Held,
    /// A host that can decide it: its route is not configured, or its stored cause is of a later version.
    Stranded,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Turn,
        Self::Deferral,
        Self::TaskMissing,
        Self::Deadline,
        Self::Held,
        Self::Stranded,
    ];

    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Deferral => "deferral",
            Self::TaskMissing => "task-missing",
            Self::Deadline => "deadline",
            Self::Held => "held",
            Self::Stranded => "stranded",
        }
    }

    /// From its stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.name() == name)
    }
}

/// The first of what waits of a task in the partition, outside of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ahead {
    /// What blocks in any case: a row whose `why` isn't [`Why::TaskMissing`], or a dead letter that holds its task.
    pub blocking: Option<Rank>,
    /// What blocks once the task exists: a row that waits for its task, or a holding dead letter with the code
    /// `task-missing`.
    pub missing: Option<Rank>,
}

impl Ahead {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.blocking.is_none() && self.missing.is_none()
    }

    /// The first that blocks, for a task that has a row or hasn't.
    pub fn first(&self, exists: bool) -> Option<Rank> {
        let missing = self.missing.filter(|_| exists);
        self.blocking.into_iter().chain(missing).min()
    }

    /// Adds something that waits.
    pub fn add(&mut self, rank: Rank, is_missing: bool) {
        let first = match is_missing {
            true => &mut self.missing,
            false => &mut self.blocking,
        };
        *first = Some(first.map_or(rank, |known| known.min(rank)));
    }
}

/// What a partition has waiting of one task, as far as a batch may need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The task.
    pub task_id: TaskId,
    /// Whether it has a row.
    pub exists: bool,
    /// The first dead letters that hold the task.
    pub letters: Ahead,
    /// By rank: the rows that are due, the first row that isn't free, and as many of those behind it as a batch takes.
    pub rows: Vec<Waiting>,
}

/// A row of a [`Chain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The row.
    pub id: Uuid,
    /// Its place.
    pub rank: Rank,
    /// What it waits for.
    pub why: Why,
    /// When to try, in milliseconds since 1970; none while it waits for its turn.
    pub due: Option<i64>,
    /// Bytes of its cause.
    pub bytes: u64,
}

/// The rows that a batch takes, and those that are due and can't be taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// To be decided, in order.
    pub taken: Vec<Uuid>,
    /// Due, and blocked by something earlier: each becomes [`Why::Turn`], without a due time.
    pub blocked: Vec<(TaskId, Uuid)>,
}

/// What a batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Rows.
    pub count: usize,
    /// Bytes of their causes; a single larger one is a batch of its own.
    pub bytes: u64,
}

/// Chooses the rows that are decided now, chain by chain in the order given.
pub fn select(chains: &[Chain], now: i64, caps: Caps) -> Selection {
    let mut selection = Selection::default();
    let mut bytes = 0u64;
    let mut full = false;
    for chain in chains {
        let (taken, blocked) = chain.select(now);
        let blocked = blocked.into_iter().map(|id| (chain.task_id.clone(), id));
        selection.blocked.extend(blocked);
        for row in taken {
            let fits = selection.taken.len() < caps.count
                && (selection.taken.is_empty() || bytes.saturating_add(row.bytes) <= caps.bytes);
            full |= !fits;
            if full {
                break;
            }
            bytes = bytes.saturating_add(row.bytes);
            selection.taken.push(row.id);
        }
    }
    selection
}

impl Chain {
    /// The rows to decide, and those that are due and blocked.
    fn select(&self, now: i64) -> (Vec<&Waiting>, Vec<Uuid>) {
        let is_due = |row: &Waiting| row.due.is_some_and(|due| due <= now);
        let is_free = |row: &Waiting| row.why == Why::TaskMissing && !self.exists;
        let held = |rank: Rank| {
            self.letters
                .first(self.exists)
                .is_some_and(|letter| letter < rank)
        };
        let head = self.rows.iter().position(|row| !is_free(row));
        let starts = head.filter(|head| {
            let row = &self.rows[*head];
            (is_due(row) || row.why == Why::TaskMissing) && !held(row.rank)
        });
        let (mut taken, mut blocked) = (Vec::new(), Vec::new());
        for (number, row) in self.rows.iter().enumerate() {
            let free = head.is_none_or(|head| number < head) && !held(row.rank);
            if starts.is_some_and(|head| number >= head) || (free && is_due(row)) {
                taken.push(row);
            } else if is_due(row) {
                blocked.push(row.id);
            }
        }
        (taken, blocked)
    }
}
