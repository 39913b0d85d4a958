//! What belongs to one claim of a partition: made by the claim, dropped with it. Nothing in it outlives a claim, because
//! after another claim memory isn't trusted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::stream::FuturesOrdered;
use taskhost_core::batch::Settings;
use taskhost_core::breaker::Era;
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::record::{Message, Offset};
use taskhost_core::recovery::Log;
use taskhost_core::round::Ladder;
use taskhost_core::watermark::Mark;
use taskhost_core::worked::Worked;
use tokio::time::Instant;
use uuid::Uuid;

use crate::breakers::routes::Probe;
use crate::log::Answer;
use crate::store::{Checkpoint, Claim, Started};

/// The answer that is awaited for a batch's frame.
pub(super) type Publishing = futures::future::BoxFuture<'static, (BatchNumber, Answer)>;

/// A claim and what was done under it.
#[derive(Default)]
pub(super) struct Claimed {
    /// The claim under which everything is written.
    pub(super) epoch: i64,
    /// What the claim found of earlier owners.
    pub(super) found: Found,
    /// How far the partition is.
    pub(super) reached: Reached,
    /// The log, and the settings of batches, once the topic was inspected.
    pub(super) inspected: Option<(Log, Arc<Settings>)>,
    /// Records fetched and not decided.
    pub(super) fetched: Fetched,
    /// How records are decided next.
    pub(super) records: Ladder,
    /// How rows that waited are decided next.
    pub(super) rows: Ladder,
    /// Whether the last batch was of rows: the next one is of records, if there are any.
    pub(super) rows_had_turn: bool,
    /// What waits in Postgres.
    pub(super) waiting: Waiting,
    /// The breakers of the routes.
    pub(super) routes: Entered,
    /// The activations that took effect last, as recorded.
    pub(super) started: Started,
    /// Frames on their way to Kafka, in order.
    pub(super) publishing: FuturesOrdered<Publishing>,
}

/// What a claim found of earlier owners.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Transactional ids of owners before this one who didn't give the partition back.
    pub(super) former: Vec<String>,
    /// The last batch and the offset behind it, if Postgres knew at the claim that everything is published.
    pub(super) all_published: Option<Mark>,
    /// Whether the partition's row still speaks of a halt that is over once the partition is ready.
    pub(super) unresolved: bool,
}

/// How far a partition is: the one owner of its positions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// The last committed batch.
    pub(super) batch: BatchNumber,
    /// The next record to decide.
    pub(super) next_offset: Offset,
    /// The token of the attempt that committed the last batch.
    pub(super) token: Option<Uuid>,
    /// The last batch that Kafka has.
    pub(super) published: BatchNumber,
    /// The last batch that Postgres knows to be published.
    pub(super) marked: BatchNumber,
}

/// Records fetched and not decided.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    /// In order.
    pub(super) pending: VecDeque<Arc<Message>>,
    /// The end of the log behind them, if it was seen.
    pub(super) end: Option<Offset>,
}

/// What waits in Postgres, and the clock by which it grows older.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Messages of this partition that wait.
    pub(super) count: i64,
    /// Whether there may be dead letters that hold their task.
    pub(super) holding: bool,
    /// When the next row is due, in milliseconds since 1970.
    pub(super) next_due: Option<i64>,
    /// The most stranded rows that the log reported.
    pub(super) stranded_reported: i64,
    /// How long the partition has worked.
    pub(super) worked: Worked,
    /// What the partition's row last said of that, in milliseconds.
    pub(super) worked_stored: i64,
}

/// The breakers of the partition's routes, as this worker entered them.
#[derive(Default)]
pub(super) struct Entered {
    /// The eras in which the batch in hand began.
    pub(super) eras: HashMap<usize, Era>,
    /// A breaker keeps the partition from deciding.
    pub(super) shut: Option<Shut>,
    /// The next message is tried alone, to see whether a breaker may close.
    pub(super) probing: Option<Probe>,
}

/// That a breaker keeps the partition from deciding.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shut {
    /// When a single message may be tried; none while somebody else tries one, or there is nothing to try.
    pub(super) until: Option<Instant>,
}

impl Reached {
    /// Where this host left the partition.
    pub(super) fn checkpoint(self) -> Checkpoint {
        Checkpoint {
            batch: self.batch,
            next_offset: self.next_offset,
            token: self.token,
        }
    }

    /// A batch was committed.
    pub(super) fn committed(&mut self, frame: &Frame, token: Uuid) {
        self.batch = frame.batch;
        self.next_offset = frame.next_offset;
        self.token = Some(token);
    }
}

impl Claimed {
    /// What a claim begins with.
    pub(super) fn new(claim: &Claim, own_ids: &[String]) -> Self {
        let batch = claim.progress.batch;
        let former = claim.previous_owners.iter();
        Self {
            epoch: claim.epoch,
            found: Found {
                former: former.filter(|id| !own_ids.contains(id)).cloned().collect(),
                all_published: claim.progress.all_published(),
                unresolved: claim.unresolved,
            },
            reached: Reached {
                batch,
                token: claim.progress.token,
                marked: claim.progress.published.unwrap_or(0),
                ..Reached::default()
            },
            waiting: Waiting {
                count: claim.waiting,
                holding: claim.holding,
                worked: Worked::from_millis(claim.worked),
                worked_stored: claim.worked,
                ..Waiting::default()
            },
            started: claim.started.clone(),
            ..Self::default()
        }
    }
}
