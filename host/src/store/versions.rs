//! Plugin versions, and which of them decides on a route: one current activation, taken by compare-and-set.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::Error;
use super::listen::ACTIVATIONS;
use super::pool::Store;
use super::rollbacks;
use super::row::activation;
use super::session::Session;

pub use crate::plugin::{Activated, Activation, ActivationKind, NewActivation};

/// How long an activator waits for the batches of a route to end. While it waits, no new batch gets past it.
const ACTIVATE_LOCK_TIMEOUT: &str = "200ms";

/// How long it then lets batches pass, so that one host that is frozen within a batch doesn't stop all others.
const ACTIVATE_PAUSE: Duration = Duration::from_secs(1);

/// In the order of the array: evaluated row by row.
pub(super) const LOCK_SHARED: &str =
    "SELECT pg_advisory_xact_lock_shared(key) FROM unnest($1::bigint[]) AS routes (key)";

pub(super) const UNCHANGED: &str = "
SELECT coalesce(bool_and(number = (
    SELECT coalesce(max(current.number), 0) FROM taskhost.activations current WHERE current.route = routes.route
)), true) AS unchanged
FROM unnest($1::text[], $2::bigint[]) AS routes (route, number)";

const CURRENT: &str = "
SELECT route, number, digest, config, since, by, reason, probation, rollback_of FROM taskhost.activations
WHERE route = $1 ORDER BY number DESC LIMIT 1";

const HISTORY: &str = "
SELECT route, number, digest, config, since, by, reason, probation, rollback_of FROM taskhost.activations
WHERE route = $1 ORDER BY number DESC";

const ACTIVATE: &str = "
INSERT INTO taskhost.activations (route, number, digest, config, by, reason, probation, rollback_of)
SELECT $1, $2 + 1, $3, $4, $5, $6, $7, $8
WHERE $2 = (SELECT coalesce(max(number), 0) FROM taskhost.activations WHERE route = $1)
RETURNING route, number, digest, config, since, by, reason, probation, rollback_of";

/// Damaged bytes would keep every host that lacks the version from deciding.
const SAVE: &str = "
INSERT INTO taskhost.plugin_versions AS stored (digest, name, version, bytes) VALUES ($1, $2, $3, $4)
ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes
WHERE encode(sha256(stored.bytes), 'hex') <> stored.digest";

const BEGINNING: &str = "
SELECT digest, name, version FROM taskhost.plugin_versions WHERE starts_with(digest, $1) ORDER BY digest LIMIT $2";

const SUPERSEDED: &str = "
SELECT EXISTS (
    SELECT FROM taskhost.activations old
    WHERE old.route = $1 AND old.digest = $2 AND old.config = $3
      AND old.number < (SELECT max(number) FROM taskhost.activations WHERE route = $1)
) AND NOT EXISTS (
    SELECT FROM taskhost.activations current
    WHERE current.route = $1 AND current.digest = $2 AND current.config = $3
      AND current.number = (SELECT max(number) FROM taskhost.activations WHERE route = $1)
) AS superseded";

/// A version that is stored, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// SHA-256 of its bytes, 64 hexadecimal digits.
    pub digest: String,
    /// What it calls itself.
    pub name: String,
    /// Its semantic version.
    pub version: String,
}

/// The advisory lock of a route. Advisory locks are shared by everything in the database, hence the name space.
pub(super) fn lock_key(route: &str) -> i64 {
    let digest = Sha256::digest(format!("taskhost/activations/{route}"));
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}

impl Store {
    /// What decides on a route now.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn current(&self, route: &str) -> Result<Option<Activation>, Error> {
        let row = self.read_row(sqlx::query(CURRENT).bind(route)).await?;
        row.as_ref().map(activation).transpose()
    }

    /// All activations of a route, the current one first.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn history(&self, route: &str) -> Result<Vec<Activation>, Error> {
        let rows = self.read_rows(sqlx::query(HISTORY).bind(route)).await?;
        rows.iter().map(activation).collect()
    }

    /// Whether this version with this configuration was active on the route before and is not now: then only a
    /// command activates it again, never a file that still lies in some host's directory.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn is_superseded(
        &self,
        route: &str,
        digest: &str,
        config: &str,
    ) -> Result<bool, Error> {
        let statement = sqlx::query(SUPERSEDED)
            .bind(route)
            .bind(digest)
            .bind(config);
        let row = self.read_row(statement).await?;
        row.map_or(Ok(false), |row| Ok(row.try_get("superseded")?))
    }

    /// Stores a plugin's bytes, if they are not there yet, or what is there is damaged.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn save(
        &self,
        digest: &str,
        name: &str,
        version: &str,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let statement = sqlx::query(SAVE)
            .bind(digest)
            .bind(name)
            .bind(version)
            .bind(bytes);
        let mut session = Session::begin(self).await?;
        session.execute(statement).await?;
        session.commit_or_repeat().await
    }

    /// A plugin's bytes.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn bytes(&self, digest: &str) -> Result<Option<Arc<[u8]>>, Error> {
        let sql = "SELECT bytes FROM taskhost.plugin_versions WHERE digest = $1";
        let row = self.read_row(sqlx::query(sql).bind(digest)).await?;
        let bytes = |row: PgRow| row.try_get::<&[u8], _>("bytes").map(Arc::from);
        Ok(row.map(bytes).transpose()?)
    }

    /// The stored versions whose digest begins like this, at most `limit` of them.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn versions_beginning(
        &self,
        digest: &str,
        limit: u32,
    ) -> Result<Vec<StoredVersion>, Error> {
        let statement = sqlx::query(BEGINNING).bind(digest).bind(i64::from(limit));
        let rows = self.read_rows(statement).await?;
        let version = |row: &PgRow| {
            Ok(StoredVersion {
                digest: row.try_get("digest")?,
                name: row.try_get("name")?,
                version: row.try_get("version")?,
            })
        };
        rows.iter().map(version).collect()
    }

    /// Makes a stored version the current one of a route, on top of the activation that was seen (0 for none). Once
    /// this has answered, no batch commits that was decided by another version. Waits for the batches that
    /// are open, as long as it takes; dropping the future gives up.
    ///
    /// # Errors
    /// Trouble, after which it may have been activated or not: look at [`Store::current`].
    pub async fn activate(&self, new: &NewActivation) -> Result<Activated, Error> {
        let mut session = self.lock_route(&new.route).await?;
        // A statement of its own: one with the lock would read what was there before it waited.
        let statement = sqlx::query(ACTIVATE)
            .bind(&new.route)
            .bind(new.seen)
            .bind(&new.digest)
            .bind(&*new.config)
            .bind(&new.by)
            .bind(&new.reason)
            .bind(new.kind == ActivationKind::Ordinary && new.seen > 0)
            .bind((new.kind == ActivationKind::Rollback).then_some(new.seen));
        match session.row(statement).await? {
            Some(row) => {
                rollbacks::note(&mut session, new).await?;
                // Told if it is committed and only then. No batch's transaction: they are held up by the lock anyway.
                let tell = sqlx::query("SELECT pg_notify($1, $2)")
                    .bind(ACTIVATIONS)
                    .bind(&new.route);
                session.execute(tell).await?;
                session.commit_or_repeat().await?;
                activation(&row).map(Activated::Done)
            }
            None => {
                session.rollback().await;
                self.current(&new.route).await.map(Activated::Lost)
            }
        }
    }

    /// A transaction that holds a route's lock alone.
    async fn lock_route(&self, route: &str) -> Result<Session, Error> {
        loop {
            let mut session = Session::begin(self).await?;
            let timeout = "SELECT set_config('lock_timeout', $1, true)";
            session
                .execute(sqlx::query(timeout).bind(ACTIVATE_LOCK_TIMEOUT))
                .await?;
            let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock_key(route));
            match session.execute(lock).await {
                Ok(_) => return Ok(session),
                Err(error) if error.is_lock_timeout() => session.rollback().await,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(ACTIVATE_PAUSE).await;
        }
    }
}
