//! x
pub mod failpoint;
pub mod kafka;
