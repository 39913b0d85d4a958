//! `taskhost task list` and `taskhost task show`.

use clap::{Args, Subcommand};

use super::{EXIT_CODES, Failure, Global, Output};

/// What can be seen of tasks.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    List(List),
    Show(Show),
}

/// List tasks, the latest change first.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost task list --status error --limit 10\n\n{EXIT_CODES}"))]
pub(super) struct List {
    /// Only tasks in this status.
    #[arg(long)]
    pub(super) status: Option<String>,
    /// Only tasks of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) task_type: Option<String>,
    /// The most tasks to list.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
    /// List all tasks, however many.
    #[arg(long, conflicts_with = "limit")]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Show one task and its whole history.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost task show 0b6f7f0e-6f6e-5c43-9d0e-3a1c2b4d5e6f\n\n{EXIT_CODES}"))]
pub(super) struct Show {
    /// The task's id.
    pub(super) id: String,
    #[command(flatten)]
    pub(super) output: Output,
}

pub(super) fn run(command: &Command, _global: &Global) -> Result<(), Failure> {
    match command {
        Command::List(_) => Err(Failure::not_here("task list")),
        Command::Show(_) => Err(Failure::not_here("task show")),
    }
}
