//! The plugins that a batch is decided with: taken once, so that a swap in the middle changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use taskhost_core::batch::Decider;
use taskhost_core::cause::Route;
use taskhost_core::decision::Decision;
use taskhost_core::record::TopicPartition;

use crate::plugin::{Active, Catalog, Failure, Work};

/// What each route is decided with, by the route's number.
#[derive(Debug, Clone)]
pub(super) struct Plugins {
    list: Vec<Option<(Arc<Active>, Arc<Decider>)>>,
    nobody: Arc<Decider>,
}

impl Plugins {
    /// What is current now for the routes of a topic; none if one of them has no plugin yet.
    pub(super) fn current(
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
                        hold: active.hold(super::now()),
                    };
                    Some((active, Arc::new(decider)))
                }
            });
        }
        let nobody = list
            .iter()
            .flatten()
            .next()
            .map(|(_, decider)| decider.clone())?;
        Some(Self { list, nobody })
    }

    /// What a route's decisions are carried out with. A route of another topic is never asked for.
    pub(super) fn decider(&self, route: usize) -> &Arc<Decider> {
        self.list
            .get(route)
            .and_then(Option::as_ref)
            .map_or(&self.nobody, |(_, decider)| decider)
    }

    /// The number of the activation that a route is decided under.
    pub(super) fn activation(&self, route: usize) -> Option<i64> {
        self.list
            .get(route)?
            .as_ref()
            .map(|(active, _)| active.number)
    }

    /// Asks a route's plugin once more about what it decided. Its log lines were written then. Blocks.
    pub(super) fn decide_again(
        &self,
        route: usize,
        works: &[Work<'_>],
        partition: &TopicPartition,
    ) -> Result<Vec<Vec<Decision>>, Failure> {
        match self.list.get(route).and_then(Option::as_ref) {
            Some((active, _)) => active.decide_again(works, partition),
            None => Ok(Vec::new()),
        }
    }

    /// Asks a route's plugin. Blocks.
    pub(super) fn decide(
        &self,
        route: usize,
        works: &[Work<'_>],
        partition: &TopicPartition,
    ) -> Result<Vec<Vec<Decision>>, Failure> {
        match self.list.get(route).and_then(Option::as_ref) {
            Some((active, _)) => active.decide(works, partition),
            None => Ok(Vec::new()),
        }
    }
}
