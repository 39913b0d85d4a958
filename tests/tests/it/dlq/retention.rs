//! What is done with goes; what isn't, never.

use taskhost_tests::{Message, World, soon};

use super::{dlq, lines};
use crate::documented::update;

#[test]
fn two_hosts_remove_what_is_done_with_and_nothing_else() {
    let world = World::with_partitions(2);
    let start = || {
        world
            .host()
            .env("TASKHOST_DLQ_RETENTION", "1000")
            .env("TASKHOST_DLQ_RETENTION_INTERVAL", "100")
            .start()
    };
    let hosts = [start(), start()];
    let command = world.host();
    let messages: Vec<Message> = (0..40)
        .map(|number| update(&format!("t-{number}"), "done"))
        .collect();
    world.send_all(&messages);
    world.wait_caught_up();
    let all = lines(&command, &["list", "--all"]);
    assert_eq!(all.len(), 40);
    let ids: Vec<&str> = all
        .iter()
        .take(25)
        .filter_map(|line| line["id"].as_str())
        .collect();
    let arguments = [&["discard", "--reason", "a test"], ids.as_slice()].concat();
    let _ = dlq(&command, &arguments).ok();
    soon("the discarded ones are gone", || {
        (world.dead_letters().len() == 15).then_some(())
    });
    let removed = || -> usize {
        hosts
            .iter()
            .map(|host| {
                host.count(
                    "taskhost_retention_removed_total",
                    &[("what", "dead_letters")],
                )
            })
            .sum()
    };
    soon("each is counted once, whoever removed it", || {
        (removed() == 25).then_some(())
    });
    assert_eq!(
        lines(&command, &["list", "--state", "open", "--all"]).len(),
        15
    );
    assert_eq!(world.dead_letters().len(), 15);
    for host in hosts {
        host.stop();
    }
}
