//! A producer with its delivery reports, taken from its queue of events as they arrive.
//!
//! The crate's own poll runs until its time is over, whatever has arrived. With that poll, waiting for reports would either
//! add that time to each transaction, or read the queue without pause.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use taskhost_core::record::Record;

use super::context::{self, Logging};
use super::ffi::events::Content;
use super::ffi::producer::QueuedProducer;
use super::rebootstrap::Rebootstrap;

/// How long to wait before a record is offered to a full queue again.
const FULL_PATIENCE: Duration = Duration::from_millis(100);

/// A producer whose user serves its reports, in one thread at a time.
pub(crate) struct Reporting {
    producer: QueuedProducer,
    delivered: Mutex<Delivered>,
    watch: Rebootstrap,
}

/// The content of the reports since they were last taken.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    /// Messages the broker has, by topic.
    pub(crate) sent: HashMap<String, u64>,
    /// Messages that failed, by topic and reason.
    pub(crate) failed: Vec<(String, RDKafkaErrorCode)>,
}

impl Reporting {
    pub(crate) fn new(config: &ClientConfig) -> KafkaResult<Self> {
        let producer = QueuedProducer::new(config)?;
        Ok(Self {
            watch: Rebootstrap::watch(producer.base(), |base| base.client(), config),
            producer,
            delivered: Mutex::default(),
        })
    }

    pub(crate) fn base(&self) -> &BaseProducer<Logging> {
        self.producer.base()
    }

    /// For the calls of transactions.
    pub(crate) fn queued(&self) -> &QueuedProducer {
        &self.producer
    }

    /// Whether it has been without any broker for a while.
    pub(crate) fn has_lost_brokers(&self) -> bool {
        self.watch.has_lost_brokers()
    }

    /// Hands a record to librdkafka, waiting while its queue is full, but not beyond the deadline.
    pub(crate) fn produce(
        &self,
        record: &Record,
        deadline: Option<Instant>,
    ) -> Result<(), RDKafkaErrorCode> {
        let mut message = prepared(record);
        loop {
            let (error, unsent) = match self.base().send(message) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            let code = error.rdkafka_error_code();
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if code != Some(RDKafkaErrorCode::QueueFull) || is_late {
                return Err(code.unwrap_or(RDKafkaErrorCode::InvalidArgument));
            }
            message = unsent;
            self.await_event(FULL_PATIENCE);
        }
    }

    /// Whether records have no report yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.base().in_flight_count() > 0
    }

    /// Waits for the next event, which may be the reports of many records, and takes it. False if none came.
    pub(crate) fn await_event(&self, patience: Duration) -> bool {
        let Some(event) = self.producer.poll(patience) else {
            return false;
        };
        match event.content() {
            Content::Reports(reports) => {
                let mut delivered = self.lock();
                reports.for_each(|(topic, code)| delivered.add(&topic, code));
            }
            Content::Error(report) => context::log_error(Some(report.code), &report.reason),
            Content::Log {
                level,
                facility,
                text,
            } => context::log(level, &facility, &text),
            Content::Fetched(_) | Content::Rebalance { .. } | Content::Other => {}
        }
        true
    }

    /// Serves events for so long.
    pub(crate) fn serve(&self, duration: Duration) {
        let deadline = Instant::now() + duration;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, as librdkafka counts in milliseconds.
            if !self.await_event(left + Duration::from_micros(999)) || left.is_zero() {
                return;
            }
        }
    }

    pub(crate) fn any_failed(&self) -> bool {
        !self.lock().failed.is_empty()
    }

    /// Takes what the reports have said so far.
    pub(crate) fn take(&self) -> Delivered {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Delivered> {
        self.delivered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record in librdkafka's form. A timestamp of 0 or less means the time of sending, as it does there.
fn prepared(record: &Record) -> BaseRecord<'_, [u8], [u8]> {
    let mut message = BaseRecord::to(&record.topic);
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    message.timestamp = record.timestamp.filter(|timestamp| *timestamp > 0);
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        message.headers = Some(
            record
                .headers
                .iter()
                .fold(headers, |headers, (key, value)| {
                    headers.insert(Header {
                        key,
                        value: value.as_ref(),
                    })
                }),
        );
    }
    message
}

impl Delivered {
    fn add(&mut self, topic: &str, code: RDKafkaErrorCode) {
        match (code, self.sent.get_mut(topic)) {
            (RDKafkaErrorCode::NoError, Some(count)) => *count += 1,
            (RDKafkaErrorCode::NoError, None) => {
                self.sent.insert(topic.to_owned(), 1);
            }
            (code, _) => self.failed.push((topic.to_owned(), code)),
        }
    }
}
