//! The dead letters that a command is about: chosen by ids or by a filter, and gone through some at a time.

use clap::Args;
use uuid::Uuid;

use crate::cli::Failure;
use crate::cli::database::Database;
use crate::cli::routed::real_topic;
use crate::config::Config;
use crate::letters;
use crate::store::{Filter, Place, State};

/// Ids in one statement.
pub(super) const IDS_MAX: usize = 500;

/// A filter of dead letters.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filters {
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
    pub(super) fn is_empty(&self) -> bool {
        self.parts().next().is_none()
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = (&str, &str)> {
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

    pub(super) fn filter(&self, config: &Config, states: &[State]) -> Result<Filter, Failure> {
        let mut filter = letters::filter(self.parts()).map_err(Failure::Usage)?;
        filter.topic = filter.topic.map(|topic| real_topic(config, &topic));
        filter.states = states.to_vec();
        Ok(filter)
    }
}

/// The dead letters that a command changes: by their ids or by a filter. All of them only with `--all`.
#[derive(Args, Clone, Debug)]
pub(super) struct Chosen {
    /// Ids of dead letters.
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<Uuid>,
    #[command(flatten)]
    pub(super) filters: Filters,
    /// All of them, without a filter.
    #[arg(long, conflicts_with = "ids")]
    pub(super) all: bool,
}

impl Chosen {
    pub(super) fn check(&self) -> Result<(), Failure> {
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
pub(super) struct Walk<'a> {
    database: &'a Database,
    group: &'a str,
    pub(super) ids: Vec<Uuid>,
    filter: Option<Filter>,
    after: Option<Place>,
}

/// The result of a walk.
#[derive(Clone, Copy, Default)]
pub(super) struct Done {
    pub(super) named: usize,
    pub(super) changed: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn of(
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
    pub(super) fn count(&self) -> Result<u64, Failure> {
        let Some(filter) = &self.filter else {
            return Ok(u64::try_from(self.ids.len()).unwrap_or(u64::MAX));
        };
        let database = self.database;
        let count = database.ask(database.store.count_dead_letters(self.group, filter))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Changes all of them, some at a time; `change` returns how many it changed.
    pub(super) fn each(
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
    pub(super) fn next(&mut self, most: usize) -> Result<Vec<Uuid>, Failure> {
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

/// The states of a dead letter as a flag takes them.
pub(super) fn state(text: &str) -> Result<State, String> {
    State::from_name(text).ok_or_else(|| {
        let all: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
        format!("the states are {}", all.join(", "))
    })
}
