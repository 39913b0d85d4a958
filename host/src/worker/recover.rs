//! The steps from claim to assignment, and the way back: each performs one action of the machine.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use taskhost_core::batch::{Retries, Settings};
use taskhost_core::frame::BatchNumber;
use taskhost_core::halt::Halt;
use taskhost_core::partition::Event;
use taskhost_core::record::Offset;
use taskhost_core::recovery::Log;
use taskhost_core::watermark::Mark;

use super::claimed::Claimed;
use super::{BACKOFF_MAX, Failure, Worker};
use crate::dependency::Dependency;
use crate::failpoint;
use crate::log::Unpublished;
use crate::mutant::{self, Mutant};
use taskhost_core::breaker::Extent;

/// How long a partition that is given back waits for its last frames. The revoke handler waits 1 s at most.
const RELEASE_PATIENCE: Duration = Duration::from_millis(900);

/// Frames that recovery reads and publishes at a time: bounded memory, however long Kafka was away.
const FRAMES_AT_ONCE: i64 = 64;

impl Worker {
    pub(super) async fn claim(&mut self) -> Result<Event, Failure> {
        // The epoch stays until another claim succeeds: a partition that is given back names it.
        self.claimed = Claimed {
            epoch: self.claimed.epoch,
            ..Claimed::default()
        };
        let ownership = self.shared.log.ownership();
        if !ownership.holds(&self.partition, self.tag) {
            return Ok(Event::NotOwner);
        }
        let claim = self
            .shared
            .ledger
            .claim(&self.key, &self.shared.rules.transactional_ids)
            .await?;
        self.claimed = Claimed::new(&claim, &self.shared.rules.transactional_ids);
        failpoint::hit("recovery-after-claim");
        Ok(Event::Claimed {
            owners: self.claimed.found.former.clone(),
            progress: claim.progress,
        })
    }

    pub(super) async fn fence(&mut self, owners: Vec<String>) -> Result<Event, Failure> {
        // All at once: each takes about a second, and readers wait for the last of them.
        let (log, began) = (&self.shared.log, self.began);
        let owners = owners.iter().filter(|_| !mutant::is_armed(Mutant::Fence));
        let fences = owners.map(|owner| log.fence(owner, began));
        futures::future::try_join_all(fences).await?;
        failpoint::hit("recovery-after-fence");
        Ok(Event::Done)
    }

    pub(super) async fn inspect(&mut self) -> Result<Event, Failure> {
        // What this worker handed in before must not be published behind the watermark that is read below, and again
        // by what is done about it.
        let withdrawn = self.shared.publisher.withdraw(&self.partition, self.tag);
        if !mutant::is_armed(Mutant::Withdraw) && withdrawn.await.is_err() {
            return Err(Failure::Uncertain("the publisher has ended".to_owned()));
        }
        let topic_known = self
            .shared
            .ledger
            .topic_known(&self.key.group, &self.partition.topic)
            .await?;
        let log = self.shared.log.bounds(&self.partition).await?;
        let log = log.ok_or_else(|| Failure::Trouble {
            dependency: Some(Dependency::Kafka),
            reason: "the topic is not there".to_owned(),
            extent: Extent::Own,
        })?;
        let committed = self.shared.log.committed(&self.partition).await;
        let committed = committed.inspect_err(|_| self.end_what_hangs())?;
        self.claimed.inspected = Some((log, self.batch_settings(log)));
        Ok(Event::Inspected {
            watermark: committed,
            log,
            topic_known,
        })
    }

    /// Everything of ours has ended and former owners are fenced, so what keeps the broker from telling the offset may hang.
    /// Only where all batches are known to be published, and which offset it must be: else it could be of a transaction that
    /// was aborted.
    fn end_what_hangs(&self) {
        if let Some(mark) = self.claimed.found.all_published {
            let (publisher, former) = (&self.shared.publisher, self.claimed.found.former.clone());
            publisher.recommit_by_all(&self.partition, self.tag, mark, former);
        }
    }

    fn batch_settings(&self, log: Log) -> Arc<Settings> {
        let rules = &self.shared.rules;
        let topic = &*self.partition.topic;
        let dead_letter_topic = rules
            .dead_letter_topics
            .get(topic)
            .map_or("", String::as_str);
        Arc::new(Settings {
            group: rules.group.clone(),
            partition: self.partition.clone(),
            topic_id: log.topic_id,
            events_topic: rules.events_topic.clone(),
            dead_letter_topic: dead_letter_topic.into(),
            spring_headers: rules.spring_headers,
            deferral: rules.deferral,
            retries: Retries {
                max: rules.retries_max,
                backoff: rules.backoff,
                backoff_max: BACKOFF_MAX,
            },
            replays_max: rules.replays_max,
            record_bytes_max: Arc::new(rules.limits.all()),
        })
    }

    pub(super) async fn start(&mut self, offset: Offset, log: Log) -> Result<Event, Failure> {
        self.shared
            .ledger
            .start(&self.key, self.claimed.epoch, offset, log.topic_id)
            .await?;
        tracing::info!(offset, "the partition starts for the first time");
        Ok(Event::Done)
    }

    pub(super) async fn own_alone(&mut self) -> Result<Event, Failure> {
        let own = &self.shared.rules.transactional_ids;
        self.shared
            .ledger
            .own_alone(&self.key, self.claimed.epoch, own)
            .await?;
        Ok(Event::Done)
    }

    pub(super) async fn commit_offset(&mut self, mark: Mark) -> Result<Event, Failure> {
        let Mark { batch, offset, .. } = mark;
        if batch > 0 {
            tracing::warn!(
                batch,
                offset,
                "the group's offset had expired, or a person decided that it doesn't count; it is committed again"
            );
        }
        let watermark = (batch > 0).then_some(batch - 1);
        self.shared
            .publisher
            .begin(&self.partition, self.tag, watermark);
        let answer = self
            .shared
            .publisher
            .recommit(&self.partition, self.tag, mark)
            .await;
        self.claimed.reached.published = batch;
        answer
            .unwrap_or(Err(Unpublished::Stopped))
            .map_err(unpublished)
            .map(|()| Event::Done)
    }

    pub(super) async fn mark_published(&mut self, batch: BatchNumber) -> Result<Event, Failure> {
        self.shared.ledger.set_published(&self.key, batch).await?;
        self.claimed.reached.marked = batch;
        Ok(Event::Done)
    }

    /// Publishes what a crash left in the outbox.
    pub(super) async fn publish_stored(
        &mut self,
        first: BatchNumber,
        last: BatchNumber,
    ) -> Result<Event, Failure> {
        let first = match () {
            () if mutant::is_armed(Mutant::Republish) => last + 1,
            () if mutant::is_armed(Mutant::Twice) => (first - 1).max(1),
            () => first,
        };
        tracing::info!(first, last, "publishing what an earlier owner committed");
        self.shared
            .publisher
            .begin(&self.partition, self.tag, Some(first - 1));
        let mut from = first;
        while from <= last {
            let to = last.min(from + FRAMES_AT_ONCE - 1);
            let frames = self.shared.ledger.frames(&self.key, from, to).await?;
            let stored = frames.into_iter().map(Some).chain(std::iter::repeat(None));
            for (batch, frame) in (from..=to).zip(stored) {
                match frame {
                    Some(frame) if frame.batch == batch => {
                        let token = self.claimed.reached.token;
                        self.publish(frame, token.filter(|_| batch == last));
                    }
                    _ => return Err(Failure::Halt(Halt::FrameMissing { batch })),
                }
            }
            while let Some((_, answer)) = self.claimed.publishing.next().await {
                answer.map_err(unpublished)?;
            }
            from = to + 1;
        }
        failpoint::hit("recovery-after-publish");
        self.claimed.reached.published = last;
        Ok(Event::Done)
    }

    pub(super) async fn assign(
        &mut self,
        offset: Offset,
        batch: BatchNumber,
    ) -> Result<Event, Failure> {
        self.shared
            .publisher
            .begin(&self.partition, self.tag, Some(batch));
        self.claimed.reached.next_offset = offset;
        self.claimed.reached.batch = batch;
        self.claimed.reached.published = batch;
        if self.claimed.waiting.count > 0 {
            // A crash may have come between a commit and the look after it.
            let ledger = &self.shared.ledger;
            ledger.settle_chains(&self.key, crate::clock::now()).await?;
        }
        if self.claimed.found.unresolved {
            self.shared
                .ledger
                .recovered(&self.key, self.claimed.epoch)
                .await?;
            self.claimed.found.unresolved = false;
        }
        let log = &self.shared.log;
        if !log.add(&self.partition, offset, self.tag)? {
            return Ok(Event::NotOwner);
        }
        self.shared
            .metrics
            .set_halted(&self.partition.topic, self.partition.partition, false);
        self.shared.places.set(&self.partition, offset);
        tracing::info!(
            offset,
            batch,
            epoch = self.claimed.epoch,
            "the partition is ready"
        );
        Ok(Event::Done)
    }

    pub(super) async fn unassign(&mut self) -> Result<Event, Failure> {
        self.shared.log.remove(&self.partition, self.tag).await?;
        Ok(Event::Done)
    }

    /// Gives the partition back. What can't be told in time is found by the next owner's recovery.
    pub(super) async fn release(&mut self) -> Result<Event, Failure> {
        let resolved = tokio::time::timeout(RELEASE_PATIENCE, self.resolve_rest()).await;
        if self.claimed.epoch > 0 && matches!(resolved, Ok(true)) {
            let ledger = &self.shared.ledger;
            let farewell = async {
                if self.claimed.reached.published > self.claimed.reached.marked {
                    ledger
                        .set_published(&self.key, self.claimed.reached.published)
                        .await?;
                }
                ledger
                    .release(
                        &self.key,
                        self.claimed.epoch,
                        &self.shared.rules.transactional_ids,
                    )
                    .await
            };
            match tokio::time::timeout(RELEASE_PATIENCE, farewell).await {
                Ok(Ok(true)) => tracing::info!(
                    batch = self.claimed.reached.batch,
                    "the partition is given back"
                ),
                _ => tracing::info!(
                    "the partition is given back without a farewell; its next owner recovers"
                ),
            }
        }
        Ok(Event::Done)
    }

    /// Waits for the frames on their way. True if all of them are published, and nothing of the partition is open in Kafka: a
    /// transaction whose end is unknown may be, though nobody waits for its answer any more.
    async fn resolve_rest(&mut self) -> bool {
        if !self.publish_rest().await {
            return false;
        }
        let withdrawn = self.shared.publisher.withdraw(&self.partition, self.tag);
        withdrawn.await.is_ok()
    }

    /// Waits for the frames on their way. True if all of them are published.
    async fn publish_rest(&mut self) -> bool {
        while let Some((batch, answer)) = self.claimed.publishing.next().await {
            match answer {
                Ok(()) => self.claimed.reached.published = batch,
                Err(_) => return false,
            }
        }
        true
    }
}

/// What an answer of the publisher means.
pub(super) fn unpublished(error: Unpublished) -> Failure {
    match error {
        Unpublished::NotOwner => Failure::NotOwner,
        Unpublished::Poison {
            batch,
            topic,
            reason,
        } => Failure::Halt(Halt::Unpublishable {
            batch,
            topic,
            reason,
        }),
        other => Failure::Uncertain(other.to_string()),
    }
}
