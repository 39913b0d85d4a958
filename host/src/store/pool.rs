//! The pool of connections, and how each session is set up.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::watch;

use super::error::Error;
use super::remembered::Deciders;
use super::schema::Schema;
use crate::config::SchemaName;

/// How Postgres is reached.
#[derive(Clone)]
pub struct Settings {
    /// `postgres://user:password@host:port/database`.
    pub url: String,
    /// The schema in which the tables are.
    pub schema: SchemaName,
    /// Connections at most; a batch holds one.
    pub connections_max: u32,
    /// How long to wait for a free connection.
    pub acquire_timeout: Duration,
    /// How long Postgres works on one statement.
    pub statement_timeout: Duration,
    /// How long Postgres waits for one lock.
    pub lock_timeout: Duration,
    /// Prepared statements, and settings for the session. False behind a proxy that pools transactions: then
    /// each transaction brings its settings along, and nothing is prepared by name.
    pub prepared: bool,
    /// The name under which `pg_stat_activity` shows the connections.
    pub application_name: String,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("schema", &self.schema)
            .field("connections_max", &self.connections_max)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("prepared", &self.prepared)
            .field("application_name", &self.application_name)
            .finish_non_exhaustive()
    }
}

/// A transaction in which nothing happens is ended by Postgres after this time, so that a frozen host
/// doesn't keep its locks.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);

/// Added to the statement timeout before a server counts as gone: Postgres should be the first to give up.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// A connection that was idle for longer is asked whether it still lives before it is used. Shorter ones
/// aren't: that would be a round trip for each batch.
const IDLE_UNTESTED: Duration = Duration::from_secs(1);

/// When the server was last away; told to whoever waits for an answer.
pub(super) type Renewed = Arc<watch::Sender<Option<Instant>>>;

/// Postgres as taskhost uses it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) pool: PgPool,
    pub(super) options: PgConnectOptions,
    /// Names the schema in the statements.
    pub(super) schema: Arc<Schema>,
    /// The numbers of the deciders that the history was told of.
    pub(super) deciders: Arc<Deciders>,
    /// Begins a transaction.
    pub(super) begin_sql: Arc<str>,
    /// Whether settings hold for a whole session, so also outside of a transaction.
    pub(super) sessions_are_set: bool,
    /// How long an answer may take before the server counts as gone.
    pub(super) patience: Duration,
    /// When the server was last away.
    pub(super) renewed: Renewed,
}

impl Store {
    /// Makes the pool. Nothing is connected before the first use, so that Postgres may start later.
    ///
    /// # Errors
    /// If the URL is none of a Postgres database.
    pub fn connect(settings: &Settings) -> Result<Self, Error> {
        let options =
            PgConnectOptions::from_str(&settings.url)?.application_name(&settings.application_name);
        let session = session_settings(settings);
        // Whatever the database's default is: the protocol is proven for this one.
        let mut begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE".to_owned();
        let (options, begin) = if settings.prepared {
            (options.options(session), begin)
        } else {
            for (name, value) in session {
                begin.push_str(&format!("; SET LOCAL {name} = '{value}'"));
            }
            (options.statement_cache_capacity(0), begin)
        };
        let (renewed, reborn) = watch::channel(None);
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections_max)
            .acquire_timeout(settings.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(move |connection, metadata| {
                let outlived = reborn
                    .borrow()
                    .is_some_and(|at: Instant| metadata.age > at.elapsed());
                Box::pin(async move {
                    if outlived {
                        return Ok(false);
                    }
                    if metadata.idle_for > IDLE_UNTESTED {
                        sqlx::Connection::ping(connection).await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options.clone());
        Ok(Self {
            pool,
            options,
            schema: Arc::new(Schema::new(settings.schema.clone())),
            deciders: Arc::default(),
            begin_sql: begin.into(),
            sessions_are_set: settings.prepared,
            patience: settings.statement_timeout + ANSWER_MARGIN,
            renewed: Arc::new(renewed),
        })
    }

    /// The server was away and is back. Connections from before are made anew, as some may be dead without knowing it; what
    /// is under way on one has a second left to be answered.
    pub fn renew(&self) {
        self.renewed.send_replace(Some(Instant::now()));
        // The server that is back may lack what the one before had committed last.
        self.deciders.forget();
    }

    /// Connections that are open and those of them that are idle, for metrics.
    pub fn connections(&self) -> (u32, usize) {
        (self.pool.size(), self.pool.num_idle())
    }

    /// Closes all connections, as they come back.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// What each session, or each transaction, runs under. `synchronous_commit` and the isolation are what the protocol rests
/// on, so a database's own defaults don't count. A plan is never worth compiling.
fn session_settings(settings: &Settings) -> Vec<(&'static str, String)> {
    let millis = |duration: Duration| duration.as_millis().to_string();
    vec![
        ("synchronous_commit", "on".to_owned()),
        ("default_transaction_isolation", "read committed".to_owned()),
        (
            "idle_in_transaction_session_timeout",
            millis(IDLE_IN_TRANSACTION),
        ),
        ("client_connection_check_interval", "1000".to_owned()),
        ("statement_timeout", millis(settings.statement_timeout)),
        ("lock_timeout", millis(settings.lock_timeout)),
        ("tcp_keepalives_idle", "10".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("jit", "off".to_owned()),
    ]
}
