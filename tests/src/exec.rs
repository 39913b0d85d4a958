//! Runs a command to its end and keeps what it said.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use taskhost::dev::{DeathSignal, Process};

use crate::PATIENCE;

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Its standard output, if all went well.
    ///
    /// # Panics
    /// If the exit code is not 0.
    #[must_use]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs it without input, or with `input`; it must end within [`PATIENCE`].
///
/// # Panics
/// If it can't be started or doesn't end in time.
#[must_use]
pub fn run(mut command: Command, input: Option<&str>) -> Finished {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name);
    let stdin = input.map_or_else(Stdio::null, |text| {
        fs::write(path("in"), text).expect("the input");
        File::open(path("in")).expect("the input").into()
    });
    let create = |name: &str| File::create(path(name)).expect("a file for its output");
    command
        .stdin(stdin)
        .stdout(create("out"))
        .stderr(create("err"));
    let shown = format!("{command:?}");
    let process =
        Process::spawn("command", command, DeathSignal(Signal::SIGKILL)).expect("its start");
    let status = process.wait_for(PATIENCE);
    if status.is_none() {
        process.stop(&[(Signal::SIGKILL, Duration::from_secs(5))]);
    }
    let text = |name: &str| {
        String::from_utf8_lossy(&fs::read(path(name)).unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text("out"), text("err"));
    let status = status.unwrap_or_else(|| panic!("it did not end: {shown}\n{stdout}\n{stderr}"));
    Finished {
        code: status.code(),
        stdout,
        stderr,
    }
}
