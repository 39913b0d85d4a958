//! Topics that change under the hosts: deleted and made again, and partitions that are added.

use std::time::{Duration, Instant};

use serde_json::json;
use taskhost_tests::{Host, World, soon, soon_within};

use crate::recovery_states::{OUTSIDE, TOPIC, halts, id, message};

#[test]
fn a_topic_that_was_deleted_and_made_again_halts_and_the_other_topic_goes_on() {
    let world = World::with_partitions(2);
    let mut host = world.host().start();
    world.send_all(&[message(0, 0), message(1, 0), message(1, 1)]);
    world.wait_caught_up();
    host.terminate();
    world.recreate_topic(TOPIC, 2);
    world.send_all(&[message(0, 5), message(1, 5), message(1, 6)]);
    host.respawn();
    for partition in 0..2 {
        halts(
            &world,
            &host,
            TOPIC,
            partition,
            "topic-recreated",
            "another topic id",
        );
    }
    other_topic_goes_on(&world);
    assert_eq!(world.find_task(&id(0, 5)), None);
    host.stop();
}

#[test]
fn a_topic_that_is_made_again_under_a_running_host_halts_too() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    world.send_all(&[message(0, 0), message(0, 1)]);
    world.wait_caught_up();
    world.recreate_topic(TOPIC, 1);
    world.send(message(0, 5));
    let topic = world.topic(TOPIC);
    let shown = soon("the partition halts", || {
        let health = host.get("/api/health/detailed").json();
        let all = health["details"]["partitions"]["partitions"]
            .as_array()?
            .clone();
        all.into_iter()
            .find(|one| one["topic"] == topic.as_str() && one["state"] == "halted")
    });
    let text = shown.to_string();
    assert!(
        text.contains("topic-recreated") || text.contains(OUTSIDE),
        "{text}"
    );
    other_topic_goes_on(&world);
    assert_eq!(
        world.find_task(&id(0, 5)),
        None,
        "records of another topic are not decided"
    );
    host.stop();
}

fn other_topic_goes_on(world: &World) {
    let headers = json!({ "requestId": "other" });
    let request = crate::documented::request();
    world.send(crate::documented::Form::Envelope.message("requests-web-crawl", &headers, &request));
    soon("the other topic goes on", || world.find_task("other"));
}

#[test]
fn a_partition_that_is_added_while_hosts_run_is_taken_from_its_beginning_within_seconds() {
    let world = World::with_partitions(2);
    let latest = || {
        world
            .host()
            .env("KAFKA_AUTO_OFFSET_RESET", "latest")
            .start()
    };
    let hosts = [latest(), latest()];
    soon("both have joined", || {
        (world.group_state().1 == 2).then_some(())
    });
    let topic = world.topic(TOPIC);
    soon("every partition is started", || {
        let rows = world.progress();
        let started = rows.iter().filter(|row| row.published.is_some());
        (started.count() == 4).then_some(())
    });
    world.add_partitions(TOPIC, 4);
    let added = Instant::now();
    // Sent before anybody noticed the partitions: with `latest` alone they would be skipped.
    world.send_all(&[message(2, 0), message(3, 0), message(3, 1)]);
    soon_within(
        Duration::from_secs(20),
        "the new partitions are taken",
        || {
            let rows = world.progress();
            let done = |partition, next| {
                let row = rows
                    .iter()
                    .find(|row| row.topic == topic && row.partition == partition);
                row.is_some_and(|row| row.next_offset == Some(next))
            };
            (done(2, 1) && done(3, 2)).then_some(())
        },
    );
    println!(
        "decided {:?} after the partitions were added",
        added.elapsed()
    );
    for (partition, offset) in [(2, 0), (3, 0), (3, 1)] {
        assert_eq!(world.task(&id(partition, offset)).status, "new");
    }
    world.wait_caught_up();
    hosts.into_iter().for_each(Host::stop);
}
