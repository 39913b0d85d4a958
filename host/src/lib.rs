//! taskhost: reads messages from Kafka, decides with a WebAssembly component, writes to Postgres and Kafka.
//!
//! ```text
//!     Kafka ──► consume ──► decode ──► decide (plugin) ──► commit (Postgres) ──► publish (Kafka)
//!               pull a       bytes →    batch + tasks →     one call              one transaction:
//!               batch        envelope   decisions           per batch             outbox + offsets
//! ```
//!
//! 1. **consume**: [`kafka::Consumer`] polls on its own thread and feeds each assigned partition's
//!    [`worker::Worker`] through a bounded [`log::Feed`].
//! 2. **decode**: `taskhost_core::envelope`, pure. A message that can't be decoded becomes a dead letter.
//! 3. **decide**: [`plugin::Component`] is asked once for the batch, in a fresh instance. After a fault the batch is
//!    halved until the cause that faults alone is found. Core checks every answer and folds it to a write set.
//! 4. **commit**: [`store::Store::commit`] is one call of Postgres that does everything or nothing: progress by
//!    compare-and-set, tasks, events, wakeups, dead letters, and the outgoing records as one outbox frame.
//! 5. **publish**: [`log::Publisher`] puts waiting frames and the group's offsets into one Kafka
//!    transaction, so the committed offset says how far the outbox is published.
//! 6. **recover**: when a partition is assigned, the worker claims it and fences its former owners. Then it publishes the
//!    committed batches between watermark and progress, and only then decides.
//!
//! Each foreign library has one folder: rdkafka [`kafka`], wasmtime [`plugin`], SQL [`store`], HTTP
//! [`admin`]. [`app`] puts the parts together from the [`config`]; [`dev`] starts a broker and a Postgres.

pub mod admin;
pub mod app;
pub mod background;
mod backoff;
pub mod breakers;
pub mod chance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deciders;
pub mod dependency;
pub mod dev;
pub mod failpoint;
pub mod kafka;
pub mod ledger;
pub mod letters;
pub mod log;
pub mod mutant;
pub mod plugin;
pub mod shared;
pub mod store;
pub mod telemetry;
pub mod watched;
pub mod worker;

/// A batch allocates thousands of small pieces in one thread and frees them in another, which is slow with glibc's allocator.
/// librdkafka uses this allocator too (docs/performance.md has the figures).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
