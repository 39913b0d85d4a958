//! The store against a real Postgres: what the protocol demands of locks, claims and commits.
//!
//! `TEST_DATABASE_URL` names a database in which databases may be created, such as
//! `postgres://postgres@127.0.0.1:5432/postgres`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod activations;
mod batches;
mod claims;
mod counters;
mod dlq;
mod history;
mod lost_commits;
mod migrations;
mod old_rows;
mod one_call;
mod order;
mod proxy;
mod rollbacks;
mod settings_of_servers;
mod stale_statistics;
mod support;
mod throughput;
mod waiting;
mod wakeups;
