//! A rule that fails too often: its breaker opens, nothing is lost, and what comes after it decides what it failed.

use serde_json::{Value, json};
use taskhost_tests::{Host, HostBuilder, Message, World, soon};

use crate::fleet_activation::{activate, file, thing};
use crate::swap;

/// Longer than any test waits, also a small random part of it.
const NEVER_MS: &str = "86400000";

/// One partition, and a rule that fails four messages of five from the start.
fn broken_world() -> World {
    let mut world = World::bare();
    world.consumes(&["swap"]);
    world.create_topic("swap", 1);
    world.install("guest_swap_broken", "swap");
    world
}

/// Whose breaker opens at the first fault, and then tries nothing by itself.
fn touchy(world: &World) -> HostBuilder {
    swap::host(world)
        .env("TASKHOST_BREAKER_MINIMUM", "1")
        .env("TASKHOST_BREAKER_OPEN_TIME", NEVER_MS)
        .env("TASKHOST_BREAKER_OPEN_TIME_MAX", NEVER_MS)
}

fn things(count: usize) -> Vec<Message> {
    (0..count).map(|n| thing(&format!("thing-{n}"))).collect()
}

/// The breaker, as the host's API has it.
fn breaker(host: &Host) -> Value {
    host.get("/api/breakers").json()["breakers"][0].clone()
}

fn wait_state(host: &Host, state: &str) {
    soon(&format!("the breaker is {state}"), || {
        (breaker(host)["state"] == state).then_some(())
    });
}

/// What was told on `taskhost-events` about breakers of routes and rollbacks, in the order of time.
fn told(world: &World) -> Vec<Value> {
    let records = world.read("taskhost-events");
    let all = records.iter().map(taskhost_tests::Record::json);
    let mut all: Vec<Value> = all
        .filter(|event| event["route"] == "swap")
        .filter(|event| event["breaker"] == "route" || event["kind"] == "plugin.rolled-back")
        .collect();
    all.sort_by_key(|event| event["at"].as_str().unwrap_or_default().to_owned());
    all
}

/// Kind and why, in the order of time.
fn kinds(world: &World) -> Vec<(String, String)> {
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let told = told(world);
    told.iter()
        .map(|event| (text(event, "kind"), text(event, "why")))
        .collect()
}

fn pair(kind: &str, why: &str) -> (String, String) {
    (kind.to_owned(), why.to_owned())
}

/// How often a task was decided, and by which rule, in the order of the records.
fn decided(world: &World) -> Vec<(String, String)> {
    let mut events = world.all_events();
    events.sort_by_key(|event| (event.cause_partition, event.cause_offset));
    let by = |event: taskhost_tests::EventRow| (event.task_id, event.plugin_version);
    events.into_iter().map(by).collect()
}

fn command(host: &HostBuilder, arguments: &[&str]) -> String {
    host.run(arguments).ok()
}

#[test]
fn a_rule_without_a_predecessor_holds_its_route_and_a_fixed_one_is_tried_at_once_and_drains_in_order()
 {
    let world = broken_world();
    let host = touchy(&world).start();
    world.send_all(&things(40));
    wait_state(&host, "open");
    let shown = breaker(&host);
    assert_eq!(shown["why"], "faults");
    assert_eq!(shown["held"], false);
    let reason = shown["reason"].as_str().expect("a reason");
    assert!(reason.contains("plugin-trap"), "{reason}");

    // Health, metrics and the partition say so; the host stays ready.
    let health = host.get("/api/health/detailed");
    assert_eq!(health.status, 503, "the status line says so itself");
    let health = health.json();
    assert_eq!(health["error"]["breakers"]["status"], "down");
    let message = health["error"]["breakers"]["message"]
        .as_str()
        .expect("why");
    assert!(message.starts_with("swap is open: "), "{message}");
    let partition = &health["details"]["partitions"]["partitions"][0];
    assert_eq!(partition["state"], "paused", "{health}");
    assert_eq!(host.get("/readyz").status, 200);
    let state = |state| {
        host.count(
            "taskhost_route_breaker_state",
            &[("route", "swap"), ("state", state)],
        )
    };
    assert_eq!(
        (state("open"), state("closed"), state("half-open")),
        (1, 0, 0)
    );
    assert_eq!(
        host.count("taskhost_route_breaker_trips_total", &[("route", "swap")]),
        1
    );

    // Nothing is a dead letter, nothing behind the first fault is decided, however much comes.
    world.send_all(&things(60)[40..]);
    let before = decided(&world);
    assert!(before.iter().all(|(task, _)| task.ends_with(['0', '5'])));
    assert_eq!(world.dead_letters(), []);
    assert_eq!(world.waiting().len(), 0, "no attempt is spent");

    // A fixed version is tried at once, though the pause would be long.
    activate(&world, &["--file", &file("guest_swap_v2")]);
    world.wait_caught_up();
    wait_state(&host, "closed");
    let after = decided(&world);
    let tasks: Vec<&str> = after.iter().map(|(task, _)| task.as_str()).collect();
    let expected: Vec<String> = (0..60).map(|n| format!("thing-{n}")).collect();
    assert_eq!(tasks, expected, "each once, in order");
    for (at, (_, version)) in after.iter().enumerate() {
        let by = if at < before.len() { "9.0.0" } else { "2.0.0" };
        assert_eq!(version, by, "{at}");
    }
    assert_eq!(world.dead_letters(), []);
    assert_eq!(host.get("/api/health/detailed").status, 200);
    host.stop();
    assert_eq!(
        kinds(&world),
        [
            pair("breaker.opened", "faults"),
            pair("breaker.half-open", "activation"),
            pair("breaker.closed", "probe"),
        ]
    );
    let opened = &told(&world)[0];
    assert_eq!(opened["activation"], "1");
    assert_eq!(opened["code"], "plugin-trap");
    assert_eq!(opened["windowMs"], "60000");
    assert!(
        opened["digest"]
            .as_str()
            .is_some_and(|digest| digest.len() == 64)
    );
    assert!(
        opened["host"].is_string() && opened["openMs"].is_string(),
        "{opened}"
    );
}

#[test]
fn a_probe_that_fails_opens_it_again_and_commits_nothing() {
    let world = broken_world();
    let host = swap::host(&world)
        .env("TASKHOST_BREAKER_MINIMUM", "1")
        .env("TASKHOST_BREAKER_OPEN_TIME", "200")
        .env("TASKHOST_BREAKER_OPEN_TIME_MAX", "400")
        .start();
    world.send_all(&things(10));
    soon("several probes failed", || {
        let probes = kinds(&world);
        let failed = pair("breaker.opened", "probe");
        (probes.iter().filter(|one| **one == failed).count() >= 3).then_some(())
    });
    let all = kinds(&world);
    assert_eq!(all[0], pair("breaker.opened", "faults"));
    for two in all[1..].chunks_exact(2) {
        assert_eq!(
            *two,
            [
                pair("breaker.half-open", "probe"),
                pair("breaker.opened", "probe")
            ]
        );
    }
    assert_eq!(world.dead_letters(), []);
    let [row] = &world.progress()[..] else {
        panic!("one partition");
    };
    let next = row.next_offset.unwrap_or_default();
    assert!(next <= 1, "not past the first fault: {row:?}");
    host.stop();
}

#[test]
fn a_person_opens_and_closes_it_and_it_stays_open_over_a_restart() {
    let world = swap::world();
    let mut host = swap::host(&world).start();
    world.send_all(&things(10));
    world.wait_caught_up();

    let commands = swap::host(&world);
    let said = command(
        &commands,
        &["breaker", "open", "swap", "--reason", "wrong prices"],
    );
    assert!(said.contains("taskhost breaker close swap"), "{said}");
    wait_state(&host, "open");
    let shown = breaker(&host);
    assert_eq!(
        (&shown["held"], &shown["why"]),
        (&json!(true), &json!("person"))
    );
    assert!(
        shown["by"].as_str().is_some_and(|by| by.contains('@')),
        "{shown}"
    );
    world.send_all(&things(20)[10..]);
    host.restart();
    let url = format!("http://{}", host.address());
    let listed = command(&commands, &["breaker", "list", "--json", "--url", &url]);
    let listed: Value = serde_json::from_str(listed.trim_end()).expect("one line");
    assert_eq!(
        (&listed["state"], &listed["held"]),
        (&json!("open"), &json!(true))
    );
    assert_eq!(listed["reason"], "wrong prices");
    // Another version doesn't open it.
    activate(&world, &["--file", &file("guest_swap_v2")]);
    soon("the host has it", || {
        (swap::version(&host) == "2.0.0").then_some(())
    });
    assert_eq!(breaker(&host)["state"], "open");
    assert_eq!(decided(&world).len(), 10, "nothing is decided");
    let health = host.get("/api/health/detailed").json();
    let message = health["error"]["breakers"]["message"]
        .as_str()
        .expect("why");
    assert!(message.starts_with("swap is held open: "), "{message}");

    command(&commands, &["breaker", "close", "swap"]);
    world.wait_caught_up();
    wait_state(&host, "closed");
    assert_eq!(decided(&world).len(), 20);
    let unknown = commands.run(&["breaker", "open", "nothing", "--reason", "x"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    host.stop();
}

#[test]
fn dead_letters_that_fail_again_open_no_breaker_and_are_applied_by_a_fixed_rule() {
    let world = broken_world();
    let host = touchy(&world).start();
    let commands = swap::host(&world);
    command(&commands, &["breaker", "close", "swap", "--hold"]);
    world.send_all(&things(30));
    soon("what the rule fails is given up", || {
        (world.dead_letters().len() == 24).then_some(())
    });
    command(&commands, &["breaker", "close", "swap"]);
    let replay = ["dlq", "replay", "--code", "plugin-trap", "--yes"];
    let failed = commands.run(&replay);
    assert_eq!(failed.code, Some(1), "{}{}", failed.stdout, failed.stderr);
    assert_eq!(breaker(&host)["state"], "closed");
    assert_eq!(world.dead_letters().len(), 24);
    let topic = world.topic("swap");
    assert_eq!(
        host.count(
            "kafka_consumer_messages_failed_total",
            &[("topic", topic.as_str())]
        ),
        24,
        "a record that fails again is no other record"
    );

    activate(&world, &["--file", &file("guest_swap_v2")]);
    command(&commands, &replay);
    let after = decided(&world);
    assert_eq!(after.len(), 30, "{after:?}");
    crate::laws::check(&world);
    host.stop();
}

#[test]
fn over_http_it_is_ordered_too_and_held_closed_every_fault_is_a_dead_letter() {
    let world = broken_world();
    let host = touchy(&world).start();
    world.send_all(&things(10));
    wait_state(&host, "open");
    let order = |body: &Value| host.post("/api/breakers", "application/json", &body.to_string());
    let by =
        json!({"route": "swap", "state": "held-closed", "by": "me", "reason": "they are junk"});
    let answer = order(&by);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["state"], "held-closed");
    world.wait_caught_up();
    assert_eq!(world.dead_letters().len(), 8);
    assert_eq!(decided(&world).len(), 2);
    let shown = breaker(&host);
    assert_eq!(
        (&shown["state"], &shown["held"]),
        (&json!("closed"), &json!(true))
    );
    for (body, code) in [
        (
            json!({"route": "swap", "state": "ajar", "by": "me", "reason": "x"}),
            400,
        ),
        (
            json!({"route": "swap", "state": "open", "by": "me", "reason": " "}),
            400,
        ),
        (
            json!({"route": "nothing", "state": "open", "by": "me", "reason": "x"}),
            404,
        ),
        (json!({"state": "open"}), 422),
    ] {
        let answer = order(&body);
        assert_eq!(answer.status, code, "{body}: {}", answer.body);
        assert!(answer.json()["message"].is_string(), "{}", answer.body);
    }
    host.stop();
}
