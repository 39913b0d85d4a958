//! A service's log: one file for each run, and the one before it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::{self, Result};

/// Sends a command's output to an empty log at `path`, and keeps the previous run's log as `<path>.1`.
pub(super) fn attach(command: &mut Command, path: &Path) -> Result<()> {
    match fs::rename(path, previous(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error::io("rename", path)(error));
        }
        _ => {}
    }
    let log = File::create(path).map_err(error::io("create", path))?;
    let errors = log.try_clone().map_err(error::io("open", path))?;
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    Ok(())
}

/// The last lines of a log, for a message about a failed service.
pub(super) fn tail(path: &Path) -> String {
    last_lines(&fs::read(path).unwrap_or_default())
}

/// The last lines of a tool's output.
pub(super) fn last_lines(text: &[u8]) -> String {
    /// Enough for an exception with its causes, and short enough for a terminal.
    const LINES_MAX: usize = 12;
    let text = String::from_utf8_lossy(text);
    // Of a Java exception, the messages say what is wrong; the frames would push them out.
    let is_frame = |line: &str| line.starts_with("\tat ");
    let lines: Vec<_> = text
        .trim_end()
        .lines()
        .filter(|line| !is_frame(line))
        .collect();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
}

fn previous(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".1");
    name.into()
}
