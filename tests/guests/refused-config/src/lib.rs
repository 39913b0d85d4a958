//! Accepts no configuration, whatever it says: the host must refuse the route with its sentence.

use taskhost_sdk::bindings::{Decision, Descriptor, Guest, Work, export};

struct Component;

impl Guest for Component {
    fn configure(_: String) -> Result<Descriptor, String> {
        Err("this guest accepts no configuration".to_owned())
    }

    fn decide(_: Vec<Work>) -> Vec<Vec<Decision>> {
        Vec::new()
    }
}

export!(Component with_types_in taskhost_sdk::bindings);
