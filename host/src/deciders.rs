//! The port to the plugins: [`Deciders`] has the current one of each route. `crate::plugin` implements it with components, and the
//! simulator in `sim/` with rules of its own.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::decision::Decision;
use taskhost_core::descriptor::Descriptor;
use taskhost_core::record::TopicPartition;
use taskhost_core::round::{Unanswered, Work};
use taskhost_core::task::PluginVersion;

/// The current plugin of each route, by the route's number: what a worker needs of the catalog.
#[async_trait]
pub trait Deciders: Debug + Send + Sync {
    /// What is current now; none if nothing was ever activated.
    fn current(&self, route: usize) -> Option<Current>;

    /// Reads the route's activation again, and follows it.
    ///
    /// # Errors
    /// Why it can't be followed here and now.
    async fn refresh(&self, route: usize) -> Result<(), String>;
}

/// What is current for a route.
#[derive(Debug, Clone)]
pub struct Current {
    /// The activation's number.
    pub number: i64,
    /// Name, version and digest.
    pub version: Arc<PluginVersion>,
    /// Its description under its configuration.
    pub descriptor: Arc<Descriptor>,
    /// Its configuration: JSON text.
    pub config: Arc<str>,
    /// The interface that it was built against.
    pub interface: &'static str,
    /// How long messages on which it faults are held; none if it isn't on probation.
    pub hold: Option<Duration>,
    /// What answers.
    pub rule: Arc<dyn Rule>,
}

/// A plugin under its configuration.
pub trait Rule: Debug + Send + Sync {
    /// Decides every cause of every work. Blocks. `again`: it decided them before, and nothing is logged a second time.
    ///
    /// # Errors
    /// The plugin's fault, or the machine's trouble.
    fn decide(
        &self,
        works: &[Work<'_>],
        at: &TopicPartition,
        again: bool,
    ) -> Result<Vec<Vec<Decision>>, Unanswered>;
}
