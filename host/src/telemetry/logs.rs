//! The log: sentences with fields, for people or for machines.
//!
//! Work on a message opens a span with the fields [`FIELD_TASK`](super::names::FIELD_TASK), topic, partition, offset and
//! plugin, as far as they are known; every line inside has them. Payloads and secrets are never logged. If a line contains an
//! e-mail address, for example a plugin's own line, the address is masked before the line is written.

mod json;
mod redact;

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, filter};

use crate::config::Log;
use crate::config::log::LogFormat;
use redact::Redacting;

/// The crate logs an error when it drops a consumer that was already closed. librdkafka's own lines have the target
/// `librdkafka`.
const CLOSING: &str = "rdkafka::consumer::base_consumer=off";

/// Postgres' notices, such as "a table already exists", are logged only on request.
const NOTICES: &str = "sqlx::postgres::notice=warn";

/// Why the log can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error("the log's filter is malformed")]
    Filter(#[from] filter::ParseError),
    /// There is a log already.
    #[error("the log is already set up")]
    Twice(#[from] TryInitError),
}

/// Begins to log to standard error; colours only on a terminal.
///
/// # Errors
/// A malformed filter, or a log that was set up before.
pub fn init(log: &Log) -> Result<(), LogError> {
    let colours = std::io::stderr().is_terminal();
    subscriber(log, std::io::stderr, colours)?.try_init()?;
    Ok(())
}

/// A log to another place, for tests and embedders.
///
/// # Errors
/// A malformed filter.
pub fn subscriber<W>(
    log: &Log,
    writer: W,
    colours: bool,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_new(&log.level)?
                .add_directive(CLOSING.parse()?)
                .add_directive(NOTICES.parse()?),
        )
        .with_ansi(colours && log.format == LogFormat::Human)
        .with_writer(Redacting(writer));
    Ok(match log.format {
        LogFormat::Human => Box::new(builder.finish()),
        LogFormat::Json => Box::new(
            builder
                .fmt_fields(JsonFields::new())
                .event_format(json::Lines)
                .finish(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    /// A place that remembers what was written to it.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged in this form while a message of a partition is worked on.
    fn logged(format: LogFormat) -> String {
        let memory = Memory::default();
        let place = memory.clone();
        let log = Log {
            format,
            level: "info".into(),
        };
        let subscriber = subscriber(&log, move || place.clone(), false).expect("a log");
        tracing::subscriber::with_default(subscriber, || {
            let partition = tracing::info_span!("partition", topic = "task-status", partition = 3);
            let _partition = partition.enter();
            tracing::info!(lag = 5, "the partition is claimed");
            let message = tracing::info_span!(
                "message",
                offset = 42,
                task = "t-1",
                plugin = tracing::field::Empty
            );
            let _message = message.enter();
            message.record("plugin", "task-status");
            tracing::warn!("a \"plugin\" says: jane.doe+x@mail.example.com is not wanted");
            tracing::debug!("nobody wants to know");
        });
        let bytes = memory
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_json_line_is_one_object_with_the_fields_of_all_its_spans() {
        let lines: Vec<serde_json::Value> = logged(LogFormat::Json)
            .lines()
            .map(|line| serde_json::from_str(line).expect("one object a line"))
            .collect();
        let [first, second] = lines.as_slice() else {
            panic!("two lines: {lines:?}")
        };
        assert_eq!(
            (&first["topic"], &first["partition"], &first["lag"]),
            (&"task-status".into(), &3.into(), &5.into())
        );
        assert_eq!(
            (&first["level"], &first["message"]),
            (&"INFO".into(), &"the partition is claimed".into())
        );
        assert!(
            first["timestamp"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z'))
        );
        for (field, value) in [
            ("topic", "task-status"),
            ("task", "t-1"),
            ("plugin", "task-status"),
            ("level", "WARN"),
        ] {
            assert_eq!(second[field], value, "{field}");
        }
        assert_eq!(second["offset"], 42);
        assert_eq!(
            second["message"],
            "a \"plugin\" says: <e-mail> is not wanted"
        );
    }

    #[test]
    fn a_human_line_has_the_same_without_colours_or_addresses() {
        let text = logged(LogFormat::Human);
        let line = text.lines().nth(1).expect("two lines");
        for part in [
            "WARN",
            "topic=\"task-status\"",
            "partition=3",
            "offset=42",
            "task=\"t-1\"",
            "<e-mail>",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("jane"), "{text}");
    }
}
