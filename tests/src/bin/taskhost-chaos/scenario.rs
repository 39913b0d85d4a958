//! One schedule for each guard of the protocol: with the guard nothing happens, without it there is damage.
//!
//! Random faults come to these schedules seldom or never, because several guards stand behind one another. Each schedule
//! takes care that nothing but its guard is left.

use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use serde_json::json;
use taskhost::store::{Commit, Key, Settings, Store};
use taskhost_core::frame::Frame;
use taskhost_core::record::TopicPartition;
use taskhost_tests::{Cut, Message, Proxy, World, soon, soon_within};
use uuid::Uuid;

use crate::arguments::Guard;
use crate::fleet::Fleet;
use crate::load::STATUS;
use crate::progress::Progress;

/// Messages of a schedule that needs a backlog.
const BACKLOG: usize = 4_000;

/// Everything a schedule happens to.
pub(crate) struct Stage<'a> {
    pub(crate) world: &'a World,
    pub(crate) fleet: Fleet<'a>,
    pub(crate) progress: &'a Progress,
    pub(crate) mutant: Option<Guard>,
}

impl Stage<'_> {
    /// Plays it. What comes of it is for the oracle to say.
    pub(crate) fn play(&mut self, guard: Guard) -> Result<()> {
        match guard {
            Guard::Epoch => self.epoch(),
            Guard::Token => self.token()?,
            Guard::Offsets => self.die_at("publish-after-commit"),
            Guard::Republish => self.die_at("after-postgres-commit"),
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        self.progress.say(text);
    }

    /// A host that was frozen with a batch in hand, before it took the first lock, wakes when its partitions are another's
    /// and everything is done. There are creations only: they are ignored when they are decided again, so that nothing but
    /// the guard is in the way, and the counts tell.
    fn epoch(&mut self) {
        let messages: Vec<Message> = (0..BACKLOG)
            .map(|number| new_task(&format!("t-{number}"), 0))
            .collect();
        self.world.send_all(&messages);
        self.fleet.launch(0, Some("before-batch:3=stop"));
        soon("the first host is frozen", || {
            self.fleet.host(0)?.is_frozen().then_some(())
        });
        self.say("the first host is frozen with a batch in hand");
        self.fleet.launch(1, None);
        soon_within(
            Duration::from_secs(90),
            "the second host does the rest",
            || self.world.is_caught_up().then_some(()),
        );
        self.say("the second host has done the rest; the first one goes on");
        let both = ("Stable".to_owned(), 2);
        self.fleet.signal(0, Signal::SIGCONT);
        soon("the first host is back in the group", || {
            (self.world.group_state() == both).then_some(())
        });
    }

    /// A COMMIT never arrives, and before its host can ask for the outcome, somebody else who holds the partition for his
    /// has committed a batch of the same number. That is played here by the host's own library: a batch without messages,
    /// as it moves past the end of a log.
    fn token(&mut self) -> Result<()> {
        let proxy = Proxy::start(self.world.database_url());
        self.fleet.set("DATABASE_URL", proxy.url());
        self.fleet.launch(0, None);
        // What decides is stored with its first decision: that COMMIT is not the one to be lost.
        self.world.send_all(&[new_task("t-first", 0)]);
        soon("the first message is done", || {
            self.world.is_caught_up().then_some(())
        });
        self.rest();
        proxy.cut_next_and_hold(Cut::BeforeCommit);
        let messages: Vec<Message> = (0..10)
            .map(|number| new_task(&format!("t-{number}"), 0))
            .collect();
        self.world.send_all(&messages);
        soon("a COMMIT is cut", || (proxy.cuts() > 0).then_some(()));
        self.say("a COMMIT was lost, and nothing of the host arrives at Postgres");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.commit_for_another())?;
        self.say("another owner has committed a batch of this number; the host may ask again");
        proxy.release();
        Ok(())
    }

    async fn commit_for_another(&self) -> Result<()> {
        let store = Store::connect(&Settings {
            schema: taskhost::config::SchemaName::default(),
            url: self.world.database_url().to_owned(),
            connections_max: 1,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(10),
            prepared: true,
            application_name: "taskhost-chaos".to_owned(),
        })?;
        let key = Key::new(
            self.world.group(),
            TopicPartition::new(self.world.topic(STATUS), 0),
        );
        let claim = store.claim(&key, &["chaos-another-0".to_owned()]).await?;
        let batch = store.begin(&key, claim.epoch).await?;
        let (number, offset) = (batch.number(), batch.next_offset());
        let token = match self.mutant {
            // As every host would take it then.
            Some(Guard::Token) => Uuid::from_u64_pair(0, number.unsigned_abs()),
            _ => Uuid::new_v4(),
        };
        let frame = Frame {
            batch: number,
            next_offset: offset,
            records: Vec::new(),
        };
        match batch.commit(offset, frame, token, None).await? {
            Commit::Committed(_) => Ok(()),
            Commit::Unknown { error, .. } => {
                bail!("the played owner's COMMIT got no answer: {error}")
            }
        }
    }

    /// A host dies at a failpoint with its first batch of messages, and another one goes on.
    fn die_at(&mut self, failpoint: &str) {
        self.fleet.launch(0, None);
        self.rest();
        let trouble = self.fleet.leave(0);
        trouble.into_iter().for_each(|text| self.say(&text));
        let messages: Vec<Message> = (0..20)
            .map(|number| new_task(&format!("t-{number}"), 0))
            .collect();
        self.world.send_all(&messages);
        self.fleet.launch(0, Some(failpoint));
        soon("the host dies", || self.fleet.host(0)?.exit_status());
        self.say(&format!(
            "a host died at {failpoint}; another one is started"
        ));
        self.fleet.launch(0, None);
    }

    /// Waits until nothing is left to do or to write down.
    fn rest(&self) {
        soon("the host is at rest", || {
            let marked = |row: &taskhost_tests::ProgressRow| row.published == Some(row.batch);
            (self.world.is_caught_up() && self.world.progress().iter().all(marked)).then_some(())
        });
    }
}

fn new_task(id: &str, partition: i32) -> Message {
    Message::to(STATUS)
        .key(id)
        .partition(partition)
        .json(&json!({"taskId": id, "status": "new"}))
}
