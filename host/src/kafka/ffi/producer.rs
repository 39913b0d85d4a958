//! A producer with its queue of events, and the calls of transactions that the crate hides or delays.
#![expect(
    unsafe_code,
    reason = "librdkafka's C interface, for calls that the crate hides or delays"
)]

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{ClientConfig, TopicPartitionList};
use rdkafka_sys as sys;

use super::events::Event;
use super::group::{Membership, send_offsets};
use super::native::{CallError, Queue};
use crate::kafka::context::Logging;

/// A producer whose user serves its events.
pub(in crate::kafka) struct QueuedProducer {
    /// Before the producer, as it must be destroyed before it.
    queue: Queue,
    base: Arc<BaseProducer<Logging>>,
}

impl QueuedProducer {
    pub(in crate::kafka) fn new(config: &ClientConfig) -> KafkaResult<Self> {
        let base: Arc<BaseProducer<Logging>> = Arc::new(config.create_with_context(Logging)?);
        // SAFETY: the producer is alive, and the queue is destroyed before it.
        let queue = unsafe { Queue::main(base.client().native_ptr()) };
        let queue = queue.ok_or_else(|| KafkaError::ClientCreation("it has no queue".into()))?;
        Ok(Self { queue, base })
    }

    pub(in crate::kafka) fn base(&self) -> &Arc<BaseProducer<Logging>> {
        &self.base
    }

    /// Waits for the next event.
    pub(in crate::kafka) fn poll(&self, patience: Duration) -> Option<Event> {
        self.queue.poll(patience)
    }

    /// Makes offsets part of the open transaction.
    pub(in crate::kafka) fn send_offsets(
        &self,
        offsets: &TopicPartitionList,
        membership: &Membership,
        timeout_ms: i32,
    ) -> Result<(), CallError> {
        // SAFETY: the producer lives as long as `self`.
        unsafe { send_offsets(self.native(), offsets, membership, timeout_ms) }
    }

    pub(in crate::kafka) fn commit_transaction(&self, timeout_ms: i32) -> Result<(), CallError> {
        // SAFETY: the producer lives as long as `self`.
        let error = unsafe { sys::rd_kafka_commit_transaction(self.native(), timeout_ms) };
        CallError::take(error).map_or(Ok(()), Err)
    }

    pub(in crate::kafka) fn abort_transaction(&self, timeout_ms: i32) -> Result<(), CallError> {
        // SAFETY: the producer lives as long as `self`.
        let error = unsafe { sys::rd_kafka_abort_transaction(self.native(), timeout_ms) };
        CallError::take(error).map_or(Ok(()), Err)
    }

    fn native(&self) -> *mut sys::rd_kafka_t {
        self.base.client().native_ptr()
    }
}
