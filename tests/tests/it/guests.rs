//! A guest that misbehaves costs the message that made it do so, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use taskhost_tests::{DeadLetterRow, Host, HostBuilder, Message, World, soon};

/// What each behaviour ends as: the code of its dead letter.
const FAULTS: [(&str, &str); 29] = [
    ("trap", "plugin-trap"),
    ("spin", "plugin-deadline"),
    ("sleep", "plugin-trap"),
    ("allocate", "plugin-memory"),
    ("recurse", "plugin-stack"),
    ("exit", "plugin-trap"),
    ("grow-table", "plugin-memory"),
    ("answer-huge", "plugin-memory"),
    ("answer-large", "plugin-answer-too-large"),
    ("many-events", "plugin-answer-too-large"),
    ("wrong-count", "plugin-malformed-answer"),
    ("too-many", "plugin-malformed-answer"),
    ("answer-elsewhere", "plugin-malformed-answer"),
    ("undeclared-status", "plugin-undeclared-status"),
    ("undeclared-event", "plugin-undeclared-event"),
    ("undeclared-topic", "plugin-undeclared-topic"),
    ("non-initial-status", "plugin-undeclared-transition"),
    ("bad-json", "plugin-malformed-answer"),
    ("bad-event-json", "plugin-malformed-answer"),
    ("event-not-an-object", "plugin-malformed-answer"),
    ("nul", "plugin-malformed-answer"),
    ("lone-surrogate", "plugin-malformed-answer"),
    ("huge-number", "plugin-malformed-answer"),
    ("deep-json", "plugin-malformed-answer"),
    ("bad-code", "plugin-malformed-answer"),
    // No faults: what the guest may answer, each with its end.
    ("huge-reason", "told-to"),
    ("reject", "told-to"),
    ("unheard-of", "unknown-behaviour"),
    ("defer", "task-missing"),
];

/// What ends the guest where it stands, so that there is a backtrace, which has the names of the guest's functions.
const TRACED: [(&str, &str); 6] = [
    ("trap", "guest_misbehave"),
    ("spin", "guest_misbehave"),
    ("allocate", "allocate"),
    ("recurse", "deeper"),
    ("grow-table", "grow_table"),
    ("exit", "guest_misbehave"),
];

/// Good messages around each other one.
const GOOD_BETWEEN: usize = 5;

fn world(partitions: i32) -> World {
    let mut world = World::bare();
    world.consumes(&["misbehave"]);
    world.create_topic("misbehave", partitions);
    world.install("guest_misbehave", "misbehave");
    world
}

/// A deadline counts after one more try, a deferral after two.
fn host(world: &World) -> HostBuilder {
    let config = format!(
        "[topics]\nmisbehave = \"{}\"\n\n[[route]]\ntopic = \"misbehave\"\nplugin = \"misbehave\"\ndefault_task_type = \"thing\"\n",
        world.topic("misbehave"),
    );
    world
        .host()
        .config(&config)
        .env("TASKHOST_PLUGINS_DECIDE_DEADLINE", "300")
        .env("KAFKA_MAX_RETRY_ATTEMPTS", "1")
        .env("TASKHOST_DEFERRAL_ATTEMPTS_MAX", "2")
        .env("TASKHOST_DEFERRAL_DELAY_MAX", "100")
}

fn message(id: &str, misbehave: Option<&str>) -> Message {
    let mut body = json!({ "id": id });
    if let Some(behaviour) = misbehave {
        body["misbehave"] = behaviour.into();
    }
    Message::to("misbehave").key(id).json(&body)
}

fn wait_settled(world: &World) {
    soon("every message is settled", || {
        world.wait_caught_up();
        world.waiting().is_empty().then_some(())
    });
}

fn seen(world: &World, id: &str) -> Value {
    world.task(id).data["seen"].clone()
}

#[test]
fn each_way_to_misbehave_is_one_dead_letter_and_every_good_message_around_it_is_applied() {
    let world = world(2);
    let host = host(&world).start();
    let mut messages = Vec::new();
    let mut good = 0;
    for (behaviour, _) in FAULTS {
        for _ in 0..GOOD_BETWEEN {
            messages.push(message(&format!("good-{good}"), None));
            good += 1;
        }
        messages.push(message(behaviour, Some(behaviour)));
    }
    world.send_all(&messages);
    wait_settled(&world);

    let letters = world.dead_letters();
    let found: BTreeMap<&str, &str> = letters
        .iter()
        .map(|letter| {
            (
                letter.task_id.as_deref().unwrap_or("none"),
                letter.code.as_str(),
            )
        })
        .collect();
    assert_eq!(found, BTreeMap::from(FAULTS));
    assert_eq!(letters.len(), FAULTS.len(), "each once");
    for letter in &letters {
        let original = messages
            .iter()
            .find(|message| message.is_value(letter.value.as_deref()));
        assert!(original.is_some(), "{}: kept as it came", letter.code);
        assert!(
            letter.reason.len() <= 10_000,
            "{}: {} bytes of reason",
            letter.code,
            letter.reason.len()
        );
    }
    check_told(&world, &host, &letters);

    let tasks = world.tasks();
    assert!(
        tasks
            .iter()
            .all(|task| task.id.starts_with("good-") && task.status == "open"),
        "{tasks:?}"
    );
    assert_eq!(tasks.len(), good);
    assert_eq!(world.all_events().len(), good);
    assert_eq!(world.read("task-events").len(), good);

    let progress = world.progress();
    let sum =
        |count: fn(&taskhost_tests::ProgressRow) -> i64| progress.iter().map(count).sum::<i64>();
    let (applied, dead) = (sum(|row| row.applied), sum(|row| row.dead_letters));
    assert_eq!(usize::try_from(applied), Ok(good));
    assert_eq!(usize::try_from(dead), Ok(FAULTS.len()));
    assert_eq!(
        (sum(|row| row.consumed), sum(|row| row.ignored)),
        (applied + dead, 0)
    );
    let topic = world.topic("misbehave");
    let labels = [("topic", topic.as_str())];
    assert_eq!(
        host.count("kafka_consumer_messages_processed_total", &labels),
        good + FAULTS.len()
    );
    assert_eq!(
        host.count("kafka_consumer_messages_failed_total", &labels),
        FAULTS.len()
    );
    let codes: BTreeSet<&str> = FAULTS
        .map(|(_, code)| code)
        .into_iter()
        .filter(|code| code.starts_with("plugin-"))
        .collect();
    for code in codes {
        let faults = FAULTS.iter().filter(|(_, each)| *each == code).count();
        let labels = [("plugin", "guest-misbehave"), ("kind", code)];
        assert_eq!(
            host.count("taskhost_plugin_faults_total", &labels),
            faults,
            "{code}"
        );
    }
    assert_eq!(host.get("/readyz").status, 200);
    host.stop();
}

/// A fault stands in the row, in the log and on the dead letter topic, with the message's coordinates and the guest's
/// backtrace.
fn check_told(world: &World, host: &Host, letters: &[DeadLetterRow]) {
    let records = world.read("misbehave.dlq");
    assert_eq!(records.len(), FAULTS.len());
    let lines = host.log_lines();
    let faults: Vec<&Value> = lines
        .iter()
        .filter(|line| {
            line["message"]
                .as_str()
                .is_some_and(|it| it.starts_with("a message at which the plugin faults"))
        })
        .collect();
    for letter in letters
        .iter()
        .filter(|letter| letter.code.starts_with("plugin-"))
    {
        let task = letter.task_id.as_deref().expect("a task");
        let of_it = |line: &&&Value| line["task"] == task && line["code"] == letter.code.as_str();
        let line = faults
            .iter()
            .rfind(of_it)
            .unwrap_or_else(|| panic!("no line of the log tells of {task}"));
        assert_eq!(
            (&line["topic"], &line["partition"], &line["offset"]),
            (
                &letter.record_topic.as_str().into(),
                &letter.record_partition.into(),
                &letter.record_offset.into()
            ),
            "{line}"
        );
        let id = Some(letter.id.to_string());
        let record = records
            .iter()
            .find(|record| record.header("taskhost-dlq-id") == id)
            .expect("a record");
        assert_eq!(
            record.header("__connect.errors.exception.stacktrace"),
            letter.backtrace,
            "{task}"
        );
        assert_eq!(
            line["backtrace"].as_str(),
            letter.backtrace.as_deref(),
            "{task}"
        );
    }
    for (behaviour, function) in TRACED {
        let letter = letters
            .iter()
            .find(|letter| letter.task_id.as_deref() == Some(behaviour))
            .expect("a dead letter");
        let backtrace = letter.backtrace.as_deref().unwrap_or_default();
        assert!(backtrace.contains(function), "{behaviour}: {backtrace}");
    }
}

#[test]
fn a_message_that_exceeds_its_deadline_is_tried_again_and_holds_up_its_own_task_only() {
    let world = world(1);
    let host = host(&world)
        .env("KAFKA_MAX_RETRY_ATTEMPTS", "3")
        .env("KAFKA_RETRY_BACKOFF", "2000")
        .start();
    world.send_all(&[
        message("slow", Some("spin")),
        message("slow", None),
        message("other", None),
    ]);
    soon(
        "another task goes on while it waits for its next try",
        || {
            let both = "SELECT why FROM wakeups WHERE why = 'deadline' AND due > now()
                    AND EXISTS (SELECT FROM tasks WHERE id = 'other')";
            (!world.ask(both).is_empty()).then_some(())
        },
    );
    let behind: Vec<_> = world
        .waiting()
        .into_iter()
        .map(|row| (row.sequence, row.why, row.due.is_some()))
        .collect();
    assert_eq!(behind[1], (1, "turn".to_owned(), false));
    assert!(world.find_task("slow").is_none(), "its later message waits");
    wait_settled(&world);
    let letters: Vec<_> = world
        .dead_letters()
        .into_iter()
        .map(|letter| (letter.record_offset, letter.code, letter.attempts))
        .collect();
    assert_eq!(letters, [(0, "plugin-deadline".to_owned(), 4)]);
    assert_eq!(world.events("slow")[0].cause_offset, 1);
    assert_eq!(world.progress()[0].deferred, 2);
    let labels = [("plugin", "guest-misbehave"), ("kind", "plugin-deadline")];
    let faults = host.count("taskhost_plugin_faults_total", &labels);
    assert_eq!(faults, 1, "the tries don't count");
    crate::laws::counts_add_up(&world);
    host.stop();
}

#[test]
fn a_guest_that_looks_for_the_world_finds_none() {
    let world = world(1);
    // To print a hundred thousand lines takes a busy machine a while, and is no matter of deadlines here.
    let patient = host(&world).env("TASKHOST_PLUGINS_DECIDE_DEADLINE", "5000");
    let host = patient.start();
    let behaviours = [
        "read-clock",
        "read-random",
        "read-env",
        "read-args",
        "read-file",
        "write-file",
        "open-socket",
        "log-flood",
        "print-flood",
    ];
    let twice = ["first", "second"];
    for turn in twice {
        world.send_all(
            &behaviours.map(|behaviour| message(&format!("{turn}-{behaviour}"), Some(behaviour))),
        );
        wait_settled(&world);
    }
    for turn in twice {
        let seen = |behaviour: &str| seen(&world, &format!("{turn}-{behaviour}"));
        let clock = seen("read-clock");
        assert_eq!(
            clock["wallBefore"], clock["wallAfter"],
            "the clock stands still"
        );
        assert_eq!(clock["passedNanos"], "0", "the clock stands still");
        assert_eq!(seen("read-env"), json!({}));
        for nothing in ["read-args", "read-file", "write-file", "open-socket"] {
            assert_eq!(seen(nothing), json!([]), "{nothing}");
        }
        for flood in ["log-flood", "print-flood"] {
            assert_eq!(
                world.task(&format!("{turn}-{flood}")).status,
                "open",
                "{flood}"
            );
        }
    }
    for same in ["read-clock", "read-random"] {
        let [first, second] = twice.map(|turn| seen(&world, &format!("{turn}-{same}")));
        assert_eq!(first, second, "{same}: the same in another batch");
    }
    assert!(host.log().lines().count() < 5_000, "floods are cut");
    assert_eq!(world.dead_letters(), []);
    host.stop();
}

#[test]
fn what_a_guest_keeps_is_gone_with_the_batch() {
    let world = world(1);
    let host = host(&world).start();
    for turn in 0..5 {
        let id = format!("kept-{turn}");
        world.send(message(&id, Some("keep-state")));
        world.wait_caught_up();
        assert_eq!(
            seen(&world, &id),
            json!(1),
            "{id} is the first that its instance sees"
        );
    }
    host.stop();
}
