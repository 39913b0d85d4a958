//! A round that is to be committed, and what it was decided on.

use std::collections::HashMap;

use taskhost_core::batch::WriteSet;
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::task::TaskId;
use uuid::Uuid;

use super::activation_starts::NewStart;
use super::keyed::Epoch;
use super::question::Checkpoint;

/// A round to be committed.
#[derive(Debug)]
pub struct Commitment<'a> {
    /// Where its owner left the partition, and the claim that says so.
    pub owner: (Epoch, Checkpoint),
    /// What to write.
    pub set: &'a WriteSet,
    /// What it was decided on.
    pub seen: Seen<'a>,
    /// The activations that take effect with it.
    pub starts: &'a [NewStart],
    /// Milliseconds since 1970: the due time of a row that gets its turn because the one before it is done.
    pub now: i64,
    /// How long the partition has worked, in milliseconds.
    pub worked: i64,
    /// The next record to decide, and the outgoing records.
    pub frame: Frame,
    /// Random, new for each attempt.
    pub token: Uuid,
    /// The highest batch known to be published, if that is known.
    pub published: Option<BatchNumber>,
}

/// What a round was decided on. If any of it has changed, nothing is written.
#[derive(Debug, Default)]
pub struct Seen<'a> {
    /// The version of each task that existed.
    pub tasks: HashMap<&'a TaskId, i64>,
    /// The rows that it decided.
    pub rows: &'a [Uuid],
    /// The number of the activation of each route, by its name; 0 for none.
    pub activations: &'a [(&'a str, i64)],
}
