//! The consumer's membership in its group. It is checked, then sent with a transaction's offsets: the broker refuses
//! offsets from a former member.
//!
//! A broker accepts offsets of member "" and generation -1 from anybody, without fencing. This module refuses such metadata.
#![expect(
    unsafe_code,
    reason = "librdkafka's C interface: the crate's metadata can't be inspected"
)]

use std::ffi::c_int;
use std::ptr::NonNull;

use rdkafka::TopicPartitionList;
use rdkafka_sys as sys;

use super::c_text::text_of;
use super::native::{CallError, PolledConsumer};

/// A membership at one moment.
pub struct Membership(NonNull<sys::rd_kafka_consumer_group_metadata_t>);

impl Membership {
    /// The consumer's current membership; none while it is not a member.
    pub(crate) fn of(consumer: &PolledConsumer) -> Option<Self> {
        // SAFETY: the client is alive; what is returned is ours to destroy.
        let metadata = unsafe { sys::rd_kafka_consumer_group_metadata(consumer.native()) };
        let membership = Self(NonNull::new(metadata)?);
        (!membership.member().is_empty() && membership.generation() >= 0).then_some(membership)
    }

    pub(crate) fn member(&self) -> String {
        // SAFETY: the metadata is alive, and the text is part of it.
        unsafe {
            text_of(sys::rd_kafka_consumer_group_metadata_member_id(
                self.0.as_ptr(),
            ))
        }
    }

    pub(crate) fn generation(&self) -> i32 {
        // SAFETY: the metadata is alive.
        unsafe { sys::rd_kafka_consumer_group_metadata_generation_id(self.0.as_ptr()) }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

/// Makes offsets part of the producer's open transaction.
///
/// # Safety
/// `producer` is a producer that is alive.
///
/// # Panics
/// If there are no offsets: librdkafka would answer OK and send nothing, so the transaction would be published without its
/// fence.
pub(crate) unsafe fn send_offsets(
    producer: *mut sys::rd_kafka_t,
    offsets: &TopicPartitionList,
    membership: &Membership,
    timeout_ms: c_int,
) -> Result<(), CallError> {
    assert!(
        offsets.count() > 0,
        "a transaction without offsets has no fence"
    );
    // SAFETY: list and metadata are alive, the producer by the caller's promise.
    let error = unsafe {
        sys::rd_kafka_send_offsets_to_transaction(
            producer,
            offsets.ptr(),
            membership.0.as_ptr(),
            timeout_ms,
        )
    };
    CallError::take(error).map_or(Ok(()), Err)
}
