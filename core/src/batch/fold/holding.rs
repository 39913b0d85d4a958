//! What keeps later messages of a task waiting within a batch.

use uuid::Uuid;

use crate::task::TaskId;
use crate::waiting::Rank;

/// A dead letter that holds its task, and whose replay is in the batch.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) letter: Uuid,
    pub(super) task_id: TaskId,
    pub(super) rank: Rank,
    /// It holds its task only once that exists.
    pub(super) is_missing: bool,
}
