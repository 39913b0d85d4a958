//! Which activations take effect with a batch, and at which record.
//!
//! An activation takes effect in a partition at the first record of its route that is decided under it; if a timer or a
//! message that waited is decided under it before any record, at the record that is next then.

use taskhost_core::round::Items;

use super::Worker;
use crate::shared::Plugins;
use crate::store::NewStart;

impl Worker {
    /// The activations that no batch of this partition was committed under before, with the first of the `covered` items
    /// that each decides.
    pub(super) fn starts(&self, items: &Items, plugins: &Plugins, covered: usize) -> Vec<NewStart> {
        let mut starts: Vec<NewStart> = Vec::new();
        for (_, cause) in items.causes().take_while(|(at, _)| *at < covered) {
            let Some(number) = plugins.activation(cause.route) else {
                continue;
            };
            let route = &self.shared.rules.routes[cause.route].name;
            let is_known = self.claimed.started.get(route) == Some(&number);
            if is_known || starts.iter().any(|start| start.route == *route) {
                continue;
            }
            starts.push(NewStart {
                route: route.clone(),
                number,
                // What waited lies behind.
                first_offset: match cause.waited {
                    Some(_) => self.claimed.reached.next_offset,
                    None => cause.position().offset,
                },
            });
        }
        starts
    }
}
