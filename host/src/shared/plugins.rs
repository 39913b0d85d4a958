//! The plugins that a round is decided with: taken once, so that a swap in the middle changes nothing.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::batch::Decider;
use taskhost_core::decision::Decision;
use taskhost_core::record::TopicPartition;
use taskhost_core::round::{Ask, Unanswered, Work};
use taskhost_core::task::RecordedDecider;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

use super::Rules;
use crate::deciders::{Current, Deciders};

/// Runs guests on a thread that others wait for; where there is only one, they wait.
pub(crate) fn deciding<T>(decide: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => decide(),
        _ => tokio::task::block_in_place(decide),
    }
}

/// What each route is decided with, by the route's number.
#[derive(Debug, Clone)]
pub(crate) struct Plugins {
    list: Vec<Option<(Current, Arc<Decider>)>>,
    nobody: Arc<Decider>,
}

/// Asks the plugins of one round. Blocks: runs guests.
pub(crate) struct Asking<'a> {
    plugins: &'a Plugins,
    partition: &'a TopicPartition,
    began: Instant,
    /// Whether they were asked before: nothing is logged a second time.
    again: bool,
}

impl Plugins {
    /// What is current now for the routes of a topic; none if one of them has no plugin yet.
    pub(crate) fn current(deciders: &dyn Deciders, rules: &Rules, topic: &str) -> Option<Self> {
        let mut list = Vec::with_capacity(rules.routes.len());
        for (number, route) in rules.routes.iter().enumerate() {
            list.push(match route.topic == topic {
                false => None,
                true => {
                    let current = deciders.current(number)?;
                    let decider = Decider {
                        route: route.name.as_str().into(),
                        plugin: current.version.clone(),
                        descriptor: current.descriptor.clone(),
                        topics: rules.topics.clone(),
                        record: Arc::new(RecordedDecider {
                            route: route.name.as_str().into(),
                            activation: current.number,
                            plugin: current.version.clone(),
                            config: current.config.clone(),
                            interface: current.interface.into(),
                            topics: rules.topics.clone(),
                        }),
                        hold: current.hold,
                        on_dead_letter: route.on_dead_letter,
                    };
                    Some((current, Arc::new(decider)))
                }
            });
        }
        let first = list.iter().flatten().next();
        let nobody = first.map(|(_, decider)| decider.clone())?;
        Some(Self { list, nobody })
    }

    /// What a route's decisions are carried out with. A route of another topic is never asked for.
    pub(crate) fn decider(&self, route: usize) -> &Arc<Decider> {
        let known = self.list.get(route).and_then(Option::as_ref);
        known.map_or(&self.nobody, |(_, decider)| decider)
    }

    /// The number of the activation that a route is decided under.
    pub(crate) fn activation(&self, route: usize) -> Option<i64> {
        let known = self.list.get(route)?.as_ref();
        known.map(|(current, _)| current.number)
    }

    /// Asks them in a round of the partition.
    pub(crate) fn asking<'a>(&'a self, partition: &'a TopicPartition) -> Asking<'a> {
        Asking {
            plugins: self,
            partition,
            began: Instant::now(),
            again: false,
        }
    }

    /// Asks them once more about what they decided.
    pub(crate) fn asking_again<'a>(&'a self, partition: &'a TopicPartition) -> Asking<'a> {
        Asking {
            again: true,
            ..self.asking(partition)
        }
    }
}

impl Ask for Asking<'_> {
    fn decider(&self, route: usize) -> &Arc<Decider> {
        self.plugins.decider(route)
    }

    fn ask(&self, route: usize, works: &[Work<'_>]) -> Result<Vec<Vec<Decision>>, Unanswered> {
        let known = self.plugins.list.get(route).and_then(Option::as_ref);
        let rule = known.map(|(current, _)| &current.rule);
        rule.map_or(Ok(Vec::new()), |rule| {
            rule.decide(works, self.partition, self.again)
        })
    }

    fn spent(&self) -> Duration {
        self.began.elapsed()
    }
}
