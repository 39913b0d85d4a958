//! The command line of `taskhost`: its subcommands, their output and exit codes.
//!
//! Each subcommand is a file with its arguments and a `run`. Results go to standard output, one JSON object a
//! line with `--json`; everything else goes to standard error. Exit codes: 0 success, 1 failure, 2 the command
//! line or the configuration is wrong.

mod breaker;
mod broker;
mod config;
mod confirm;
mod database;
mod dev;
mod dlq;
mod failure;
mod found;
mod global;
mod host_url;
mod messages;
mod migrate;
mod output;
mod paged;
mod partition;
mod person;
mod plugin;
mod publish_new_task;
mod routed;
mod run;
mod serve;
mod task;
mod test_kafka;
mod test_task_updates;
mod waiting;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::Failure;
use global::EXIT_CODES;
pub use global::{Global, Output};
pub use host_url::host_url;

/// A task-event host: reads messages from Kafka, decides with WebAssembly rules, writes to Postgres and Kafka.
#[derive(Debug, Parser)]
#[command(name = "taskhost", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
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

#[cfg(test)]
mod tests;
