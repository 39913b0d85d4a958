//! The plugins that a round is decided with: taken once, so that a swap in the middle changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taskhost_core::batch::Decider;
use taskhost_core::cause::Route;
use taskhost_core::decision::Decision;
use taskhost_core::record::TopicPartition;
use taskhost_core::round::{Ask, Unanswered, Work};
use taskhost_core::task::RecordedDecider;

use crate::plugin::{Active, Catalog, INTERFACE};

/// What each route is decided with, by the route's number.
#[derive(Debug, Clone)]
pub(crate) struct Plugins {
    list: Vec<Option<(Arc<Active>, Arc<Decider>)>>,
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
    pub(crate) fn current(
        catalog: &Catalog,
        routes: &[Route],
        topic: &str,
        topics: &Arc<BTreeMap<String, String>>,
    ) -> Option<Self> {
        let mut list = Vec::with_capacity(routes.len());
        for (number, route) in routes.iter().enumerate() {
            list.push(match route.topic == topic {
                false => None,
                true => {
                    let active = catalog.current(number)?;
                    let decider = Decider {
                        route: route.name.as_str().into(),
                        plugin: active.version.clone(),
                        descriptor: active.descriptor.clone(),
                        topics: topics.clone(),
                        record: Arc::new(RecordedDecider {
                            route: route.name.as_str().into(),
                            activation: active.number,
                            plugin: active.version.clone(),
                            config: active.config.clone(),
                            interface: INTERFACE.into(),
                            topics: topics.clone(),
                        }),
                        hold: active.hold(super::now()),
                        on_dead_letter: route.on_dead_letter,
                    };
                    Some((active, Arc::new(decider)))
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
        known.map(|(active, _)| active.number)
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
        match known {
            Some((active, _)) if self.again => active.decide_again(works, self.partition),
            Some((active, _)) => active.decide(works, self.partition),
            None => Ok(Vec::new()),
        }
    }

    fn spent(&self) -> Duration {
        self.began.elapsed()
    }
}
