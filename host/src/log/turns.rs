//! Producers that take turns, so that a transaction doesn't have to wait for the end of the one before.
//!
//! The broker answers a commit as soon as it is decided, and writes the markers afterwards. Until then, it refuses the same
//! producer's next transaction (CONCURRENT_TRANSACTIONS), and librdkafka asks again after 20 ms. Another producer can begin at
//! once. Only one of them has an open transaction at a time, and each transaction ends before the next one begins. So records
//! keep their order.

use super::error::Result;
use super::transactions::{Producer, Transactions};

/// How many producers take turns.
pub const PRODUCERS: usize = 2;

pub(crate) struct Turns<P> {
    /// Each transactional id, with its producer once that is connected and usable.
    seats: Vec<(String, Option<P>)>,
    /// The producer whose turn it is.
    turn: usize,
}

impl<P: Producer> Turns<P> {
    /// Nobody is connected yet.
    pub(crate) fn new(ids: impl IntoIterator<Item = String>) -> Self {
        let seats = ids.into_iter().map(|id| (id, None)).collect();
        Self { seats, turn: 0 }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.seats.iter().all(|(_, producer)| producer.is_some())
    }

    /// Connects the missing producers. After an error, those that could connect stay connected.
    pub(crate) async fn connect(
        &mut self,
        transactions: &impl Transactions<Producer = P>,
    ) -> Result<()> {
        let missing = self.seats.iter_mut().filter(|(_, seat)| seat.is_none());
        let (ids, seats): (Vec<String>, Vec<&mut Option<P>>) =
            missing.map(|(id, seat)| (id.clone(), seat)).unzip();
        let mut result = Ok(());
        for (seat, connected) in seats.into_iter().zip(transactions.connect(&ids).await) {
            match connected {
                Ok(producer) => *seat = Some(producer),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// The producer whose turn it is; none until all are connected. A discarded producer may have left a transaction open,
    /// which ends when its id is taken again.
    pub(crate) fn current(&self) -> Option<&P> {
        let (_, producer) = self.seats.get(self.turn)?;
        producer.as_ref().filter(|_| self.is_complete())
    }

    /// The current transaction has ended: it is the next producer's turn.
    pub(crate) fn pass(&mut self) {
        self.turn = (self.turn + 1) % self.seats.len().max(1);
    }

    /// Whether any producer has been without brokers for a while.
    pub(crate) fn has_lost_brokers(&self) -> bool {
        self.connected().any(P::has_lost_brokers)
    }

    /// Discards all producers, so that new ones are created. All of them, because a process that fenced one has fenced the
    /// others, and if one has lost its brokers, so have others.
    pub(crate) fn discard(&mut self) {
        for (_, producer) in &mut self.seats {
            *producer = None;
        }
    }

    /// The connected producers.
    pub(crate) fn connected(&self) -> impl Iterator<Item = &P> {
        self.seats.iter().filter_map(|(_, seat)| seat.as_ref())
    }

    /// Serves librdkafka's log lines and errors.
    pub(crate) fn serve(&self) {
        self.connected().for_each(P::serve);
    }
}
