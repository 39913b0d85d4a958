//! Where the inputs are sent, and the first time that is too late.

pub(super) const STATUS: &str = "task-status";
pub(super) const REQUESTS: &str = "requests-web-crawl";
/// The topic of the guest that answers what it is told to.
pub(super) const THINGS: &str = "misbehave";
/// 10000-01-01T00:00:00Z.
pub(super) const AFTER_TIME: i64 = 253_402_300_800_000;
