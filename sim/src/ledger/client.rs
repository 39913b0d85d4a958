//! A host's connection to the tables: the port, over the network.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use taskhost::ledger::{Held, Ledger};
use taskhost::store::{
    Claim, Commit, Commitment, Due, DueReplay, Epoch, Error, Key, Question, Read, StoredDeadLetter,
};
use taskhost_core::batch::Wakeup;
use taskhost_core::frame::{BatchNumber, Frame};
use taskhost_core::halt::Halt;
use taskhost_core::record::Offset;
use taskhost_core::task::TaskId;
use tokio::sync::Notify;
use uuid::Uuid;

use super::commit::{Asked, Sent};
use super::tables::{Result, Tables};
use crate::net::{self, Broken, Net, Process};

/// The server: its tables, and who holds what of them.
#[derive(Debug, Default)]
pub struct Server {
    inner: Mutex<Inner>,
    changed: Arc<Notify>,
}

/// The tables and the locks.
#[derive(Debug, Default)]
struct Inner {
    tables: Tables,
    locks: Locks,
}

/// Locks that outlast a call.
#[derive(Debug, Default)]
struct Locks {
    progress: BTreeMap<Key, u64>,
    tasks: BTreeMap<TaskId, u64>,
    last: u64,
}

impl Locks {
    /// Whether somebody else than `holder` holds the partition, or one of the tasks.
    fn are_free<'a>(
        &self,
        holder: u64,
        key: Option<&Key>,
        tasks: impl IntoIterator<Item = &'a TaskId>,
    ) -> bool {
        let is_free = |held: Option<&u64>| held.is_none_or(|held| *held == holder);
        key.is_none_or(|key| is_free(self.progress.get(key)))
            && tasks.into_iter().all(|task| is_free(self.tasks.get(task)))
    }

    fn hold(&mut self, key: &Key, tasks: &[TaskId]) -> u64 {
        self.last += 1;
        self.progress.insert(key.clone(), self.last);
        let held = tasks.iter().map(|task| (task.clone(), self.last));
        self.tasks.extend(held);
        self.last
    }

    fn free(&mut self, holder: u64) {
        self.progress.retain(|_, held| *held != holder);
        self.tasks.retain(|_, held| *held != holder);
    }
}

impl Server {
    /// The tables, for a look or a change from outside.
    pub fn with<T>(&self, look: impl FnOnce(&mut Tables) -> T) -> T {
        let seen = look(&mut self.lock().tables);
        self.changed.notify_waiters();
        seen
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host's connection.
#[derive(Debug, Clone)]
pub struct MemoryLedger {
    pub(crate) server: Arc<Server>,
    /// None in a world without a network.
    pub(crate) network: Option<(Arc<Net>, Process)>,
}

impl MemoryLedger {
    /// A connection that never fails and takes no time.
    pub fn direct(server: Arc<Server>) -> Self {
        Self {
            server,
            network: None,
        }
    }

    /// What it is connected to.
    pub fn server(&self) -> Arc<Server> {
        self.server.clone()
    }

    /// A connection over the network.
    pub(crate) fn over(net: Arc<Net>, process: Process, server: Arc<Server>) -> Self {
        Self {
            server,
            network: Some((net, process)),
        }
    }

    /// A call whose answer may be missing.
    async fn ask<T: Send + 'static>(
        &self,
        mut serve: impl FnMut(&mut Inner) -> Option<T> + Send + 'static,
    ) -> std::result::Result<T, Broken> {
        let (server, changed) = (self.server.clone(), self.server.changed.clone());
        let mut serve = move || serve(&mut server.lock());
        match &self.network {
            Some((net, process)) => {
                net.call(*process, net::Server::Postgres, changed, serve)
                    .await
            }
            None => loop {
                let waiting = changed.notified();
                if let Some(served) = serve() {
                    changed.notify_waiters();
                    return Ok(served);
                }
                waiting.await;
            },
        }
    }

    /// A call that waits for nobody.
    async fn call<T: Send + 'static>(
        &self,
        mut serve: impl FnMut(&mut Tables) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let asked = self.ask(move |inner| Some(serve(&mut inner.tables)));
        asked.await.map_err(broken)?
    }

    /// A call that writes the partition's row.
    async fn own<T: Send + 'static>(
        &self,
        key: &Key,
        mut serve: impl FnMut(&mut Tables) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let key = key.clone();
        let asked = self.ask(move |inner| {
            let free = inner.locks.are_free(0, Some(&key), []);
            free.then(|| serve(&mut inner.tables))
        });
        asked.await.map_err(broken)?
    }

    async fn send(&self, key: &Key, sent: Sent, holder: u64) -> Result<Commit> {
        let (key, frame) = (key.clone(), sent.frame.clone());
        let sent = Arc::new(sent);
        let asked = self.ask(move |inner| {
            let set = &sent.set;
            let tasks = set.created.iter().chain(&set.updated).map(|task| &task.id);
            let free = inner.locks.are_free(holder, Some(&key), tasks);
            free.then(|| {
                inner.locks.free(holder);
                inner.tables.commit(&key, &sent)
            })
        });
        match asked.await {
            Ok(committed) => committed.map(|()| Commit::Committed(frame)),
            Err(Broken::Refused) => Err(broken(Broken::Refused)),
            Err(Broken::Unanswered) => Ok(Commit::Unknown {
                frame,
                error: broken(Broken::Unanswered),
            }),
        }
    }
}

/// What the host is told of a call without an answer.
fn broken(_: Broken) -> Error {
    Error::Unanswered {
        waited: Duration::from_secs(5),
    }
}

/// Locks of a connection, which end with it.
struct MemoryHeld {
    ledger: MemoryLedger,
    key: Key,
    holder: u64,
}

impl Drop for MemoryHeld {
    fn drop(&mut self) {
        self.ledger.server.lock().locks.free(self.holder);
        self.ledger.server.changed.notify_waiters();
    }
}

#[async_trait]
impl Held for MemoryHeld {
    async fn commit(self: Box<Self>, commitment: Commitment<'_>) -> Result<Commit> {
        let sent = Sent::from(commitment);
        self.ledger.send(&self.key, sent, self.holder).await
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn claim(&self, key: &Key, own_ids: &[String]) -> Result<Claim> {
        let (of, own) = (key.clone(), own_ids.to_vec());
        self.own(key, move |tables| Ok(tables.claim(&of, &own)))
            .await
    }

    async fn topic_known(&self, group: &str, topic: &str) -> Result<bool> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.call(move |tables| Ok(tables.topic_known(&group, &topic)))
            .await
    }

    async fn start(&self, key: &Key, epoch: Epoch, from: Offset, topic_id: Uuid) -> Result<()> {
        let of = key.clone();
        self.own(key, move |tables| tables.start(&of, epoch, from, topic_id))
            .await
    }

    async fn own_alone(&self, key: &Key, epoch: Epoch, own_ids: &[String]) -> Result<()> {
        let (of, own) = (key.clone(), own_ids.to_vec());
        self.own(key, move |tables| tables.own_alone(&of, epoch, &own))
            .await
    }

    async fn release(&self, key: &Key, epoch: Epoch, own_ids: &[String]) -> Result<bool> {
        let (of, own) = (key.clone(), own_ids.to_vec());
        self.own(key, move |tables| Ok(tables.release(&of, epoch, &own)))
            .await
    }

    async fn halt(&self, key: &Key, epoch: Epoch, halt: &Halt) -> Result<()> {
        let (of, halt) = (key.clone(), halt.clone());
        self.own(key, move |tables| tables.halt(&of, epoch, &halt))
            .await
    }

    async fn is_halted(&self, key: &Key) -> Result<bool> {
        let of = key.clone();
        self.call(move |tables| Ok(tables.is_halted(&of))).await
    }

    async fn recovered(&self, key: &Key, epoch: Epoch) -> Result<()> {
        let of = key.clone();
        self.own(key, move |tables| tables.recovered(&of, epoch))
            .await
    }

    async fn set_published(&self, key: &Key, batch: BatchNumber) -> Result<bool> {
        let of = key.clone();
        self.own(key, move |tables| Ok(tables.set_published(&of, batch)))
            .await
    }

    async fn frames(&self, key: &Key, first: BatchNumber, last: BatchNumber) -> Result<Vec<Frame>> {
        let of = key.clone();
        self.call(move |tables| Ok(tables.frames(&of, first, last)))
            .await
    }

    async fn trim(&self, key: &Key, up_to: BatchNumber) -> Result<u64> {
        let of = key.clone();
        self.call(move |tables| Ok(tables.trim(&of, up_to))).await
    }

    async fn read(&self, key: &Key, question: Question<'_>) -> Result<Read> {
        let (of, asked) = (key.clone(), Asked::from(question));
        self.call(move |tables| tables.read(&of, &asked)).await
    }

    async fn commit(&self, key: &Key, commitment: Commitment<'_>) -> Result<Commit> {
        self.send(key, Sent::from(commitment), 0).await
    }

    async fn lock(&self, key: &Key, epoch: Epoch, tasks: &[TaskId]) -> Result<Box<dyn Held>> {
        let (of, ids) = (key.clone(), tasks.to_vec());
        let asked = self.ask(move |inner| {
            let free = inner.locks.are_free(0, Some(&of), &ids);
            free.then(|| {
                let owned = inner.tables.owned(&of, epoch).map(drop);
                owned.map(|()| inner.locks.hold(&of, &ids))
            })
        });
        let holder = asked.await.map_err(broken)??;
        Ok(Box::new(MemoryHeld {
            ledger: self.clone(),
            key: key.clone(),
            holder,
        }))
    }

    async fn settle(&self, key: &Key, token: Uuid) -> Result<bool> {
        let of = key.clone();
        self.own(key, move |tables| Ok(tables.settle(&of, token)))
            .await
    }

    async fn next_due(&self, key: &Key) -> Result<Option<i64>> {
        let of = key.clone();
        self.call(move |tables| Ok(tables.next_due(&of))).await
    }

    async fn next_due_of_own(
        &self,
        key: &Key,
        epoch: Epoch,
        own_ids: &[String],
    ) -> Result<Option<i64>> {
        let (of, own) = (key.clone(), own_ids.to_vec());
        self.call(move |tables| tables.next_due_of_own(&of, epoch, &own))
            .await
    }

    async fn due_chains(&self, key: &Key, now: i64, limit: u32) -> Result<Due> {
        let of = key.clone();
        self.call(move |tables| Ok(tables.due_chains(&of, now, limit)))
            .await
    }

    async fn waiting_rows(&self, key: &Key, ids: &[Uuid]) -> Result<Vec<Wakeup>> {
        let (of, ids) = (key.clone(), ids.to_vec());
        self.call(move |tables| Ok(tables.waiting_rows(&of, &ids)))
            .await
    }

    async fn due_replays(
        &self,
        key: &Key,
        now: i64,
        limit: u32,
        bytes_max: u64,
    ) -> Result<Vec<DueReplay>> {
        let of = key.clone();
        self.call(move |tables| Ok(tables.due_replays(&of, now, limit, bytes_max)))
            .await
    }

    async fn replays_of(
        &self,
        group: &str,
        rows: &[Uuid],
    ) -> Result<HashMap<Uuid, StoredDeadLetter>> {
        let (group, rows) = (group.to_owned(), rows.to_vec());
        self.call(move |tables| {
            let letters = tables.letters.values().filter_map(|letter| {
                let row = letter.wakeup.filter(|row| rows.contains(row))?;
                let of_group = *letter.stored.owner.group == *group;
                of_group.then(|| (row, letter.stored.clone()))
            });
            Ok(letters.collect())
        })
        .await
    }

    async fn strand(
        &self,
        key: &Key,
        epoch: Epoch,
        rows: &[(Uuid, &str)],
        due: i64,
    ) -> Result<u64> {
        let of = key.clone();
        let rows = rows.iter().map(|(id, reason)| (*id, (*reason).to_owned()));
        let rows: Vec<(Uuid, String)> = rows.collect();
        self.call(move |tables| Ok(tables.strand(&of, epoch, &rows, due)))
            .await
    }

    async fn count_stranded(&self, key: &Key) -> Result<(i64, Option<String>)> {
        let of = key.clone();
        self.call(move |tables| Ok(tables.count_stranded(&of)))
            .await
    }

    async fn set_worked(&self, key: &Key, epoch: Epoch, worked: i64) -> Result<()> {
        let of = key.clone();
        self.own(key, move |tables| {
            tables.set_worked(&of, epoch, worked);
            Ok(())
        })
        .await
    }

    async fn settle_chains(&self, key: &Key, now: i64) -> Result<u64> {
        let of = key.clone();
        self.call(move |tables| Ok(tables.settle_chains(&of, now)))
            .await
    }

    async fn settle_tasks(&self, tasks: &[TaskId], now: i64) -> Result<Vec<Key>> {
        let tasks = tasks.to_vec();
        self.call(move |tables| Ok(tables.settle_tasks(&tasks, now)))
            .await
    }

    async fn wake_tasks(&self, tasks: &[TaskId], now: i64) -> Result<Vec<Key>> {
        let tasks = tasks.to_vec();
        self.call(move |tables| Ok(tables.wake_tasks(&tasks, now)))
            .await
    }

    async fn changed(&self, tasks: &[(TaskId, i64)]) -> Result<Vec<TaskId>> {
        let tasks = tasks.to_vec();
        self.call(move |tables| Ok(tables.changed(&tasks))).await
    }

    /// The simulated hosts are told by the simulation.
    async fn notify(&self, _: &[Key]) -> Result<()> {
        Ok(())
    }
}
