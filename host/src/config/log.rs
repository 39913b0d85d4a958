//! The settings of the log: its level and its format.

use tracing_subscriber::EnvFilter;

use super::input::Input;
use super::section::section;
use super::value::choices;

section! {
    /// The log on standard error.
    pub struct Log in "log" {
        /// The format of the lines: text for people, or one JSON object a line.
        format: LogFormat = "human", "TASKHOST_LOG_FORMAT" => "the log's lines";
        /// The lowest level that is logged, or a list such as `info,taskhost::kafka=debug`.
        level: String = "info", "TASKHOST_LOG" => "the log's filter";
    }
}

choices! {
    /// The form of the log's lines.
    pub enum LogFormat {
        /// For people; coloured on a terminal.
        Human = "human",
        /// One JSON object a line.
        Json = "json",
    }
}

impl Log {
    pub(super) fn check(&self, input: &mut Input) {
        if let Err(error) = EnvFilter::try_new(&self.level) {
            input.add_contradiction(
                &["log.level"],
                format!("log.level is {:?}: {error}", self.level),
                "write error, warn, info, debug or trace, or a list such as info,taskhost::kafka=debug",
            );
        }
    }
}
