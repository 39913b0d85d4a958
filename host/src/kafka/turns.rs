//! Producers that take turns, so that a transaction need not wait for the end of the one before.
//!
//! A commit is answered as soon as it is decided; its markers are written afterwards. Until they are, the broker refuses
//! the same producer's next transaction (CONCURRENT_TRANSACTIONS), and librdkafka asks again after 20 ms. Another producer
//! begins at once. Only one of them has a transaction open at a time, and each transaction ends before the next one
//! begins, so that records keep their order.

use std::thread;

use super::error::Result;
use super::producer::TransactionalProducer;

/// How many producers take turns.
pub(crate) const PRODUCERS: usize = 2;

pub(crate) struct Turns {
    /// Each transactional id, and its producer once that is connected and of use.
    seats: Vec<(String, Option<TransactionalProducer>)>,
    /// Whose turn it is.
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

    /// Connects whoever is missing, side by side. An error leaves those connected that could be.
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

    /// Whose turn it is; nobody until everybody is connected: a producer that has to be made anew may have left a
    /// transaction open, and with its id taken again there is none.
    pub(crate) fn current(&self) -> Option<&TransactionalProducer> {
        let (_, producer) = self.seats.get(self.turn)?;
        producer.as_ref().filter(|_| self.is_complete())
    }

    /// Its transaction has ended: the next one's turn.
    pub(crate) fn pass(&mut self) {
        self.turn = (self.turn + 1) % self.seats.len().max(1);
    }

    /// Whether any has been without brokers for a while.
    pub(crate) fn has_lost_brokers(&self) -> bool {
        self.connected()
            .any(TransactionalProducer::has_lost_brokers)
    }

    /// They are made anew. All of them: whoever fenced one has fenced the others, and where one has lost its brokers, others
    /// have.
    pub(crate) fn discard(&mut self) {
        for (_, producer) in &mut self.seats {
            *producer = None;
        }
    }

    /// Those that are connected.
    pub(crate) fn connected(&self) -> impl Iterator<Item = &TransactionalProducer> {
        self.seats.iter().filter_map(|(_, seat)| seat.as_ref())
    }

    /// Serves librdkafka's log lines and errors.
    pub(crate) fn serve(&self) {
        self.connected().for_each(TransactionalProducer::serve);
    }
}
