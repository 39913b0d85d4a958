//! Discards, messages sent again, and what a list shows.

use serde_json::json;
use taskhost_tests::{Message, World, soon};

use super::{dlq, file, lines, only, shown};
use crate::documented::update;
use crate::laws;

#[test]
fn a_discarded_dead_letter_stays_counted_and_is_decided_no_more() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    let command = world.host();
    world.send_all(&[update("a", "done"), update("b", "gone"), update("c", "new")]);
    world.wait_caught_up();
    let none = dlq(&command, &["discard", "--reason", "all of them?"]);
    assert_eq!(
        none.code,
        Some(2),
        "without ids or a filter nothing is discarded: {}",
        none.stderr
    );
    let told = lines(
        &command,
        &["discard", "--task", "a", "--reason", "a test", "--yes"],
    );
    assert_eq!(told[0]["discarded"], 1);
    let states = |state: &str| -> Vec<_> {
        lines(&command, &["list", "--state", state])
            .into_iter()
            .map(|line| line["task"].clone())
            .collect()
    };
    assert_eq!(
        (states("discarded"), states("open")),
        (vec![json!("a")], vec![json!("b")])
    );
    let id = lines(&command, &["list", "--task", "a"])[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let letter = shown(&command, &id);
    assert_eq!(letter["note"], "a test");
    assert!(
        letter["decidedBy"]
            .as_str()
            .is_some_and(|by| by.contains('@')),
        "{letter}"
    );
    assert_eq!(dlq(&command, &["replay", &id]).code, Some(1));
    assert_eq!(
        dlq(&command, &["discard", &id, "--reason", "again"]).code,
        Some(1)
    );
    assert!(world.find_task("a").is_none());
    laws::check(&world);
    host.stop();
}

#[test]
fn what_is_sent_again_is_a_record_of_its_own() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    let command = world.host();
    world.send(update("a", "done").header("origin", "somewhere"));
    world.wait_caught_up();
    let id = only(&world);
    let good = file(&world, "good.json", r#"{"taskId": "a", "status": "new"}"#);
    let _ = dlq(
        &command,
        &["edit", &id, "--file", &good, "--reason", "misspelt"],
    )
    .ok();
    let told = lines(&command, &["replay", &id, "--republish"]);
    assert_eq!(told[0]["republished"], 1, "{told:?}");
    soon("the new record is decided", || world.find_task("a"));
    world.wait_caught_up();
    let records = world.read("task-status");
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].key, records[0].key);
    assert_eq!(records[1].header("origin").as_deref(), Some("somewhere"));
    assert_eq!(records[1].header("taskhost-dlq-id"), Some(id.clone()));
    assert_eq!(world.events("a")[0].cause_offset, records[1].offset);
    assert_eq!(shown(&command, &id)["state"], "republished");
    laws::check(&world);
    host.stop();
}

#[test]
fn a_list_is_as_long_as_it_is_asked_to_be_and_finds_what_is_named() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    let command = world.host();
    let mut messages: Vec<Message> = (0..70)
        .map(|number| update(&format!("t-{number}"), "done"))
        .collect();
    messages.push(Message::to("task-status").key("x").value("a needle in hay"));
    world.send_all(&messages);
    world.wait_caught_up();
    let count = |arguments: &[&str]| lines(&command, &[&["list"], arguments].concat()).len();
    assert_eq!(count(&[]), 50);
    assert_eq!(count(&["--all"]), 71);
    assert_eq!(count(&["--limit", "3"]), 3);
    assert_eq!(count(&["--code", "not-json"]), 1);
    assert_eq!(count(&["--text", "needle"]), 1);
    assert_eq!(count(&["--task", "t-7"]), 1);
    assert_eq!(count(&["--plugin", "task-status", "--all"]), 70);
    assert_eq!(count(&["--topic", "requests-web-crawl"]), 0);
    assert_eq!(count(&["--since", "1h", "--all"]), 71);
    assert_eq!(count(&["--until", "1h", "--all"]), 0);
    assert_eq!(count(&["--state", "parked"]), 0);
    let people = dlq(&command, &["list", "--limit", "1"]).ok();
    assert!(
        people.starts_with(" id") && people.contains("not-json"),
        "{people}"
    );
    assert_eq!(dlq(&command, &["list", "--since", "noon"]).code, Some(2));

    let needle = lines(&command, &["list", "--text", "needle"])[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let page = dlq(&command, &["show", &needle]).ok();
    for part in ["not-json", "a needle in hay", "open since"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let missing = dlq(&command, &["show", "00000000-0000-0000-0000-000000000000"]);
    assert_eq!(missing.code, Some(1));
    soon("the gauge tells how many are open", || {
        let labels = [
            ("topic", world.topic("task-status")),
            ("state", "open".to_owned()),
        ];
        let labels = labels
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        (host.metric("taskhost_dead_letters", &labels) == Some(71.0)).then_some(())
    });
    let health = host.get("/api/health/detailed").json();
    assert_eq!(health["details"]["deadLetters"]["open"], 71);
    host.stop();
}
