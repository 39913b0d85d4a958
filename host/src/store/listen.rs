//! Hints from other hosts: which partitions have something due, and which routes have another version.

use sqlx::postgres::PgListener;
use taskhost_core::record::TopicPartition;

use super::Key;
use super::error::Error;
use super::pool::Store;

/// The channel of `NOTIFY` for what is due.
pub(super) const CHANNEL: &str = "taskhost_wakeups";

/// The channel of `NOTIFY` for activations; its payload is the route.
pub(super) const ACTIVATIONS: &str = "taskhost_activations";

/// The channel of `NOTIFY` for people's orders to breakers; its payload is the route.
pub(super) const BREAKERS: &str = "taskhost_breakers";

/// What another host said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A partition has something due.
    Due(Key),
    /// A route has another activation.
    Activated {
        /// Its name.
        route: String,
    },
    /// A person ordered something about the breaker of a route.
    Ordered,
}

/// Hears what other hosts' [`Store::notify`] and [`Store::activate`] say, on a connection of its own. Polling stands behind it: a hint
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
        inner.listen_all([CHANNEL, ACTIVATIONS, BREAKERS]).await?;
        Ok(Listener { inner })
    }
}

impl Listener {
    /// Waits for the next hint. A payload that can't be read is passed over.
    ///
    /// # Errors
    /// Trouble: call again after a while, it connects anew by itself.
    pub async fn next(&mut self) -> Result<Heard, Error> {
        loop {
            let notification = self.inner.recv().await?;
            if notification.channel() == ACTIVATIONS {
                let route = notification.payload().to_owned();
                return Ok(Heard::Activated { route });
            }
            if notification.channel() == BREAKERS {
                return Ok(Heard::Ordered);
            }
            if let Some(key) = key(notification.payload()) {
                return Ok(Heard::Due(key));
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
