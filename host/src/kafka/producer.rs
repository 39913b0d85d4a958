//! A transactional producer: librdkafka's calls, each repeated while librdkafka asks for a retry. No decisions here.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, PurgeConfig};
use taskhost_core::record::Record;

use super::Settings;
use super::consumer::Consumer;
use super::ffi::group::Membership;
use super::ffi::native::{CallError, Remedy};
use super::reporting::{Delivered, Reporting};
use crate::log::{Error, Result};

/// How long one wait for reports takes before anything else is checked.
const REPORT_PATIENCE: Duration = Duration::from_millis(20);

/// Pause before a call that librdkafka calls retriable is repeated.
const AGAIN_PAUSE: Duration = Duration::from_millis(20);

/// How long an abort may wait for delivery reports before they are served again.
const ABORT_STEP_MS: i32 = 20;

/// How long to wait for messages in flight once another has failed.
const FAILED_PATIENCE: Duration = Duration::from_millis(200);

/// How long the brokers may take to say whether there is a topic.
const METADATA_PATIENCE: Duration = Duration::from_secs(2);

/// The remaining time of the transaction, or no limit.
const NO_TIMEOUT_MS: i32 = -1;

/// Bytes of a batch of records: librdkafka's default. Smaller where a topic takes less, because librdkafka
/// fails every record of a batch that is too large as a whole.
const BATCH_BYTES: usize = 1_000_000;

/// A producer with its own transactional id. For at-least-once it has no transactions, and the group's consumer commits the
/// offsets once every message is acknowledged.
pub(crate) struct TransactionalProducer {
    producer: Reporting,
    has_transactions: bool,
}

impl TransactionalProducer {
    /// Connects, and ends an open transaction of the id. Blocks for up to `patience`.
    pub(crate) fn connect(
        settings: &Settings,
        id: &str,
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
        let producer = Reporting::new(&config)
            .map_err(|error| Error::kafka("starting the producer", &error))?;
        let has_transactions = !settings.at_least_once;
        if has_transactions {
            producer
                .base()
                .init_transactions(patience)
                .map_err(|error| Error::kafka("taking the transactional id", &error))?;
        }
        Ok(Self {
            producer,
            has_transactions,
        })
    }

    /// Whether it has been without any broker for a while. It may then still use leaders and coordinators that are gone, and
    /// wait for them until its timeout (librdkafka#5511).
    pub(crate) fn has_lost_brokers(&self) -> bool {
        self.producer.has_lost_brokers()
    }

    pub(crate) fn begin(&self) -> std::result::Result<(), CallError> {
        if !self.has_transactions {
            return Ok(());
        }
        self.repeat("beginning a transaction", || {
            transactional(self.producer.base().begin_transaction())
        })
    }

    /// Hands a record to librdkafka, waiting while its queue is full.
    pub(crate) fn produce(&self, record: &Record) -> std::result::Result<(), RDKafkaErrorCode> {
        self.producer.produce(record, None)
    }

    /// Waits until every record has its delivery report, and takes the reports. After a failure librdkafka sends nothing more,
    /// and queued records would only run into their timeout. It then waits only for records in flight, for a short time: an
    /// abort while a first message is in flight can make the producer unusable (librdkafka#4849).
    pub(crate) fn drain(&self) -> Delivered {
        let mut failed_at: Option<Instant> = None;
        while self.producer.is_busy() {
            self.producer.await_event(REPORT_PATIENCE);
            if self.producer.any_failed() {
                let failed_at = *failed_at.get_or_insert_with(Instant::now);
                if failed_at.elapsed() >= FAILED_PATIENCE {
                    break;
                }
            }
        }
        self.producer.take()
    }

    /// Makes the offsets part of the transaction. Repeated with the same arguments only.
    pub(crate) fn send_offsets(
        &self,
        offsets: &TopicPartitionList,
        consumer: &Consumer,
        membership: &Membership,
    ) -> std::result::Result<(), CallError> {
        if !self.has_transactions {
            return consumer.commit(offsets);
        }
        let producer = self.producer.queued();
        self.repeat("sending offsets", || {
            producer.send_offsets(offsets, membership, NO_TIMEOUT_MS)
        })
    }

    /// Commits. Everything must have been drained: librdkafka waits for reports that only a poll serves.
    pub(crate) fn commit(&self) -> std::result::Result<(), CallError> {
        if !self.has_transactions {
            return Ok(());
        }
        self.repeat("committing a transaction", || {
            self.producer.queued().commit_transaction(NO_TIMEOUT_MS)
        })
    }

    /// Aborts. In steps, because librdkafka purges and then waits for reports that only a poll serves.
    pub(crate) fn abort(&self) -> std::result::Result<(), CallError> {
        if !self.has_transactions {
            // Acknowledged records stay; they are published again with the rest.
            let purged = PurgeConfig::default().queue().inflight();
            self.producer.base().purge(purged);
            while self.producer.is_busy() {
                self.producer.await_event(REPORT_PATIENCE);
            }
            self.producer.take();
            return Ok(());
        }
        let result = self.repeat("aborting a transaction", || {
            self.producer.queued().abort_transaction(ABORT_STEP_MS)
        });
        self.producer.take();
        result
    }

    /// Whether the brokers say now that there is no such topic: what librdkafka knows may be older than the topic.
    pub(crate) fn is_missing(&self, topic: &str) -> bool {
        let client = self.producer.base().client();
        client
            .fetch_metadata(Some(topic), METADATA_PATIENCE)
            .is_ok_and(|answer| answer.topics().iter().all(|it| it.partitions().is_empty()))
    }

    /// Serves librdkafka's log lines and errors.
    pub(crate) fn serve(&self) {
        self.producer.serve(Duration::ZERO);
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
                    self.producer.serve(AGAIN_PAUSE);
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
