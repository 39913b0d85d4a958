//! Hints from other hosts: which partitions have something due.

use sqlx::postgres::PgListener;
use taskhost_core::record::TopicPartition;

use super::Key;
use super::error::Error;
use super::pool::Store;

/// The channel of `NOTIFY`.
pub(super) const CHANNEL: &str = "taskhost_wakeups";

/// Hears what other hosts' [`Store::notify`] says, on a connection of its own. Polling stands behind it: a hint
/// that is lost, also while the connection is being made again, costs time only.
#[derive(Debug)]
pub struct Listener {
    inner: PgListener,
}

impl Store {
    /// Begins to listen. Takes one connection of the pool for good.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn listen(&self) -> Result<Listener, Error> {
        let mut inner = PgListener::connect_with(&self.pool).await?;
        inner.listen(CHANNEL).await?;
        Ok(Listener { inner })
    }
}

impl Listener {
    /// Waits for the next partition that was named. A payload that names none is passed over.
    ///
    /// # Errors
    /// Trouble: call again after a while, it connects anew by itself.
    pub async fn next(&mut self) -> Result<Key, Error> {
        loop {
            let notification = self.inner.recv().await?;
            if let Some(key) = key(notification.payload()) {
                return Ok(key);
            }
        }
    }
}

/// `<partition> <topic> <group>`: a topic's name has no space, a group's may.
pub(super) fn payload(key: &Key) -> String {
    format!(
        "{} {} {}",
        key.partition.partition, key.partition.topic, key.group
    )
}

fn key(payload: &str) -> Option<Key> {
    let mut parts = payload.splitn(3, ' ');
    let partition = parts.next()?.parse().ok()?;
    let topic = parts.next()?;
    Some(Key::new(
        parts.next()?,
        TopicPartition::new(topic, partition),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_comes_back_from_its_payload() {
        let named = Key::new("my group", TopicPartition::new("task-status", 7));
        assert_eq!(key(&payload(&named)), Some(named));
        assert_eq!(key("x"), None);
        assert_eq!(key(""), None);
    }
}
