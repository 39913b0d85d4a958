//! Owners of librdkafka objects that the crate doesn't have: each object is destroyed exactly once.
#![expect(unsafe_code, reason = "librdkafka's C interface")]

use std::ffi::{c_char, c_int};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::c_text::text_of;
use super::events::{Content, Event};
use crate::kafka::context::Logging;
use crate::log::{Disposition, Error, Result};

/// A client and its queue of events.
pub(crate) struct PolledConsumer {
    client: ManuallyDrop<BaseConsumer<Logging>>,
    queue: ManuallyDrop<Queue>,
}

impl PolledConsumer {
    pub(crate) fn new(client: BaseConsumer<Logging>) -> Result<Self> {
        // SAFETY: the client is alive; the queue that is returned is a reference of our own.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(client.client().native_ptr()) };
        let queue = NonNull::new(queue).map(Queue).ok_or_else(|| {
            Error::new(
                "starting the consumer",
                Disposition::Fatal,
                "it has no queue: group.id is missing",
            )
        })?;
        Ok(Self {
            client: ManuallyDrop::new(client),
            queue: ManuallyDrop::new(queue),
        })
    }

    pub(crate) fn client(&self) -> &BaseConsumer<Logging> {
        &self.client
    }

    pub(crate) fn native(&self) -> *mut sys::rd_kafka_t {
        self.client.client().native_ptr()
    }

    /// Waits for the next event.
    pub(crate) fn poll(&self, patience: Duration) -> Option<Event> {
        self.queue.poll(patience)
    }

    /// Makes the running poll return, or the next one if none runs. Callable from any thread.
    pub(crate) fn wake(&self) {
        // SAFETY: the queue is alive; the call is thread-safe.
        unsafe { sys::rd_kafka_queue_yield(self.queue.0.as_ptr()) }
    }

    /// Begins to leave the group; goes on while the queue is polled, until [`PolledConsumer::is_closed`].
    pub(crate) fn begin_close(&self) -> Result<()> {
        // SAFETY: client and queue are alive.
        let error =
            unsafe { sys::rd_kafka_consumer_close_queue(self.native(), self.queue.0.as_ptr()) };
        match CallError::take(error) {
            None => Ok(()),
            Some(error) => Err(error.into_error("leaving the group")),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_consumer_closed(self.native()) == 1 }
    }

    /// The error that made this client unusable.
    pub(crate) fn fatal_error(&self) -> Option<String> {
        let mut text: [c_char; 512] = [0; 512];
        // SAFETY: the buffer is as long as is said, and librdkafka ends it with NUL.
        let code =
            unsafe { sys::rd_kafka_fatal_error(self.native(), text.as_mut_ptr(), text.len()) };
        // SAFETY: ended with NUL, see above; it was all zeros before.
        (RDKafkaErrorCode::from(code) != RDKafkaErrorCode::NoError)
            .then(|| unsafe { text_of(text.as_ptr()) })
    }
}

impl Drop for PolledConsumer {
    /// Destroying a client waits for its threads, which can take a long time. So it never happens in the caller's thread.
    fn drop(&mut self) {
        // SAFETY: this is the only place that takes them, and they are not used again. The queue refers to
        // the client and goes first.
        let (queue, client) = unsafe {
            (
                ManuallyDrop::take(&mut self.queue),
                ManuallyDrop::take(&mut self.client),
            )
        };
        drop(queue);
        let destroy = std::thread::Builder::new()
            .name("kafka-destroy".into())
            .spawn(move || drop(client));
        if let Err(error) = destroy {
            tracing::warn!(%error, "the thread that destroys a Kafka client can't be started");
        }
    }
}

/// A queue of events.
pub(crate) struct Queue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues are thread-safe.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// A queue for the answers of admin requests. The client must outlive it.
    ///
    /// # Safety
    /// The client must be alive, and must be destroyed after the queue.
    pub(crate) unsafe fn new(client: *mut sys::rd_kafka_t) -> Option<Self> {
        // SAFETY: the caller's promise.
        NonNull::new(unsafe { sys::rd_kafka_queue_new(client) }).map(Self)
    }

    /// A client's main queue, which has its log lines and errors.
    ///
    /// # Safety
    /// The client must be alive, and must be destroyed after the queue.
    pub(crate) unsafe fn main(client: *mut sys::rd_kafka_t) -> Option<Self> {
        // SAFETY: the caller's promise.
        NonNull::new(unsafe { sys::rd_kafka_queue_get_main(client) }).map(Self)
    }

    /// Takes what is in a client's main queue.
    pub(crate) fn drain_main<C: ClientContext>(
        client: &Client<C>,
        mut take: impl FnMut(Content<'_>),
    ) {
        // SAFETY: the client is alive, and outlives the queue, which is dropped here.
        let queue = unsafe { Self::main(client.native_ptr()) };
        while let Some(event) = queue.as_ref().and_then(|queue| queue.poll(Duration::ZERO)) {
            take(event.content());
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.0.as_ptr()
    }

    pub(crate) fn poll(&self, patience: Duration) -> Option<Event> {
        let patience_ms = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue is alive; the event that is returned is ours to destroy.
        NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.0.as_ptr(), patience_ms) })
            .map(Event::own)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: created by librdkafka for us, destroyed once.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// The answer of a transactional call, in the order in which it must be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Abort the transaction and begin again.
    Abort,
    /// The same call again.
    Again,
    /// The outcome is unknown: create a new producer.
    Rebuild,
}

/// An error that a call of librdkafka returned.
#[derive(Debug, Clone)]
pub(crate) struct CallError {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) reason: String,
    pub(crate) remedy: Remedy,
    fatal: bool,
}

impl CallError {
    /// Takes an error over from librdkafka, or none.
    pub(crate) fn take(error: *mut sys::rd_kafka_error_t) -> Option<Self> {
        let error = NonNull::new(error)?.as_ptr();
        // SAFETY: the error is alive until it is destroyed, once, at the end; its text ends with NUL.
        unsafe {
            let fatal = sys::rd_kafka_error_is_fatal(error) != 0;
            let taken = Self {
                code: sys::rd_kafka_error_code(error).into(),
                reason: text_of(sys::rd_kafka_error_string(error)),
                remedy: remedy(
                    sys::rd_kafka_error_txn_requires_abort(error) != 0,
                    sys::rd_kafka_error_is_retriable(error) != 0,
                ),
                fatal,
            };
            sys::rd_kafka_error_destroy(error);
            Some(taken)
        }
    }

    /// An error that doesn't come from a transactional call, but must end the transaction.
    pub(crate) fn abort(code: Option<RDKafkaErrorCode>, reason: String) -> Self {
        Self {
            code: code.unwrap_or(RDKafkaErrorCode::Fail),
            reason,
            remedy: Remedy::Abort,
            fatal: false,
        }
    }

    /// As an error of this folder.
    pub(crate) fn into_error(self, doing: &'static str) -> Error {
        if self.fatal {
            return Error::new(doing, Disposition::Fatal, self.reason);
        }
        Error::new(
            doing,
            Error::code(doing, self.code).disposition(),
            self.reason,
        )
    }
}

impl From<rdkafka::error::RDKafkaError> for CallError {
    fn from(error: rdkafka::error::RDKafkaError) -> Self {
        Self {
            code: error.code(),
            reason: error.string(),
            remedy: remedy(error.txn_requires_abort(), error.is_retriable()),
            fatal: error.is_fatal(),
        }
    }
}

fn remedy(requires_abort: bool, retriable: bool) -> Remedy {
    match (requires_abort, retriable) {
        (true, _) => Remedy::Abort,
        (false, true) => Remedy::Again,
        (false, false) => Remedy::Rebuild,
    }
}
