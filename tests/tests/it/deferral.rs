//! Messages that wait for their task.

use serde_json::json;
use taskhost_tests::{Host, Message, World, soon};

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

    // The task's later messages wait behind the first; others don't.
    assert_eq!(world.task("there").status, "started");
    let waiting: Vec<_> = world
        .waiting()
        .into_iter()
        .map(|row| (row.task_id, row.sequence, row.due.is_some()))
        .collect();
    let row = |id: &str, sequence, is_first| (id.to_owned(), sequence, is_first);
    assert_eq!(
        waiting,
        [
            row("late", 0, true),
            row("late", 2, false),
            row("late", 4, false),
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
