//! One transaction, or one statement that stands alone, on a connection of the pool. Every answer has a deadline, and a failure
//! is final.
//!
//! sqlx' own transaction hides its connection, so that one whose server is gone could only be given back to the pool, where
//! it would hold a place until TCP gives up. Here it is closed instead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::{AssertSqlSafe, pool::PoolConnection};

use super::error::Error;
use super::pool::{Renewed, Store};
use super::schema::{Schema, Statement};

/// How long a rollback may take that nobody waits for, before its connection is closed.
const ROLLBACK_PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer that is awaited since before an outage may take after it. A server that merely stood still gives it
/// at once.
const RENEWED_PATIENCE: Duration = Duration::from_secs(1);

/// A connection in use, with the transaction that was begun on it, if any. Dropping it rolls that back in the background.
#[derive(Debug)]
pub(super) struct Session {
    /// Taken when the transaction has ended.
    connection: Option<PoolConnection<Postgres>>,
    schema: Arc<Schema>,
    patience: Patience,
    /// Whether a transaction was begun.
    open: bool,
    /// Whether a statement that commits by itself is under way: given up, its connection is closed.
    calling: bool,
    /// A statement failed, or did not do what it should have: only a rollback is left.
    failed: bool,
}

/// How a COMMIT ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It is committed.
    Committed,
    /// The answer was lost: it may be committed or not.
    Unknown(Error),
}

impl Store {
    /// The rows of a statement that only reads.
    pub(super) async fn read_rows(&self, statement: Statement<'_>) -> Result<Vec<PgRow>, Error> {
        let mut session = Session::look(self).await?;
        let rows = session.rows(statement).await?;
        session.rollback().await;
        Ok(rows)
    }

    /// The row that there is at most, of a statement that only reads.
    pub(super) async fn read_row(&self, statement: Statement<'_>) -> Result<Option<PgRow>, Error> {
        let mut session = Session::look(self).await?;
        let row = session.row(statement).await?;
        session.rollback().await;
        Ok(row)
    }
}

impl Session {
    /// Takes a connection and begins.
    pub(super) async fn begin(store: &Store) -> Result<Self, Error> {
        let patience = Patience {
            longest: store.patience,
            renewed: Arc::clone(&store.renewed),
        };
        let mut session = Self {
            connection: Some(within(&patience, store.pool.acquire()).await?),
            schema: Arc::clone(&store.schema),
            patience: patience.clone(),
            open: true,
            calling: false,
            failed: false,
        };
        let begin = sqlx::raw_sql(AssertSqlSafe(store.begin_sql.clone()));
        let done = within(&patience, begin.execute(session.connection()?)).await;
        session.note(done)?;
        Ok(session)
    }

    /// Takes a connection for one statement that only reads, and begins nothing if its settings hold without: beginning
    /// and ending cost more than asking.
    pub(super) async fn look(store: &Store) -> Result<Self, Error> {
        if !store.sessions_are_set {
            return Self::begin(store).await;
        }
        let patience = Patience {
            longest: store.patience,
            renewed: Arc::clone(&store.renewed),
        };
        Ok(Self {
            connection: Some(within(&patience, store.pool.acquire()).await?),
            schema: Arc::clone(&store.schema),
            patience,
            open: false,
            calling: false,
            failed: false,
        })
    }

    /// Runs a statement and says how many rows it wrote.
    pub(super) async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, Error> {
        let (patience, statement) = (self.patience.clone(), self.schema.name_in(statement)?);
        let done = within(&patience, statement.execute(self.connection()?)).await;
        Ok(self.note(done)?.rows_affected())
    }

    /// Runs a statement that commits by itself, in a session that began nothing. An error is certain: nothing was
    /// committed. The answer is read to its end: Postgres sends a statement's result before it commits.
    pub(super) async fn call(mut self, statement: Statement<'_>) -> Result<Ended, Error> {
        debug_assert!(!self.open, "a call in a transaction commits nothing");
        let (patience, statement) = (self.patience.clone(), self.schema.name_in(statement)?);
        self.calling = true;
        let connection = self.connection()?;
        let done = within(&patience, statement.execute(connection)).await;
        match done {
            Err(error) if !error.is_answer() => {
                self.close();
                Ok(Ended::Unknown(error))
            }
            answered => {
                self.calling = false;
                answered.map(|_| Ended::Committed)
            }
        }
    }

    /// Runs a statement and takes all rows.
    pub(super) async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Error> {
        let (patience, statement) = (self.patience.clone(), self.schema.name_in(statement)?);
        let done = within(&patience, statement.fetch_all(self.connection()?)).await;
        self.note(done)
    }

    /// Runs a statement and takes the row that there is at most.
    pub(super) async fn row(&mut self, statement: Statement<'_>) -> Result<Option<PgRow>, Error> {
        let (patience, statement) = (self.patience.clone(), self.schema.name_in(statement)?);
        let done = within(&patience, statement.fetch_optional(self.connection()?)).await;
        self.note(done)
    }

    /// Makes the transaction one that can only be rolled back.
    pub(super) fn fail<T>(&mut self, error: Error) -> Result<T, Error> {
        self.failed = true;
        Err(error)
    }

    /// Commits. An error is certain: nothing was committed.
    pub(super) async fn commit(mut self) -> Result<Ended, Error> {
        let patience = self.patience.clone();
        let connection = self.connection()?;
        match within(&patience, sqlx::raw_sql("COMMIT").execute(connection)).await {
            Ok(_) => {
                self.connection = None;
                Ok(Ended::Committed)
            }
            Err(error) => {
                self.close();
                Ok(Ended::Unknown(error))
            }
        }
    }

    /// Commits where the difference between not committed and not known doesn't matter: the caller repeats.
    pub(super) async fn commit_or_repeat(self) -> Result<(), Error> {
        match self.commit().await? {
            Ended::Committed => Ok(()),
            Ended::Unknown(error) => Err(error),
        }
    }

    /// Rolls back and waits for it.
    pub(super) async fn rollback(mut self) {
        if self.open
            && let Some(connection) = self.connection.take()
        {
            roll_back(connection).await;
        }
    }

    /// The connection itself, for what brings statements of its own.
    pub(super) fn raw(&mut self) -> Result<&mut PgConnection, Error> {
        self.connection()
    }

    fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        match &mut self.connection {
            Some(connection) if !self.failed => Ok(connection),
            _ => Err(Error::Failed),
        }
    }

    fn note<T>(&mut self, done: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &done {
            self.failed = true;
            if matches!(error, Error::Unanswered { .. }) {
                self.close();
            }
        }
        done
    }

    fn close(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.close_on_drop();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if !self.open {
            if self.calling {
                connection.close_on_drop();
            }
            // Else the pool takes it back, and waits for an answer that is still owed.
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(roll_back(connection))),
            Err(_) => connection.close_on_drop(),
        }
    }
}

async fn roll_back(mut connection: PoolConnection<Postgres>) {
    let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut *connection);
    if !matches!(
        tokio::time::timeout(ROLLBACK_PATIENCE, rollback).await,
        Ok(Ok(_))
    ) {
        connection.close_on_drop();
    }
}

/// How long an answer may take.
#[derive(Debug, Clone)]
struct Patience {
    longest: Duration,
    renewed: Renewed,
}

/// Waits for an answer: for as long as Postgres may take, but only a moment more once Postgres was away and is back, as
/// the connection may be one that nobody at the other end knows any more.
async fn within<T>(
    patience: &Patience,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    let (began, mut renewed) = (Instant::now(), patience.renewed.subscribe());
    let outlived = async {
        // The sender lives as long as the patience.
        let _ = renewed.changed().await;
        tokio::time::sleep(RENEWED_PATIENCE).await;
    };
    let done = tokio::select! {
        biased;
        done = work => Some(done),
        () = tokio::time::sleep(patience.longest) => None,
        () = outlived => None,
    };
    match done {
        Some(done) => Ok(done?),
        None => Err(Error::Unanswered {
            waited: began.elapsed(),
        }),
    }
}
