//! The problems of a configuration, all at once. Each says what is wrong, where, and what to do.

use std::fmt;
use std::path::PathBuf;

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The default: nobody set the value.
    Default,
    /// A line of `taskhost.toml`, counted from 1.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line of the value.
        line: usize,
    },
    /// The environment variable of this name.
    Env(String),
    /// This file of a `taskhost dev` that runs here.
    Dev(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Dev(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One problem that prevents the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong; never a secret's value.
    pub what: String,
    /// The places to look at, such as `taskhost.toml:7`.
    pub at: Vec<Origin>,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.at.is_empty() {
            let places: Vec<String> = self.at.iter().map(ToString::to_string).collect();
            write!(f, " ({})", places.join(", "))?;
        }
        write!(f, ": {}", self.fix)
    }
}

/// Everything that is wrong with the configuration; never empty.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {}:{}", count(.0.len()), lines(.0))]
pub struct ConfigErrors(pub Vec<Problem>);

fn count(problems: usize) -> String {
    if problems == 1 {
        "a problem".into()
    } else {
        format!("{problems} problems")
    }
}

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("\n  - {problem}"))
        .collect()
}
