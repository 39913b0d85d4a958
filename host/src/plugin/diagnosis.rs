//! Maps an error of the engine to the guest's fault, or to the machine's trouble.

use taskhost_core::fault::{Fault, Kind};
use taskhost_core::limits::{DEAD_LETTER_BACKTRACE_BYTES_MAX, cut};
use taskhost_core::round::Unanswered;
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::limiter::Exhausted;
use super::lines::Lines;

/// The most bytes of a guest's last output in a fault's reason.
const LAST_WORDS_BYTES_MAX: usize = 512;

/// The stage of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The instance was being made.
    Instantiate,
    /// An export was running, or its answer was being copied out.
    Call,
}

/// What an error of the engine means.
pub(super) fn diagnose(error: &wasmtime::Error, stage: Stage, lines: &Lines) -> Unanswered {
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return Unanswered::Machine {
            reason: format!("{error:#}"),
        };
    }
    let (kind, reason) = match cause(error) {
        Some(found) => found,
        // If an instance can't be made, and not because of the guest, it is the machine's trouble.
        None if stage == Stage::Instantiate => {
            return Unanswered::Machine {
                reason: format!("{error:#}"),
            };
        }
        // The guest has returned an answer that can't be read.
        None => (
            Kind::MalformedAnswer,
            format!("its answer can't be read: {}", error.root_cause()),
        ),
    };
    let reason = match lines.last_words() {
        Some(words) if kind == Kind::Trap => {
            format!("{reason}; {}", cut(&words, LAST_WORDS_BYTES_MAX))
        }
        _ => reason,
    };
    Unanswered::Fault(Fault {
        kind,
        reason,
        backtrace: backtrace(error),
    })
}

fn cause(error: &wasmtime::Error) -> Option<(Kind, String)> {
    if let Some(exhausted) = error.downcast_ref::<Exhausted>() {
        return Some((Kind::Memory, exhausted.to_string()));
    }
    if is_too_many_handles(error) {
        let reason = "it holds more handles than allowed".to_owned();
        return Some((Kind::Memory, reason));
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Some((Kind::Trap, format!("it exited with code {}", exit.0)));
    }
    if is_too_much_data(error) {
        return Some((
            Kind::AnswerTooLarge,
            "it returns more data than allowed".to_owned(),
        ));
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Some((Kind::Deadline, "it did not answer in time".to_owned())),
        Some(Trap::StackOverflow) => Some((Kind::Stack, "it used up its stack".to_owned())),
        Some(trap) => Some((Kind::Trap, format!("it trapped: {trap}"))),
        None if error.downcast_ref::<WasmBacktrace>().is_some() => Some((
            Kind::Trap,
            format!(
                "it made an invalid call of the host: {}",
                error.root_cause()
            ),
        )),
        None => None,
    }
}

/// The engine's error for it is private, so only its text identifies it. A test checks that text.
fn is_too_much_data(error: &wasmtime::Error) -> bool {
    error
        .root_cause()
        .to_string()
        .contains("fuel allocated for hostcalls has been exhausted")
}

/// Handles are rows of the host's tables, so a guest that takes them without end takes the host's memory. The engine
/// counts them twice, and only the text of its own error identifies it. A test checks that text.
fn is_too_many_handles(error: &wasmtime::Error) -> bool {
    matches!(
        error.downcast_ref::<ResourceTableError>(),
        Some(ResourceTableError::Full)
    ) || error
        .root_cause()
        .to_string()
        .contains("store handle limit exceeded")
}

fn backtrace(error: &wasmtime::Error) -> Option<String> {
    let backtrace = error.downcast_ref::<WasmBacktrace>()?;
    let text = backtrace.to_string();
    (!backtrace.frames().is_empty()).then(|| cut(&text, DEAD_LETTER_BACKTRACE_BYTES_MAX).to_owned())
}

/// The failure of a guest that waits: with a clock that stands still and nothing else to wait for, it
/// would wait for ever.
pub(super) fn waiting() -> Unanswered {
    let reason = "it waits for a clock or another event, and for a plugin none ever comes";
    Unanswered::Fault(Fault::new(Kind::Trap, reason))
}
