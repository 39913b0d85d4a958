//! Never comes back from its configuration: the host must end it at its deadline.

use taskhost_sdk::bindings::{Decision, Descriptor, Guest, Work, export};

struct Component;

impl Guest for Component {
    fn configure(config: String) -> Result<Descriptor, String> {
        loop {
            std::hint::black_box(&config);
        }
    }

    fn decide(_: Vec<Work>) -> Vec<Vec<Decision>> {
        Vec::new()
    }
}

export!(Component with_types_in taskhost_sdk::bindings);
