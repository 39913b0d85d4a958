//! What is seen while it runs: a bar on a terminal, plain lines always.

use std::io::{IsTerminal as _, stderr, stdout};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// Lines with the time since the beginning, above a bar where there is a terminal.
pub(crate) struct Progress {
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(faults: usize) -> Self {
        let bar = (stderr().is_terminal() && stdout().is_terminal() && faults > 0).then(|| {
            let style = ProgressStyle::with_template(
                "{bar:40} {pos} of {len} faults, {elapsed}, {eta} left",
            );
            let bar = ProgressBar::new(u64::try_from(faults).unwrap_or(u64::MAX));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            began: Instant::now(),
            bar,
        }
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn say(&self, text: &str) {
        let line = format!("{:7.1} s  {text}", self.began.elapsed().as_secs_f64());
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }

    pub(crate) fn done(&self, faults: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(u64::try_from(faults).unwrap_or(u64::MAX));
        }
    }

    /// The last word: green or red on a terminal, unless `NO_COLOR` is set.
    pub(crate) fn end(&self, text: &str, good: bool) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        match (stdout().is_terminal() && wanted, good) {
            (true, true) => println!("\x1b[32m{text}\x1b[0m"),
            (true, false) => println!("\x1b[31m{text}\x1b[0m"),
            (false, _) => println!("{text}"),
        }
    }
}
