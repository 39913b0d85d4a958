//! Watches the progress rows: whose each partition is, how far it is, and how long it takes to be taken over.
//!
//! A connection of its own, looked at every 20 ms; while Postgres is away, nothing is seen and the last look counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A look that takes longer is given up: Postgres is away.
const PATIENCE: Duration = Duration::from_secs(2);

const ROWS: &str = "SELECT topic, partition, epoch, batch, consumed, \
    coalesce(owners[array_upper(owners, 1)], '') AS owner FROM taskhost.progress";
const ACTIVATIONS: &str = "SELECT count(*) FROM taskhost.activations";

#[derive(Clone, Debug)]
struct Row {
    topic: String,
    partition: i32,
    epoch: i64,
    batch: i64,
    consumed: i64,
    /// The transactional id of whoever claimed it last.
    owner: String,
}

taskhost_tests::from_row!(
    Row: topic, partition, epoch, batch, consumed, owner
);

/// A partition whose owner was struck, until somebody else commits for it.
#[derive(Debug)]
struct Orphan {
    owner: String,
    killed: bool,
    alone: bool,
    since: Instant,
    row: Row,
    /// The last batch when it was first seen claimed by somebody else.
    claimed_at: Option<i64>,
}

/// How long a partition of a killed host had no commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Takeover {
    pub(crate) time: Duration,
    /// No other fault meanwhile.
    pub(crate) alone: bool,
}

#[derive(Debug, Default)]
struct Seen {
    rows: Vec<Row>,
    activations: i64,
    orphans: Vec<Orphan>,
    takeovers: Vec<Takeover>,
}

/// The watcher; it ends with the value.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(url: &str) -> Self {
        let (seen, over) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (url, shared, ended) = (url.to_owned(), Arc::clone(&seen), Arc::clone(&over));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let mut connection = None;
                while !ended.load(Ordering::Relaxed) {
                    let look = tokio::time::timeout(PATIENCE, look(&url, &mut connection));
                    match look.await {
                        Ok(Ok((rows, activations))) => lock(&shared).take(rows, activations),
                        _ => connection = None,
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            });
        });
        Self {
            seen,
            over,
            thread: Some(thread),
        }
    }

    /// Records that were decided so far.
    pub(crate) fn consumed(&self) -> i64 {
        lock(&self.seen).rows.iter().map(|row| row.consumed).sum()
    }

    /// Activations so far.
    pub(crate) fn activations(&self) -> i64 {
        lock(&self.seen).activations
    }

    /// The owner of these transactional ids was killed or frozen just now.
    pub(crate) fn struck(&self, owner: &str, killed: bool, alone: bool) {
        let mut seen = lock(&self.seen);
        seen.orphans.retain(|orphan| orphan.owner != owner);
        let rows: Vec<Row> = seen
            .rows
            .iter()
            .filter(|row| row.owner.starts_with(owner))
            .cloned()
            .collect();
        let since = Instant::now();
        seen.orphans.extend(rows.into_iter().map(|row| Orphan {
            owner: owner.to_owned(),
            killed,
            alone,
            since,
            row,
            claimed_at: None,
        }));
    }

    /// Another fault begins: what waits is not alone any more.
    pub(crate) fn disturbed(&self) {
        lock(&self.seen)
            .orphans
            .iter_mut()
            .for_each(|orphan| orphan.alone = false);
    }

    /// Whether somebody else has committed for each of the partitions that were its.
    pub(crate) fn is_taken(&self, owner: &str) -> bool {
        !lock(&self.seen)
            .orphans
            .iter()
            .any(|orphan| orphan.owner == owner)
    }

    /// Nobody waits for its partitions any more.
    pub(crate) fn forget(&self, owner: &str) {
        lock(&self.seen)
            .orphans
            .retain(|orphan| orphan.owner != owner);
    }

    /// Of the killed hosts, one for each partition.
    pub(crate) fn takeovers(&self) -> Vec<Takeover> {
        lock(&self.seen).takeovers.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Seen {
    fn take(&mut self, rows: Vec<Row>, activations: i64) {
        let now = Instant::now();
        let takeovers = &mut self.takeovers;
        self.orphans.retain_mut(|orphan| {
            let here = |row: &&Row| {
                (&row.topic, row.partition) == (&orphan.row.topic, orphan.row.partition)
            };
            let Some(row) = rows
                .iter()
                .find(here)
                .filter(|row| row.epoch > orphan.row.epoch)
            else {
                return true;
            };
            let taken = row.batch > *orphan.claimed_at.get_or_insert(row.batch);
            if taken && orphan.killed {
                let (time, alone) = (now - orphan.since, orphan.alone);
                takeovers.push(Takeover { time, alone });
            }
            !taken
        });
        self.rows = rows;
        self.activations = activations;
    }
}

async fn look(
    url: &str,
    connection: &mut Option<PgConnection>,
) -> Result<(Vec<Row>, i64), sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(PgConnection::connect(url).await?),
    };
    let rows = sqlx::query_as(ROWS).fetch_all(&mut *connection).await?;
    let activations = sqlx::query_scalar(ACTIVATIONS)
        .fetch_one(&mut *connection)
        .await?;
    Ok((rows, activations))
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
