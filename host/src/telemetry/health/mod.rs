//! How the host is: one registry that every part writes into, and what is said of it over HTTP.
//!
//! Writers call plain setters on a [`Status`]; nothing in here asks anybody anything, so a health check is
//! quick and never hangs on what it reports about.

mod breakers;
mod history;
mod ready;
mod status;
mod terminus;

pub use breakers::{RolledBackVersion, RouteBreaker};
pub use history::{ActivationStart, PastActivation};
pub use ready::{Missing, missing};
pub use status::{
    BrokerCount, Dependency, DependencyState, Group, ImpurePlugin, PartitionState, RefusedPlugin,
    RunningPlugin, Snapshot, Status, StrandedWakeups,
};
pub use terminus::{Report, detailed, kafka};
