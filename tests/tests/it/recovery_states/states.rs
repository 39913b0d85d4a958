//! The states of progress and watermark, and what must come of each.

/// A state of one partition: what is changed once its three batches are published, and what must come of it.
pub(super) struct State {
    pub(super) what: &'static str,
    pub(super) row: Row,
    pub(super) offset: Committed,
    /// Batches whose frames are still in the outbox.
    pub(super) frames: &'static [i64],
    pub(super) then: Then,
}

/// What becomes of the row in `progress`.
pub(super) enum Row {
    Kept,
    /// `SET …`
    Set(&'static str),
    /// With the outbox: Postgres lost everything.
    Lost,
}

/// What becomes of the group's offset.
pub(super) enum Committed {
    Kept,
    Gone,
    At(i64, &'static str),
}

/// What the next host must do.
pub(super) enum Then {
    /// Publish the frames of these batches, and decide from that record on.
    GoesOn(&'static [i64], i64),
    Halts(&'static str),
}

use Then::{GoesOn, Halts};

const ALL: &[i64] = &[1, 2, 3];

const DISAGREE: &str = "watermark-disagrees";

/// The halt for an offset of a taskhost that this one does not understand.
const UNKNOWN_METADATA: &str = "offset-metadata-unreadable";
pub(crate) const OUTSIDE: &str = "offset-outside-log";

/// A partition that was started and whose first offset was never committed.
const FRESH: Row = Row::Set("batch = 0, batch_token = NULL, published = NULL, next_offset = 2");

pub(super) const fn state(
    what: &'static str,
    row: Row,
    offset: Committed,
    frames: &'static [i64],
    then: Then,
) -> State {
    State {
        what,
        row,
        offset,
        frames,
        then,
    }
}

/// The first rows are those of the protocol's table, then the start, then what is compared before both.
pub(super) fn states() -> Vec<State> {
    let all = [nothing_is_wrong(), offset_disagrees(), lost_or_behind()];
    all.into_iter().flatten().collect()
}

/// Progress and watermark as crashes leave them.
fn nothing_is_wrong() -> Vec<State> {
    use Committed::{At, Gone, Kept};
    let published = |row: &'static str| Row::Set(row);
    vec![
        state("as it was left", Row::Kept, Kept, &[], GoesOn(&[], 3)),
        state(
            "batch 0 was never committed",
            FRESH,
            Gone,
            &[],
            GoesOn(&[], 2),
        ),
        state(
            "batch 0 was never committed, and another consumer was here",
            FRESH,
            At(2, "theirs"),
            &[],
            GoesOn(&[], 2),
        ),
        state(
            "batch 0 was never committed, and the metadata is damaged",
            FRESH,
            At(2, "taskhost/1 garbage"),
            &[],
            Halts(UNKNOWN_METADATA),
        ),
        state(
            "the offset expired, nothing is owed",
            Row::Kept,
            Gone,
            &[],
            GoesOn(&[], 3),
        ),
        state(
            "the offset expired, something may be owed",
            published("published = 2"),
            Gone,
            ALL,
            Halts(DISAGREE),
        ),
        state(
            "published, and not known to be",
            published("published = 1"),
            Kept,
            &[2, 3],
            GoesOn(&[], 3),
        ),
        state(
            "one batch is owed",
            published("published = 1"),
            At(2, "taskhost/1 2"),
            &[2, 3],
            GoesOn(&[3], 3),
        ),
        state(
            "all but one are owed",
            published("published = 1"),
            At(1, "taskhost/1 1"),
            &[2, 3],
            GoesOn(&[2, 3], 3),
        ),
        state(
            "all are owed",
            published("published = 0"),
            At(0, "taskhost/1 0"),
            ALL,
            GoesOn(ALL, 3),
        ),
    ]
}

/// Offsets that no crash explains.
fn offset_disagrees() -> Vec<State> {
    use Committed::{At, Kept};
    vec![
        state(
            "the offset went back",
            Row::Kept,
            At(1, "taskhost/1 1"),
            ALL,
            Halts(DISAGREE),
        ),
        state(
            "the offset went ahead",
            Row::Kept,
            At(9, "taskhost/1 9"),
            ALL,
            Halts(DISAGREE),
        ),
        state(
            "a build before tokens published the last batch",
            Row::Kept,
            At(3, "taskhost/1 3"),
            &[],
            GoesOn(&[], 3),
        ),
        state(
            "another attempt published the last batch",
            Row::Kept,
            At(3, "taskhost/2 3 7f7c5a52-8c61-4d0a-9a44-1f4b1d5f9a01"),
            ALL,
            Halts(DISAGREE),
        ),
        state(
            "the database is from an older backup",
            Row::Set("batch = 1, published = 1, next_offset = 1"),
            Kept,
            &[1],
            Halts(DISAGREE),
        ),
        state(
            "another consumer committed",
            Row::Kept,
            At(3, "theirs"),
            &[],
            Halts(DISAGREE),
        ),
        state(
            "a tool moved the offset",
            Row::Kept,
            At(0, ""),
            &[],
            Halts(DISAGREE),
        ),
        state(
            "the metadata is damaged",
            Row::Kept,
            At(3, "taskhost/1 garbage"),
            &[],
            Halts(UNKNOWN_METADATA),
        ),
        state(
            "the metadata is a newer version's",
            Row::Kept,
            At(3, "taskhost/2 3"),
            &[],
            Halts(UNKNOWN_METADATA),
        ),
    ]
}

/// What one of the two has lost, and where the log ends.
fn lost_or_behind() -> Vec<State> {
    use Committed::{At, Gone, Kept};
    let published = |row: &'static str| Row::Set(row);
    vec![
        state(
            "Postgres lost its data",
            Row::Lost,
            Kept,
            &[],
            Halts("progress-lost"),
        ),
        state(
            "Postgres lost its data, and the metadata is a newer version's",
            Row::Lost,
            At(3, "taskhost/2 3"),
            &[],
            Halts(UNKNOWN_METADATA),
        ),
        state(
            "a cut-over from another consumer",
            Row::Lost,
            At(1, "theirs"),
            &[],
            GoesOn(&[], 1),
        ),
        state(
            "a cut-over from a consumer whose offset is behind the end",
            Row::Lost,
            At(1000, ""),
            &[],
            Halts(OUTSIDE),
        ),
        state(
            "never started, the topic is known",
            Row::Lost,
            Gone,
            &[],
            GoesOn(&[], 0),
        ),
        state(
            "the next record is behind the end of the log",
            Row::Set("next_offset = 1000"),
            Kept,
            &[],
            Halts(OUTSIDE),
        ),
        state(RETENTION, Row::Kept, Kept, &[], Halts(OUTSIDE)),
        state(
            "a frame that is owed is missing",
            published("published = 1"),
            At(1, "taskhost/1 1"),
            &[3],
            Halts("frame-missing"),
        ),
        state(
            UNREADABLE,
            published("published = 1"),
            At(1, "taskhost/1 1"),
            &[2, 3],
            Halts("frame-unreadable"),
        ),
    ]
}

/// Two of the records that follow go with it.
pub(super) const RETENTION: &str = "retention passed the next record";

/// Batch 2.
pub(super) const UNREADABLE: &str = "a frame that is owed can't be read";
