//! x

pub mod failpoint;
pub mod store;
