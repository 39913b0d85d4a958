//! One outage from beginning to end: load before, during and after, and what has to hold at each of these times.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskhost_tests::{Host, Message, World, soon, soon_within};

/// A host that can't be told from a dead one is taken for dead after this.
pub const SESSION: Duration = Duration::from_secs(2);

/// How long an outage lasts at least, from when the host shows it.
pub const OUTAGE: Duration = Duration::from_secs(4);

/// The whole group's longest silence; polling goes on, so no outage reaches it.
const POLL_INTERVAL: Duration = Duration::from_millis(3500);

/// How soon health has to show what the host noticed.
const SHOWN: Duration = Duration::from_secs(1);

/// How soon after the dependency's return everything has to be decided and published. Generous: a machine that compiles
/// besides takes long for everything.
const RESUMED: Duration = Duration::from_secs(30);

/// Tasks of each time.
const TASKS: usize = 40;

/// What is away, as the host names it.
#[derive(Clone, Copy)]
pub struct Away {
    /// In metrics and reasons.
    pub breaker: &'static str,
    /// In health.
    pub part: &'static str,
}

pub const POSTGRES: Away = Away {
    breaker: "postgres",
    part: "database",
};

pub const KAFKA: Away = Away {
    breaker: "kafka",
    part: "kafka",
};

/// A host whose sessions are short.
pub fn host(world: &World) -> taskhost_tests::HostBuilder {
    let ms = |duration: Duration| duration.as_millis().to_string();
    world
        .host()
        .env("KAFKA_SESSION_TIMEOUT", ms(SESSION))
        .env("KAFKA_HEARTBEAT_INTERVAL", "300")
        .env("KAFKA_MAX_POLL_INTERVAL", ms(POLL_INTERVAL))
}

/// The load: each task is created and changed once, in two messages.
pub fn load(world: &World, time: &str) {
    let tasks = 0..TASKS;
    let status = |status: &'static str| {
        tasks.clone().map(move |number| {
            let id = format!("{time}-{number}");
            Message::to("task-status")
                .key(id.as_str())
                .json(&json!({"taskId": id, "status": status}))
        })
    };
    let messages: Vec<Message> = status("new").chain(status("running")).collect();
    world.send_all(&messages);
}

/// Says what is there, once all of it is: every task of these times, created and changed, told in its history and on the
/// topic once each, and nothing blamed.
pub fn check(world: &World, times: &[&str]) {
    let dead = world.dead_letters();
    assert!(dead.is_empty(), "nothing may be blamed: {dead:?}");
    let expected = times.len() * TASKS;
    let tasks = world.tasks();
    assert_eq!(tasks.len(), expected);
    for task in &tasks {
        assert_eq!(
            (task.status.as_str(), task.version),
            ("running", 2),
            "{task:?}"
        );
    }
    let events = world.all_events();
    assert_eq!(events.len(), 2 * expected);
    let mut told: Vec<(String, i64)> = world
        .read("task-events")
        .iter()
        .map(|record| {
            let value = record.value.as_deref().unwrap_or_default();
            let value: Value = serde_json::from_slice(value).expect("an event");
            let of = |name: &str| value["body"].get(name).or(value.get(name)).cloned();
            (
                of("taskId")
                    .and_then(|id| id.as_str().map(str::to_owned))
                    .expect("an id"),
                of("version")
                    .and_then(|version| version.as_i64())
                    .expect("a version"),
            )
        })
        .collect();
    told.sort();
    let mut stored: Vec<(String, i64)> = events
        .iter()
        .map(|event| (event.task_id.clone(), event.version))
        .collect();
    stored.sort();
    assert_eq!(told, stored, "each change is told once");
    for row in world.progress() {
        assert_eq!(
            (row.dead_letters, row.deferred, row.waiting),
            (0, 0, 0),
            "{row:?}"
        );
    }
}

/// Whether the breaker is open, by the metric.
pub fn is_open(host: &Host, away: Away) -> bool {
    host.metric("taskhost_breaker_open", &[("breaker", away.breaker)]) == Some(1.0)
}

/// Waits until the metric shows the breaker open and health agrees. Returns when that was.
pub fn wait_open(host: &Host, away: Away, began: Instant, limit: Duration) -> Duration {
    soon_within(limit, "the breaker opens", || {
        is_open(host, away).then_some(())
    });
    let open = began.elapsed();
    soon_within(SHOWN, "health says the same", || {
        let health = host.get("/api/health/detailed").json();
        let part = &health["details"][away.part];
        let ready = host.get("/readyz");
        let missing = ready.json()["missing"].to_string();
        let shown = part["status"] == "down"
            && part["message"].is_string()
            && ready.status == 503
            && missing.contains(away.part);
        (shown || !is_open(host, away)).then_some(())
    });
    open
}

/// What each partition does, by health.
pub fn states(host: &Host) -> Vec<(String, String)> {
    let health = host.get("/api/health/detailed").json();
    let partitions = health["details"]["partitions"]["partitions"]
        .as_array()
        .cloned();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    partitions
        .unwrap_or_default()
        .iter()
        .map(|partition| (text(&partition["state"]), text(&partition["reason"])))
        .collect()
}

/// Waits until every partition of the host says that it waits for this.
pub fn wait_paused(host: &Host, away: Away) {
    soon("all partitions pause", || {
        let states = states(host);
        let paused = |(state, reason): &(String, String)| {
            state == "paused" && reason.starts_with(away.breaker)
        };
        (!states.is_empty() && states.iter().all(paused)).then_some(())
    });
}

/// Lets an outage last. Nothing is awaited but time.
pub fn last(outage: Duration) {
    thread::sleep(outage);
}

/// How long it took from the return until the breaker was closed, and until everything was decided and published.
pub fn wait_resumed(world: &World, host: &Host, away: Away, back: Instant) -> (Duration, Duration) {
    soon_within(RESUMED, "the breaker closes", || {
        (!is_open(host, away)).then_some(())
    });
    let closed = back.elapsed();
    soon_within(RESUMED, "everything goes on", || {
        world.is_caught_up().then_some(())
    });
    (closed, back.elapsed())
}

/// Prints a case's figures.
pub fn tell(case: &str, shown: Duration, (closed, resumed): (Duration, Duration)) {
    println!(
        "outage: {case}: shown after {} ms; back: closed after {} ms, caught up after {} ms",
        shown.as_millis(),
        closed.as_millis(),
        resumed.as_millis()
    );
}
