//! The health of the host: one registry that every part writes to, and its reports over HTTP.
//!
//! Writers call plain setters on a [`Status`]. Nothing here asks another part, so a health check is quick, and never hangs on
//! the part that it reports about.

mod breakers;
mod history;
mod ready;
mod status;
mod terminus;

pub use breakers::{RolledBackVersion, RouteBreaker};
pub use history::{ActivationStart, PastActivation};
pub use ready::{Missing, missing};
pub use status::{
    BrokerCount, DependencyState, Group, ImpurePlugin, PartitionState, RefusedPlugin,
    RunningPlugin, Snapshot, Status, StrandedWakeups,
};
pub use terminus::{Report, detailed, kafka};
