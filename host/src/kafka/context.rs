//! Where librdkafka's log lines and errors go: to `tracing`, never to stderr.
//!
//! librdkafka's lines name hosts and error texts; it never writes passwords or keys into them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};
use rdkafka::statistics::Statistics;

/// Context of clients that only log.
#[derive(Debug, Default, Clone)]
pub(crate) struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level as i32, facility, text);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ConsumerContext for Logging {}

/// A line of librdkafka's log at syslog's level (RFC 5424, 6.2.1).
pub(crate) fn log(level: i32, facility: &str, text: &str) {
    match level {
        ..=4 => tracing::warn!(target: "librdkafka", facility, "{text}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{text}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}

/// librdkafka reconnects by itself: nothing is lost by what it reports here.
fn log_error(error: &KafkaError, reason: &str) {
    tracing::warn!(target: "librdkafka", code = ?error.rdkafka_error_code(), "{reason}");
}

/// What librdkafka reported: a code, where it has one, and its text.
pub(crate) type Report = (Option<RDKafkaErrorCode>, String);

/// Context of a client whose queue is read by whoever made it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Collecting;

impl ClientContext for Collecting {
    fn stats(&self, _: Statistics) {}
}

/// Delivery reports of one producer.
#[derive(Debug, Default, Clone)]
pub(crate) struct Deliveries {
    state: Arc<Mutex<Delivered>>,
}

/// What the reports said since they were last taken.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    /// Messages the broker has, by topic.
    pub(crate) sent: HashMap<String, u64>,
    /// Messages that failed, by topic and reason.
    pub(crate) failed: Vec<(String, RDKafkaErrorCode)>,
}

impl Deliveries {
    pub(crate) fn any_failed(&self) -> bool {
        !self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failed
            .is_empty()
    }

    pub(crate) fn take(&self) -> Delivered {
        std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level as i32, facility, text);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                if let Some(count) = state.sent.get_mut(message.topic()) {
                    *count += 1;
                } else {
                    state.sent.insert(message.topic().to_owned(), 1);
                }
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                state.failed.push((message.topic().to_owned(), code));
            }
        }
    }
}
