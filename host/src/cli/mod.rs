//! The command line of `taskhost`: its subcommands, their output and exit codes.
//!
//! Each subcommand is a file with its arguments and a `run`. Results go to standard output, one JSON object a
//! line with `--json`; everything else goes to standard error. Exit codes: 0 success, 1 failure, 2 the command
//! line or the configuration is wrong.

mod breaker;
mod broker;
mod config;
mod database;
mod dev;
mod dlq;
mod failure;
mod found;
mod host_url;
mod messages;
mod migrate;
mod output;
mod partition;
mod partition_divert;
mod partition_reset;
mod plugin;
mod plugin_activate;
mod plugin_history;
mod publish_new_task;
mod run;
mod serve;
mod task;
mod task_show;
mod test_kafka;
mod test_task_updates;
mod waiting;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use failure::Failure;
pub use host_url::host_url;

use crate::config::{CONFIG_VARIABLE, Config, ConfigErrors, DEFAULT_FILE, Loaded, Offered};

/// The last line of each help.
const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 wrong usage or configuration";

/// A task-event host: reads messages from Kafka, decides with WebAssembly rules, writes to Postgres and Kafka.
#[derive(Debug, Parser)]
#[command(name = "taskhost", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

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

/// The subcommands.
#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Dev(dev::Arguments),
    Migrate(migrate::Arguments),
    Config(config::Arguments),
    TestKafka(test_kafka::Arguments),
    PublishNewTask(publish_new_task::Arguments),
    TestTaskUpdates(test_task_updates::Arguments),
    /// Show tasks.
    #[command(subcommand, after_help = EXIT_CODES)]
    Task(task::Command),
    /// Show plugins, and choose the active version.
    #[command(subcommand, after_help = EXIT_CODES)]
    Plugin(plugin::Command),
    /// Show, edit, replay and discard dead letters.
    #[command(subcommand, after_help = EXIT_CODES)]
    Dlq(dlq::Command),
    /// Show what waits: deferred messages and timers; try it now, or give it up.
    #[command(subcommand, after_help = EXIT_CODES)]
    Waiting(waiting::Command),
    /// Show partitions, and resolve halted ones.
    #[command(subcommand, after_help = EXIT_CODES)]
    Partition(partition::Command),
    /// Show, open and close the breakers of routes.
    #[command(subcommand, after_help = EXIT_CODES)]
    Breaker(breaker::Command),
}

impl Cli {
    /// Runs the subcommand and returns its exit code. The text of a failure goes to standard error.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Run(arguments) => run::run(&arguments, &self.global),
            Command::Dev(arguments) => dev::run(&arguments, &self.global),
            Command::Migrate(arguments) => migrate::run(&arguments, &self.global),
            Command::Config(arguments) => config::run(&arguments, &self.global),
            Command::TestKafka(arguments) => test_kafka::run(&arguments, &self.global),
            Command::PublishNewTask(arguments) => publish_new_task::run(&arguments, &self.global),
            Command::TestTaskUpdates(arguments) => test_task_updates::run(&arguments, &self.global),
            Command::Task(command) => task::run(&command, &self.global),
            Command::Plugin(command) => plugin::run(&command, &self.global),
            Command::Dlq(command) => dlq::run(&command, &self.global),
            Command::Waiting(command) => waiting::run(&command, &self.global),
            Command::Partition(command) => partition::run(&command, &self.global),
            Command::Breaker(command) => breaker::run(&command, &self.global),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("taskhost: {failure}");
                failure.exit_code()
            }
        }
    }
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
    fn config(&self) -> Result<Config, ConfigErrors> {
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

#[cfg(test)]
mod tests;
