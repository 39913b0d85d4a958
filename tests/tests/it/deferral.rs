//! Messages that wait for their task.

use std::time::Duration;

use serde_json::{Value, json};
use taskhost_tests::{Host, HostBuilder, Message, Proxy, World, soon, soon_within};

use crate::documented::{self, Form, update};

/// Longer than any test waits: whatever happens before was not the timer's doing.
const NEVER_MS: &str = "600000";

fn host(world: &World) -> Host {
    let limits = ["TASKHOST_DEFERRAL_DELAY_MIN", "TASKHOST_DEFERRAL_DELAY_MAX"];
    limits
        .iter()
        .fold(world.host(), |host, name| host.env(name, NEVER_MS))
        .start()
}

fn request(id: &str) -> Message {
    let headers = json!({ "requestId": id });
    Form::Envelope.message("requests-web-crawl", &headers, &documented::request())
}

#[test]
fn messages_wait_in_order_for_their_task_and_it_wakes_them() {
    let world = World::with_partitions(1);
    let host = host(&world);
    let result = |id: &str, result: &str| {
        let body = json!({ "taskId": id, "status": "completed", "result": result });
        Message::to("task-status").key(id).json(&body)
    };
    world.send_all(&[
        update("late", "started"),
        update("there", "new"),
        result("late", "first"),
        update("there", "started"),
        result("late", "second"),
        update("lost", "started"),
    ]);
    world.wait_caught_up();

    // Each waits for its task until its own time, and blocks nothing.
    assert_eq!(world.task("there").status, "started");
    let waiting: Vec<_> = world
        .waiting()
        .into_iter()
        .map(|row| (row.task_id, row.sequence, row.due.is_some()))
        .collect();
    let row = |id: &str, sequence, has_time| (id.to_owned(), sequence, has_time);
    assert_eq!(
        waiting,
        [
            row("late", 0, true),
            row("late", 2, true),
            row("late", 4, true),
            row("lost", 5, true)
        ]
    );
    crate::laws::counts_add_up(&world);
    let topic = world.topic("task-status");
    let pending = || {
        host.metric(
            "taskhost_deferred_pending",
            &[("topic", &topic), ("partition", "0")],
        )
    };
    soon("the metrics tell of the waiting messages", || {
        (pending() == Some(4.0)).then_some(())
    });
    assert_eq!(
        host.metric(
            "kafka_consumer_messages_processed_total",
            &[("topic", &topic)]
        ),
        Some(6.0)
    );

    // Another topic creates the task: its messages are applied in order, without waiting for their time.
    world.send(request("late"));
    soon("the waiting messages are decided", || {
        (world.waiting().len() == 1).then_some(())
    });
    world.wait_caught_up();
    let task = world.task("late");
    assert_eq!(
        (task.status.as_str(), task.version, &task.data["result"]),
        ("completed", 3, &json!("first"))
    );
    let kinds: Vec<_> = world
        .events("late")
        .into_iter()
        .map(|event| (event.kind, event.cause_offset))
        .collect();
    let kind = |kind: &str, offset| (kind.to_owned(), offset);
    assert_eq!(
        kinds,
        [
            kind("task.created", 0),
            kind("task.started", 0),
            kind("task.completed", 2)
        ]
    );
    let letters: Vec<_> = world
        .dead_letters()
        .into_iter()
        .map(|letter| (letter.record_offset, letter.code))
        .collect();
    assert_eq!(
        letters,
        [(4, "illegal-transition".to_owned())],
        "it was decided last, on an ended task"
    );

    // A waiting message outlives the host.
    host.terminate();
    let host = self::host(&world);
    world.send(request("lost"));
    soon("the last one is decided", || {
        world.waiting().is_empty().then_some(())
    });
    world.wait_caught_up();
    assert_eq!(world.task("lost").status, "started");
    crate::laws::check(&world);
    // New Task and the request; the waiting message was consumed by the process before.
    for topic in ["task-status", "requests-web-crawl"] {
        metrics_say(&host, &world.topic(topic), 1.0);
    }
    host.stop();
}

/// How many records a process consumed from a topic of one partition, on which nothing waits.
fn metrics_say(host: &Host, topic: &str, consumed: f64) {
    let processed = host.metric(
        "kafka_consumer_messages_processed_total",
        &[("topic", topic)],
    );
    assert_eq!(processed, Some(consumed), "{topic}");
    let gauge = |name: &str| host.metric(name, &[("topic", topic), ("partition", "0")]);
    soon("nothing waits and nothing lags", || {
        let quiet = Some(0.0);
        (gauge("taskhost_deferred_pending") == quiet && gauge("kafka_consumer_lag") == quiet)
            .then_some(())
    });
}

#[test]
fn a_task_created_on_one_host_wakes_what_waits_on_another() {
    let world = World::with_partitions(1);
    let hosts = [host(&world), host(&world)];
    let owner = |topic: &str| {
        let topic = world.topic(topic);
        let labels = [("topic", topic.as_str()), ("partition", "0")];
        let gauge = "taskhost_deferred_pending";
        hosts
            .iter()
            .position(|host| host.metric(gauge, &labels).is_some())
    };
    soon("each host has one of the partitions", || {
        let (creates, waits) = (owner("requests-web-crawl")?, owner("task-status")?);
        (creates != waits).then_some(())
    });
    world.send(update("late", "started"));
    soon("the update waits on one host", || {
        (!world.waiting().is_empty()).then_some(())
    });
    world.send(request("late"));
    soon_within(Duration::from_secs(5), "the other one wakes it", || {
        (world.find_task("late")?.status == "started").then_some(())
    });

    // Both at once, many times: whichever commits first, one of the two looks again.
    let many: Vec<_> = (0..300)
        .flat_map(|number| {
            let id = format!("many-{number}");
            [update(&id, "started"), request(&id)]
        })
        .collect();
    world.send_all(&many);
    soon("none waits for its time", || {
        let started = "SELECT id FROM tasks WHERE status = 'started'";
        (world.ask(started).len() == 301).then_some(())
    });
    assert_eq!(world.waiting(), []);
    // The requests' own updates come after that.
    world.wait_caught_up();
    crate::laws::check(&world);
    for host in hosts {
        host.stop();
    }
}

/// How long a message may wait.
const AGE_MAX_MS: i64 = 8_000;

/// A host that decides what waits again all the time, and gives it up soon.
fn ageing(world: &World) -> HostBuilder {
    world
        .host()
        .env("TASKHOST_DEFERRAL_AGE_MAX", AGE_MAX_MS.to_string())
        .env("TASKHOST_DEFERRAL_DELAY_MIN", "200")
        .env("TASKHOST_DEFERRAL_DELAY_MAX", "200")
}

/// Waits until a message waits for longer than it may by the clock on the wall.
fn wait_too_old(world: &World) {
    soon("it waits for longer than it may", || {
        let old = "SELECT id::text FROM wakeups WHERE since < now() - interval '12 s'";
        (!world.ask(old).is_empty()).then_some(())
    });
}

#[test]
fn an_outage_of_postgres_makes_no_deferred_message_older() {
    let world = World::with_partitions(1);
    let proxy = Proxy::start(world.database_url());
    let host = ageing(&world).env("DATABASE_URL", proxy.url()).start();
    world.send(update("late", "started"));
    let attempts = || world.waiting().first().map(|row| row.attempt);
    let before = soon("it waits", attempts);
    proxy.break_off();
    wait_too_old(&world);
    proxy.resume();
    soon("it is decided again", || {
        (attempts()? > before + 2).then_some(())
    });
    assert_eq!(world.dead_letters(), [], "the outage doesn't count");
    world.send(request("late"));
    soon("its task is there", || {
        (world.find_task("late")?.status == "started").then_some(())
    });
    host.stop();
}

#[test]
fn a_night_without_a_host_costs_no_deferred_message() {
    let world = World::with_partitions(1);
    let mut host = ageing(&world).start();
    world.send(update("late", "started"));
    let attempts = || world.waiting().first().map(|row| row.attempt);
    let before = soon("it waits", attempts);
    host.kill();
    wait_too_old(&world);
    assert_eq!(world.dead_letters(), []);
    host.restart();
    soon("it is decided again in the morning", || {
        (attempts()? > before + 2).then_some(())
    });
    assert_eq!(world.dead_letters(), [], "the night doesn't count");
    world.send(request("late"));
    soon("its task is there", || {
        (world.find_task("late")?.status == "started").then_some(())
    });

    // While a host works, the limit runs.
    world.send(update("lost", "started"));
    let letter = soon("it is given up", || world.dead_letters().pop());
    let found = (letter.task_id.as_deref(), letter.code.as_str());
    assert_eq!(found, (Some("lost"), "task-missing"));
    let waited = letter.reason.strip_prefix("it waited for ");
    let waited = waited.and_then(|rest| rest.split(' ').next());
    let waited: i64 = waited.and_then(|ms| ms.parse().ok()).expect("how long");
    assert!((AGE_MAX_MS..2 * AGE_MAX_MS).contains(&waited), "{letter:?}");
    assert!(letter.attempts > 2, "{letter:?}");
    crate::laws::check(&world);
    host.stop();
}

#[test]
fn wakeups_that_the_host_cannot_decide_hide_no_other_and_are_told() {
    let world = World::with_partitions(1);
    let host = world
        .host()
        .env("TASKHOST_DEFERRAL_DELAY_MIN", "300")
        .env("TASKHOST_DEFERRAL_DELAY_MAX", "300")
        .start();
    world.send(update("there", "new"));
    world.wait_caught_up();
    // More than are looked at at a time, due for an hour.
    let foreign = "INSERT INTO wakeups
            (group_id, topic, partition, id, kind, task_id, name, route, due, sequence, attempt, since, reason, cause)
        SELECT group_id, topic, partition, gen_random_uuid(), 'timer', 'foreign-' || n, 'alarm', 'gone',
            now() - interval '1 h', 0, 0, now(), '', decode('00', 'hex')
        FROM progress, generate_series(1, 1200) n WHERE batch > 0 RETURNING NULL";
    assert_eq!(world.ask(foreign).len(), 1200);
    world.send(update("late", "started"));
    soon("what is due later is decided all the same", || {
        let waiting = world.waiting();
        let row = waiting.iter().find(|row| row.task_id == "late")?;
        (row.attempt > 2).then_some(())
    });
    let topic = world.topic("task-status");
    let labels = [("topic", topic.as_str()), ("partition", "0")];
    soon("the metric tells of all of them", || {
        (host.metric("taskhost_wakeups_stranded", &labels) == Some(1200.0)).then_some(())
    });
    let shown = host.get("/api/health/detailed");
    assert_eq!(shown.status, 200, "they hold up nothing");
    let partitions = &shown.json()["details"]["partitions"]["partitions"];
    let shown = partitions.as_array().and_then(|all| {
        let of_topic = |one: &&Value| one["topic"] == topic.as_str();
        all.iter().find(of_topic).map(|one| one["stranded"].clone())
    });
    let reason = "its stored cause can't be read by this version";
    assert_eq!(shown, Some(json!({"wakeups": 1200, "reason": reason})));
    host.wait_log("that this host can't decide");
    let put_off = "SELECT id::text FROM wakeups WHERE why = 'stranded' AND due > now()";
    assert_eq!(world.ask(put_off).len(), 1200, "none is lost");
    host.stop();
}
