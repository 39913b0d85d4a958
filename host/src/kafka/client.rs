//! Kafka for commands: sends some records.

use std::time::{Duration, Instant};

use taskhost_core::record::Record;

use super::Settings;
use super::reporting::Reporting;
use crate::log::{Disposition, Error, Result};

/// An idempotent producer without transactions.
pub struct Sender {
    producer: Reporting,
}

impl Sender {
    /// A producer; it connects when something is sent.
    ///
    /// # Errors
    /// If a setting is wrong.
    pub fn new(settings: &Settings) -> Result<Self> {
        let mut config = settings.for_producer();
        config.remove("transaction.timeout.ms");
        let producer = Reporting::new(&config)
            .map_err(|error| Error::kafka("starting the producer", &error))?;
        Ok(Self { producer })
    }

    /// Sends records in order and waits until the broker has them all. Blocks for up to `patience`.
    ///
    /// # Errors
    /// If one of them is refused or isn't delivered in time; others may have been.
    pub fn send(&self, records: &[Record], patience: Duration) -> Result<()> {
        const DOING: &str = "sending records";
        let deadline = Instant::now() + patience;
        for record in records {
            let produced = self.producer.produce(record, Some(deadline));
            produced.map_err(|code| Error::code(DOING, code))?;
        }
        while self.producer.is_busy() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(
                    DOING,
                    Disposition::Trouble,
                    "the broker did not answer in time",
                ));
            }
            self.producer.await_event(left);
        }
        match self.producer.take().failed.first() {
            Some((topic, code)) => Err(Error::new(
                DOING,
                Error::code(DOING, *code).disposition(),
                format!("{topic}: {code}"),
            )),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}
