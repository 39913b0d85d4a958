//! Where each activation took effect: the first record of each partition that was decided under it.
//!
//! Written in the transaction of the batch that decides it, so it is exact. A worker asks for nothing per batch:
//! it knows from its claim on what is written already.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::PgRow;
use taskhost_core::record::{Offset, TopicPartition};

use super::error::Error;
use super::keyed::keyed;
use super::millis::Millis;
use super::open::Batch;
use super::pool::Store;
use super::row::activation;
use super::session::Session;
use super::versions::Activation;

/// The number of the last activation that took effect in a partition, by route.
pub type Started = HashMap<String, i64>;

/// An activation that takes effect in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStart {
    /// The route's name.
    pub route: String,
    /// The activation's number.
    pub number: i64,
    /// The first record that is decided under it.
    pub first_offset: Offset,
}

/// Where an activation took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationStart {
    /// The partition.
    pub partition: TopicPartition,
    /// The first record that was decided under it.
    pub first_offset: Offset,
    /// When its batch began, in milliseconds since 1970.
    pub since: i64,
}

/// An activation, with what was activated and where it took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastActivation {
    /// The activation.
    pub activation: Activation,
    /// The plugin's name for itself.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// The group's partitions that decided under it, in order.
    pub starts: Vec<ActivationStart>,
}

pub(super) const STARTED: &str = "
SELECT route, max(number) AS number FROM taskhost.activation_starts
WHERE group_id = $1 AND topic = $2 AND partition = $3 GROUP BY route";

/// A batch whose COMMIT had no answer may have written the same rows.
const START: &str = "
INSERT INTO taskhost.activation_starts (group_id, topic, partition, route, number, first_offset, batch)
SELECT $1, $2, $3, route, number, first_offset, $4
FROM unnest($5::text[], $6::bigint[], $7::bigint[]) AS starts (route, number, first_offset)
ON CONFLICT DO NOTHING";

const PAST: &str = "
SELECT a.route, a.number, a.digest, a.config, a.since, a.by, a.reason, a.probation, a.rollback_of, v.name, v.version
FROM taskhost.activations a JOIN taskhost.plugin_versions v ON v.digest = a.digest
WHERE a.route = $1 ORDER BY a.number DESC LIMIT $2";

const STARTS: &str = "
SELECT number, topic, partition, first_offset, since FROM taskhost.activation_starts
WHERE group_id = $1 AND route = $2 AND number >= $3 ORDER BY number, topic, partition";

impl Batch {
    /// Records which activations take effect with this batch. After [`Batch::check_activations`]: from there to the end
    /// of the batch they stay the current ones.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn start_activations(&mut self, starts: &[NewStart]) -> Result<(), Error> {
        if starts.is_empty() {
            return Ok(());
        }
        let routes: Vec<&str> = starts.iter().map(|start| &*start.route).collect();
        let numbers: Vec<i64> = starts.iter().map(|start| start.number).collect();
        let offsets: Vec<Offset> = starts.iter().map(|start| start.first_offset).collect();
        let number = self.number();
        let statement = keyed(START, &self.key)
            .bind(number)
            .bind(routes)
            .bind(numbers)
            .bind(offsets);
        self.session.execute(statement).await?;
        Ok(())
    }
}

impl Store {
    /// The last activations of a route, the current one first, each with where it took effect in the group.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn past_activations(
        &self,
        group: &str,
        route: &str,
        limit: u32,
    ) -> Result<Vec<PastActivation>, Error> {
        let mut session = Session::begin(self).await?;
        let past = sqlx::query(PAST).bind(route).bind(i64::from(limit));
        let rows = session.rows(past).await?;
        let mut past: Vec<PastActivation> =
            rows.iter().map(past_activation).collect::<Result<_, _>>()?;
        if let Some(oldest) = past.last() {
            let from = oldest.activation.number;
            let starts = sqlx::query(STARTS).bind(group).bind(route).bind(from);
            for row in session.rows(starts).await? {
                let number: i64 = row.try_get("number")?;
                let at = past.iter_mut().find(|one| one.activation.number == number);
                if let Some(at) = at {
                    at.starts.push(start(&row)?);
                }
            }
        }
        session.rollback().await;
        Ok(past)
    }
}

/// What a claim reads.
pub(super) fn started(rows: &[PgRow]) -> Result<Started, Error> {
    rows.iter()
        .map(|row| Ok((row.try_get("route")?, row.try_get("number")?)))
        .collect()
}

fn past_activation(row: &PgRow) -> Result<PastActivation, Error> {
    Ok(PastActivation {
        activation: activation(row)?,
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        starts: Vec::new(),
    })
}

fn start(row: &PgRow) -> Result<ActivationStart, Error> {
    let topic: &str = row.try_get("topic")?;
    let since: Millis = row.try_get("since")?;
    Ok(ActivationStart {
        partition: TopicPartition::new(topic, row.try_get("partition")?),
        first_offset: row.try_get("first_offset")?,
        since: since.0,
    })
}
