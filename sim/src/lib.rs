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
//! A world runs on one thread with its own clock, so the same seed gives the same world. Before and after each call its
//! process may crash or freeze. Requests and answers get lost, or a request arrives after its caller gave up.

mod broker;
mod host;
pub mod ledger;
mod net;
mod oracle;
mod rules;
mod story;
mod world;

pub use world::{Ended, live};
