//! Compares progress (Postgres) and watermark (Kafka) when a partition is taken, and says what a crash
//! left to do. What no crash can explain is never guessed: the partition halts.

use uuid::Uuid;

use crate::frame::BatchNumber;
use crate::halt::Halt;
use crate::record::Offset;
pub use crate::watermark::{Mark, Watermark};

/// What Postgres says of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Kafka's id of the topic when the partition was started; none before.
    pub topic_id: Option<Uuid>,
    /// The next record to decide; none before the partition was started.
    pub next_offset: Option<Offset>,
    /// Number of the last committed batch.
    pub batch: BatchNumber,
    /// The token of the attempt that committed it.
    pub token: Option<Uuid>,
    /// Highest batch known to be published.
    pub published: Option<BatchNumber>,
    /// The watermark that a person decided on: believed where the one in Kafka can't be.
    pub decided_watermark: Option<BatchNumber>,
}

impl Progress {
    /// The last batch, if Postgres knew that everything is published. Only then may an offset that
    /// the group's coordinator holds for pending be committed once more: otherwise it could belong to a transaction that was
    /// aborted.
    pub fn all_published(&self) -> Option<Mark> {
        let is_known = self.batch > 0 && self.published == Some(self.batch);
        self.next_offset
            .filter(|_| is_known)
            .map(|offset| self.mark(offset))
    }

    /// The last batch as a watermark.
    pub fn mark(&self, offset: Offset) -> Mark {
        Mark {
            batch: self.batch,
            offset,
            token: self.token,
        }
    }
}

/// What Kafka says of a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Kafka's id of the topic.
    pub topic_id: Uuid,
    /// The first offset that is there.
    pub low: Offset,
    /// The offset that the next record will get.
    pub high: Offset,
}

/// Where a group that has never been here starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// At the log's beginning.
    Earliest,
    /// At the log's end.
    Latest,
    /// At the log's beginning, whatever another consumer of the group has committed.
    Anew,
}

/// The offset at which a partition starts that was never started before.
///
/// `topic_known` says that another partition of the topic was started before: then this one was added to it, and
/// starts at its beginning, so that nothing written before it was noticed is lost.
///
/// # Errors
/// If the group's offset is ours: then Postgres has lost its data.
pub fn start(
    watermark: Watermark,
    log: Log,
    topic_known: bool,
    reset: Reset,
) -> Result<Offset, Halt> {
    match watermark {
        Watermark::Ours(mark) => Err(Halt::ProgressLost { batch: mark.batch }),
        Watermark::Unreadable(offset) => Err(Halt::MetadataUnreadable { offset }),
        Watermark::Foreign(_) if reset == Reset::Anew => Ok(log.low),
        Watermark::Foreign(offset) if !(log.low..=log.high).contains(&offset) => {
            Err(Halt::OutsideLog {
                offset,
                low: log.low,
                high: log.high,
            })
        }
        Watermark::Foreign(offset) => Ok(offset),
        Watermark::None if topic_known => Ok(log.low),
        Watermark::None => Ok(match reset {
            Reset::Earliest | Reset::Anew => log.low,
            Reset::Latest => log.high,
        }),
    }
}

/// What is left to do before the partition goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Batch 0 was never committed to Kafka: commit it, then record that it is published.
    CommitBatchZero,
    /// The group's offset expired and nothing is owed: commit the last batch as the watermark.
    Recommit,
    /// Publish these frames, none if `first > last`.
    Publish {
        /// The first that is not published.
        first: BatchNumber,
        /// The last committed batch.
        last: BatchNumber,
    },
}

/// The table of the protocol's recovery.
///
/// # Errors
/// If progress, watermark and log disagree in a way that no crash explains.
pub fn compare(progress: Progress, watermark: Watermark, log: Log) -> Result<Verdict, Halt> {
    if let Some(was) = progress.topic_id
        && was != log.topic_id
    {
        return Err(Halt::TopicRecreated {
            was,
            is: log.topic_id,
        });
    }
    let Some(next) = progress.next_offset else {
        return Err(Halt::NotStarted);
    };
    if !(log.low..=log.high).contains(&next) {
        return Err(Halt::OutsideLog {
            offset: next,
            low: log.low,
            high: log.high,
        });
    }
    let explained = explain(progress, watermark);
    match (explained, progress.decided_watermark) {
        // Nothing is left to publish that would bring the offset in line with progress.
        (Err(_), Some(mark)) if mark >= progress.batch => Ok(Verdict::Recommit),
        (Err(_), Some(mark)) => Ok(Verdict::Publish {
            first: mark + 1,
            last: progress.batch,
        }),
        (explained, _) => explained,
    }
}

/// What a crash leaves behind, row by row; a watermark that no crash leaves is not explained.
fn explain(progress: Progress, watermark: Watermark) -> Result<Verdict, Halt> {
    let batch = progress.batch;
    let disagree = Halt::Disagree {
        batch,
        published: progress.published,
        watermark,
    };
    match (watermark, progress.published) {
        (Watermark::Unreadable(offset), _) => Err(Halt::MetadataUnreadable { offset }),
        (Watermark::None | Watermark::Foreign(_), None) if batch == 0 => {
            Ok(Verdict::CommitBatchZero)
        }
        (Watermark::None, Some(published)) if published == batch => Ok(Verdict::Recommit),
        // A failover of Postgres lost the end of its log, and what was decided again has the number that was published.
        (Watermark::Ours(mark), _)
            if mark.batch == batch && mark.is_of_another_attempt(progress.token) =>
        {
            Err(disagree)
        }
        (Watermark::Ours(mark), published)
            if published.unwrap_or(0) <= mark.batch && mark.batch <= batch =>
        {
            Ok(Verdict::Publish {
                first: mark.batch + 1,
                last: batch,
            })
        }
        _ => Err(disagree),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: Uuid = Uuid::from_u128(7);
    const TOKEN: Uuid = Uuid::from_u128(8);
    const LOG: Log = Log {
        topic_id: ID,
        low: 10,
        high: 100,
    };

    fn progress(batch: BatchNumber, published: Option<BatchNumber>) -> Progress {
        Progress {
            topic_id: Some(ID),
            next_offset: Some(50),
            batch,
            token: Some(TOKEN),
            published,
            decided_watermark: None,
        }
    }

    fn ours(batch: BatchNumber) -> Watermark {
        Watermark::Ours(Mark {
            offset: 50,
            batch,
            token: None,
        })
    }

    #[test]
    fn the_recovery_table_holds() {
        let foreign = Watermark::Foreign(3);
        let cases = [
            (
                progress(0, None),
                Watermark::None,
                Ok(Verdict::CommitBatchZero),
            ),
            (progress(0, None), foreign, Ok(Verdict::CommitBatchZero)),
            (
                progress(0, None),
                ours(0),
                Ok(Verdict::Publish { first: 1, last: 0 }),
            ),
            (progress(5, Some(5)), Watermark::None, Ok(Verdict::Recommit)),
            (
                progress(5, Some(3)),
                ours(3),
                Ok(Verdict::Publish { first: 4, last: 5 }),
            ),
            (
                progress(5, Some(3)),
                ours(5),
                Ok(Verdict::Publish { first: 6, last: 5 }),
            ),
            (
                progress(5, Some(0)),
                ours(4),
                Ok(Verdict::Publish { first: 5, last: 5 }),
            ),
        ];
        for (progress, mark, verdict) in cases {
            assert_eq!(
                compare(progress, mark, LOG),
                verdict,
                "{progress:?} {mark:?}"
            );
        }
    }

    #[test]
    fn what_no_crash_explains_halts() {
        let cases = [
            (progress(5, Some(3)), Watermark::None),
            (progress(5, None), Watermark::None),
            (progress(5, Some(3)), Watermark::Foreign(50)),
            (progress(5, Some(5)), Watermark::Foreign(50)),
            (progress(5, Some(3)), ours(2)),
            (progress(5, Some(3)), ours(6)),
        ];
        for (progress, mark) in cases {
            assert!(
                matches!(compare(progress, mark, LOG), Err(Halt::Disagree { .. })),
                "{progress:?} {mark:?}"
            );
        }
    }

    #[test]
    fn a_batch_that_another_attempt_published_halts() {
        let by = |batch, token| {
            let mark = Mark {
                offset: 50,
                batch,
                token: Some(token),
            };
            compare(progress(5, Some(3)), Watermark::Ours(mark), LOG)
        };
        let other = Uuid::from_u128(9);
        assert_eq!(by(5, TOKEN), Ok(Verdict::Publish { first: 6, last: 5 }));
        assert!(matches!(by(5, other), Err(Halt::Disagree { .. })));
        // Only the last batch's token is known.
        assert_eq!(by(4, other), Ok(Verdict::Publish { first: 5, last: 5 }));
    }

    #[test]
    fn what_a_person_decided_is_believed_only_where_the_watermark_is_not() {
        let decided = |published, mark| Progress {
            decided_watermark: Some(mark),
            ..progress(5, Some(published))
        };
        let publish = |first| Ok(Verdict::Publish { first, last: 5 });
        for (progress, watermark, verdict) in [
            (decided(3, 3), Watermark::None, publish(4)),
            (decided(3, 3), ours(2), publish(4)),
            (decided(3, 3), Watermark::Foreign(50), publish(4)),
            (decided(3, 3), Watermark::Unreadable(50), publish(4)),
            (decided(3, 3), ours(4), publish(5)),
            (decided(5, 5), ours(4), Ok(Verdict::Recommit)),
        ] {
            assert_eq!(
                compare(progress, watermark, LOG),
                verdict,
                "{progress:?} {watermark:?}"
            );
        }
    }

    #[test]
    fn metadata_that_can_t_be_read_halts_wherever_it_is_found() {
        let unreadable = Watermark::Unreadable(50);
        let halt = Halt::MetadataUnreadable { offset: 50 };
        assert_eq!(
            compare(progress(5, Some(5)), unreadable, LOG),
            Err(halt.clone())
        );
        assert_eq!(start(unreadable, LOG, false, Reset::Earliest), Err(halt));
    }

    #[test]
    fn another_topic_or_a_log_without_the_next_record_halts() {
        let recreated = Log {
            topic_id: Uuid::from_u128(8),
            ..LOG
        };
        assert!(matches!(
            compare(progress(5, Some(5)), ours(5), recreated),
            Err(Halt::TopicRecreated { .. })
        ));
        for log in [Log { low: 51, ..LOG }, Log { high: 49, ..LOG }] {
            assert!(matches!(
                compare(progress(5, Some(5)), ours(5), log),
                Err(Halt::OutsideLog { .. })
            ));
        }
    }

    #[test]
    fn a_partition_starts_where_nothing_is_lost_or_repeated() {
        assert_eq!(start(Watermark::None, LOG, false, Reset::Earliest), Ok(10));
        assert_eq!(start(Watermark::None, LOG, false, Reset::Latest), Ok(100));
        assert_eq!(
            start(Watermark::None, LOG, true, Reset::Latest),
            Ok(10),
            "a partition added to a known topic"
        );
        assert_eq!(
            start(Watermark::Foreign(42), LOG, false, Reset::Latest),
            Ok(42),
            "cut-over from another consumer"
        );
        for offset in [42, 3] {
            assert_eq!(
                start(Watermark::Foreign(offset), LOG, false, Reset::Anew),
                Ok(10),
                "another consumer's offset doesn't count, wherever it is"
            );
        }
        assert_eq!(
            start(ours(4), LOG, false, Reset::Anew),
            Err(Halt::ProgressLost { batch: 4 }),
            "an offset of ours does"
        );
        assert_eq!(
            start(ours(4), LOG, false, Reset::Earliest),
            Err(Halt::ProgressLost { batch: 4 })
        );
        assert!(matches!(
            start(Watermark::Foreign(3), LOG, false, Reset::Earliest),
            Err(Halt::OutsideLog { .. })
        ));
    }

    proptest! {
        #[test]
        fn recovery_never_skips_and_never_repeats(batch in 0i64..20, published in proptest::option::of(0i64..20), mark in 0i64..25) {
            if let Ok(Verdict::Publish { first, last }) = compare(progress(batch, published), ours(mark), LOG) {
                prop_assert_eq!(first, mark + 1);
                prop_assert_eq!(last, batch);
            }
        }
    }
}
