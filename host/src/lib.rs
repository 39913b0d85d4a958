//! taskhost: Kafka in, a WebAssembly component decides, Postgres and Kafka out.
//!
//! ```text
//!     Kafka ──► consume ──► decode ──► decide (plugin) ──► commit (Postgres) ──► publish (Kafka)
//!               pull a       bytes →    batch + tasks →     one transaction       one transaction:
//!               batch        envelope   decisions           per batch             outbox + offsets
//! ```
//!
//! 1. **consume**: [`kafka::Consumer`] polls on a thread of its own and feeds each assigned partition's
//!    [`worker::Worker`] through a bounded [`kafka::Feed`].
//! 2. **decode**: `taskhost_core::envelope`, pure. What doesn't decode is a dead letter.
//! 3. **decide**: [`plugin::Component`] is asked once for the batch, in a fresh instance; after a fault,
//!    cause by cause. Core checks every answer and folds it to a write set.
//! 4. **commit**: [`store::Batch`] is one Postgres transaction: progress by compare-and-set, tasks, events,
//!    wakeups, dead letters, and the outgoing records as one outbox frame.
//! 5. **publish**: [`kafka::Publisher`] puts waiting frames and the group's offsets into one Kafka
//!    transaction, so the committed offset says how far the outbox is published.
//! 6. **recover**: a partition that is assigned is claimed, its former owners fenced, and what a crash left
//!    between progress and watermark published before anything is decided.
//!
//! Each foreign library has one folder: rdkafka [`kafka`], wasmtime [`plugin`], SQL [`store`], HTTP
//! [`admin`]. [`host`] puts the parts together from the [`config`]; [`dev`] brings a broker and a Postgres.

pub mod admin;
pub mod background;
pub mod breaker;
pub mod cli;
pub mod config;
pub mod dev;
pub mod failpoint;
pub mod host;
pub mod kafka;
pub mod letters;
pub mod mutant;
pub mod plugin;
pub mod route_breaker;
pub mod store;
pub mod telemetry;
pub mod worker;

/// A batch makes thousands of small pieces in one thread and drops them in another, which glibc's allocator is slow at;
/// librdkafka takes its memory from here, too (docs/performance.md has the figures).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
