//! One outage from beginning to end: load before, during and after, and what has to hold at each of these times.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskhost_tests::{Host, HostBuilder, Message, World, soon, soon_within};

/// A host that is silent for longer is taken for dead.
const SESSION: Duration = Duration::from_secs(2);

/// A host that doesn't poll for longer leaves its group.
const POLL_INTERVAL: Duration = Duration::from_secs(3);

/// How long an outage lasts from when the host shows it: longer than both.
const OUTAGE: Duration = Duration::from_secs(4);

/// How soon health has to say what the breaker does.
const SHOWN: Duration = Duration::from_secs(1);

/// How soon after the dependency's return everything has to be decided and published. Generous: a machine that compiles
/// besides takes long for everything.
const RESUMED: Duration = Duration::from_secs(30);

/// Tasks of each time.
const TASKS: usize = 40;

/// What is away, as the host names it.
#[derive(Clone, Copy)]
pub(super) struct Away {
    /// In metrics and reasons.
    pub(super) breaker: &'static str,
    /// In health.
    pub(super) part: &'static str,
}

pub(super) const POSTGRES: Away = Away {
    breaker: "postgres",
    part: "database",
};

pub(super) const KAFKA: Away = Away {
    breaker: "kafka",
    part: "kafka",
};

/// A host whose sessions are short.
pub(super) fn host(world: &World) -> HostBuilder {
    let ms = |duration: Duration| duration.as_millis().to_string();
    world
        .host()
        .env("KAFKA_SESSION_TIMEOUT", ms(SESSION))
        .env("KAFKA_HEARTBEAT_INTERVAL", "300")
        .env("KAFKA_MAX_POLL_INTERVAL", ms(POLL_INTERVAL))
}

/// A host that meets one outage after the other.
pub(super) struct Story<'a> {
    world: &'a World,
    host: &'a Host,
    away: Away,
    /// The times at which there was load.
    times: Vec<String>,
}

impl<'a> Story<'a> {
    /// Begins with nothing.
    pub(super) fn begin_anew(world: &'a World, host: &'a Host, away: Away) -> Self {
        Self {
            world,
            host,
            away,
            times: Vec::new(),
        }
    }

    /// Begins with some load while all is well.
    pub(super) fn begin(world: &'a World, host: &'a Host, away: Away) -> Self {
        let mut story = Self::begin_anew(world, host, away);
        story.load("before");
        world.wait_caught_up();
        story
    }

    /// One outage: `take` takes the dependency away, `back` brings it back; the host has to notice within `limit` of the
    /// moment when `take` is done.
    pub(super) fn outage(
        &mut self,
        case: &str,
        limit: Duration,
        take: impl FnOnce(),
        back: impl FnOnce(),
    ) {
        let (kafka, epochs) = (self.away.breaker == KAFKA.breaker, self.epochs());
        if kafka {
            // It is decided while the broker goes.
            self.load(case);
        }
        take();
        let began = Instant::now();
        if !kafka {
            self.load(case);
        }
        soon_within(limit, "the breaker opens", || self.is_open().then_some(()));
        let shown = began.elapsed();
        self.check_health();
        let log = self.host.log().len();
        self.wait_paused();
        // Nothing is awaited here but time: an outage lasts.
        thread::sleep(OUTAGE);
        assert!(self.is_open(), "{case}: the breaker closed while it lasted");
        if !kafka {
            assert_eq!(self.world.group_state(), ("Stable".to_owned(), 1), "{case}");
        }
        // Nobody tries meanwhile: no step fails that began after all partitions had paused.
        let log = self.host.log().split_off(log);
        let failures = log.matches("the step is repeated").count();
        println!("outage: {case}: {failures} steps failed after the breaker was open");
        assert!(failures <= 6, "{case}: workers go on trying:\n{log}");
        back();
        let back = Instant::now();
        soon_within(RESUMED, "the breaker closes", || {
            (!self.is_open()).then_some(())
        });
        let closed = back.elapsed();
        soon_within(RESUMED, "everything goes on", || {
            self.world.is_caught_up().then_some(())
        });
        println!(
            "outage: {case}: shown after {} ms; back: closed after {} ms, caught up after {} ms; epochs {epochs:?}, {:?}",
            shown.as_millis(),
            closed.as_millis(),
            back.elapsed().as_millis(),
            self.epochs()
        );
        self.load(&format!("after {case}"));
        self.world.wait_caught_up();
        self.check();
    }

    fn epochs(&self) -> Vec<i64> {
        self.world.progress().iter().map(|row| row.epoch).collect()
    }

    /// Each task is created and completed, in two messages.
    pub(super) fn load(&mut self, time: &str) {
        self.times.push(time.to_owned());
        let mut messages = Vec::new();
        for status in ["new", "completed"] {
            for number in 0..TASKS {
                let id = format!("{time} {number}");
                let body = json!({"taskId": id, "status": status});
                messages.push(Message::to("task-status").key(id.as_str()).json(&body));
            }
        }
        self.world.send_all(&messages);
    }

    /// Every task was created and completed, each is told once in its history and on the topic, and nothing is blamed.
    pub(super) fn check(&self) {
        let dead = self.world.dead_letters();
        assert!(dead.is_empty(), "nothing may be blamed: {dead:?}");
        let tasks = self.world.tasks();
        assert_eq!(tasks.len(), self.times.len() * TASKS);
        for task in &tasks {
            let found = (task.status.as_str(), task.version);
            assert_eq!(found, ("completed", 2), "{task:?}");
        }
        let mut stored: Vec<String> = self
            .world
            .all_events()
            .iter()
            .map(|event| format!("{}:{}:{}", event.task_id, event.version, event.number))
            .collect();
        assert_eq!(stored.len(), 2 * tasks.len());
        let id = |record: &taskhost_tests::Record| record.json()["message"]["eventId"].clone();
        let told = self.world.read("task-events");
        let mut told: Vec<String> = told
            .iter()
            .map(|record| id(record).as_str().expect("an id").to_owned())
            .collect();
        stored.sort();
        told.sort();
        assert_eq!(told, stored, "each change is told once");
        for row in self.world.progress() {
            let blamed = (row.dead_letters, row.deferred, row.waiting);
            assert_eq!(blamed, (0, 0, 0), "{row:?}");
        }
    }

    /// Whether the breaker is open, by the metric.
    pub(super) fn is_open(&self) -> bool {
        let labels = [("breaker", self.away.breaker)];
        self.host.metric("taskhost_breaker_open", &labels) == Some(1.0)
    }

    fn check_health(&self) {
        let began = Instant::now();
        let health = self.host.get("/api/health/detailed");
        let part = &health.json()["details"][self.away.part];
        assert_eq!((health.status, &part["status"]), (503, &json!("down")));
        println!("outage: {}: {}", self.away.part, part["message"]);
        let ready = self.host.get("/readyz");
        let missing = ready.json()["missing"].to_string();
        assert!(ready.status == 503 && missing.contains(self.away.part));
        if self.away.part == KAFKA.part {
            assert_eq!(self.host.get("/api/health/kafka").status, 503);
        }
        assert!(began.elapsed() < SHOWN);
    }

    /// Waits until every partition of the host says that it waits for this. One that hears nothing from the brokers for
    /// a session gives its partitions up, and then there are none.
    fn wait_paused(&self) {
        soon("all partitions pause", || {
            let health = self.host.get("/api/health/detailed").json();
            let partitions = health["details"]["partitions"]["partitions"].clone();
            let partitions = partitions.as_array()?.clone();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let paused = |partition: &Value| {
                let reason = text(&partition["reason"]);
                partition["state"] == "paused" && reason.starts_with(self.away.breaker)
            };
            let lost = partitions.is_empty() && self.away.breaker == KAFKA.breaker;
            let all = !partitions.is_empty() && partitions.iter().all(paused);
            (lost || all).then_some(())
        });
    }
}
