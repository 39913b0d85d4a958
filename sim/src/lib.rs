//! Seeded worlds: the real worker and publisher on a simulated ledger, log, clock and network.
//!
//! ```text
//!   seed ──► World: records, people, accidents ──► Host × 2 or 3 (worker, publisher, waker, breakers: the code that ships)
//!                                                     │ calls, each with its delay and its fate
//!                                                     ▼
//!                              Net ──► ledger::Tables (Postgres)   broker::Cluster (Kafka)
//!                                                     └──────────┬──────────┘
//!                                                             oracle
//! ```
//!
//! Everything runs on one thread with a clock of its own, so a world is the same each time it is lived through. At each end of
//! each call its process may crash or freeze; calls get lost, or arrive when their caller has given up.

mod broker;
mod host;
pub mod ledger;
mod net;
mod oracle;
mod rules;
mod story;
mod world;

pub use world::{Ended, live};
