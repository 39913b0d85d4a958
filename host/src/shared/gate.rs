//! How many batches a host has in hand at once: what comes meanwhile makes the next ones larger.
//!
//! A batch costs something whatever its size. Where all partitions begin one as soon as they have a message, a busy machine
//! makes small ones, which make it busier still. With places for a few, the partitions that wait for theirs gather what
//! comes: the more there is to do, the less a message costs, and what batches in hand take of memory is bounded.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// A batch that waits for longer than this does so for something else than the machine, such as a lock, and keeps nobody from
/// beginning another. While guests run it keeps its place however long that takes: they take up a core.
const PLACE_TIME_MAX: Duration = Duration::from_millis(500);

/// The places.
#[derive(Debug)]
pub struct Gate(Semaphore);

/// A place among the batches in hand.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// None if the gate were closed, which it never is: it would keep nobody then.
    _held: Option<SemaphorePermit<'a>>,
}

impl Gate {
    /// With so many places, at least one.
    pub fn new(places: usize) -> Self {
        Self(Semaphore::new(places.max(1)))
    }

    /// Waits for a place: whoever came first is first.
    pub(crate) async fn place(&self) -> Place<'_> {
        Place {
            _held: self.0.acquire().await.ok(),
        }
    }
}

impl Place<'_> {
    /// Does the work in this place, and frees it afterwards, or earlier if the work takes long.
    pub(crate) async fn during<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(PLACE_TIME_MAX) => drop(self),
        }
        work.await
    }
}
