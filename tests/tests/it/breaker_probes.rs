//! What a half-open breaker tries: the next record or wakeup, and behind one that fails whether others would do.

use serde_json::{Value, json};
use taskhost_tests::{Host, HostBuilder, Message, Record, World, soon};

use crate::dlq::{dlq, lines};
use crate::fleet_activation::{activate, file, thing};
use crate::{laws, swap};

/// Longer than any test waits, also a small random part of it.
const NEVER_MS: &str = "86400000";

/// A guest that fails at the messages that tell it to, behind two routes of one topic.
fn misbehaving(partitions: i32) -> World {
    let mut world = World::bare();
    world.consumes(&["misbehave"]);
    world.create_topic("misbehave", partitions);
    world.install("guest_misbehave", "misbehave");
    world
}

fn two_routes(world: &World) -> HostBuilder {
    let config = format!(
        "[topics]\nmisbehave = \"{}\"\n\n\
         [[route]]\ntopic = \"misbehave\"\nplugin = \"misbehave\"\ndefault_task_type = \"thing\"\n\n\
         [[route]]\ntopic = \"misbehave\"\nplugin = \"misbehave\"\ntask_type = \"other\"\n",
        world.topic("misbehave"),
    );
    quick(world.host().config(&config))
}

/// Whose breaker opens at the first fault, and then soon tries again.
fn quick(host: HostBuilder) -> HostBuilder {
    host.env("TASKHOST_BREAKER_MINIMUM", "1")
        .env("TASKHOST_BREAKER_OPEN_TIME", "200")
        .env("TASKHOST_BREAKER_OPEN_TIME_MAX", "400")
}

fn message(id: &str, partition: i32, kind: &str, misbehave: Option<&str>) -> Message {
    let mut body = json!({ "id": id, "taskType": kind });
    if let Some(behaviour) = misbehave {
        body["misbehave"] = behaviour.into();
    }
    let message = Message::to("misbehave").key(id).json(&body);
    message.partition(partition)
}

fn state(host: &Host, route: &str) -> String {
    let all = host.get("/api/breakers").json();
    let all = all["breakers"].as_array().expect("a list");
    let one = all.iter().find(|one| one["route"] == route);
    one.and_then(|one| one["state"].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn wait_state(host: &Host, route: &str, wanted: &str) {
    soon(&format!("the breaker of {route} is {wanted}"), || {
        (state(host, route) == wanted).then_some(())
    });
}

/// What was told about the breaker of a route, in the order of time.
fn told(world: &World, route: &str) -> Vec<Value> {
    let records = world.read("taskhost-events");
    let all = records.iter().map(Record::json);
    let mut all: Vec<Value> = all
        .filter(|event| event["breaker"] == "route" && event["route"] == route)
        .collect();
    all.sort_by_key(|event| event["at"].as_str().unwrap_or_default().to_owned());
    all
}

fn failed_probes(world: &World, route: &str) -> usize {
    let told = told(world, route);
    let failed = |event: &&Value| event["kind"] == "breaker.opened" && event["why"] == "probe";
    told.iter().filter(failed).count()
}

fn wait_failed_probes(world: &World, route: &str, count: usize) {
    let before = failed_probes(world, route);
    soon("probes failed", || {
        (failed_probes(world, route) >= before + count).then_some(())
    });
}

/// When dead letters were stored, the first one first, as events tell times.
fn stored_at(world: &World) -> Vec<String> {
    let sql = "SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
               FROM dead_letters ORDER BY created_at";
    world.ask(sql).into_iter().flatten().collect()
}

fn offsets(world: &World) -> Vec<i64> {
    let progress = world.progress();
    let next = progress.iter().map(|row| row.next_offset.unwrap_or(0));
    next.collect()
}

#[test]
fn a_first_message_that_fails_for_good_is_told_from_a_broken_plugin_by_those_behind_it() {
    let world = misbehaving(1);
    let host = two_routes(&world).start();
    world.send(message("poison", 0, "thing", Some("trap")));
    wait_state(&host, "misbehave", "open");
    // Alone, or before too few others, nobody can tell whose fault it is.
    wait_failed_probes(&world, "misbehave", 2);
    world.send_all(&[
        message("few-1", 0, "thing", None),
        message("few-2", 0, "thing", None),
        message("few-1", 0, "thing", None),
        message("poison", 0, "thing", None),
    ]);
    wait_failed_probes(&world, "misbehave", 3);
    assert_eq!(offsets(&world), [0], "nothing is decided");
    assert_eq!(world.dead_letters(), []);
    assert_eq!(world.waiting(), []);

    let good: Vec<Message> = (0..20)
        .map(|n| message(&format!("good-{n}"), 0, "thing", None))
        .collect();
    world.send_all(&good);
    world.wait_caught_up();
    wait_state(&host, "misbehave", "closed");
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert_eq!(
        (letters[0].record_offset, letters[0].code.as_str()),
        (0, "plugin-trap")
    );
    assert_eq!((letters[0].attempts, world.tasks().len()), (1, 23));
    let mut events = world.all_events();
    events.sort_by_key(|event| event.cause_offset);
    let order: Vec<i64> = events.iter().map(|event| event.cause_offset).collect();
    let expected: Vec<i64> = [1, 2, 4].into_iter().chain(5..25).collect();
    assert_eq!(order, expected, "each once");
    laws::check(&world);
    host.stop();

    // Closed before the dead letter was made, without a person, and it says why.
    let told = told(&world, "misbehave");
    let closed: Vec<&Value> = told
        .iter()
        .filter(|event| event["kind"] == "breaker.closed")
        .collect();
    assert_eq!(closed.len(), 1, "{told:#?}");
    assert_eq!(closed[0]["why"], "probe");
    let reason = closed[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("10 of 10 others"), "{reason}");
    assert!(reason.contains("plugin-trap"), "{reason}");
    let at = closed[0]["at"].as_str().expect("a time");
    assert!(at <= stored_at(&world)[0].as_str(), "{at}");
}

#[test]
fn a_plugin_that_fails_the_others_too_stays_behind_its_breaker() {
    let world = misbehaving(1);
    let host = two_routes(&world).start();
    let messages: Vec<Message> = (0..30)
        .map(|n| {
            let trap = (n % 3 == 0).then_some("trap");
            message(&format!("m-{n}"), 0, "thing", trap)
        })
        .collect();
    world.send(message("poison", 0, "thing", Some("trap")));
    wait_state(&host, "misbehave", "open");
    world.send_all(&messages);
    wait_failed_probes(&world, "misbehave", 5);
    assert_eq!(offsets(&world), [0]);
    assert_eq!((world.dead_letters(), world.tasks()), (vec![], vec![]));
    host.stop();
}

#[test]
fn two_open_breakers_of_one_partition_both_close_and_each_first_message_at_fault_is_one_dead_letter()
 {
    let world = misbehaving(2);
    let host = two_routes(&world).start();
    world.send(message("poison-thing", 0, "thing", Some("trap")));
    wait_state(&host, "misbehave", "open");
    // A message of the other route is tried for it, and fails itself.
    world.send(message("poison-other", 1, "other", Some("trap")));
    wait_state(&host, "misbehave/other", "open");
    let mut messages = vec![message("poison-other-2", 0, "other", Some("trap"))];
    for n in 0..15 {
        messages.push(message(&format!("thing-{n}"), 0, "thing", None));
        messages.push(message(&format!("other-{n}"), 0, "other", None));
    }
    world.send_all(&messages);
    world.wait_caught_up();
    for route in ["misbehave", "misbehave/other"] {
        wait_state(&host, route, "closed");
    }
    let letters = world.dead_letters();
    let mut tasks: Vec<&str> = letters
        .iter()
        .filter_map(|letter| letter.task_id.as_deref())
        .collect();
    tasks.sort_unstable();
    assert_eq!(tasks, ["poison-other", "poison-other-2", "poison-thing"]);
    assert_eq!(world.tasks().len(), 30);
    laws::check(&world);
    host.stop();
}

/// A rule that fails four messages of five, two partitions, and its eight dead letters in the first of them.
fn with_letters() -> (World, Host) {
    let mut world = World::bare();
    world.consumes(&["swap"]);
    world.create_topic("swap", 2);
    world.install("guest_swap_broken", "swap");
    let host = quick(swap::host(&world)).start();
    let command = swap::host(&world);
    let _ = command.run(&["breaker", "close", "swap", "--hold"]).ok();
    soon("it is held closed", || {
        let all = host.get("/api/breakers").json();
        (all["breakers"][0]["held"] == true).then_some(())
    });
    let things = (0..10).map(|n| thing(&format!("thing-{n}")).partition(0));
    world.send_all(&things.collect::<Vec<_>>());
    world.wait_caught_up();
    assert_eq!(world.dead_letters().len(), 8);
    let _ = command.run(&["breaker", "close", "swap"]).ok();
    soon("it is let go", || {
        let all = host.get("/api/breakers").json();
        (all["breakers"][0]["held"] == false).then_some(())
    });
    world.send(thing("thing-11").partition(1));
    wait_state(&host, "swap", "open");
    (world, host)
}

#[test]
fn replays_wait_while_the_breaker_is_open_and_are_its_probes_in_an_idle_partition() {
    let (world, host) = with_letters();
    let command = swap::host(&world);
    let asked = dlq(&command, &["replay", "--all", "--yes", "--no-wait"]).ok();
    assert!(asked.contains("8 not decided yet"), "{asked}");
    // The other partition has a single message, so most probes are replays; none of them costs a try.
    wait_failed_probes(&world, "swap", 5);
    let waiting = lines(&command, &["list", "--state", "replaying", "--all"]);
    assert_eq!(waiting.len(), 8);
    assert!(
        waiting.iter().all(|letter| letter["replays"] == 0),
        "{waiting:#?}"
    );
    assert_eq!(offsets(&world), [10, 0]);

    activate(&world, &["--file", &file("guest_swap_v2")]);
    wait_state(&host, "swap", "closed");
    world.wait_caught_up();
    soon("every replay is decided", || {
        let applied = lines(&command, &["list", "--state", "applied", "--all"]);
        (applied.len() == 8).then_some(())
    });
    let mut events = world.all_events();
    assert_eq!(events.len(), 11, "each once");
    events.sort_by_key(|event| (event.cause_partition, event.cause_offset));
    let by: Vec<&str> = events
        .iter()
        .map(|event| event.plugin_version.as_str())
        .collect();
    let fixed = by.iter().filter(|version| **version == "2.0.0").count();
    assert_eq!(fixed, 9, "{by:?}");
    laws::check(&world);
    host.stop();
    // Only one message is no replay, and three in a row closed it.
    let told = told(&world, "swap");
    let last = told.last().expect("events");
    assert_eq!(
        (&last["kind"], &last["why"]),
        (&json!("breaker.closed"), &json!("probe"))
    );
}

#[test]
fn replays_that_wait_behind_an_open_breaker_are_called_back_and_the_others_are_decided() {
    let (world, host) = with_letters();
    let command = swap::host(&world);
    let _ = dlq(&command, &["replay", "--all", "--yes", "--no-wait"]).ok();
    let id = |task: &str| {
        let found = lines(&command, &["list", "--task", task]);
        found[0]["id"].as_str().expect("an id").to_owned()
    };
    let state = |task: &str| {
        let found = lines(&command, &["list", "--task", task]);
        (found[0]["state"].clone(), found[0]["replays"].clone())
    };
    let first = id("thing-1");
    let told = dlq(&command, &["cancel", &first]).ok();
    assert_eq!(told, "1 cancelled\n");
    assert_eq!(state("thing-1"), (json!("open"), json!(0)));
    let again = dlq(&command, &["cancel", &first]);
    assert_eq!(again.code, Some(1), "{}", again.stdout);
    assert!(
        again.stderr.contains("have no replay to cancel"),
        "{}",
        again.stderr
    );
    let dry = json!({"filter": {"task": "thing-2"}, "by": "me", "dryRun": true});
    let order = |body: &Value| {
        let answer = host.post("/api/dlq/cancel", "application/json", &body.to_string());
        (answer.status, answer.json())
    };
    assert_eq!(order(&dry), (200, json!({"dryRun": true, "count": 1})));
    let body = json!({"filter": {"task": "thing-2"}, "by": "me"});
    let cancelled = json!({"cancelled": 1, "notTaken": 0});
    assert_eq!(order(&body), (200, cancelled));
    assert_eq!(state("thing-2"), (json!("open"), json!(0)));
    let none = json!({"ids": [first], "by": "me"});
    assert_eq!(order(&none), (200, json!({"cancelled": 0, "notTaken": 1})));

    activate(&world, &["--file", &file("guest_swap_v2")]);
    soon("the others are decided", || {
        let applied = lines(&command, &["list", "--state", "applied", "--all"]);
        (applied.len() == 6).then_some(())
    });
    world.wait_caught_up();
    assert_eq!(world.find_task("thing-1"), None);
    // Nothing is left of a cancelled replay, so it can be requested again.
    let told = lines(&command, &["replay", &first]);
    assert_eq!(told[0]["applied"], 1);
    assert_eq!(
        state("thing-1").0,
        json!("applied"),
        "decided once, when it was requested again"
    );
    assert_eq!(world.all_events().len(), 10);
    laws::check(&world);
    host.stop();
}

#[test]
fn a_first_message_that_the_database_refuses_says_nothing_of_the_plugin_and_the_next_one_is_tried()
{
    let mut world = World::bare();
    world.consumes(&["swap"]);
    world.create_topic("swap", 1);
    world.install("guest_swap_broken", "swap");
    let host = swap::host(&world)
        // What is refused would be held until a new version's probation is over.
        .env("TASKHOST_PROBATION", "0")
        .env("TASKHOST_BREAKER_MINIMUM", "1")
        .env("TASKHOST_BREAKER_OPEN_TIME", NEVER_MS)
        .env("TASKHOST_BREAKER_OPEN_TIME_MAX", NEVER_MS)
        .start();
    let _ = world.ask("ALTER TABLE tasks ADD CONSTRAINT ours CHECK (id <> 'thing-1')");
    let things: Vec<Message> = (1..30).map(|n| thing(&format!("thing-{n}"))).collect();
    world.send_all(&things);
    wait_state(&host, "swap", "open");
    assert_eq!(world.dead_letters(), []);

    activate(&world, &["--file", &file("guest_swap_v2")]);
    world.wait_caught_up();
    wait_state(&host, "swap", "closed");
    let letters = world.dead_letters();
    let refused: Vec<(&str, i64)> = letters
        .iter()
        .map(|letter| (letter.code.as_str(), letter.record_offset))
        .collect();
    assert_eq!(refused, [("refused-by-database", 0)], "{letters:#?}");
    assert_eq!(world.tasks().len(), 28);
    laws::check(&world);
    host.stop();
    let kinds: Vec<Value> = told(&world, "swap")
        .iter()
        .map(|event| event["kind"].clone())
        .collect();
    assert_eq!(
        kinds,
        ["breaker.opened", "breaker.half-open", "breaker.closed"]
    );
}
