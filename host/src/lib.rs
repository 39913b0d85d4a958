//! x
pub mod plugin;
