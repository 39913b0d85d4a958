//! Texts of librdkafka's.
#![expect(unsafe_code, reason = "librdkafka's C interface")]

use std::ffi::{CStr, c_char};

/// A C text, whatever bytes it has; null is empty.
///
/// # Safety
/// The pointer is null, or leads to bytes that are alive and end with NUL.
pub(crate) unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}
