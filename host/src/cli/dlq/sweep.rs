//! A change of all chosen dead letters: counts them, asks, changes them and prints the result.

use serde_json::json;
use uuid::Uuid;

use super::chosen::{Chosen, Walk};
use crate::cli::confirm::confirm;
use crate::cli::database::Database;
use crate::cli::{Failure, Output, output};
use crate::config::Config;
use crate::store::State;

/// The change, and its words.
pub(super) struct Sweep<'a> {
    pub(super) chosen: &'a Chosen,
    pub(super) dry_run: bool,
    pub(super) yes: bool,
    pub(super) output: Output,
    /// The states that it applies to.
    pub(super) states: &'a [State],
    /// The result, as in "3 discarded".
    pub(super) done: &'static str,
    /// The result's field in JSON.
    pub(super) field: &'static str,
    /// Why others are not changed, as in "1 of 3 don't exist".
    pub(super) others: &'static str,
}

impl Sweep<'_> {
    /// Makes the change; `change` returns how many of some dead letters it changed.
    pub(super) fn run(
        &self,
        config: &Config,
        change: impl Fn(&Database, &[Uuid]) -> Result<usize, Failure>,
    ) -> Result<(), Failure> {
        let done = self.done;
        self.chosen.check()?;
        let database = Database::open(config)?;
        let mut walk = Walk::of(self.chosen, &database, config, self.states)?;
        let count = walk.count()?;
        if self.dry_run {
            return output::print(&match self.output.json {
                true => format!("{}\n", json!({"dryRun": true, "count": count})),
                false => format!("{count} to be {done}\n"),
            });
        }
        // Dead letters named one by one need no question.
        let are_named = !self.chosen.ids.is_empty();
        if !are_named && count > 0 {
            eprintln!("to be {done}: {count}");
            confirm(self.yes)?;
        }
        let came = walk.each(|ids| change(&database, ids))?;
        output::print(&match self.output.json {
            true => format!("{}\n", json!({(self.field): came.changed})),
            false => format!("{} {done}\n", came.changed),
        })?;
        match !are_named || came.changed == came.named {
            true => Ok(()),
            false => Err(Failure::Failed(format!(
                "{} of {} {}; `taskhost dlq show` shows which",
                came.named - came.changed,
                came.named,
                self.others
            ))),
        }
    }
}
