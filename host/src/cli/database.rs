//! Postgres for commands: connects, says why it can't, and checks that this program knows the schema.

use std::time::Duration;

use tokio::runtime::Runtime;

use super::{Failure, serve};
use crate::app;
use crate::config::Config;
use crate::config::fixed::ACQUIRE_TIMEOUT;
use crate::store::{self, Store};

/// The statement timeout of commands: a person can wait longer than a batch, for example for all tasks.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);

/// A connected database, and the runtime for its queries.
pub(super) struct Database {
    pub(super) runtime: Runtime,
    pub(super) store: Store,
    /// The URL without its password.
    shown: String,
}

impl Database {
    /// Connects, without a check of the schema.
    pub(super) fn reach(config: &Config) -> Result<Self, Failure> {
        let mut settings = app::store_settings(config)?;
        settings.statement_timeout = settings.statement_timeout.max(STATEMENT_TIMEOUT);
        settings.application_name = "taskhost command".to_owned();
        let shown = config.database_url()?.masked();
        let runtime = serve::runtime()?;
        let store = {
            // The pool starts its tasks on the runtime in which it is created.
            let _on = runtime.enter();
            Store::connect(&settings)
                .map_err(|error| Failure::of(&format!("postgres at {shown}"), &error))?
        };
        runtime
            .block_on(store.diagnose(ACQUIRE_TIMEOUT))
            .map_err(|diagnosis| {
                Failure::Failed(format!("postgres at {shown} can't be reached: {diagnosis}"))
            })?;
        Ok(Self {
            runtime,
            store,
            shown,
        })
    }

    /// Connects to a database that is migrated.
    pub(super) fn open(config: &Config) -> Result<Self, Failure> {
        let database = Self::reach(config)?;
        let state = database.ask(database.store.schema_state())?;
        let known = state.known;
        if let Some(version) = state.refused {
            return Err(Failure::of(
                &database.shown,
                &store::Error::SchemaNewer { version },
            ));
        }
        match state.applied {
            _ if state.is_current() => Ok(database),
            0 => Err(Failure::Failed(format!(
                "{} has no tables of taskhost in the schema `{}`; `taskhost migrate` creates them, and so does a host when it starts",
                database.shown, config.database.schema
            ))),
            applied => Err(Failure::Failed(format!(
                "{} is at migration {applied}, and this taskhost needs {known}; `taskhost migrate` updates it",
                database.shown
            ))),
        }
    }

    /// Waits for an answer.
    pub(super) fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, store::Error>>,
    ) -> Result<T, Failure> {
        self.runtime
            .block_on(question)
            .map_err(|error| self.failed(&error))
    }

    /// The failure for an error of Postgres.
    pub(super) fn failed(&self, error: &store::Error) -> Failure {
        Failure::of(&format!("postgres at {}", self.shown), error)
    }
}
