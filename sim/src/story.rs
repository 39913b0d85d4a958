//! What happened in a world, event by event.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// The story of a world. Clones tell the same one.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    began: Instant,
    lines: Arc<Mutex<Told>>,
    is_kept: bool,
}

#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    digest: DefaultHasher,
}

impl Story {
    /// A story that begins now. Only its digest is kept, unless it is to be read.
    pub(crate) fn begin(is_kept: bool) -> Self {
        Self {
            began: Instant::now(),
            lines: Arc::default(),
            is_kept,
        }
    }

    pub(crate) fn tell(&self, what: impl Display) {
        let at = self.began.elapsed().as_millis();
        let line = format!("{at:>7} ms  {what}");
        let mut told = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        line.hash(&mut told.digest);
        if self.is_kept {
            told.lines.push(line);
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let told = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        told.lines.clone()
    }

    /// The same for the same story.
    pub(crate) fn digest(&self) -> u64 {
        let told = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        told.digest.finish()
    }
}
