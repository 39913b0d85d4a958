//! The deciders, which events of the history name by number.
//!
//! Each is stored once, outside of any batch: a batch that waited for another one's row would keep its tasks locked meanwhile.
//! So a decider may be stored that no event names.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use taskhost_core::task::{RecordedDecider, TaskEvent};

use super::error::Error;
use super::pool::Store;
use super::session::Session;

const FIND: &str = "SELECT number FROM taskhost.deciders WHERE identity = $1";

const ADD: &str = "
INSERT INTO taskhost.deciders (identity, route, activation, plugin_name, plugin_version, plugin_digest, config, interface,
    topics)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::json) ON CONFLICT DO NOTHING";

impl Store {
    /// The number of each event's decider, which is stored if it isn't yet; none for an event whose decider isn't known.
    ///
    /// # Errors
    /// Trouble only.
    pub(super) async fn number_deciders(
        &self,
        events: &[TaskEvent],
    ) -> Result<Vec<Option<i32>>, Error> {
        let mut numbers = Vec::with_capacity(events.len());
        let mut last: Option<(&Arc<RecordedDecider>, i32)> = None;
        for event in events {
            let Some(basis) = &event.basis else {
                numbers.push(None);
                continue;
            };
            let number = match last {
                Some((decider, number)) if Arc::ptr_eq(decider, &basis.decider) => number,
                _ => self.decider(&basis.decider).await?,
            };
            last = Some((&basis.decider, number));
            numbers.push(Some(number));
        }
        Ok(numbers)
    }

    async fn decider(&self, decider: &Arc<RecordedDecider>) -> Result<i32, Error> {
        if let Some(number) = self.deciders.number(decider) {
            return Ok(number);
        }
        let topics = serde_json::to_string(&*decider.topics).unwrap_or_default();
        let identity = identity(decider, &topics);
        let number = loop {
            let find = sqlx::query(FIND).bind(&identity[..]);
            if let Some(row) = self.read_row(find).await? {
                break row.try_get("number")?;
            }
            let add = sqlx::query(ADD)
                .bind(&identity[..])
                .bind(&*decider.route)
                .bind(decider.activation)
                .bind(&decider.plugin.name)
                .bind(&decider.plugin.version)
                .bind(&decider.plugin.digest)
                .bind(&*decider.config)
                .bind(&*decider.interface)
                .bind(&topics);
            // Then it is found, whoever added it.
            let mut session = Session::begin(self).await?;
            session.execute(add).await?;
            session.commit_or_repeat().await?;
        };
        self.deciders.remember(decider, number);
        Ok(number)
    }
}

/// Each part is hashed with its length, so that two deciders never have the same bytes.
fn identity(decider: &RecordedDecider, topics: &str) -> [u8; 32] {
    let activation = decider.activation.to_string();
    let parts = [
        &*decider.route,
        &activation,
        &decider.plugin.name,
        &decider.plugin.version,
        &decider.plugin.digest,
        &decider.config,
        &decider.interface,
        topics,
    ];
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
