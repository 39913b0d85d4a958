//! Why a command failed.

use std::process::ExitCode;

use crate::app;
use crate::config::ConfigErrors;

/// A failure, worded for the person who typed the command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The command line is wrong in a way that only the command itself can detect.
    #[error("{0}")]
    Usage(String),
    /// The command was understood and failed: what failed, and what to do.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// A failure with the texts of the error and all its sources.
    pub(super) fn of(what: &str, error: &dyn std::error::Error) -> Self {
        let mut text = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self::Failed(text)
    }

    /// 2 for usage and configuration, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

impl From<app::Error> for Failure {
    fn from(error: app::Error) -> Self {
        match error {
            app::Error::Config(errors) => Self::Config(errors),
            other => Self::Failed(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_and_configuration_are_2_and_all_else_is_1() {
        assert_eq!(Failure::Usage(String::new()).code(), 2);
        assert_eq!(Failure::Config(ConfigErrors(Vec::new())).code(), 2);
        assert_eq!(Failure::Failed(String::new()).code(), 1);
    }
}
