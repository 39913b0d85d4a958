//! taskhost: tasks as events.

pub mod config;
