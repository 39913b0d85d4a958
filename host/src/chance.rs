//! Random numbers for everything that a simulation runs, drawn in one place so that the simulation can repeat them. Other code
//! may draw its own.

use std::cell::RefCell;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

thread_local! {
    static SIMULATED: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
}

/// A number of at least 0 and less than 1, for jitter and samples.
pub fn share() -> f64 {
    SIMULATED.with_borrow_mut(|simulated| match simulated {
        Some(seeded) => seeded.random(),
        None => rand::random(),
    })
}

/// A random UUID.
pub fn uuid() -> Uuid {
    SIMULATED.with_borrow_mut(|simulated| match simulated {
        Some(seeded) => uuid::Builder::from_random_bytes(seeded.random()).into_uuid(),
        None => Uuid::new_v4(),
    })
}

/// Makes all random numbers of this thread follow from a seed.
pub fn simulate(seed: u64) {
    SIMULATED.with_borrow_mut(|simulated| *simulated = Some(SmallRng::seed_from_u64(seed)));
}
