//! Sends librdkafka's log lines and errors to `tracing`, never to stderr.
//!
//! librdkafka's lines name hosts and error texts; it never writes passwords or keys into them.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
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
        log_error(error.rdkafka_error_code(), reason);
    }
}

impl ConsumerContext for Logging {}

impl ProducerContext<NoCustomPartitioner> for Logging {
    type DeliveryOpaque = ();

    /// Unused: `Reporting` takes reports from the queue itself.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// A line of librdkafka's log at syslog's level (RFC 5424, 6.2.1).
pub(crate) fn log(level: i32, facility: &str, text: &str) {
    match level {
        ..=4 => tracing::warn!(target: "librdkafka", facility, "{text}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{text}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}

/// librdkafka reconnects by itself, so these reports mean no loss.
pub(crate) fn log_error(code: Option<RDKafkaErrorCode>, reason: &str) {
    tracing::warn!(target: "librdkafka", ?code, "{reason}");
}

/// A report of librdkafka: a code, if it has one, and its text.
pub(crate) type Report = (Option<RDKafkaErrorCode>, String);

/// Context of a client whose creator reads its queue.
#[derive(Debug, Default, Clone)]
pub(crate) struct Collecting;

impl ClientContext for Collecting {
    fn stats(&self, _: Statistics) {}
}
