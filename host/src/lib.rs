//! taskhost: Kafka in, a WebAssembly component decides, Postgres and Kafka out.
pub mod admin;
pub mod cli;
pub mod config;
pub mod dev;
pub mod failpoint;
pub mod host;
pub mod kafka;
pub mod plugin;
pub mod store;
pub mod telemetry;
pub mod worker;
