//! Tells the life of host and plugins on the topic for that: best effort, never in a message's way.
//!
//! A record is a JSON object: `kind` (such as `plugin.activated`), `at` (RFC 3339), `host`, and what the kind
//! brings along. The key is the host's name.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use taskhost_core::record::Record;
use taskhost_core::timestamp;
use tokio::sync::watch;

use crate::background::{Background, duties::LIFE_CYCLE};
use crate::kafka::{self, Sender, Settings};

/// Events that may wait for Kafka; beyond it they are dropped, since the log has them too.
const QUEUE_MAX: usize = 1000;

/// How long Kafka may take for one of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// The handle; clones share it.
#[derive(Clone)]
pub(crate) struct LifeCycle {
    queue: SyncSender<Option<Record>>,
    topic: String,
    host: String,
    ended: watch::Receiver<bool>,
}

impl LifeCycle {
    /// Starts the thread that sends.
    pub(crate) fn start(
        settings: &Settings,
        topic: &str,
        host: String,
        background: &Background,
    ) -> kafka::Result<Self> {
        let sender = Sender::new(settings)?;
        let (queue, events) = sync_channel::<Option<Record>>(QUEUE_MAX);
        let (end, ended) = watch::channel(false);
        let sending = move || {
            while let Ok(Some(event)) = events.recv() {
                if let Err(error) = sender.send(&[event], PATIENCE) {
                    tracing::debug!(%error, "a life-cycle event is not told");
                }
            }
            end.send_replace(true);
        };
        // Without the thread the queue fills and events are dropped: nothing else depends on it.
        let _ = background.thread_again(LIFE_CYCLE, sending);
        Ok(Self {
            queue,
            topic: topic.to_owned(),
            host,
            ended,
        })
    }

    /// Tells something. Never waits.
    pub(crate) fn tell(&self, kind: &str, fields: &[(&str, &str)]) {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let at = timestamp::to_rfc3339(i64::try_from(since.as_millis()).unwrap_or(0));
        let mut event = serde_json::json!({ "kind": kind, "at": at, "host": self.host });
        for (name, value) in fields {
            event[*name] = (*value).into();
        }
        let record = Record {
            topic: self.topic.clone(),
            key: Some(self.host.clone().into_bytes()),
            value: Some(event.to_string().into_bytes()),
            headers: Vec::new(),
            timestamp: None,
        };
        let _ = self.queue.try_send(Some(record));
    }

    /// Sends what waits, for a while.
    pub(crate) async fn end(mut self, patience: Duration) {
        let _ = self.queue.try_send(None);
        let _ = tokio::time::timeout(patience, self.ended.wait_for(|ended| *ended)).await;
    }
}
