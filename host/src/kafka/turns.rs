//! Producers that take turns, so that a transaction doesn't have to wait for the end of the one before.
//!
//! The broker answers a commit as soon as it is decided, and writes the markers afterwards. Until then, it refuses the same
//! producer's next transaction (CONCURRENT_TRANSACTIONS), and librdkafka asks again after 20 ms. Another producer can begin at
//! once. Only one of them has an open transaction at a time, and each transaction ends before the next one begins. So records
//! keep their order.

use std::thread;

use super::error::Result;
use super::producer::TransactionalProducer;

/// How many producers take turns.
pub(crate) const PRODUCERS: usize = 2;

pub(crate) struct Turns {
    /// Each transactional id, with its producer once that is connected and usable.
    seats: Vec<(String, Option<TransactionalProducer>)>,
    /// The producer whose turn it is.
    turn: usize,
}

impl Turns {
    /// Nobody is connected yet.
    pub(crate) fn new(ids: impl IntoIterator<Item = String>) -> Self {
        let seats = ids.into_iter().map(|id| (id, None)).collect();
        Self { seats, turn: 0 }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.seats.iter().all(|(_, producer)| producer.is_some())
    }

    /// Connects the missing producers in parallel. After an error, those that could connect stay connected.
    pub(crate) fn connect(
        &mut self,
        connect: impl Fn(&str) -> Result<TransactionalProducer> + Sync,
    ) -> Result<()> {
        let (connect, mut result) = (&connect, Ok(()));
        let missing = self
            .seats
            .iter_mut()
            .filter(|(_, producer)| producer.is_none());
        thread::scope(|scope| {
            let threads: Vec<_> = missing
                .map(|(id, seat)| scope.spawn(move || connect(id).map(|new| *seat = Some(new))))
                .collect();
            for thread in threads {
                match thread.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => result = Err(error),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        result
    }

    /// The producer whose turn it is; none until all are connected. A discarded producer may have left a transaction open,
    /// which ends when its id is taken again.
    pub(crate) fn current(&self) -> Option<&TransactionalProducer> {
        let (_, producer) = self.seats.get(self.turn)?;
        producer.as_ref().filter(|_| self.is_complete())
    }

    /// The current transaction has ended: it is the next producer's turn.
    pub(crate) fn pass(&mut self) {
        self.turn = (self.turn + 1) % self.seats.len().max(1);
    }

    /// Whether any producer has been without brokers for a while.
    pub(crate) fn has_lost_brokers(&self) -> bool {
        self.connected()
            .any(TransactionalProducer::has_lost_brokers)
    }

    /// Discards all producers, so that new ones are created. All of them, because a process that fenced one has fenced the
    /// others, and if one has lost its brokers, so have others.
    pub(crate) fn discard(&mut self) {
        for (_, producer) in &mut self.seats {
            *producer = None;
        }
    }

    /// The connected producers.
    pub(crate) fn connected(&self) -> impl Iterator<Item = &TransactionalProducer> {
        self.seats.iter().filter_map(|(_, seat)| seat.as_ref())
    }

    /// Serves librdkafka's log lines and errors.
    pub(crate) fn serve(&self) {
        self.connected().for_each(TransactionalProducer::serve);
    }
}
