//! The configuration. It is read completely and checked before a socket is opened.
//!
//! Every setting is an environment variable and a key in `taskhost.toml`; the environment wins. Each section has
//! one declarative table with everything about its settings. The parser, `taskhost config` and
//! `docs/configuration.md` are made from it. All problems are reported together: unknown keys, malformed values,
//! contradictions. A configuration that works but is probably not intended gives a warning.

mod file;
mod input;
mod nearest;
mod offered;
mod problem;
mod schema_name;
mod section;

pub mod batch;
pub mod breaker;
pub mod database;
pub mod deferral;
pub mod docs;
pub mod fixed;
pub mod http;
pub mod kafka;
pub mod log;
pub mod plugins;
pub mod routes;
pub mod setting;
pub mod topics;
pub mod value;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use batch::Batch;
pub use breaker::Breaker;
pub use database::Database;
pub use deferral::Deferral;
pub use http::Http;
pub use input::{Effective, Origins};
pub use kafka::Kafka;
pub use log::Log;
pub use offered::{CONFIG_VARIABLE, Offered, URL_VARIABLE};
pub use plugins::Plugins;
pub use problem::{ConfigErrors, Origin, Problem};
pub use routes::{Route, on_dead_letter_name};
pub use schema_name::SchemaName;
pub use setting::Setting;
pub use topics::{DeadLetters, Topics};
pub use value::DatabaseUrl;

use input::Input;

/// The file that is read from the working directory if none is named.
pub const DEFAULT_FILE: &str = "taskhost.toml";

/// All settings, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The connection to Kafka.
    pub kafka: Kafka,
    /// The topics behind logical names.
    pub topics: Topics,
    /// Dead letters: their topic and their retention.
    pub dead_letters: DeadLetters,
    /// The connection to Postgres.
    pub database: Database,
    /// The HTTP API.
    pub http: Http,
    /// The plugins' files and limits.
    pub plugins: Plugins,
    /// The limits of batches.
    pub batch: Batch,
    /// The limits of deferral.
    pub deferral: Deferral,
    /// When a route's breaker opens, and how long versions are on probation.
    pub breaker: Breaker,
    /// The log.
    pub log: Log,
    /// The plugin of each topic and task type. Never empty; names are unique.
    pub routes: Vec<Route>,
}

/// A configuration, with its origins and warnings.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The effective values.
    pub config: Config,
    /// The origin of each value.
    pub origins: Origins,
    /// What is probably not intended. The host logs these at each start.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the file, if there is one, and then the environment.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        Self::load_over(None, file, env)
    }

    /// [`Config::load`] on top of the values of a running `taskhost dev`.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load_over(
        offered: Option<&Offered>,
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        match file {
            None => Self::parse_over(offered, None, env),
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Self::parse_over(offered, Some((path, &text)), env),
                Err(error) => Err(ConfigErrors(vec![Problem {
                    what: format!("{} can't be read: {error}", path.display()),
                    at: Vec::new(),
                    fix: format!(
                        "name another file by --config or {CONFIG_VARIABLE}, or make this file readable"
                    ),
                }])),
            },
        }
    }

    /// [`Config::load`] for the text of a file.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn parse(
        file: Option<(&Path, &str)>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        Self::parse_over(None, file, env)
    }

    fn parse_over(
        offered: Option<&Offered>,
        file: Option<(&Path, &str)>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        let table: Vec<&'static Setting> = settings().collect();
        let mut input = Input::default();
        if let Some(offered) = offered {
            input::offered(&mut input, &table, offered);
        }
        let extras = file
            .map(|(path, text)| file::read(&mut input, &table, path, text))
            .unwrap_or_default();
        input::environment(&mut input, &table, env);
        let kafka = Kafka::read(&mut input);
        let prefix = kafka.transactional_prefix();
        input.origins.show("kafka.transactional_id_prefix", prefix);
        let topics = Topics::read(&mut input, &extras);
        let config = Self {
            kafka,
            dead_letters: DeadLetters::read(&mut input),
            database: Database::read(&mut input),
            http: Http::read(&mut input),
            plugins: Plugins::read(&mut input),
            batch: Batch::read(&mut input),
            deferral: Deferral::read(&mut input),
            breaker: Breaker::read(&mut input),
            log: Log::read(&mut input),
            routes: routes::read(&mut input, &extras, &topics),
            topics,
        };
        config.check(&mut input);
        if input.problems.is_empty() {
            Ok(Loaded {
                config,
                origins: input.origins,
                warnings: input.warnings,
            })
        } else {
            Err(ConfigErrors(input.problems))
        }
    }

    /// The database's URL, for commands that need it.
    ///
    /// # Errors
    /// A problem that says how to set it, if it isn't.
    pub fn database_url(&self) -> Result<&DatabaseUrl, ConfigErrors> {
        self.database.url.as_ref().ok_or_else(|| {
            ConfigErrors(vec![Problem {
                what: "database.url is not set".into(),
                at: Vec::new(),
                fix: "set DATABASE_URL=postgres://user:password@host:5432/database".into(),
            }])
        })
    }

    /// The real name of the topic for dead letters of the topic with this real name.
    #[must_use]
    pub fn dead_letter_topic(&self, real_topic: &str) -> String {
        self.dead_letters.topic_of(real_topic, &self.kafka.group_id)
    }

    fn check(&self, input: &mut Input) {
        self.kafka.check(input);
        self.topics.check(input);
        self.dead_letters.check(input);
        self.database.check(input);
        self.plugins.check(input);
        self.deferral.check(input);
        self.breaker.check(input);
        self.log.check(input);
    }
}

/// The whole table of settings, in the order of the documentation.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    [
        Kafka::SETTINGS,
        topics::Named::SETTINGS,
        DeadLetters::SETTINGS,
        Database::SETTINGS,
        Http::SETTINGS,
        Plugins::SETTINGS,
        Batch::SETTINGS,
        Deferral::SETTINGS,
        Breaker::SETTINGS,
        Log::SETTINGS,
    ]
    .into_iter()
    .flatten()
}
