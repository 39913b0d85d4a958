//! Log lines: to the host in a component, to stderr and to the test natively.

use crate::bindings::taskhost::plugin::logging;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the author, off by default.
    Debug,
    /// Worth a line.
    Info,
    /// Handled, but not as it should be.
    Warn,
    /// Somebody must look.
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

    /// What this thread has logged since it was asked last.
    pub(crate) fn take() -> Vec<(Level, String)> {
        LINES.take()
    }
}
