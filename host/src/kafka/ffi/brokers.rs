//! A client's brokers: those that it knows, and those that it gets to know again.
#![expect(
    unsafe_code,
    reason = "librdkafka's C interface, which the crate hides"
)]

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use crate::kafka::context::Logging;

/// Makes brokers known to a client, in the form of `bootstrap.servers`.
pub(in crate::kafka) fn add(client: &Client<Logging>, servers: &CStr) {
    // SAFETY: the client is alive, and the text ends with NUL; the call is thread-safe.
    unsafe { sys::rd_kafka_brokers_add(client.native_ptr(), servers.as_ptr()) };
}

/// Whether any broker answers.
pub(in crate::kafka) fn answer(client: &Client<Logging>, patience_ms: i32) -> bool {
    const NO: i32 = 0;
    let mut metadata = null();
    // SAFETY: the client is alive, and so is the place to write to; what is written there is ours to destroy.
    unsafe {
        let code = sys::rd_kafka_metadata(
            client.native_ptr(),
            NO,
            null_mut(),
            &raw mut metadata,
            patience_ms,
        );
        let answered = RDKafkaErrorCode::from(code) == RDKafkaErrorCode::NoError;
        if answered && !metadata.is_null() {
            sys::rd_kafka_metadata_destroy(metadata);
        }
        answered
    }
}
