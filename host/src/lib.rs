//! taskhost: tasks as events.

pub mod admin;
pub mod config;
pub mod telemetry;
