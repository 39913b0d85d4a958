//! `taskhost dlq`: shows, edits, replays, cancels, discards, exports and imports dead letters.

mod cancel;
mod discard;
mod edit;
mod export;
mod import;
mod list;
mod replay;
mod show;
mod sweep;

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::database::Database;
use super::{Failure, Global};
use crate::config::Config;
use crate::letters;
use crate::store::{Filter, Place, State};

/// The subcommands of `taskhost dlq`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    List(list::Arguments),
    Show(show::Arguments),
    Edit(edit::Arguments),
    Replay(replay::Arguments),
    Cancel(cancel::Arguments),
    Discard(discard::Arguments),
    Export(export::Arguments),
    Import(import::Arguments),
}

pub(super) fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list::run(arguments, global),
        Command::Show(arguments) => show::run(arguments, global),
        Command::Edit(arguments) => edit::run(arguments, global),
        Command::Replay(arguments) => replay::run(arguments, global),
        Command::Cancel(arguments) => cancel::run(arguments, global),
        Command::Discard(arguments) => discard::run(arguments, global),
        Command::Export(arguments) => export::run(arguments, global),
        Command::Import(arguments) => import::run(arguments, global),
    }
}

/// Ids in one statement.
const IDS_MAX: usize = 500;

/// A filter of dead letters.
#[derive(Args, Clone, Debug, Default)]
struct Filters {
    /// Only dead letters of this topic, by its name in Kafka or in the routes.
    #[arg(long)]
    topic: Option<String>,
    /// Only dead letters that this plugin decided.
    #[arg(long)]
    plugin: Option<String>,
    /// Only dead letters with this code.
    #[arg(long)]
    code: Option<String>,
    /// Only dead letters from this time on: 2026-01-31T08:00:00Z, or an age such as 15m, 2h or 7d.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only dead letters before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only dead letters with this text in their reason or payload.
    #[arg(long)]
    text: Option<String>,
    /// Only dead letters of this task.
    #[arg(long)]
    task: Option<String>,
}

impl Filters {
    fn is_empty(&self) -> bool {
        self.parts().next().is_none()
    }

    fn parts(&self) -> impl Iterator<Item = (&str, &str)> {
        [
            ("topic", &self.topic),
            ("plugin", &self.plugin),
            ("code", &self.code),
            ("since", &self.since),
            ("until", &self.until),
            ("text", &self.text),
            ("task", &self.task),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    fn filter(&self, config: &Config, states: &[State]) -> Result<Filter, Failure> {
        let mut filter = letters::filter(self.parts()).map_err(Failure::Usage)?;
        filter.topic = filter.topic.map(|topic| real(config, &topic));
        filter.states = states.to_vec();
        Ok(filter)
    }
}

/// The dead letters that a command changes: by their ids or by a filter. All of them only with `--all`.
#[derive(Args, Clone, Debug)]
struct Chosen {
    /// Ids of dead letters.
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,
    #[command(flatten)]
    filters: Filters,
    /// All of them, without a filter.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

impl Chosen {
    fn check(&self) -> Result<(), Failure> {
        let filtered = !self.filters.is_empty();
        match (self.ids.is_empty(), filtered, self.all) {
            (false, true, _) => Err(Failure::Usage("name ids or a filter, not both".to_owned())),
            (true, false, false) => Err(Failure::Usage(
                "name ids, or a filter such as --code or --topic, or --all".to_owned(),
            )),
            _ => Ok(()),
        }
    }
}

/// Goes through the chosen dead letters, in the order in which they failed, some at a time.
struct Walk<'a> {
    database: &'a Database,
    group: &'a str,
    ids: Vec<Uuid>,
    filter: Option<Filter>,
    after: Option<Place>,
}

/// The result of a walk.
#[derive(Clone, Copy, Default)]
struct Done {
    named: usize,
    changed: usize,
}

impl<'a> Walk<'a> {
    fn of(
        chosen: &Chosen,
        database: &'a Database,
        config: &'a Config,
        states: &[State],
    ) -> Result<Self, Failure> {
        chosen.check()?;
        let filter = match chosen.ids.is_empty() {
            true => Some(chosen.filters.filter(config, states)?),
            false => None,
        };
        let mut ids = chosen.ids.clone();
        ids.reverse();
        Ok(Self {
            database,
            group: &config.kafka.group_id,
            ids,
            filter,
            after: None,
        })
    }

    /// The number of chosen dead letters now.
    fn count(&self) -> Result<u64, Failure> {
        let Some(filter) = &self.filter else {
            return Ok(u64::try_from(self.ids.len()).unwrap_or(u64::MAX));
        };
        let database = self.database;
        let count = database.ask(database.store.count_dead_letters(self.group, filter))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Changes all of them, some at a time; `change` returns how many it changed.
    fn each(
        &mut self,
        mut change: impl FnMut(&[Uuid]) -> Result<usize, Failure>,
    ) -> Result<Done, Failure> {
        let mut done = Done::default();
        loop {
            let ids = self.next(IDS_MAX)?;
            if ids.is_empty() {
                return Ok(done);
            }
            done.named += ids.len();
            done.changed += change(&ids)?;
        }
    }

    /// The next ones; none at the end.
    fn next(&mut self, most: usize) -> Result<Vec<Uuid>, Failure> {
        let Some(filter) = &self.filter else {
            let from = self.ids.len().saturating_sub(most);
            let mut some = self.ids.split_off(from);
            some.reverse();
            return Ok(some);
        };
        let (store, limit) = (
            &self.database.store,
            u32::try_from(most).unwrap_or(u32::MAX),
        );
        let after = self.after.as_ref();
        let places = self
            .database
            .ask(store.dead_letter_places(self.group, filter, after, limit))?;
        self.after = places.last().copied().or(self.after);
        Ok(places.into_iter().map(|place| place.id).collect())
    }
}

/// A topic's name in Kafka.
pub(super) fn real(config: &Config, topic: &str) -> String {
    let routed = config.routes.iter().find(|route| route.topic == topic);
    routed.map_or(topic, |route| &route.real_topic).to_owned()
}

/// The states of a dead letter as a flag takes them.
fn state(text: &str) -> Result<State, String> {
    State::from_name(text).ok_or_else(|| {
        let all: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
        format!("the states are {}", all.join(", "))
    })
}
