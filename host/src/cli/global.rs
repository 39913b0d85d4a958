//! What every subcommand takes: where the configuration is, and how the result is written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::found;
use crate::config::{CONFIG_VARIABLE, Config, ConfigErrors, DEFAULT_FILE, Loaded, Offered};

/// The last line of each help.
pub(super) const EXIT_CODES: &str =
    "Exit codes: 0 success, 1 failure, 2 wrong usage or configuration";

/// The options of every subcommand.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// The configuration file. Without it: TASKHOST_CONFIG, else ./taskhost.toml if it exists.
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
}

/// How a result is written.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Output {
    /// Write one JSON object a line, for scripts.
    #[arg(long)]
    pub json: bool,
}

impl Global {
    /// The file to read: the named one, else `taskhost.toml` if the working directory has it.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from);
        // An empty variable counts as not set, as everywhere.
        self.config
            .clone()
            .or_else(|| variable().filter(|path| !path.as_os_str().is_empty()))
            .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.is_file()))
    }

    /// The configuration from this process' environment and file. Other settings come from a running `taskhost dev`, if
    /// there is one, and a note on standard error says so.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let offered = found::running_dev().map(|found| found::offered(&found));
        let loaded = self.load_from(offered.as_ref(), &[])?;
        found::note(&loaded);
        Ok(loaded)
    }

    /// [`Global::load`] for commands that only need the values: warnings go to standard error.
    pub(super) fn config(&self) -> Result<Config, ConfigErrors> {
        let loaded = self.load()?;
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        Ok(loaded.config)
    }

    /// The configuration of this process alone, with variables that override the environment.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load_with(&self, more: &[(&str, String)]) -> Result<Loaded, ConfigErrors> {
        self.load_from(None, more)
    }

    fn load_from(
        &self,
        offered: Option<&Offered>,
        more: &[(&str, String)],
    ) -> Result<Loaded, ConfigErrors> {
        // A variable that isn't Unicode can't be one of ours; `vars` would panic on it.
        let env = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let more = more
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let merged: BTreeMap<String, String> = env.chain(more).collect();
        Config::load_over(offered, self.config_file().as_deref(), merged.into_iter())
    }
}
