//! Tells the rest of the host about plugins: for metrics, health and the API.

use taskhost_core::task::PluginVersion;

use super::refused::Refusal;

/// Gets the events of plugins, on the thread where they happen: must not block.
pub trait PluginObserver: Send + Sync {
    /// A file or a version was refused for a route.
    fn refused(&self, route: &str, refusal: &Refusal);

    /// A version became the active one of a route. `number` is that of the activation.
    fn swapped(&self, route: &str, version: &PluginVersion, number: i64);

    /// A plugin wrote more log lines than a batch may have; `digest` names its version.
    fn log_dropped(&self, digest: &str, lines: u64);
}

/// An observer that ignores everything.
impl PluginObserver for () {
    fn refused(&self, _: &str, _: &Refusal) {}

    fn swapped(&self, _: &str, _: &PluginVersion, _: i64) {}

    fn log_dropped(&self, _: &str, _: u64) {}
}
