//! Versions that were rolled back: which, since when and why, and what decided before them.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::Error;
use super::millis::Millis;
use super::pool::Store;
use super::row::activation;
use super::session::Session;
use super::versions::{Activation, ActivationKind, NewActivation};

pub use crate::plugin::RolledBack;

const ROLLED_BACK: &str = "
SELECT digest, activation, since, by, reason FROM taskhost.rolled_back_versions
WHERE route = $1 AND digest = $2 AND config IN ('', $3) LIMIT 1";

const ALL: &str = "
SELECT digest, activation, since, by, reason FROM taskhost.rolled_back_versions
WHERE route = $1 ORDER BY since DESC, digest";

/// The latest one before that is another version or configuration, and was not rolled back itself.
const BEFORE: &str = "
SELECT a.route, a.number, a.digest, a.config, a.since, a.by, a.reason, a.probation, a.rollback_of
FROM taskhost.activations a JOIN taskhost.activations tripped ON tripped.route = a.route AND tripped.number = $2
WHERE a.route = $1 AND a.number < $2 AND (a.digest, a.config) <> (tripped.digest, tripped.config)
  AND NOT EXISTS (
    SELECT FROM taskhost.rolled_back_versions r
    WHERE r.route = a.route AND r.digest = a.digest AND r.config IN ('', a.config)
  )
ORDER BY a.number DESC LIMIT 1";

/// If the same version goes on with another configuration, it is the configuration that is not activated again.
const REMEMBER: &str = "
INSERT INTO taskhost.rolled_back_versions (route, digest, config, activation, by, reason)
SELECT route, digest, CASE WHEN digest = $3 THEN config ELSE '' END, number, $4, $5
FROM taskhost.activations WHERE route = $1 AND number = $2
ON CONFLICT (route, digest, config) DO UPDATE
SET activation = excluded.activation, since = now(), by = excluded.by, reason = excluded.reason";

const FORGET: &str = "
DELETE FROM taskhost.rolled_back_versions WHERE route = $1 AND digest = $2 AND config IN ('', $3)";

/// What an activation means for the versions that are not to be activated again. In its transaction.
pub(super) async fn note(session: &mut Session, new: &NewActivation) -> Result<(), Error> {
    let statement = match new.kind {
        ActivationKind::Ordinary => return Ok(()),
        ActivationKind::Rollback => sqlx::query(REMEMBER)
            .bind(&new.route)
            .bind(new.seen)
            .bind(&new.digest)
            .bind(&new.by)
            .bind(&new.reason),
        ActivationKind::Forced => sqlx::query(FORGET)
            .bind(&new.route)
            .bind(&new.digest)
            .bind(&*new.config),
    };
    session.execute(statement).await?;
    Ok(())
}

impl Store {
    /// Whether a version was rolled back on a route, with this configuration or whatever it is.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn rolled_back(
        &self,
        route: &str,
        digest: &str,
        config: &str,
    ) -> Result<Option<RolledBack>, Error> {
        let statement = sqlx::query(ROLLED_BACK)
            .bind(route)
            .bind(digest)
            .bind(config);
        let row = self.read_row(statement).await?;
        row.as_ref().map(rolled_back).transpose()
    }

    /// The versions that were rolled back on a route, the latest first.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn all_rolled_back(&self, route: &str) -> Result<Vec<RolledBack>, Error> {
        let rows = self.read_rows(sqlx::query(ALL).bind(route)).await?;
        rows.iter().map(rolled_back).collect()
    }

    /// What decided on a route before an activation, differs from it and was not rolled back.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn before(&self, route: &str, number: i64) -> Result<Option<Activation>, Error> {
        let row = self
            .read_row(sqlx::query(BEFORE).bind(route).bind(number))
            .await?;
        row.as_ref().map(activation).transpose()
    }
}

fn rolled_back(row: &PgRow) -> Result<RolledBack, Error> {
    let since: Millis = row.try_get("since")?;
    Ok(RolledBack {
        digest: row.try_get("digest")?,
        activation: row.try_get("activation")?,
        since: since.0,
        by: row.try_get("by")?,
        reason: row.try_get("reason")?,
    })
}
