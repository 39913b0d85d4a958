//! The services of `taskhost dev` and the tests: a real Kafka broker and a private Postgres, as child processes.
//!
//! A [`Broker`] is Kafka's own jars run by Java as a single KRaft node; a [`Postgres`] is a cluster of the
//! installed binaries. Both listen on loopback only, keep their data in the directory they are given, and go on
//! from it at the next start.
//!
//! Invariants: no child outlives this process, not even if this process is killed (`processes`). At most one `taskhost dev`
//! runs on a directory, and [`env_file`] is correct as long as it runs.
//!
//! All calls block. From asynchronous code, call them on a thread that may block.

mod account;
pub mod broker;
mod dir_lock;
pub mod env_file;
mod error;
mod log_file;
pub mod postgres;
mod probe;
mod processes;

pub use broker::{Broker, BrokerOptions, Jvm, Listener};
pub use env_file::{DevEnv, Lease};
pub use error::{Error, Result};
pub use postgres::{Postgres, PostgresOptions};
pub use processes::{DeathSignal, Process};
