//! What the rest of the host hears of plugins: for metrics, health and the API.

use taskhost_core::task::PluginVersion;

use super::catalog::Refusal;

/// Told of what happens to plugins, on the thread where it happens: must not block.
pub trait PluginObserver: Send + Sync {
    /// A file or a version was refused for a route.
    fn refused(&self, route: &str, refusal: &Refusal);

    /// A version decides for a route from now on. `number` is the activation's.
    fn swapped(&self, route: &str, version: &PluginVersion, number: i64);

    /// A plugin wrote more log lines than a batch may have; `digest` names its version.
    fn log_dropped(&self, digest: &str, lines: u64);
}

/// Nobody listens.
impl PluginObserver for () {
    fn refused(&self, _: &str, _: &Refusal) {}

    fn swapped(&self, _: &str, _: &PluginVersion, _: i64) {}

    fn log_dropped(&self, _: &str, _: u64) {}
}
