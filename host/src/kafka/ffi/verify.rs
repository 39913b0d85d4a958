//! Finds out what is wrong with a broker's certificate: librdkafka itself says only that it could not be verified.
#![expect(
    unsafe_code,
    reason = "librdkafka's C interface: the crate has no such callback"
)]

use std::ffi::{c_char, c_int, c_void};

use rdkafka::config::NativeClientConfig;
use rdkafka_sys as sys;

/// Words for each kind, in lower case: they come back in librdkafka's log line beside subject and issuer.
pub(in crate::kafka) const EXPIRED: &str = "it has expired";
pub(in crate::kafka) const NOT_YET_VALID: &str = "it is not valid yet";
pub(in crate::kafka) const OTHER_HOST: &str = "it is for another host name";
pub(in crate::kafka) const UNTRUSTED: &str = "it is not signed by an authority known here";
const OTHERWISE: &str = "it is not acceptable";

/// Lets a client say what is wrong with a certificate, and refuse it as it would have anyway.
pub(in crate::kafka) fn explain(config: &NativeClientConfig) {
    // SAFETY: the configuration is alive. The answer tells whether TLS is built in, which it is.
    unsafe { sys::rd_kafka_conf_set_ssl_cert_verify_cb(config.ptr(), Some(verify)) };
}

/// Called for each certificate of the chain, with OpenSSL's verdict.
unsafe extern "C" fn verify(
    _client: *mut sys::rd_kafka_t,
    _broker: *const c_char,
    _broker_id: i32,
    error: *mut c_int,
    _depth: c_int,
    _certificate: *const c_char,
    _size: usize,
    text: *mut c_char,
    text_size: usize,
    _opaque: *mut c_void,
) -> c_int {
    // SAFETY: librdkafka hands over the place of a number that lives as long as the call.
    let error = unsafe { *error };
    if error == 0 {
        return 1;
    }
    let words = words(error).as_bytes();
    let length = words.len().min(text_size.saturating_sub(1));
    if text_size > 0 {
        // SAFETY: the buffer is as long as is said, and what is written ends with NUL within it.
        unsafe {
            std::ptr::copy_nonoverlapping(words.as_ptr(), text.cast::<u8>(), length);
            text.add(length).write(0);
        }
    }
    0
}

/// OpenSSL's numbers (<https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/>).
fn words(error: c_int) -> &'static str {
    match error {
        // CERT_NOT_YET_VALID
        9 => NOT_YET_VALID,
        // CERT_HAS_EXPIRED
        10 => EXPIRED,
        // UNABLE_TO_GET_ISSUER_CERT, DEPTH_ZERO_SELF_SIGNED_CERT, SELF_SIGNED_CERT_IN_CHAIN,
        // UNABLE_TO_GET_ISSUER_CERT_LOCALLY, UNABLE_TO_VERIFY_LEAF_SIGNATURE, CERT_UNTRUSTED
        2 | 18 | 19 | 20 | 21 | 27 => UNTRUSTED,
        // HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH
        62 | 64 => OTHER_HOST,
        _ => OTHERWISE,
    }
}
