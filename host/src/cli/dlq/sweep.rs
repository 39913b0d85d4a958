//! A change of all the dead letters that are chosen: counted, confirmed, made and told.

use serde_json::json;
use uuid::Uuid;

use super::{Chosen, Walk};
use crate::cli::database::Database;
use crate::cli::partition::confirm;
use crate::cli::{Failure, Output, output};
use crate::config::Config;
use crate::store::State;

/// What is asked for, and its words.
pub(super) struct Sweep<'a> {
    pub(super) chosen: &'a Chosen,
    pub(super) dry_run: bool,
    pub(super) yes: bool,
    pub(super) output: Output,
    /// The states that it is about.
    pub(super) states: &'a [State],
    /// What becomes of each, as in "3 discarded".
    pub(super) done: &'static str,
    /// The same as JSON's field.
    pub(super) field: &'static str,
    /// What those are that it can't be done to, as in "1 of 3 are not there".
    pub(super) others: &'static str,
}

impl Sweep<'_> {
    /// Makes the change; `change` says how many of some dead letters it could change.
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
        // Those that are named one by one were meant.
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
                "{} of {} {}; `taskhost dlq show` tells",
                came.named - came.changed,
                came.named,
                self.others
            ))),
        }
    }
}
