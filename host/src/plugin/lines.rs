//! A batch's log lines. They are collected, up to a limit, while the guest runs, and written with the coordinates of their
//! causes when it has answered or failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskhost_core::limits::cut;

use super::bindings::taskhost::plugin::logging::Level;

/// Bytes of one line; the rest of it is cut off.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The logging import, which gives the level and optionally the cause.
    Import(Level, Option<u32>),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) origin: Origin,
    pub(super) text: String,
}

/// The lines of one store, shared by its logging import and its two streams.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Mutex<Gathered>>);

#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) lines: Vec<Line>,
    pub(super) dropped: u64,
    lines_max: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    pub(super) fn new(lines_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Gathered {
            lines_max,
            ..Gathered::default()
        })))
    }

    /// Takes a line of the logging import.
    pub(super) fn push(&self, level: Level, cause: Option<u32>, text: &str) {
        self.lock().push(Origin::Import(level, cause), text);
    }

    /// Takes bytes of a stream; they become lines as their ends arrive.
    pub(super) fn write(&self, origin: Origin, bytes: &[u8]) {
        let mut gathered = self.lock();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let open = gathered.open_line(origin);
            let room = LINE_BYTES_MAX.saturating_sub(open.len()).min(text.len());
            open.extend_from_slice(&text[..room]);
            if ends {
                gathered.end_line(origin);
            }
        }
    }

    /// The first line that a Rust panic or an abort left on standard error, to say why it trapped.
    pub(super) fn last_words(&self) -> Option<String> {
        let gathered = self.lock();
        let errors: Vec<&str> = gathered
            .lines
            .iter()
            .filter(|line| line.origin == Origin::Stderr && !line.text.trim().is_empty())
            .map(|line| line.text.as_str())
            .collect();
        // A panic says where in one line and why in the next. Of other output, the last line says most.
        match errors.iter().rposition(|line| line.contains("panicked at")) {
            Some(start) => Some(
                errors[start..]
                    .iter()
                    .take(2)
                    .copied()
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
            None => errors.last().map(|line| (*line).to_owned()),
        }
    }

    /// Takes everything out, unfinished lines too.
    pub(super) fn take(&self) -> Gathered {
        let mut gathered = self.lock();
        for origin in [Origin::Stdout, Origin::Stderr] {
            if !gathered.open_line(origin).is_empty() {
                gathered.end_line(origin);
            }
        }
        std::mem::take(&mut gathered)
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    fn push(&mut self, origin: Origin, text: &str) {
        if self.lines.len() >= self.lines_max {
            self.dropped += 1;
        } else {
            self.lines.push(Line {
                origin,
                text: cut(text, LINE_BYTES_MAX).to_owned(),
            });
        }
    }

    fn open_line(&mut self, origin: Origin) -> &mut Vec<u8> {
        match origin {
            Origin::Stderr => &mut self.stderr,
            Origin::Stdout | Origin::Import(..) => &mut self.stdout,
        }
    }

    fn end_line(&mut self, origin: Origin) {
        let bytes = std::mem::take(self.open_line(origin));
        self.push(origin, &String::from_utf8_lossy(&bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(gathered: &Gathered) -> Vec<&str> {
        gathered
            .lines
            .iter()
            .map(|line| line.text.as_str())
            .collect()
    }

    #[test]
    fn bytes_become_lines_however_they_are_cut_into_writes() {
        let lines = Lines::new(10);
        for piece in ["on", "e\ntw", "o\n\nthree"] {
            lines.write(Origin::Stdout, piece.as_bytes());
        }
        assert_eq!(texts(&lines.take()), ["one", "two", "", "three"]);
    }

    #[test]
    fn lines_beyond_the_limit_are_counted_and_long_ones_cut() {
        let lines = Lines::new(2);
        lines.push(Level::Info, None, &"x".repeat(LINE_BYTES_MAX * 2));
        lines.write(Origin::Stderr, &vec![b'y'; LINE_BYTES_MAX * 3]);
        lines.write(Origin::Stderr, b"\nz\nz\n");
        let gathered = lines.take();
        assert_eq!(
            texts(&gathered)
                .iter()
                .map(|text| text.len())
                .collect::<Vec<_>>(),
            [LINE_BYTES_MAX; 2]
        );
        assert_eq!(gathered.dropped, 2);
    }

    #[test]
    fn the_last_words_of_a_panic_are_where_and_why() {
        let lines = Lines::new(10);
        lines.write(
            Origin::Stderr,
            b"hello\nthread 'main' panicked at src/lib.rs:1:2:\ntold to\nnote: run with\n",
        );
        assert_eq!(
            lines.last_words().as_deref(),
            Some("thread 'main' panicked at src/lib.rs:1:2: told to")
        );
    }
}
