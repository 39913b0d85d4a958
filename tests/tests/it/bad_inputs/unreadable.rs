//! A record with a header name that is no UTF-8, sent past the crate, which has no way to say so.
#![expect(
    unsafe_code,
    reason = "the crate can't send a header name that is not UTF-8"
)]

use std::ffi::{CStr, CString};
use std::ptr::null;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::producer::{BaseProducer, Producer as _};
use taskhost_tests::World;

/// Sends one to the status messages, and waits until the broker has it.
pub(super) fn send(world: &World, key: Option<&CStr>, value: Option<&[u8]>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", world.brokers());
    let producer: BaseProducer = config.create().expect("a producer");
    let topic = CString::new(world.topic(super::topics::STATUS)).expect("a name");
    let key_bytes = key.map_or(0, CStr::count_bytes);
    let (value_at, value_bytes) = value.map_or((null(), 0), |it| (it.as_ptr(), it.len()));
    // SAFETY: the producer and all bytes are alive; librdkafka copies them.
    let code = unsafe {
        sys::rd_kafka_producev(
            producer.client().native_ptr(),
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
            sys::RD_KAFKA_MSG_F_COPY,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY,
            key.map_or(null(), CStr::as_ptr),
            key_bytes,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
            value_at,
            value_bytes,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADER,
            c"na\xffme".as_ptr(),
            c"value".as_ptr(),
            5_isize,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
        )
    };
    assert_eq!(
        code,
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
        "it is taken"
    );
    producer
        .flush(Duration::from_secs(20))
        .expect("the broker to have it");
}
