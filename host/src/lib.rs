//! taskhost: tasks as events.

pub mod admin;
pub mod cli;
pub mod config;
pub mod telemetry;
