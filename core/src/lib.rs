//! What taskhost decides, without touching the world.
//!
//! ```text
//!  record ──► envelope::decode ──► cause ──► (plugin) ──► decision::check ──► batch::Fold ──► write set
//!  bytes       meta, body, id        one per message or     against the        tasks, events,    one Postgres
//!              or why not            due wakeup             descriptor         records, letters  transaction
//! ```
//!
//! Nothing here does I/O, reads a clock, or is async: `now` is an argument and effects are values that
//! the host carries out. So every law of the product can be tested here in microseconds:
//!
//! - [`envelope`] turns a Kafka record into an [`Envelope`](envelope::Envelope), or says why it can't;
//! - [`decision`] is what a plugin may answer, and checks it against the plugin's
//!   [`Descriptor`](descriptor::Descriptor);
//! - [`batch`] folds tasks and decisions to the [`WriteSet`](batch::WriteSet) of one transaction;
//! - [`frame`] is the stored form of a batch's outgoing records;
//! - [`partition`] is a partition's worker as a state machine: events in, actions out;
//! - [`recovery`] compares progress and watermark and says what a crash left to do, or why the partition
//!   [halts](halt); [`reset`] is what a person decides then;
//! - [`breaker`] says when something that fails is tried again; [`route_breaker`] when a route's plugin fails too often;
//! - [`worked`] counts the time in which something could be decided;
//! - [`replay`] is a dead letter that is decided again, [`foreign`] one that another system wrote;
//! - [`retry`] has the schedules, [`limits`] every bound by name.

pub mod batch;
pub mod breaker;
pub mod cause;
pub mod dead_letter;
pub mod decision;
pub mod descriptor;
pub mod envelope;
pub mod fault;
pub mod foreign;
pub mod frame;
pub mod halt;
pub mod json;
pub mod limits;
pub mod outcome;
pub mod partition;
pub mod purity;
pub mod record;
pub mod recovery;
pub mod replay;
pub mod reset;
pub mod retry;
pub mod round;
pub mod route_breaker;
pub mod task;
pub mod timestamp;
pub mod trace;
pub mod waiting;
pub mod watermark;
pub mod worked;
