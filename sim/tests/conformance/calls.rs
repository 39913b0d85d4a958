//! Makes each call of both ledgers and compares the answers.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use taskhost::ledger::Ledger;
use taskhost::store::{
    Activated, ActivationKind, Commit, Commitment, DueReplay, Error, Key, NewActivation, Question,
    Seen, Store, StoredDeadLetter,
};
use taskhost_core::frame::Frame;
use taskhost_core::halt::Halt;
use taskhost_core::record::TopicPartition;
use taskhost_core::task::TaskId;
use taskhost_sim::ledger::MemoryLedger;
use uuid::Uuid;

use crate::draw::{Draw, TOPIC_ID, task_ids};

/// How long a call that is locked out is watched.
const LOCKED: Duration = Duration::from_millis(300);

/// The routes that are activated.
const ROUTES: [&str; 2] = ["in", "side"];

/// Both ledgers, and who calls them.
pub(crate) struct Both {
    store: Store,
    memory: MemoryLedger,
    draw: Draw,
    /// What each of two hosts holds for each partition's last claim, if it made one.
    epochs: [[i64; 2]; 2],
}

fn key(partition: usize) -> Key {
    let partition = TopicPartition::new("in", i32::try_from(partition).unwrap());
    Key::new("g", partition)
}

fn own(host: usize) -> Vec<String> {
    vec![format!("host-{host}-0"), format!("host-{host}-1")]
}

/// An answer in a form that both must give: the kind of an error is compared, not its words.
fn answer<T: Debug>(result: Result<T, Error>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(Error::Conflict { mut tasks }) => {
            tasks.sort();
            format!("conflict {tasks:?}")
        }
        Err(Error::Refused { code, .. }) => format!("refused {code}"),
        Err(error) => format!("{:?}, {}", error.disposition(), error),
    }
}

/// Without the times that Postgres' clock gives.
fn timeless(letter: StoredDeadLetter) -> StoredDeadLetter {
    StoredDeadLetter {
        created_at: 0,
        state_at: 0,
        decided_by: None,
        ..letter
    }
}

impl Both {
    pub(crate) async fn new(seed: u64, store: Store, memory: MemoryLedger) -> Self {
        let mut both = Self {
            store,
            memory,
            draw: Draw::new(seed),
            epochs: [[0; 2]; 2],
        };
        for route in ROUTES {
            both.activate(route).await;
        }
        for partition in 0..2 {
            both.claim(0, partition).await;
            let epoch = both.epochs[0][partition];
            let key = key(partition);
            let stored = Ledger::start(&both.store, &key, epoch, 0, TOPIC_ID).await;
            let started = both.memory.start(&key, epoch, 0, TOPIC_ID).await;
            assert_eq!(answer(stored), answer(started), "start");
        }
        both
    }

    /// How often what happened.
    pub(crate) fn seen(&self) -> BTreeMap<&'static str, u64> {
        self.memory.server().with(|tables| tables.seen.clone())
    }

    pub(crate) async fn close(self) {
        self.store.close().await;
    }

    /// One drawn call.
    pub(crate) async fn step(&mut self, number: u64) {
        let (host, partition) = (self.draw.below(2), self.draw.below(2));
        match self.draw.below(20) {
            0 => self.claim(host, partition).await,
            1 => {
                let route = ROUTES[self.draw.below(2)];
                self.activate(route).await;
            }
            2 => self.replay().await,
            3 => self.wake().await,
            4 => self.housekeeping(host, partition).await,
            5 => self.order_waiting().await,
            6..8 => self.look(partition).await,
            _ => self.commit(number, host, partition).await,
        }
    }

    async fn claim(&mut self, host: usize, partition: usize) {
        let key = key(partition);
        let stored = Ledger::claim(&self.store, &key, &own(host)).await.unwrap();
        let claimed = self.memory.claim(&key, &own(host)).await.unwrap();
        assert_eq!(stored, claimed, "claim");
        self.epochs[host][partition] = stored.epoch;
    }

    async fn activate(&mut self, route: &str) {
        let seen = self.memory.server().with(|tables| {
            let all = tables.activations.get(route).map_or(0, Vec::len);
            i64::try_from(all).unwrap()
        });
        let digest = format!("{:064x}", self.draw.next());
        let saved = self.store.save(&digest, "rule", "1.0.0", &[1]).await;
        saved.unwrap();
        let new = NewActivation {
            route: route.to_owned(),
            seen,
            digest: digest.clone(),
            config: "{}".into(),
            by: "test".to_owned(),
            reason: "test".to_owned(),
            kind: ActivationKind::Ordinary,
        };
        let activated = self.store.activate(&new).await.unwrap();
        assert!(matches!(activated, Activated::Done(_)));
        let server = self.memory.server();
        server.with(|tables| tables.activate(route, &digest));
    }

    /// Replays an open dead letter of both, under the row that Postgres made for it.
    async fn replay(&mut self) {
        let server = self.memory.server();
        let open = server.with(|tables| tables.open_letters(false));
        let Some(id) = self.draw.one(&open).copied() else {
            return;
        };
        let asked = self
            .store
            .request_replays("g", &[id], false, false, "test")
            .await
            .unwrap();
        assert_eq!(asked.ids, [id], "an open dead letter is taken");
        let owner = server.with(|tables| tables.letters[&id].stored.owner.clone());
        let due = self
            .store
            .due_replays(&owner, i64::MAX / 4096, 500, u64::MAX / 2);
        let due = due.await.unwrap();
        let row = due.iter().find(|due| due.letter.letter.id == id).unwrap();
        server.with(|tables| tables.replay(id, row.wakeup.id));
    }

    /// What waits is tried now, or given up.
    async fn order_waiting(&mut self) {
        let server = self.memory.server();
        let waiting = server.with(|tables| tables.waiting());
        let (few, now) = (self.draw.some(&waiting), self.draw.time());
        let gives_up = self.draw.below(3) == 0;
        let stored = match gives_up {
            true => self.store.give_up_waiting("g", &few, "somebody", now).await,
            false => self.store.retry_waiting("g", &few, now).await,
        };
        let kept = server.with(|tables| match gives_up {
            true => tables.give_up_waiting(&few, "somebody", now),
            false => tables.retry(&few, now),
        });
        let mut stored = stored.unwrap().ids;
        stored.sort();
        assert_eq!(stored, kept, "an order for {few:?}, given up: {gives_up}");
    }

    async fn wake(&mut self) {
        let tasks = self.draw.some(&task_ids());
        let now = self.draw.time();
        let (stored, woken) = match self.draw.below(3) {
            0 => (
                Ledger::wake_tasks(&self.store, &tasks, now).await,
                self.memory.wake_tasks(&tasks, now).await,
            ),
            1 => (
                Ledger::settle_tasks(&self.store, &tasks, now).await,
                self.memory.settle_tasks(&tasks, now).await,
            ),
            _ => {
                let seen = self.draw.below(3);
                let seen = i64::try_from(seen).unwrap();
                let seen: Vec<_> = tasks.iter().map(|task| (task.clone(), seen)).collect();
                let mut stored = Ledger::changed(&self.store, &seen).await.unwrap();
                let mut changed = self.memory.changed(&seen).await.unwrap();
                stored.sort();
                changed.sort();
                assert_eq!(stored, changed, "changed");
                return;
            }
        };
        let (mut stored, mut woken) = (stored.unwrap(), woken.unwrap());
        stored.sort();
        woken.sort();
        assert_eq!(stored, woken, "wake or settle {tasks:?} at {now}");
    }

    async fn housekeeping(&mut self, host: usize, partition: usize) {
        let (key, epoch) = (key(partition), self.epochs[host][partition]);
        let batch = i64::try_from(self.draw.below(40)).unwrap();
        let (store, memory) = (&self.store, &self.memory);
        let (stored, kept) = match self.draw.below(8) {
            0 => (
                answer(Ledger::set_published(store, &key, batch).await),
                answer(memory.set_published(&key, batch).await),
            ),
            1 => (
                answer(Ledger::frames(store, &key, batch, batch + 4).await),
                answer(memory.frames(&key, batch, batch + 4).await),
            ),
            2 => (
                answer(Ledger::trim(store, &key, batch / 4).await),
                answer(memory.trim(&key, batch / 4).await),
            ),
            3 => (
                answer(Ledger::own_alone(store, &key, epoch, &own(host)).await),
                answer(memory.own_alone(&key, epoch, &own(host)).await),
            ),
            4 => (
                answer(Ledger::release(store, &key, epoch, &own(host)).await),
                answer(memory.release(&key, epoch, &own(host)).await),
            ),
            5 => {
                let halt = Halt::FrameMissing { batch };
                let halted = (
                    answer(Ledger::halt(store, &key, epoch, &halt).await),
                    answer(memory.halt(&key, epoch, &halt).await),
                );
                let is_halted = Ledger::is_halted(store, &key).await.unwrap();
                assert_eq!(is_halted, memory.is_halted(&key).await.unwrap());
                halted
            }
            6 => (
                answer(Ledger::recovered(store, &key, epoch).await),
                answer(memory.recovered(&key, epoch).await),
            ),
            _ => (
                answer(Ledger::set_worked(store, &key, epoch, batch * 1000).await),
                answer(memory.set_worked(&key, epoch, batch * 1000).await),
            ),
        };
        assert_eq!(stored, kept, "housekeeping of batch {batch}");
    }

    /// Everything that is only read.
    async fn look(&mut self, partition: usize) {
        let key = key(partition);
        let (now, limit) = (
            self.draw.time(),
            1 + u32::try_from(self.draw.below(6)).unwrap(),
        );
        let (store, memory) = (&self.store, &self.memory);
        let stored = Ledger::due_chains(store, &key, now, limit).await;
        let kept = memory.due_chains(&key, now, limit).await;
        assert_eq!(stored.unwrap(), kept.unwrap(), "due at {now}, {limit} rows");
        let stored = Ledger::next_due(store, &key).await.unwrap();
        assert_eq!(stored, memory.next_due(&key).await.unwrap(), "next due");
        let epoch = self.epochs[self.draw.below(2)][partition];
        let own = own(self.draw.below(2));
        let stored = Ledger::next_due_of_own(store, &key, epoch, &own).await;
        let kept = memory.next_due_of_own(&key, epoch, &own).await;
        assert_eq!(answer(stored), answer(kept), "next due of {own:?}");
        let of = |due: DueReplay| (due.wakeup, timeless(due.letter));
        let stored = Ledger::due_replays(store, &key, now, limit, 2_000).await;
        let stored: Vec<_> = stored.unwrap().into_iter().map(of).collect();
        let kept = memory.due_replays(&key, now, limit, 2_000).await;
        let kept: Vec<_> = kept.unwrap().into_iter().map(of).collect();
        let ids = |due: &[(taskhost_core::batch::Wakeup, StoredDeadLetter)]| {
            due.iter().map(|(row, _)| row.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&stored), ids(&kept), "due replays");
        for ((row, letter), (kept_row, kept_letter)) in stored.iter().zip(&kept) {
            assert_eq!(letter, kept_letter, "a letter to be replayed");
            assert_eq!((row.rank, &row.task_id), (kept_row.rank, &kept_row.task_id));
        }
        let stored = Ledger::count_stranded(store, &key).await.unwrap();
        assert_eq!(stored, memory.count_stranded(&key).await.unwrap());
    }

    async fn commit(&mut self, number: u64, host: usize, partition: usize) {
        let (key, epoch) = (key(partition), self.epochs[host][partition]);
        let server = self.memory.server();
        let drawn = server.with(|tables| self.draw.round(tables, &key, number));
        let question = Question {
            epoch,
            tasks: &drawn.tasks,
            rows: &drawn.rows,
            letters: &drawn.letters,
            ahead: true,
        };
        let stored = Ledger::read(&self.store, &key, question).await;
        let kept = self.memory.read(&key, question).await;
        let read = |read: taskhost::store::Read| {
            let mut tasks = read.tasks;
            tasks.sort_by(|a, b| a.id.cmp(&b.id));
            let mut ahead: Vec<_> = read.ahead.into_iter().collect();
            ahead.sort_by(|a, b| a.0.cmp(&b.0));
            (read.checkpoint, tasks, read.rows, ahead)
        };
        let (stored, kept) = (stored.map(read), kept.map(read));
        let left = kept.as_ref().map_or(drawn.checkpoint, |read| read.0);
        assert_eq!(answer(stored), answer(kept), "read");
        let left = match drawn.is_astray {
            true => drawn.checkpoint,
            false => left,
        };
        let activations: Vec<(&str, i64)> = drawn
            .activations
            .iter()
            .map(|(route, number)| (route.as_str(), *number))
            .collect();
        let token = Uuid::from_u128(u128::from(number) + 1);
        let commitment = || Commitment {
            owner: (epoch, left),
            set: &drawn.set,
            seen: Seen {
                tasks: drawn.seen.iter().map(|(id, seen)| (id, *seen)).collect(),
                rows: &drawn.rows,
                activations: &activations,
            },
            starts: &drawn.starts,
            now: drawn.now,
            worked: 1000 * i64::try_from(number).unwrap(),
            frame: Frame {
                batch: left.batch + 1,
                next_offset: left.next_offset + drawn.records,
                records: drawn.set.records.clone(),
            },
            token,
            published: drawn.published,
        };
        let committed = |commit: Commit| match commit {
            Commit::Committed(frame) => frame,
            Commit::Unknown { error, .. } => panic!("nothing is lost here: {error}"),
        };
        let stored = Ledger::commit(&self.store, &key, commitment()).await;
        let kept = self.memory.commit(&key, commitment()).await;
        let (stored, kept) = (stored.map(committed), kept.map(committed));
        let what = &drawn.set;
        assert_eq!(answer(stored), answer(kept), "commit {number} of {what:#?}");
        let stored = Ledger::settle(&self.store, &key, token).await.unwrap();
        assert_eq!(stored, self.memory.settle(&key, token).await.unwrap());
    }

    /// Everything that is kept, row by row.
    pub(crate) async fn check_tables(&mut self) {
        let server = self.memory.server();
        let (rows, letters, tasks) = server.with(|tables| {
            (
                tables.rows.clone(),
                tables.letters.clone(),
                tables.tasks.clone(),
            )
        });
        for (id, (key, row)) in &rows {
            let stored = Ledger::waiting_rows(&self.store, key, &[*id])
                .await
                .unwrap();
            let [stored] = &stored[..] else {
                panic!("{id} is not in Postgres: {row:?}");
            };
            // A replay's row has no cause of its own, and the times of Postgres' clock.
            if row.kind != taskhost_core::batch::WakeupKind::Replay {
                assert_eq!(stored, row);
            }
        }
        let replayed: Vec<Uuid> = letters
            .values()
            .filter_map(|letter| letter.wakeup)
            .collect();
        let stored = Ledger::replays_of(&self.store, "g", &replayed)
            .await
            .unwrap();
        let kept = self.memory.replays_of("g", &replayed).await.unwrap();
        assert_eq!(stored.len(), kept.len());
        for (row, letter) in stored {
            assert_eq!(timeless(letter), timeless(kept[&row].clone()));
        }
        for (id, task) in &tasks {
            let (stored, history) = self.store.show_task(id).await.unwrap().unwrap();
            assert_eq!(stored, *task);
            assert_eq!(i64::try_from(history.len()).unwrap(), task.version);
        }
    }

    /// A claim and a commit wait while somebody holds the partition, or the tasks.
    pub(crate) async fn check_locks(&mut self) {
        let task = TaskId::new("task-0").unwrap();
        let epoch = self.epochs[0][0];
        for ledger in [&self.store as &dyn Ledger, &self.memory] {
            let held = ledger
                .lock(&key(0), epoch, std::slice::from_ref(&task))
                .await
                .unwrap();
            let (of, ids) = (key(0), own(1));
            let claim = ledger.claim(&of, &ids);
            tokio::pin!(claim);
            let early = tokio::time::timeout(LOCKED, &mut claim).await;
            assert!(early.is_err(), "a claim waits");
            drop(held);
            claim.await.unwrap();
        }
    }
}
