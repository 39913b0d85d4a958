//! Writes a plugin's lines to the host's log, target `plugin`, each with the coordinates of its cause.

use taskhost_core::cause::Cause;
use tracing::Level;

use super::bindings::taskhost::plugin::logging;
use super::engine::Engine;
use super::lines::{Gathered, Line, Origin};
use super::question::Question;

/// Writes the lines of one call. Without a question they come from `configure`, outside any batch.
pub(super) fn write(
    gathered: &Gathered,
    engine: &Engine,
    digest: &str,
    question: Option<&Question<'_>>,
) {
    for line in &gathered.lines {
        let cause = match (line.origin, question) {
            (Origin::Import(_, Some(number)), Some(question)) => find(question, number),
            _ => None,
        };
        match (cause, question) {
            (Some(cause), _) => with_cause(line, digest, cause),
            (None, Some(question)) => emit(line, digest, &question.at.to_string(), "", ""),
            (None, None) => emit(line, digest, "", "", ""),
        }
    }
    if gathered.dropped > 0 {
        let at = question
            .map(|question| question.at.to_string())
            .unwrap_or_default();
        tracing::warn!(target: "plugin", digest, at, dropped = gathered.dropped, "a plugin wrote more lines than allowed; the rest is dropped");
        engine.observer().log_dropped(digest, gathered.dropped);
    }
}

fn find<'a>(question: &Question<'a>, number: u32) -> Option<&'a Cause> {
    question.works.iter().find_map(|work| {
        let place = work.numbers.iter().position(|one| *one == number)?;
        work.causes.get(place).copied()
    })
}

fn with_cause(line: &Line, digest: &str, cause: &Cause) {
    emit(
        line,
        digest,
        &cause.position().to_string(),
        cause.task_id.as_str(),
        &cause.trace.trace_id,
    );
}

fn emit(line: &Line, digest: &str, at: &str, task_id: &str, trace_id: &str) {
    let (level, stream) = match line.origin {
        Origin::Import(logging::Level::Debug, _) => (Level::DEBUG, "log"),
        Origin::Import(logging::Level::Info, _) => (Level::INFO, "log"),
        Origin::Import(logging::Level::Warn, _) => (Level::WARN, "log"),
        Origin::Import(logging::Level::Error, _) => (Level::ERROR, "log"),
        Origin::Stdout => (Level::INFO, "stdout"),
        Origin::Stderr => (Level::WARN, "stderr"),
    };
    // The macro needs its level as a constant.
    macro_rules! at_level {
        ($level:expr) => {
            tracing::event!(target: "plugin", $level, digest, at, task_id, trace_id, stream, "{}", line.text)
        };
    }
    match level {
        Level::DEBUG => at_level!(Level::DEBUG),
        Level::INFO => at_level!(Level::INFO),
        Level::WARN => at_level!(Level::WARN),
        _ => at_level!(Level::ERROR),
    }
}
