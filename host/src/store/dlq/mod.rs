//! Dead letters after they were made: looked at, edited, replayed, discarded, imported, and in the end forgotten.
//!
//! A replay is a wakeup of the dead letter's own partition. Asking for one and its row's state are one transaction, and so
//! are what it decides, the end of the wakeup and the row's next state: whoever dies, each is decided exactly once.

mod browse;
mod change;
mod import;
mod replay;
mod retention;

pub use browse::{Filter, OpenLetters, Place};
pub use change::{Edit, Edited};
pub use import::Imported;
pub use replay::{Counted, DueReplay, Requested};
pub use retention::{Kept, Trimmed};

pub(super) use replay::replayed;
