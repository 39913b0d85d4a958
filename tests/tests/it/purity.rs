//! Law 6, watched: a plugin that keeps something between the causes of a batch is found, and the shipped ones are not.

use serde_json::{Value, json};
use taskhost_tests::{Host, HostBuilder, Message, World, soon};

use crate::documented::update;

/// Messages that wait for the host, so that it takes many of them at once.
const MESSAGES: usize = 200;

fn world() -> World {
    let mut world = World::bare();
    world.consumes(&["misbehave"]);
    world.create_topic("misbehave", 1);
    world.install("guest_misbehave", "misbehave");
    world
}

fn host(world: &World) -> HostBuilder {
    let config = format!(
        "[topics]\nmisbehave = \"{}\"\n\n[[route]]\ntopic = \"misbehave\"\nplugin = \"misbehave\"\ndefault_task_type = \"thing\"\n",
        world.topic("misbehave"),
    );
    world.host().config(&config)
}

fn send(world: &World, behaviour: Option<&str>) {
    let message = |number: usize| {
        let mut body = json!({"id": format!("t-{number}")});
        if let Some(behaviour) = behaviour.filter(|_| number.is_multiple_of(2)) {
            body["misbehave"] = behaviour.into();
        }
        Message::to("misbehave")
            .key(format!("t-{number}"))
            .json(&body)
    };
    world.send_all(&(0..MESSAGES).map(message).collect::<Vec<_>>());
}

fn count(host: &Host, metric: &str, plugin: &str) -> usize {
    host.count(metric, &[("plugin", plugin)])
}

/// What is told of an impure plugin, once it is: the health's entry.
fn found(host: &Host) -> Value {
    soon("the plugin is known to be impure", || {
        let health = host.get("/api/health/detailed").json();
        health["details"]["plugins"]["impure"]
            .as_array()
            .and_then(|all| all.first().cloned())
    })
}

fn lives(world: &World, kind: &str) -> Vec<Value> {
    let all = world
        .read("taskhost-events")
        .into_iter()
        .map(|record| record.json());
    all.filter(|event| event["kind"] == kind).collect()
}

#[test]
fn a_guest_that_keeps_state_within_a_batch_is_reported_as_impure_and_nothing_is_lost() {
    let world = world();
    send(&world, Some("keep-state"));
    let host = host(&world).start();
    world.wait_caught_up();

    let entry = found(&host);
    assert_eq!(
        (entry["name"].as_str(), entry["route"].as_str()),
        (Some("guest-misbehave"), Some("misbehave"))
    );
    assert_eq!(entry["difference"], "alone it answers another data");
    // The first one that an instance sees is right: it is any other.
    let message = entry["message"].as_str().expect("where");
    let offset = message
        .strip_prefix(&format!("{}[0]@", world.topic("misbehave")))
        .expect("its topic and partition");
    let offset: usize = offset.parse().expect("an offset");
    assert!(offset > 0 && offset.is_multiple_of(2), "{message}");
    assert_eq!(entry["task"], format!("t-{offset}"));

    host.wait_log("a plugin is impure");
    let lines = host.log_lines();
    let line = lines.iter().find(|line| {
        line["message"]
            .as_str()
            .is_some_and(|it| it.starts_with("a plugin is impure"))
    });
    let line = line.expect("a line of the log");
    for (field, value) in [
        ("route", json!("misbehave")),
        ("plugin", json!("guest-misbehave")),
        ("digest", entry["digest"].clone()),
        ("topic", json!(world.topic("misbehave"))),
        ("partition", json!(0)),
        ("difference", entry["difference"].clone()),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert!(count(&host, "taskhost_plugin_impure_total", "guest-misbehave") > 0);
    let told = soon("the life-cycle topic tells of it", || {
        let told = lives(&world, "plugin.impure");
        (!told.is_empty()).then_some(told)
    });
    assert_eq!(told.len(), 1, "once for a version: {told:?}");
    assert_eq!(
        (&told[0]["digest"], &told[0]["plugin"]),
        (&entry["digest"], &entry["name"])
    );

    assert_eq!(world.tasks().len(), MESSAGES, "what was decided stays");
    assert_eq!(world.dead_letters(), []);
    assert_eq!(host.get("/readyz").status, 200);
    host.stop();
}

#[test]
fn a_guest_that_answers_what_is_meant_for_another_task_is_reported_as_impure() {
    let world = world();
    send(&world, Some("answer-of-another"));
    let host = host(&world).start();
    world.wait_caught_up();
    assert_eq!(found(&host)["difference"], "alone it answers another data");
    host.stop();
}

#[test]
fn the_sample_can_be_turned_off() {
    let world = world();
    send(&world, Some("keep-state"));
    let host = host(&world)
        .env("TASKHOST_PLUGINS_PURITY_SAMPLE", "0")
        .start();
    world.wait_caught_up();
    assert_eq!(
        count(
            &host,
            "taskhost_plugin_purity_checked_total",
            "guest-misbehave"
        ),
        0
    );
    assert!(
        host.get("/api/health/detailed").json()["details"]["plugins"]
            .get("impure")
            .is_none()
    );
    host.stop();
}

#[test]
fn the_shipped_plugins_decide_the_same_when_they_are_asked_again() {
    let world = World::with_partitions(1);
    let (mut updates, mut requests) = (Vec::new(), Vec::new());
    for number in 0..MESSAGES {
        let id = format!("t-{number}");
        updates
            .extend(["new", "started", "completed", "completed"].map(|status| update(&id, status)));
        let request = Message::to("requests-web-crawl")
            .key(id.as_str())
            .header("requestId", format!("r-{number}"));
        requests.push(request.json(&crate::documented::request()));
    }
    world.send_all(&updates);
    world.send_all(&requests);
    let host = world
        .host()
        .env("TASKHOST_PLUGINS_PURITY_SAMPLE", "1")
        .start();
    for (plugin, messages) in [("task-status", &updates), ("web-crawl", &requests)] {
        soon(&format!("decisions of {plugin} are made again"), || {
            world.wait_caught_up();
            if count(&host, "taskhost_plugin_purity_checked_total", plugin) > 1 {
                return Some(());
            }
            // One batch at a time is decided again, and it was the other plugin's.
            world.send_all(messages);
            None
        });
        assert_eq!(
            count(&host, "taskhost_plugin_impure_total", plugin),
            0,
            "{plugin}"
        );
    }
    assert_eq!(lives(&world, "plugin.impure"), [] as [Value; 0]);
    assert!(!host.log().contains("impure"));
    crate::laws::check(&world);
    host.stop();
}

#[test]
fn a_batch_in_which_messages_fault_is_decided_again_without_them_and_still_tells_pure_from_impure()
{
    for (behaviour, impure) in [(None, false), (Some("keep-state"), true)] {
        let world = world();
        let message = |number: usize| {
            let mut body = json!({"id": format!("t-{number}")});
            match number {
                number if number % 10 == 3 => body["misbehave"] = "trap".into(),
                number if number % 2 == 0 => body["misbehave"] = behaviour.into(),
                _ => {}
            }
            Message::to("misbehave")
                .key(format!("t-{number}"))
                .json(&body)
        };
        let mut messages: Vec<Message> = (0..MESSAGES).map(message).collect();
        // Later messages of a task at which it faulted, and of one that is there.
        messages.extend([message(13), message(15)]);
        messages.push(
            Message::to("misbehave")
                .key("t-13")
                .json(&json!({"id": "t-13"})),
        );
        world.send_all(&messages);
        let host = host(&world)
            .env("TASKHOST_PLUGINS_PURITY_SAMPLE", "1")
            .start();
        world.wait_caught_up();
        soon("some of it was decided again", || {
            let checked = "taskhost_plugin_purity_checked_total";
            (count(&host, checked, "guest-misbehave") > 1).then_some(())
        });
        if impure {
            let entry = found(&host);
            let task = entry["task"].as_str().expect("a task");
            let number: usize = task[2..].parse().expect("its number");
            assert!(number.is_multiple_of(2), "{entry}: it traps nowhere else");
            assert_eq!(entry["difference"], "alone it answers another data");
        } else {
            assert_eq!(
                count(&host, "taskhost_plugin_impure_total", "guest-misbehave"),
                0
            );
        }
        let letters = world.dead_letters();
        assert_eq!(letters.len(), MESSAGES / 10 + 1, "{letters:#?}");
        assert!(letters.iter().all(|letter| letter.code == "plugin-trap"));
        assert_eq!(world.tasks().len(), MESSAGES - MESSAGES / 10 + 1);
        crate::laws::check(&world);
        host.stop();
    }
}
