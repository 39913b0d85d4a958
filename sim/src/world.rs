//! A world: what goes in, what people do, what fails, and whether it comes to rest with all laws kept. All of it follows from
//! the seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use taskhost::store::Key;
use taskhost::{chance, clock};
use taskhost_core::cause::OnDeadLetter;
use taskhost_core::record::{Record, TopicPartition};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::host::{GROUP, Host, Place};
use crate::net::{Net, Odds, Process, Server};
use crate::oracle::{self, Input};
use crate::rules::{ASKS, EVENTS, INPUTS, OUTPUT};
use crate::story::Story;

/// The time of day at which every world begins.
const THEN: i64 = 1_700_000_000_000;

/// Records of a world, at least.
const RECORDS: u64 = 200;

/// How long a world may take to come to rest once nothing fails any more.
const REST: Duration = Duration::from_secs(600);

/// How long a world may try to come to rest before people decide what is left to them.
const PEOPLE_AFTER: Duration = Duration::from_secs(15);

/// How long readers may have to wait for a transaction that a dead process left open.
const OPEN_MAX: Duration = Duration::from_secs(20);

/// How long a transaction may be open.
const TRANSACTION_TIME: Duration = Duration::from_secs(40);

/// How a world ended.
#[derive(Debug)]
pub struct Ended {
    /// What is wrong; nothing if all is well.
    pub wrong: Vec<String>,
    /// The story, if it was kept.
    pub story: Vec<String>,
    /// Hash of the story: equal stories have equal ones.
    pub digest: u64,
    /// How often each kind of event happened.
    pub seen: BTreeMap<&'static str, u64>,
}

/// Runs the world of a seed to its end.
pub fn live(seed: u64, keep_story: bool) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let Ok(runtime) = runtime else {
        return Ended {
            wrong: vec!["no runtime".to_owned()],
            story: Vec::new(),
            digest: 0,
            seen: BTreeMap::new(),
        };
    };
    let ended = runtime.block_on(async {
        clock::simulate(THEN);
        chance::simulate(seed);
        World::new(seed, keep_story).live().await
    });
    runtime.shutdown_background();
    ended
}

struct World {
    place: Place,
    partitions: Vec<TopicPartition>,
    tasks: u64,
    hosts: Vec<Option<Host>>,
    /// Told to stop.
    stopping: Vec<Host>,
    processes: Process,
    inputs: Vec<Input>,
    activations: u64,
}

impl World {
    fn new(seed: u64, keep_story: bool) -> Self {
        let story = Story::begin(keep_story);
        let quiet = Odds {
            lost: 0,
            unanswered: 0,
            late: 0,
            slow: 0,
            crash: 0,
            freeze: 0,
        };
        // What the world is like is drawn first, by a net that has no faults.
        let draw = Net::new(seed, quiet, 0, story.clone());
        let odds = Odds {
            lost: u32::try_from(draw.below(12)).unwrap_or(0),
            unanswered: u32::try_from(draw.below(12)).unwrap_or(0),
            late: u32::try_from(draw.below(8)).unwrap_or(0),
            slow: u32::try_from(draw.below(20)).unwrap_or(0),
            crash: u32::try_from(draw.below(5)).unwrap_or(0),
            freeze: u32::try_from(draw.below(4)).unwrap_or(0),
        };
        let faults = 3 + u32::try_from(draw.below(10)).unwrap_or(0);
        let net = Net::new(draw.below(u64::MAX), odds, faults, story);
        let mut partitions: Vec<TopicPartition> = Vec::new();
        for (topic, count) in [
            (INPUTS[0], 2 + draw.below(2)),
            (INPUTS[1], 1 + draw.below(2)),
        ] {
            let numbers = 0..i32::try_from(count).unwrap_or(1);
            partitions.extend(numbers.map(|number| TopicPartition::new(topic, number)));
        }
        let place = Place {
            net,
            server: Arc::default(),
            brokers: Arc::default(),
            on_dead_letter: match draw.chance(300) {
                true => OnDeadLetter::HoldTask,
                false => OnDeadLetter::GoOn,
            },
            breaker_minimum: match draw.chance(200) {
                true => 6,
                false => 0,
            },
            messages_max: usize::try_from(1 + draw.below(30)).unwrap_or(1),
        };
        Self {
            place,
            partitions,
            tasks: 4 + draw.below(12),
            hosts: (0..2 + draw.below(2)).map(|_| None).collect(),
            stopping: Vec::new(),
            processes: 0,
            inputs: Vec::new(),
            activations: 0,
        }
    }

    async fn live(mut self) -> Ended {
        self.prepare();
        self.start_missing();
        self.troubled().await;
        self.place.net.calm();
        let mut wrong = self.rest().await;
        if wrong.is_empty() {
            wrong = self.check();
        }
        if wrong.is_empty() {
            wrong = self.check_wake().await;
        }
        for process in self.place.net.panics() {
            wrong.push(format!("a task of process {process} panicked"));
        }
        let mut seen = self.place.net.happened();
        let of_ledger = self.place.server.with(|tables| tables.seen.clone());
        seen.extend(of_ledger);
        let story = &self.place.net.story;
        wrong.iter().for_each(|wrong| story.tell(wrong));
        Ended {
            wrong,
            story: story.lines(),
            digest: story.digest(),
            seen,
        }
    }

    fn prepare(&mut self) {
        let partitions = self.partitions.clone();
        self.place.brokers.with(|cluster| {
            for (number, topic) in (1..).zip(INPUTS) {
                let of_topic = partitions.iter().filter(|one| *one.topic == *topic);
                cluster.create(topic, Uuid::from_u128(number), of_topic.count());
                cluster.create(&format!("{topic}.dlq"), Uuid::from_u128(10 + number), 1);
            }
            cluster.create(OUTPUT, Uuid::from_u128(3), 2);
            cluster.create(EVENTS, Uuid::from_u128(4), 1);
            cluster.group.partitions = partitions;
        });
        INPUTS.iter().for_each(|route| self.activate(route));
    }

    fn activate(&mut self, route: &str) {
        self.activations += 1;
        let digest = format!("digest-{}", self.activations);
        self.place
            .net
            .story
            .tell(format!("{digest} is activated on {route}"));
        self.place
            .server
            .with(|tables| tables.activate(route, &digest));
    }

    /// While things fail: records come, people act, processes end and start.
    async fn troubled(&mut self) {
        let net = self.place.net.clone();
        let mut to_come = RECORDS + net.below(40);
        let until = Instant::now() + Duration::from_secs(30);
        while to_come > 0 || Instant::now() < until {
            let next = Duration::from_millis(20 + net.below(400));
            let thaw = net.thaw();
            let wake = thaw.map_or(Instant::now() + next, |at| at.min(Instant::now() + next));
            tokio::select! {
                biased;
                () = net.doomed.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            net.thaw();
            self.bury();
            self.expire();
            for _ in 0..net.below(6).min(to_come) {
                self.produce();
                to_come -= 1;
            }
            self.people();
            self.accidents().await;
            if net.chance(150) {
                self.start_missing();
            }
        }
        // Nobody is frozen for ever.
        while let Some(at) = net.thaw() {
            tokio::time::sleep_until(at).await;
        }
    }

    /// Ends the processes that crashed.
    fn bury(&mut self) {
        for process in self.place.net.take_doomed() {
            let stopping = self.stopping.iter();
            stopping
                .filter(|host| host.process == process)
                .for_each(Host::kill);
            for slot in &mut self.hosts {
                if let Some(host) = slot.take_if(|host| host.process == process) {
                    host.kill();
                }
            }
        }
    }

    /// Kafka ends transactions that take too long.
    fn expire(&self) {
        let before = Instant::now().checked_sub(TRANSACTION_TIME);
        let expire = |before| self.place.brokers.with(|cluster| cluster.expire(before));
        before.map(expire);
    }

    fn start_missing(&mut self) {
        for number in 0..self.hosts.len() {
            if self.hosts[number].is_none() {
                self.processes += 1;
                self.hosts[number] = Some(Host::start(&self.place, self.processes));
            }
        }
    }

    fn produce(&mut self) {
        let net = &self.place.net;
        let number = usize::try_from(net.below(self.partitions.len() as u64)).unwrap_or(0);
        let weights: u64 = ASKS.iter().map(|(_, weight)| weight).sum();
        let mut drawn = net.below(weights);
        let asked = ASKS.iter().find(|(_, weight)| {
            let is_it = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            is_it
        });
        let asked = asked.map_or("step", |(asked, _)| *asked);
        let task = format!("task-{}", net.below(self.tasks));
        let marked = net.chance(100);
        self.put(number, &task, asked, marked);
    }

    fn put(&mut self, partition: usize, task: &str, asked: &'static str, marked: bool) {
        let partition = &self.partitions[partition];
        let value = match asked {
            "garbage" => "{".to_owned(),
            asked => format!(r#"{{"id":"{task}","ask":"{asked}"}}"#),
        };
        let record = Record {
            topic: partition.topic.to_string(),
            key: Some(task.as_bytes().to_vec()),
            value: Some(value.into_bytes()),
            headers: Vec::new(),
            timestamp: Some(clock::now()),
        };
        let offset = self.place.brokers.with(|cluster| {
            let (_, end) = cluster.bounds(partition);
            cluster.append(partition, record, marked);
            end
        });
        let at = partition.at(offset);
        self.place
            .net
            .story
            .tell(format!("{at}: {asked} of {task}"));
        self.inputs.push(Input {
            at,
            task: task.to_owned(),
            asked,
        });
    }

    /// Now and then somebody activates a version, or replays dead letters.
    fn people(&mut self) {
        let net = self.place.net.clone();
        if net.chance(25) {
            let route = INPUTS[usize::from(net.chance(500))];
            self.activate(route);
        }
        if net.chance(100) {
            // Called back, and asked for once more: the first may be on its way.
            let replaying = self.place.server.with(|tables| tables.replaying());
            for id in replaying {
                net.story.tell(format!(
                    "the replay of {id} is called back, and asked for again"
                ));
                let row = chance::uuid();
                self.place.server.with(|tables| {
                    tables.call_back(id);
                    tables.replay(id, row);
                });
            }
        }
        if net.chance(30) {
            let open = self.place.server.with(|tables| tables.open_letters(false));
            let few = open.into_iter().filter(|_| net.chance(400));
            for id in few.collect::<Vec<_>>() {
                net.story.tell(format!("dead letter {id} is replayed"));
                let row = chance::uuid();
                self.place.server.with(|tables| tables.replay(id, row));
            }
        }
    }

    /// What fails at a time of its own rather than at a call.
    async fn accidents(&mut self) {
        let net = self.place.net.clone();
        let some = |most: u64| Duration::from_millis(500 + net.below(most));
        if net.chance(6) {
            let server = [Server::Postgres, Server::Kafka][usize::from(net.chance(500))];
            net.outage(server, some(12_000));
        }
        if net.chance(30) {
            // The claim of a process that is no more arrives at last.
            let number = net.below(self.partitions.len() as u64);
            let partition = self.partitions[usize::try_from(number).unwrap_or(0)].clone();
            net.story
                .tell(format!("a late claim of {partition} arrives"));
            let key = Key::new(GROUP, partition);
            let own = ["id-of-nobody".to_owned()];
            self.place.server.with(|tables| tables.claim(&key, &own));
        }
        let number = usize::try_from(net.below(self.hosts.len() as u64)).unwrap_or(0);
        let process = self.hosts[number].as_ref().map(|host| host.process);
        let Some(process) = process else { return };
        if net.chance(8) {
            let server = [Server::Postgres, Server::Kafka][usize::from(net.chance(500))];
            net.cut(process, server, some(15_000));
        }
        if net.chance(6) {
            net.freeze(process, some(20_000));
        }
        if net.chance(8) {
            net.doom(process);
        } else if net.chance(8)
            && let Some(host) = self.hosts[number].take()
        {
            net.story.tell(format!("process {process} is told to stop"));
            host.stop();
            self.stopping.push(host);
        }
    }

    /// Waits until nothing is left to do.
    async fn rest(&mut self) -> Vec<String> {
        let until = Instant::now() + REST;
        loop {
            self.bury();
            self.start_missing();
            sleep(Duration::from_secs(1)).await;
            self.place.net.thaw();
            self.expire();
            let held_up = self.held_up(until);
            if !held_up.is_empty() {
                return held_up;
            }
            let unrest = self.unrest();
            if unrest.is_empty() {
                return Vec::new();
            }
            if Instant::now() > until {
                let never = unrest.into_iter();
                return never.map(|left| format!("never at rest: {left}")).collect();
            }
            if Instant::now() + REST - PEOPLE_AFTER > until {
                self.decide();
            }
        }
    }

    /// Readers don't wait long for a transaction that a dead process left open: the next owner ends it.
    fn held_up(&self, until: Instant) -> Vec<String> {
        let began = until - REST;
        let now = Instant::now();
        if now < began + OPEN_MAX {
            return Vec::new();
        }
        let open = self.place.brokers.with(|cluster| cluster.open_since());
        let old = open
            .into_iter()
            .filter(|(_, since)| now - *since > OPEN_MAX);
        old.map(|(id, since)| {
            let seconds = (now - since).as_secs();
            format!("readers wait for a transaction of {id}, which is open for {seconds} s")
        })
        .collect()
    }

    /// What is left to people: dead letters that hold their task, and breakers that nothing closes.
    fn decide(&self) {
        let letters = self.place.server.with(|tables| tables.open_letters(true));
        for id in letters {
            let story = &self.place.net.story;
            story.tell(format!("dead letter {id} is discarded"));
            let now = clock::now();
            self.place.server.with(|tables| tables.discard(id, now));
        }
        self.hosts
            .iter()
            .flatten()
            .for_each(Host::hold_breakers_closed);
    }

    fn unrest(&self) -> Vec<String> {
        let Place {
            server, brokers, ..
        } = &self.place;
        server.with(|tables| {
            brokers.with(|cluster| oracle::unrest(tables, cluster, &self.partitions))
        })
    }

    fn check(&self) -> Vec<String> {
        let Place {
            server, brokers, ..
        } = &self.place;
        server.with(|tables| brokers.with(|cluster| oracle::check(tables, cluster, &self.inputs)))
    }

    /// A message that waits for a task is decided soon after the task's creation, in whichever partition that happens, and long
    /// before the message's due time.
    async fn check_wake(&mut self) -> Vec<String> {
        let last = self.partitions.len() - 1;
        self.put(0, "late", "patient", false);
        sleep(Duration::from_secs(5)).await;
        self.put(last, "late", "create", false);
        sleep(Duration::from_secs(8)).await;
        let version = self.place.server.with(|tables| {
            let task = tables
                .tasks
                .values()
                .find(|task| task.id.as_str() == "late");
            task.map(|task| task.version)
        });
        match version {
            Some(2) => Vec::new(),
            found => vec![format!(
                "what waited for a task is not decided 8 s after its creation: version {found:?}"
            )],
        }
    }
}
