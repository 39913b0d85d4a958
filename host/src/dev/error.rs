//! Why a broker or a Postgres can't be started, and what the user can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// The result of this module's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a service of `taskhost dev` is not running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing called `java` was found.
    #[error(
        "there is no java, in JAVA_HOME or on the PATH, to run the Kafka broker; scripts/setup dev installs it (Debian: apt-get install default-jre-headless), or set KAFKA_BROKERS to a broker of your own"
    )]
    JavaMissing,

    /// No directory with Kafka's jars was found.
    #[error("there are no Kafka jars in {}; scripts/setup dev installs them, or set TASKHOST_KAFKA_LIBS to the libs directory of a Kafka, or KAFKA_BROKERS to a broker of your own", list(.searched))]
    KafkaMissing {
        /// The searched directories.
        searched: Vec<PathBuf>,
    },

    /// The Postgres server's binaries were not found.
    #[error(
        "there is no Postgres server, in /usr/lib/postgresql or on the PATH; scripts/setup dev installs it (Debian: apt-get install postgresql), or set DATABASE_URL to a database of your own"
    )]
    PostgresMissing,

    /// We run as root, which Postgres refuses, and there is no account to run it as.
    #[error(
        "Postgres refuses to run as root, and there is no user `postgres` to run it; run this as another user, or set DATABASE_URL to a database of your own"
    )]
    AccountMissing,

    /// Another process uses the directory.
    #[error("{} is in use{}; stop that one first, or use another directory", .dir.display(), holder(.pid))]
    InUse {
        /// The requested directory.
        dir: PathBuf,
        /// The process that uses it, if it is known.
        pid: Option<i32>,
    },

    /// A one-off step (formatting, creating a cluster or a database) failed.
    #[error("{step} failed ({status}): {output}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },

    /// A service ended before it was ready.
    #[error("{service} ended before it was ready ({status}); its log {} ends with:\n{tail}", .log.display())]
    Died {
        /// Which one.
        service: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The end of that log.
        tail: String,
    },

    /// A service did not become ready in time, and was stopped again.
    #[error("{service} was not ready after {} s; its log {} ends with:\n{tail}", .after.as_secs(), .log.display())]
    NotReady {
        /// Which one.
        service: &'static str,
        /// How long it was given.
        after: Duration,
        /// Its log.
        log: PathBuf,
        /// The end of that log.
        tail: String,
    },

    /// The system refused something.
    #[error("can't {doing}")]
    Io {
        /// What was being done, with the file's name.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// Whether the service ended because somebody else took its port first: with a free port, another try helps.
    pub(super) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Died { tail, .. } if tail.contains("ddress already in use"))
    }
}

/// Turns a system error on `path` into ours: `.map_err(io("create", &path))`.
pub(super) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let doing = format!("{verb} {}", path.display());
    move |source| Error::Io { doing, source }
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(" or ")
}

fn holder(pid: &Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}
