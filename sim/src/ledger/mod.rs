//! Postgres in memory: the tables, and what a host calls.

mod client;
mod commit;
mod people;
mod tables;
mod waiting;

pub use client::{MemoryLedger, Server};
pub use commit::UNSTORABLE;
pub use tables::{Letter, Progress, Tables};
