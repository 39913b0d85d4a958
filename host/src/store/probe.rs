//! Asks Postgres whether a batch could be committed now.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Postgres};
use uuid::Uuid;

use super::error::Error;
use super::pool::Store;
use taskhost_core::breaker::Depth;

/// How long each way of asking may take. A server that is busy answers such a question in milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the pool is asked for a connection. It goes on asking a server that has none left, for as long as it may; a
/// pool that is merely used up costs a probe a connection of its own.
const POOL_PATIENCE: Duration = Duration::from_millis(300);

/// Writes no row, and is refused where no row could be written: by a read-only server, without the right, without the
/// table.
const WRITE_NOTHING: &str = "UPDATE taskhost.progress SET batch = batch WHERE false";

/// Bytes that a thorough probe writes before it rolls back: more than a table has to spare, so that the file grows and a
/// full disk is met.
const BYTES: usize = 256 * 1024;

impl Store {
    /// Asks Postgres for an answer.
    ///
    /// # Errors
    /// If there is none, or if it takes no writes.
    pub async fn ping(&self) -> Result<(), Error> {
        self.probe(Depth::Light).await
    }

    /// Whether a batch could be committed now.
    ///
    /// The light probe uses the pool, as a batch does. It can't tell a connection that is broken or a pool that is used up
    /// from a server that is gone; the thorough one can, with a connection of its own.
    ///
    /// # Errors
    /// If not; the error says why.
    pub async fn probe(&self, depth: Depth) -> Result<(), Error> {
        if depth == Depth::Light {
            match self.ask_pooled().await {
                Err(Error::Unreachable(_) | Error::Unanswered { .. }) => {}
                answered => return answered,
            }
        }
        let asked = async {
            let mut own = self.options.connect().await?;
            let asked = self.ask(&mut own, write_much()).await;
            drop(own.close().await);
            asked
        };
        let error = match within(PATIENCE, asked).await {
            Err(error) if error.is_out_of_connections() => error,
            answered => return answered,
        };
        // All connections that there are may be this host's own.
        match self.pool.try_acquire() {
            Some(connection) => self.ask_on(connection, write_much()).await,
            None => Err(error),
        }
    }

    async fn ask_pooled(&self) -> Result<(), Error> {
        let connection = within(POOL_PATIENCE, self.pool.acquire()).await?;
        self.ask_on(connection, WRITE_NOTHING.to_owned()).await
    }

    async fn ask_on(
        &self,
        mut connection: PoolConnection<Postgres>,
        write: String,
    ) -> Result<(), Error> {
        let asked = within(PATIENCE, self.ask(&mut connection, write)).await;
        if asked.is_err() {
            connection.close_on_drop();
        }
        asked
    }

    async fn ask(&self, connection: &mut PgConnection, write: String) -> Result<(), sqlx::Error> {
        // In one round trip: it is asked all the time. What fails ends before its rollback.
        let all = format!("{}; {write}; ROLLBACK", self.begin_sql);
        let asked = run(connection, self.schema.name_in_text(&all)).await;
        if let Err(sqlx::Error::Database(_)) = asked {
            run(connection, "ROLLBACK".to_owned()).await?;
        }
        asked
    }
}

fn write_much() -> String {
    format!(
        "INSERT INTO taskhost.outbox (group_id, topic, partition, batch, frame) \
         VALUES ('probe-{}', '', 0, 1, decode(repeat('00', {BYTES}), 'hex'))",
        Uuid::new_v4().simple()
    )
}

async fn run(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await
        .map(drop)
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(patience, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Error::Unanswered { waited: patience }),
    }
}
