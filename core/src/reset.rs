//! What a person decides about a partition: where it goes on, and which of its frames count as published.
//!
//! [`plan`] computes both and says what that costs: records that are skipped or decided again, messages that may be
//! sent twice or never. After it, recovery finds nothing to halt for: see the property below.

use std::ops::Range;

use crate::frame::BatchNumber;
use crate::record::Offset;
use crate::recovery::{Log, Mark, Progress, Watermark};

/// Where the partition is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// With the oldest record in the log.
    Earliest,
    /// With the next record to be written.
    Latest,
    /// At the group's committed offset in Kafka.
    Committed,
    /// Where progress in Postgres is.
    Progress,
    /// At this offset.
    Offset(Offset),
}

/// What the partition's row becomes, and what that means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The next record to decide.
    pub next_offset: Offset,
    /// The last committed batch: higher than before if Kafka has seen more than Postgres.
    pub batch: BatchNumber,
    /// The last batch that counts as published.
    pub published: BatchNumber,
    /// Offsets of records that are never decided, gone ones included.
    pub skipped: Range<Offset>,
    /// Those of them that are not in the log any more.
    pub gone: Range<Offset>,
    /// Offsets of records that are decided once more.
    pub repeated: Range<Offset>,
    /// Batches whose messages are published when the partition goes on, the last one excluded.
    pub publishes: Range<BatchNumber>,
    /// Whether some of those messages may be in Kafka already.
    pub may_be_sent_twice: bool,
    /// Batches whose messages are dropped, the last one excluded. Some of them may be in Kafka already.
    pub drops: Range<BatchNumber>,
}

/// Why a partition can't go on there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// Kafka has no committed offset of the group.
    #[error("the group has committed no offset for the partition")]
    NothingCommitted,
    /// Postgres has no progress.
    #[error("the partition was never started, so it has no progress to go on from")]
    NotStarted,
    /// The log has no such offset.
    #[error("offset {offset} is not in the log, which has {low} to {high}")]
    OutsideLog {
        /// The offset.
        offset: Offset,
        /// The first offset that is there.
        low: Offset,
        /// The end of the log.
        high: Offset,
    },
    /// The progress is that of the topic that was deleted.
    #[error("the topic was made again, so its former offsets mean nothing in it")]
    TopicRecreated,
}

/// Computes what resetting a partition does.
///
/// # Errors
/// If there is no such place.
pub fn plan(
    progress: Progress,
    watermark: Watermark,
    log: Log,
    to: To,
    drop_unpublished: bool,
) -> Result<Plan, Impossible> {
    let recreated = progress.topic_id.is_some_and(|was| was != log.topic_id);
    let from = progress.next_offset.filter(|_| !recreated);
    let next_offset = match to {
        To::Earliest => log.low,
        To::Latest => log.high,
        To::Offset(offset) => offset,
        To::Progress | To::Committed if recreated => return Err(Impossible::TopicRecreated),
        To::Progress => from.ok_or(Impossible::NotStarted)?,
        To::Committed => match watermark {
            Watermark::None => return Err(Impossible::NothingCommitted),
            Watermark::Foreign(offset)
            | Watermark::Unreadable(offset)
            | Watermark::Ours(Mark { offset, .. }) => offset,
        },
    };
    if !(log.low..=log.high).contains(&next_offset) {
        return Err(Impossible::OutsideLog {
            offset: next_offset,
            low: log.low,
            high: log.high,
        });
    }
    let known = progress.published.unwrap_or(0);
    let (batch, published, explained) = match watermark {
        Watermark::Ours(mark) if mark.batch >= known => {
            (progress.batch.max(mark.batch), mark.batch, true)
        }
        _ => (progress.batch, known, progress.batch == known),
    };
    let owed = published + 1..batch + 1;
    let (publishes, drops) = match drop_unpublished {
        true => (batch + 1..batch + 1, owed),
        false => (owed, batch + 1..batch + 1),
    };
    let from = from.unwrap_or(log.low);
    Ok(Plan {
        next_offset,
        batch,
        published: publishes.start - 1,
        skipped: from..next_offset.max(from),
        gone: from..log.low.min(next_offset).max(from),
        repeated: next_offset.max(log.low)..from.min(log.high).max(next_offset),
        may_be_sent_twice: !explained && !publishes.is_empty(),
        publishes,
        drops,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::recovery::{Verdict, compare};

    const LOG: Log = Log {
        topic_id: Uuid::from_u128(7),
        low: 10,
        high: 100,
    };

    fn progress(next: Offset, batch: BatchNumber, published: BatchNumber) -> Progress {
        Progress {
            topic_id: Some(LOG.topic_id),
            next_offset: Some(next),
            batch,
            published: Some(published),
            token: None,
            decided_watermark: None,
        }
    }

    fn ours(offset: Offset, batch: BatchNumber) -> Watermark {
        Watermark::Ours(Mark {
            offset,
            batch,
            token: None,
        })
    }

    #[test]
    fn records_are_skipped_forwards_and_repeated_backwards() {
        let to = |to| plan(progress(50, 5, 5), ours(50, 5), LOG, to, false).expect("a plan");
        let forwards = to(To::Latest);
        assert_eq!(
            (forwards.skipped, forwards.repeated.is_empty()),
            (50..100, true)
        );
        let backwards = to(To::Earliest);
        assert_eq!(
            (backwards.skipped.is_empty(), backwards.repeated),
            (true, 10..50)
        );
        let stays = to(To::Progress);
        assert!(stays.skipped.is_empty() && stays.repeated.is_empty() && stays.gone.is_empty());
    }

    #[test]
    fn records_that_retention_took_are_told_apart() {
        let plan = plan(progress(3, 5, 5), ours(3, 5), LOG, To::Offset(20), false).expect("a plan");
        assert_eq!((plan.skipped, plan.gone), (3..20, 3..10));
    }

    #[test]
    fn a_topic_made_again_is_read_from_one_of_its_own_offsets() {
        let was = Progress {
            topic_id: Some(Uuid::from_u128(8)),
            ..progress(500, 5, 5)
        };
        let plan = |to| plan(was, ours(500, 5), LOG, to, false);
        assert_eq!(plan(To::Progress), Err(Impossible::TopicRecreated));
        let earliest = plan(To::Earliest).expect("a plan");
        assert!(earliest.skipped.is_empty() && earliest.repeated.is_empty());
    }

    #[test]
    fn what_kafka_has_seen_counts_as_published_and_what_nobody_knows_is_sent() {
        let plan =
            |progress, mark, drop| plan(progress, mark, LOG, To::Progress, drop).expect("a plan");
        // A database from an older backup.
        let older = plan(progress(50, 5, 3), ours(80, 9), false);
        assert_eq!(
            (older.batch, older.published, older.publishes.is_empty()),
            (9, 9, true)
        );
        // The offset is gone.
        let gone = plan(progress(50, 5, 3), Watermark::None, false);
        assert_eq!((gone.batch, gone.published, gone.publishes), (5, 3, 4..6));
        assert!(gone.may_be_sent_twice);
        // An ordinary crash.
        let crash = plan(progress(50, 5, 3), ours(40, 4), false);
        assert_eq!((crash.publishes, crash.may_be_sent_twice), (5..6, false));
        let dropped = plan(progress(50, 5, 3), ours(40, 4), true);
        assert_eq!((dropped.published, dropped.drops), (5, 5..6));
    }

    #[test]
    fn a_place_that_is_none_is_refused() {
        let never = Progress {
            topic_id: None,
            next_offset: None,
            batch: 0,
            published: None,
            token: None,
            decided_watermark: None,
        };
        assert_eq!(
            plan(never, Watermark::None, LOG, To::Progress, false),
            Err(Impossible::NotStarted)
        );
        assert_eq!(
            plan(never, Watermark::None, LOG, To::Committed, false),
            Err(Impossible::NothingCommitted)
        );
        assert!(matches!(
            plan(never, Watermark::None, LOG, To::Offset(101), false),
            Err(Impossible::OutsideLog { .. })
        ));
    }

    fn watermarks() -> impl Strategy<Value = Watermark> {
        prop_oneof![
            Just(Watermark::None),
            (0i64..120).prop_map(Watermark::Foreign),
            (0i64..120).prop_map(Watermark::Unreadable),
            (0i64..120, 0i64..20).prop_map(|(offset, batch)| ours(offset, batch)),
        ]
    }

    proptest! {
        #[test]
        fn after_a_reset_recovery_publishes_what_was_promised_and_never_halts(
            next in 0i64..120, batch in 0i64..10, published in 0i64..10, watermark in watermarks(), drop in any::<bool>(),
        ) {
            let before = progress(next, batch, published.min(batch));
            let plan = plan(before, watermark, LOG, To::Earliest, drop).expect("the log has a beginning");
            let after = Progress {
                next_offset: Some(plan.next_offset),
                batch: plan.batch,
                published: Some(plan.published),
                token: None,
                decided_watermark: Some(plan.published),
                ..before
            };
            match compare(after, watermark, LOG) {
                Ok(Verdict::Publish { first, last }) => {
                    prop_assert_eq!(first..last + 1, plan.publishes);
                }
                Ok(Verdict::Recommit) => {
                    prop_assert!(plan.publishes.is_empty());
                    prop_assert_eq!(batch, plan.batch);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
