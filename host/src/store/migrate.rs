//! The schema: brought up to date by whoever starts first, and refused if it is newer than this host.
//!
//! The table `migrations` of the schema has what was applied. Each migration is one transaction with the schema as its
//! `search_path`. Where a text has to name the schema, as in a function's body, it says `taskhost.`, like a statement.
//! Comments at a migration's beginning ([`Header`]) say whether the previous build may run beside it, and which indexes are built
//! before it without a lock that stops writers ([`indexes`]). Hosts older than migration 12 had their tables wherever their
//! `search_path` led: [`earlier`] moves them.
//!
//! If nothing is missing, nothing is locked and only the right to read is needed.

mod earlier;
mod header;
mod indexes;
mod steps;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::migrate::Migration;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

use super::error::Error;
use super::pool::Store;
use super::schema::Schema;
use super::session::Session;
use header::Header;
use steps::run;

pub use steps::migrations;

/// How long a statement waits for a lock, and how long a host waits for another one that migrates.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a host asks whether another one is done. It doesn't wait within a statement, because building an index
/// concurrently waits for all statements that began earlier.
const ASK_EVERY: Duration = Duration::from_millis(200);

const TRY_LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))";

const UNLOCK: &str = "SELECT pg_advisory_unlock(hashtextextended($1, 0))";

const TABLE: &str = "
CREATE TABLE taskhost.migrations (
    version     bigint PRIMARY KEY,
    description text        NOT NULL,
    checksum    bytea       NOT NULL,
    beside      boolean     NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE taskhost.migrations IS 'The migrations that were applied.';
COMMENT ON COLUMN taskhost.migrations.checksum IS 'SHA-384 of its text.';
COMMENT ON COLUMN taskhost.migrations.beside IS 'Whether the build before, which does not know it, may run beside it.';";

const RECORD: &str = "
INSERT INTO taskhost.migrations (version, description, checksum, beside) VALUES ($1, $2, $3, $4)";

/// The schema that the database has, beside the one that this host knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaState {
    /// Number of the last migration applied; 0 if there is none.
    pub applied: i64,
    /// Number of the last migration that this host has.
    pub known: i64,
    /// The first migration applied that this host doesn't know, and beside which it may not run.
    pub refused: Option<i64>,
}

impl SchemaState {
    /// Whether this host can work with it.
    pub fn is_current(self) -> bool {
        self.applied >= self.known && self.refused.is_none()
    }
}

/// A migration that was applied.
struct Applied {
    checksum: Vec<u8>,
    beside: bool,
}

impl Store {
    /// Applies the migrations that are missing. Hosts that start together do it one after the other, under an advisory lock.
    /// It is a lock of the session, so behind a proxy that pools transactions, migrate through a direct address.
    ///
    /// # Errors
    /// [`Error::SchemaNewer`] if the database was migrated by a newer taskhost, beside which this one may not run.
    /// [`Error::Migrating`] if another host is still migrating after a minute.
    pub async fn migrate(&self) -> Result<SchemaState, Error> {
        if let Some(applied) = self.applied().await?
            && missing(&applied)?.is_empty()
        {
            return Ok(state(&applied));
        }
        let mut connection = self.options.connect().await?;
        let done = self.migrate_on(&mut connection).await;
        let closed = connection.close().await;
        done?;
        closed?;
        self.schema_state().await
    }

    async fn migrate_on(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let patience = PATIENCE.as_millis().to_string();
        let settings = [
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("lock_timeout", &patience),
        ];
        for (name, value) in settings {
            sqlx::query("SELECT set_config($1, $2, false)")
                .bind(name)
                .bind(value)
                .execute(&mut *connection)
                .await?;
        }
        let lock = format!("taskhost/migrations/{}", self.schema.name);
        let began = Instant::now();
        while !sqlx::query_scalar(TRY_LOCK)
            .bind(&lock)
            .fetch_one(&mut *connection)
            .await?
        {
            if began.elapsed() > PATIENCE {
                return Err(Error::Migrating { waited: PATIENCE });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        let applied = match self.applied().await? {
            Some(applied) => applied,
            None => {
                begin_schema(connection, &self.schema).await?;
                self.applied().await?.unwrap_or_default()
            }
        };
        for migration in missing(&applied)? {
            apply(connection, &self.schema, migration).await?;
        }
        sqlx::query(UNLOCK).bind(&lock).execute(connection).await?;
        Ok(())
    }

    /// Which schema the database has. Changes nothing.
    ///
    /// # Errors
    /// If Postgres can't be asked.
    pub async fn schema_state(&self) -> Result<SchemaState, Error> {
        if let Some(applied) = self.applied().await? {
            return Ok(state(&applied));
        }
        let mut session = Session::begin(self).await?;
        let earlier = earlier::find(&mut *session.raw()?).await;
        session.rollback().await;
        let applied = earlier?.map_or(0, |earlier| earlier.applied);
        Ok(SchemaState {
            applied,
            ..state(&BTreeMap::new())
        })
    }

    /// The migrations that were applied; none if there is no table of them.
    async fn applied(&self) -> Result<Option<BTreeMap<i64, Applied>>, Error> {
        let mut session = Session::begin(self).await?;
        let table = format!("{}.migrations", self.schema.name.quoted());
        let there = sqlx::query("SELECT to_regclass($1) IS NOT NULL AS there").bind(table);
        let there = match session.row(there).await? {
            Some(row) => row.try_get("there")?,
            None => false,
        };
        if !there {
            session.rollback().await;
            return Ok(None);
        }
        let all = "SELECT version, checksum, beside FROM taskhost.migrations";
        let mut applied = BTreeMap::new();
        for row in session.rows(sqlx::query(all)).await? {
            let (checksum, beside) = (row.try_get("checksum")?, row.try_get("beside")?);
            applied.insert(row.try_get("version")?, Applied { checksum, beside });
        }
        session.rollback().await;
        Ok(Some(applied))
    }
}

fn state(applied: &BTreeMap<i64, Applied>) -> SchemaState {
    let is_known = |version: i64| migrations().iter().any(|known| known.version == version);
    let refused = applied
        .iter()
        .find(|(version, applied)| !is_known(**version) && !applied.beside);
    SchemaState {
        applied: applied.keys().max().copied().unwrap_or(0),
        known: migrations().iter().map(|it| it.version).max().unwrap_or(0),
        refused: refused.map(|(version, _)| *version),
    }
}

/// The migrations that are still to be applied, in order.
fn missing(applied: &BTreeMap<i64, Applied>) -> Result<Vec<&'static Migration>, Error> {
    if let Some(version) = state(applied).refused {
        return Err(Error::SchemaNewer { version });
    }
    let mut missing = Vec::new();
    for migration in migrations() {
        let version = migration.version;
        match applied.get(&version) {
            Some(applied) if *applied.checksum != *migration.checksum => {
                return Err(Error::SchemaChanged { version });
            }
            Some(_) => {}
            None => missing.push(migration),
        }
    }
    Ok(missing)
}

/// Makes the schema and its table of migrations, and moves an earlier database into it.
async fn begin_schema(connection: &mut PgConnection, schema: &Schema) -> Result<(), Error> {
    let Some(earlier) = earlier::find(connection).await? else {
        let mut transaction = connection.begin().await?;
        create_schema(&mut transaction, schema).await?;
        return Ok(transaction.commit().await?);
    };
    earlier.lock(connection).await?;
    let mut transaction = connection.begin().await?;
    create_schema(&mut transaction, schema).await?;
    for (version, applied) in earlier.move_to(&mut transaction, schema).await? {
        let Some(known) = migrations().iter().find(|it| it.version == version) else {
            return Err(Error::SchemaNewer { version });
        };
        record(&mut transaction, schema, known, &applied).await?;
    }
    transaction.commit().await?;
    earlier.unlock(connection).await
}

/// `CREATE SCHEMA IF NOT EXISTS` needs the right to create one also if it is there.
async fn create_schema(connection: &mut PgConnection, schema: &Schema) -> Result<(), Error> {
    let there: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(schema.name.quoted())
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        let create = format!("CREATE SCHEMA {}", schema.name.quoted());
        run(connection, create).await?;
    }
    run(connection, schema.name_in_text(TABLE)).await
}

async fn apply(
    connection: &mut PgConnection,
    schema: &Schema,
    migration: &Migration,
) -> Result<(), Error> {
    let sql = migration.sql.as_str();
    tracing::info!(
        version = migration.version,
        description = &*migration.description,
        "migrating the database"
    );
    for index in Header::of(sql).concurrently {
        indexes::build(connection, schema, &index).await?;
    }
    let mut transaction = connection.begin().await?;
    let path = format!("SET LOCAL search_path TO {}", schema.name.quoted());
    run(&mut transaction, path).await?;
    run(&mut transaction, schema.name_in_text(sql)).await?;
    record(&mut transaction, schema, migration, &migration.checksum).await?;
    Ok(transaction.commit().await?)
}

async fn record(
    connection: &mut PgConnection,
    schema: &Schema,
    migration: &Migration,
    checksum: &[u8],
) -> Result<(), Error> {
    sqlx::query(AssertSqlSafe(schema.name_in_text(RECORD)))
        .bind(migration.version)
        .bind(&*migration.description)
        .bind(checksum)
        .bind(Header::of(migration.sql.as_str()).beside)
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::migrate::Migrator;

    use super::*;

    #[tokio::test]
    async fn every_file_of_the_directory_is_compiled_in_as_sqlx_reads_it() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
        let files = Migrator::new(std::path::Path::new(directory)).await;
        let files = files.expect("the directory can be read");
        let known = |step: &Migration| {
            let (description, checksum) = (step.description.clone(), step.checksum.clone());
            (step.version, description, checksum)
        };
        let all: Vec<_> = files.iter().map(known).collect();
        assert_eq!(migrations().iter().map(known).collect::<Vec<_>>(), all);
    }

    /// Migrations before 12 don't say it. 12 and 13 are one upgrade, for which the hosts are stopped.
    #[test]
    fn each_migration_says_whether_the_build_before_may_run_beside_it_and_all_but_the_move_say_yes()
    {
        for migration in migrations().iter().filter(|it| it.version >= 12) {
            let version = migration.version;
            let said: Vec<&str> = header::said(migration.sql.as_str(), "beside").collect();
            let expected = match version {
                12 | 13 => ["no"],
                _ => ["yes"],
            };
            assert_eq!(said, expected, "migration {version}");
        }
    }

    #[test]
    fn a_newer_schema_is_refused_only_if_its_migration_says_so() {
        let mut applied: BTreeMap<i64, Applied> = BTreeMap::new();
        for known in migrations() {
            let checksum = known.checksum.to_vec();
            applied.insert(
                known.version,
                Applied {
                    checksum,
                    beside: false,
                },
            );
        }
        let newer = |beside| Applied {
            checksum: Vec::new(),
            beside,
        };
        applied.insert(9998, newer(true));
        assert!(state(&applied).is_current());
        assert!(missing(&applied).expect("it may run").is_empty());
        applied.insert(9999, newer(false));
        assert_eq!(state(&applied).refused, Some(9999));
        assert!(matches!(
            missing(&applied),
            Err(Error::SchemaNewer { version: 9999 })
        ));
    }
}
