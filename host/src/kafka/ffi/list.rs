//! Offsets with their metadata, whatever bytes that has.

use rdkafka::TopicPartitionList;

/// The first element's metadata; the crate's own reader panics on what isn't UTF-8.
#[expect(unsafe_code, reason = "librdkafka's C interface")]
pub(in crate::kafka) fn metadata_of_first(list: &TopicPartitionList) -> String {
    // SAFETY: the list is alive and has an element, as the caller has seen; its metadata is null or as
    // long as it says.
    unsafe {
        let element = &*(*list.ptr()).elems;
        if element.metadata.is_null() {
            return String::new();
        }
        let bytes =
            std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size);
        String::from_utf8_lossy(bytes)
            .trim_end_matches('\0')
            .to_owned()
    }
}
