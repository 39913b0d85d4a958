//! What is told of the breakers of routes, and who hears of it.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::route_breaker::{State, Tally};

/// What made a breaker change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Too many faults in its window.
    Faults,
    /// A single message that was tried, or is to be.
    Probe,
    /// Another version that decides.
    Activation,
    /// A person's order.
    Person,
}

impl Why {
    /// Its name in events and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Faults => "faults",
            Self::Probe => "probe",
            Self::Activation => "activation",
            Self::Person => "person",
        }
    }
}

/// The version that decides for a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deciding {
    /// The activation's number; 0 while there is none.
    pub activation: i64,
    /// SHA-256 of its bytes.
    pub digest: String,
}

/// A change of a breaker, for whoever tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The route's number.
    pub route: usize,
    /// Its name.
    pub name: Arc<str>,
    /// What the breaker is now.
    pub state: State,
    /// What made it change.
    pub why: Why,
    /// In words.
    pub reason: String,
    /// The window's figures when it opened by faults.
    pub figures: Tally,
    /// The code of the fault that stands as an example for them.
    pub code: Option<&'static str>,
    /// What decides.
    pub deciding: Deciding,
    /// Who ordered it.
    pub by: Option<String>,
    /// Whether a person holds it there.
    pub held: bool,
    /// How long until a single message is tried.
    pub pause: Option<Duration>,
}

/// Hears of changes. Called under the breaker's lock, so it must not wait.
pub trait Observer: Send + Sync {
    /// A breaker is in another state, or in the same one for another reason.
    fn changed(&self, told: &Told);
}
