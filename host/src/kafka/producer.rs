//! A transactional producer: librdkafka's calls, each repeated while it says so, and nothing decided.
#![expect(
    unsafe_code,
    reason = "librdkafka's C interface, for calls that the crate hides or delays"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _, PurgeConfig};
use rdkafka_sys as sys;
use taskhost_core::record::Record;

use super::Settings;
use super::client::prepared;
use super::consumer::Consumer;
use super::context::{Delivered, Deliveries};
use super::error::{Error, Result};
use super::group::{Membership, send_offsets};
use super::native::{CallError, Remedy};

/// Step of polling while something is waited for: librdkafka has no way to wait for the last delivery
/// report that is served by the same thread; the crate's flush goes in steps of 100 ms.
const POLL_STEP: Duration = Duration::from_millis(1);

/// Pause before a call is repeated that librdkafka calls retriable.
const AGAIN_PAUSE: Duration = Duration::from_millis(20);

/// How long an abort may wait for delivery reports before they are served again.
const ABORT_STEP_MS: i32 = 20;

/// How long messages on their way are waited for once another has failed.
const FAILED_PATIENCE: Duration = Duration::from_millis(200);

/// The time that is left of the transaction, or without end.
const NO_TIMEOUT_MS: i32 = -1;

/// Bytes of a batch of records: librdkafka's default. Smaller where a topic takes less, because librdkafka
/// fails every record of a batch that is too large as a whole.
const BATCH_BYTES: usize = 1_000_000;

/// A producer that has its transactional id to itself; or, for publishing at least once, one without transactions, whose
/// offsets the group's consumer commits once every message is acknowledged.
pub(crate) struct TransactionalProducer {
    base: BaseProducer<Deliveries>,
    deliveries: Deliveries,
    /// Set if there are no transactions.
    without: Option<Arc<Consumer>>,
}

impl TransactionalProducer {
    /// Connects, and ends whatever is open under the id. Blocks for up to `patience`.
    pub(crate) fn connect(
        settings: &Settings,
        id: &str,
        consumer: &Arc<Consumer>,
        smallest_limit: Option<usize>,
        patience: Duration,
    ) -> Result<Self> {
        let mut config = match settings.at_least_once {
            true => settings.for_at_least_once(),
            false => settings.for_transactions(id),
        };
        let batch_bytes = smallest_limit.map_or(BATCH_BYTES, |limit| limit.clamp(1, BATCH_BYTES));
        if config
            .get("batch.size")
            .and_then(|text| text.parse().ok())
            .is_none_or(|size: usize| size > batch_bytes)
        {
            config.set("batch.size", batch_bytes.to_string());
        }
        let deliveries = Deliveries::default();
        let base: BaseProducer<Deliveries> = config
            .create_with_context(deliveries.clone())
            .map_err(|error| Error::kafka("starting the producer", &error))?;
        if settings.at_least_once {
            return Ok(Self {
                base,
                deliveries,
                without: Some(consumer.clone()),
            });
        }
        base.init_transactions(patience)
            .map_err(|error| Error::kafka("taking the transactional id", &error))?;
        Ok(Self {
            base,
            deliveries,
            without: None,
        })
    }

    pub(crate) fn begin(&self) -> std::result::Result<(), CallError> {
        if self.without.is_some() {
            return Ok(());
        }
        self.repeat("beginning a transaction", || {
            transactional(self.base.begin_transaction())
        })
    }

    /// Hands a record to librdkafka, waiting while its queue is full.
    pub(crate) fn produce(&self, record: &Record) -> std::result::Result<(), RDKafkaErrorCode> {
        let mut message = prepared(record);
        loop {
            match self.base.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                    message = unsent;
                    self.base.poll(POLL_STEP);
                }
                Err((error, _)) => {
                    return Err(error
                        .rdkafka_error_code()
                        .unwrap_or(RDKafkaErrorCode::InvalidArgument));
                }
            }
        }
    }

    /// Waits until every record has its delivery report, and takes the reports. After a failure librdkafka
    /// sends nothing more, and what is still queued would only run into its timeout: then it waits for
    /// what is on its way, and not for long, because an abort while a first message is on its way can
    /// make the producer unusable (librdkafka#4849).
    pub(crate) fn drain(&self) -> Delivered {
        let mut failed_at: Option<Instant> = None;
        while self.base.in_flight_count() > 0 {
            self.base.poll(POLL_STEP);
            if self.deliveries.any_failed() {
                let failed_at = *failed_at.get_or_insert_with(Instant::now);
                if failed_at.elapsed() >= FAILED_PATIENCE {
                    break;
                }
            }
        }
        self.deliveries.take()
    }

    /// Makes the offsets part of the transaction. Repeated with the same arguments only.
    pub(crate) fn send_offsets(
        &self,
        offsets: &TopicPartitionList,
        membership: &Membership,
    ) -> std::result::Result<(), CallError> {
        if let Some(consumer) = &self.without {
            return consumer.commit(offsets);
        }
        let producer = self.base.client().native_ptr();
        self.repeat("sending offsets", || {
            // SAFETY: the producer lives as long as `self`.
            unsafe { send_offsets(producer, offsets, membership, NO_TIMEOUT_MS) }
        })
    }

    /// Commits. Everything must have been drained: librdkafka waits for reports that only a poll serves.
    pub(crate) fn commit(&self) -> std::result::Result<(), CallError> {
        if self.without.is_some() {
            return Ok(());
        }
        self.repeat("committing a transaction", || {
            // SAFETY: the producer lives as long as `self`.
            let error = unsafe {
                sys::rd_kafka_commit_transaction(self.base.client().native_ptr(), NO_TIMEOUT_MS)
            };
            CallError::take(error).map_or(Ok(()), Err)
        })
    }

    /// Aborts. In steps, because librdkafka purges and then waits for reports that only a poll serves.
    pub(crate) fn abort(&self) -> std::result::Result<(), CallError> {
        if self.without.is_some() {
            // What was acknowledged stays; it is published again with the rest.
            self.base.purge(PurgeConfig::default().queue().inflight());
            while self.base.in_flight_count() > 0 {
                self.base.poll(POLL_STEP);
            }
            self.deliveries.take();
            return Ok(());
        }
        let result = self.repeat("aborting a transaction", || {
            // SAFETY: the producer lives as long as `self`.
            let error = unsafe {
                sys::rd_kafka_abort_transaction(self.base.client().native_ptr(), ABORT_STEP_MS)
            };
            CallError::take(error).map_or(Ok(()), Err)
        });
        self.deliveries.take();
        result
    }

    /// Serves librdkafka's log lines and errors.
    pub(crate) fn serve(&self) {
        self.base.poll(Duration::ZERO);
    }

    fn repeat(
        &self,
        doing: &'static str,
        call: impl Fn() -> std::result::Result<(), CallError>,
    ) -> std::result::Result<(), CallError> {
        let mut repeated: u32 = 0;
        loop {
            match call() {
                Err(error) if error.remedy == Remedy::Again => {
                    repeated += 1;
                    if repeated.is_multiple_of(100) {
                        tracing::warn!(doing, repeated, "{}; still trying", error.reason);
                    }
                    self.base.poll(AGAIN_PAUSE);
                }
                result => return result,
            }
        }
    }
}

fn transactional(result: KafkaResult<()>) -> std::result::Result<(), CallError> {
    result.map_err(|error| match error {
        KafkaError::Transaction(error) => CallError::from(error),
        other => CallError::abort(other.rdkafka_error_code(), other.to_string()),
    })
}
