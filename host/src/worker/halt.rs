//! A partition that stands still: says so everywhere, and looks for what a person decides.

use std::time::Duration;

use taskhost_core::halt::Halt;
use taskhost_core::partition::{Action, Event};

use super::work::TICK;
use super::{Failure, Worker};
use crate::store::Disposition;

/// How long the row may take before the halt is shown without it.
const ROW_PATIENCE: Duration = Duration::from_millis(500);

impl Worker {
    /// Until a command clears the halt in the partition's row, or the partition is given back.
    pub(super) async fn stand_still(&mut self, halt: &Halt) -> Result<Event, Failure> {
        // First in the partition's row, where commands look for it; but health doesn't wait for Postgres.
        let mut told = matches!(
            tokio::time::timeout(ROW_PATIENCE, self.look(halt, false)).await,
            Ok(Ok(_))
        );
        let next_step = halt.next_step(&self.partition);
        tracing::error!(
            reason = halt.code(),
            "the partition stops, all others go on: {halt}; {next_step}"
        );
        self.shared
            .metrics
            .set_halted(&self.partition.topic, self.partition.partition, true);
        self.show(&Action::Halt(halt.clone()));
        self.shared.observer.halted(&self.partition, halt);
        loop {
            tokio::time::sleep(TICK).await;
            match self.look(halt, told).await {
                Ok(true) if told => break,
                Ok(_) => told = true,
                Err(error) => tracing::debug!(%error, "the halt is not in the partition's row yet"),
            }
        }
        tracing::info!("the halt is resolved by a command; the partition is read anew");
        self.shared.observer.resolved(&self.partition);
        Ok(Event::Resolved)
    }

    /// Writes the halt down, or looks whether it is still there. True if it isn't.
    async fn look(&mut self, halt: &Halt, told: bool) -> Result<bool, crate::store::Error> {
        if told {
            return Ok(!self.shared.ledger.is_halted(&self.key).await?);
        }
        match self
            .shared
            .ledger
            .halt(&self.key, self.claimed.epoch, halt)
            .await
        {
            // Whoever claimed the partition since says what there is to say of it.
            Err(error) if error.disposition() == Disposition::Lost => Ok(false),
            result => result.map(|()| false),
        }
    }
}
