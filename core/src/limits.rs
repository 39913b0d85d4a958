//! Every bound by name, each with its reason.

/// Characters of a task id: contract. Long enough for any id in use, short enough for an index.
pub const TASK_ID_CHARS_MAX: usize = 200;

/// Characters of a task type, a status or an event kind: they are names, not texts.
pub const NAME_CHARS_MAX: usize = 64;

/// Nesting of a JSON value: `serde_json` refuses 128 to protect the stack; a plugin's own reader has
/// the same bound, so a deeper value would fault there instead of being a clear dead letter here.
pub const JSON_DEPTH_MAX: usize = 127;

/// Bytes of one JSON text in a plugin's answer. Kafka's default for a record is 1 MiB, and the task's
/// data travels in events.
pub const ANSWER_JSON_BYTES_MAX: usize = 1024 * 1024;

/// Events, messages and timers of one transition, each: more is a loop gone wrong.
pub const TRANSITION_PARTS_MAX: usize = 1000;

/// Bytes of a reason that is stored or logged.
pub const REASON_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a rejection's code: it becomes a metric label and a page in the docs.
pub const CODE_BYTES_MAX: usize = 64;

/// Bytes of the message text in a dead letter's headers, so that a dead letter always fits.
pub const DEAD_LETTER_MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Bytes of the backtrace in a dead letter's headers, so that a dead letter always fits.
pub const DEAD_LETTER_BACKTRACE_BYTES_MAX: usize = 16 * 1024;

/// Cuts a text to a number of bytes, at a character's boundary.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
