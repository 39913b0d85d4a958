//! Why a command didn't do what was asked.

use std::process::ExitCode;

use crate::config::ConfigErrors;

/// A failure, worded for the one who typed the command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The command line is wrong in a way that only the command itself can see.
    #[error("{0}")]
    Usage(String),
    /// It was understood, tried, and failed: what, and what to do.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// The command is declared, but this build has nothing behind it.
    pub(super) fn not_here(command: &str) -> Self {
        Self::Failed(format!("{command} is not part of this build"))
    }

    /// 2 for usage and configuration, 1 for all else.
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
