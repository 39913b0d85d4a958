//! Log lines. A component sends them to the host; a native build to stderr and to the test.

use crate::bindings::taskhost::plugin::logging;

/// The severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the author, off by default.
    Debug,
    /// Worth a line.
    Info,
    /// A problem that was handled.
    Warn,
    /// A problem that somebody must look at.
    Error,
}

impl From<Level> for logging::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

#[cfg(target_arch = "wasm32")]
pub(crate) fn write(level: Level, cause: u32, message: &str) {
    logging::log(level.into(), Some(cause), message);
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{take, write};

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::cell::RefCell;

    use super::Level;

    thread_local! {
        static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    }

    pub(crate) fn write(level: Level, cause: u32, message: &str) {
        eprintln!("{level:?} cause {cause}: {message}");
        LINES.with_borrow_mut(|lines| lines.push((level, message.to_owned())));
    }

    /// The lines that this thread has logged since the last call.
    pub(crate) fn take() -> Vec<(Level, String)> {
        LINES.take()
    }
}
