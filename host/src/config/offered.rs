//! What else of the environment counts: two variables that are no settings, and the values of a running `taskhost dev`.

use std::path::PathBuf;

/// The environment variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "TASKHOST_CONFIG";

/// The environment variable with the URL of a running host's HTTP API.
pub const URL_VARIABLE: &str = "TASKHOST_URL";

/// The values of a running `taskhost dev`. They count for settings that neither file nor environment has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The file that has them.
    pub path: PathBuf,
    /// Names of environment variables, with their values.
    pub values: Vec<(&'static str, String)>,
}
