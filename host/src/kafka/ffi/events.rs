//! Reads librdkafka's events. The crate drops some data (topic and offset of a partition's end), and panics on other data
//! (header names that aren't UTF-8).
#![expect(unsafe_code, reason = "librdkafka's C interface")]

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{NonNull, null, null_mut};
use std::sync::Arc;

use rdkafka::config::NativeClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use taskhost_core::record::{Header, Message, Offset, TopicPartition};

use super::c_text::text_of;

/// An event, ours until dropped.
pub(crate) struct Event(NonNull<sys::rd_kafka_event_t>);

/// The kind of an event.
pub(crate) enum Content<'a> {
    Fetched(Fetched<'a>),
    Rebalance {
        what: Rebalance,
        partitions: Vec<TopicPartition>,
    },
    Error(ErrorReport),
    Log {
        level: i32,
        facility: String,
        text: String,
    },
    /// Delivery reports of a producer.
    Reports(Reports<'a>),
    /// An event that we ignore.
    Other,
}

/// The request of a rebalance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rebalance {
    Assign,
    Revoke,
    /// An error, after which nothing is assigned any more.
    Failed(RDKafkaErrorCode),
}

/// An error event.
#[derive(Debug)]
pub(crate) struct ErrorReport {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) reason: String,
    pub(crate) fatal: bool,
    /// Which partition it is about, and the offset if one is meant.
    pub(crate) partition: Option<(TopicPartition, Option<Offset>)>,
}

impl Event {
    /// Takes over an event from librdkafka.
    pub(crate) fn own(event: NonNull<sys::rd_kafka_event_t>) -> Self {
        Self(event)
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_event_t {
        self.0.as_ptr()
    }

    pub(crate) fn kind(&self) -> i32 {
        // SAFETY: the event is alive.
        unsafe { sys::rd_kafka_event_type(self.as_ptr()) }
    }

    /// The code of an error event, or of an admin request's answer.
    pub(crate) fn code(&self) -> RDKafkaErrorCode {
        // SAFETY: the event is alive.
        unsafe { sys::rd_kafka_event_error(self.as_ptr()) }.into()
    }

    /// The text of [`Event::code`].
    pub(crate) fn reason(&self) -> String {
        // SAFETY: the event is alive; the text belongs to it and ends with NUL.
        unsafe { text_of(sys::rd_kafka_event_error_string(self.as_ptr())) }
    }

    pub(crate) fn content(&self) -> Content<'_> {
        match self.kind() {
            sys::RD_KAFKA_EVENT_FETCH => self.fetched().map_or(Content::Other, Content::Fetched),
            sys::RD_KAFKA_EVENT_REBALANCE => Content::Rebalance {
                what: match self.code() {
                    RDKafkaErrorCode::AssignPartitions => Rebalance::Assign,
                    RDKafkaErrorCode::RevokePartitions => Rebalance::Revoke,
                    code => Rebalance::Failed(code),
                },
                partitions: self.partitions(),
            },
            sys::RD_KAFKA_EVENT_ERROR => Content::Error(self.error()),
            sys::RD_KAFKA_EVENT_LOG => self.log(),
            sys::RD_KAFKA_EVENT_DR => Content::Reports(Reports(self)),
            _ => Content::Other,
        }
    }

    fn fetched(&self) -> Option<Fetched<'_>> {
        // SAFETY: the event is alive, and is of this kind; the message belongs to it.
        let message = unsafe { sys::rd_kafka_event_message_next(self.as_ptr()) };
        Some(Fetched {
            message: NonNull::new(message.cast_mut())?,
            event: PhantomData,
        })
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        // SAFETY: the event is alive; the list belongs to it.
        let list = unsafe { sys::rd_kafka_event_topic_partition_list(self.as_ptr()) };
        // SAFETY: null, or a list that lives as long as the event.
        unsafe { partitions_of(list) }
    }

    fn error(&self) -> ErrorReport {
        // SAFETY: the event is alive; the partition that is returned is ours to destroy.
        let partition = unsafe {
            NonNull::new(sys::rd_kafka_event_topic_partition(self.as_ptr())).map(|partition| {
                let read = partition.as_ref();
                let name = TopicPartition::new(text_of(read.topic), read.partition);
                let offset = (read.offset >= 0).then_some(read.offset);
                sys::rd_kafka_topic_partition_destroy(partition.as_ptr());
                (name, offset)
            })
        };
        // SAFETY: the event is alive.
        let fatal = unsafe { sys::rd_kafka_event_error_is_fatal(self.as_ptr()) } != 0;
        let code = self.code();
        ErrorReport {
            code,
            reason: self.reason(),
            fatal: fatal || code == RDKafkaErrorCode::Fatal,
            partition,
        }
    }

    fn log(&self) -> Content<'_> {
        let (mut facility, mut text, mut level): (*const c_char, *const c_char, c_int) =
            (null(), null(), 0);
        // SAFETY: the event is alive, and so are the places to write to; the texts belong to the event.
        unsafe {
            if sys::rd_kafka_event_log(
                self.as_ptr(),
                &raw mut facility,
                &raw mut text,
                &raw mut level,
            ) != 0
            {
                return Content::Other;
            }
            Content::Log {
                level,
                facility: text_of(facility),
                text: text_of(text).trim_end().to_owned(),
            }
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        unsafe { sys::rd_kafka_event_destroy(self.as_ptr()) }
    }
}

/// The delivery reports of an event: the topic of each message, and its result.
pub(crate) struct Reports<'a>(&'a Event);

impl<'a> Iterator for Reports<'a> {
    type Item = (Cow<'a, str>, RDKafkaErrorCode);

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the event is alive, and is of this kind; the message belongs to it, and so does its topic's name.
        unsafe {
            let message = sys::rd_kafka_event_message_next(self.0.as_ptr()).as_ref()?;
            let topic = CStr::from_ptr(sys::rd_kafka_topic_name(message.rkt));
            Some((topic.to_string_lossy(), message.err.into()))
        }
    }
}

/// A message that librdkafka owns.
pub(crate) struct Fetched<'a> {
    message: NonNull<sys::rd_kafka_message_t>,
    event: PhantomData<&'a Event>,
}

impl Fetched<'_> {
    /// The topic's name, as bytes.
    pub(crate) fn topic(&self) -> &[u8] {
        // SAFETY: a fetched message has a topic, whose name lives as long as the topic.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.message.as_ref().rkt)) }.to_bytes()
    }

    pub(crate) fn partition(&self) -> i32 {
        // SAFETY: the message lives as long as its event.
        unsafe { self.message.as_ref() }.partition
    }

    /// Our own copy.
    pub(crate) fn to_message(&self, topic: Arc<str>) -> Message {
        // SAFETY: the message lives as long as its event.
        let message = unsafe { self.message.as_ref() };
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and so is the place to write to.
        let timestamp = unsafe { sys::rd_kafka_message_timestamp(message, &raw mut kind) };
        Message {
            position: TopicPartition {
                topic,
                partition: message.partition,
            }
            .at(message.offset),
            timestamp,
            // SAFETY: key and value belong to the message and are as long as it says.
            key: unsafe { bytes_of(message.key, message.key_len) },
            // SAFETY: as above.
            value: unsafe { bytes_of(message.payload, message.len) },
            headers: self.headers(),
        }
    }

    fn headers(&self) -> Vec<Header> {
        let mut list = null_mut();
        // SAFETY: the message is alive; the list that is returned belongs to it.
        let code = unsafe { sys::rd_kafka_message_headers(self.message.as_ptr(), &raw mut list) };
        if RDKafkaErrorCode::from(code) != RDKafkaErrorCode::NoError || list.is_null() {
            return Vec::new();
        }
        // SAFETY: the list lives as long as the message.
        let count = unsafe { sys::rd_kafka_header_cnt(list) };
        let read = |index| {
            let (mut name, mut value, mut size) = (null(), null(), 0);
            // SAFETY: the list is alive, and so are the places to write to. Name and value belong to the
            // list; the name ends with NUL, the value is as long as is said.
            unsafe {
                let code = sys::rd_kafka_header_get_all(
                    list,
                    index,
                    &raw mut name,
                    &raw mut value,
                    &raw mut size,
                );
                (RDKafkaErrorCode::from(code) == RDKafkaErrorCode::NoError)
                    .then(|| (text_of(name), bytes_of(value, size)))
            }
        };
        (0..count).filter_map(read).collect()
    }
}

/// A copy of bytes; null is none, which differs from empty.
///
/// # Safety
/// The pointer is null, or leads to that many bytes that are alive.
unsafe fn bytes_of(bytes: *const c_void, size: usize) -> Option<Vec<u8>> {
    // SAFETY: the caller's promise.
    (!bytes.is_null())
        .then(|| unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), size) }.to_vec())
}

/// The partitions of a list.
///
/// # Safety
/// The pointer is null, or leads to a list that is alive.
pub(crate) unsafe fn partitions_of(
    list: *const sys::rd_kafka_topic_partition_list_t,
) -> Vec<TopicPartition> {
    // SAFETY: the caller's promise.
    let Some(list) = (unsafe { list.as_ref() }) else {
        return Vec::new();
    };
    let count = usize::try_from(list.cnt).unwrap_or(0);
    if list.elems.is_null() {
        return Vec::new();
    }
    // SAFETY: a list has as many elements as it says, and their topics end with NUL.
    unsafe {
        std::slice::from_raw_parts(list.elems, count)
            .iter()
            .map(|element| TopicPartition::new(text_of(element.topic), element.partition))
            .collect()
    }
}

/// Makes a client that is made with this configuration report its errors as events.
pub(in crate::kafka) fn report_errors(config: &NativeClientConfig) {
    // SAFETY: the configuration is alive.
    unsafe { sys::rd_kafka_conf_set_events(config.ptr(), sys::RD_KAFKA_EVENT_ERROR) };
}
