//! An output topic that is not there: who needs it halts, who doesn't goes on, and it comes back without a loss.

use serde_json::json;
use taskhost_tests::{Message, Services, World, soon};

fn create(id: &str, partition: i32) -> Message {
    Message::to("task-status")
        .key(id)
        .partition(partition)
        .json(&json!({"taskId": id, "status": "new"}))
}

#[test]
fn a_missing_output_topic_halts_the_partition_that_needs_it_and_no_other() {
    // On the suite's broker a producer's question would make the topic again.
    let services = Services::with(&[("auto.create.topics.enable", "false")], &[]);
    let world = World::on(&services, 2);
    let host = world.host().start();
    world.send(create("first", 0));
    world.wait_caught_up();
    world.delete_topic("task-events");

    world.send(create("needs-it", 0));
    let (topic, partition, reason) = host.wait_halted("unpublishable-message");
    assert_eq!(
        (topic.as_str(), partition),
        (&*world.topic("task-status"), 0)
    );
    assert!(reason.contains(&world.topic("task-events")), "{reason}");
    // A dead letter has another topic, and the same publisher takes it there.
    world.send(
        Message::to("task-status")
            .key("garbage")
            .partition(1)
            .value("no JSON"),
    );
    soon("the other partition's dead letter is published", || {
        (world.read("task-status.dlq").len() == 1).then_some(())
    });
    assert_eq!(host.halted().len(), 1);

    world.create_topic("task-events", 3);
    let resumed = world.host().run(&["partition", "resume", "--all"]).ok();
    assert!(resumed.contains("is tried again"), "{resumed}");
    world.wait_caught_up();
    let sent: Vec<String> = world
        .read("task-events")
        .iter()
        .map(|record| record.key_text())
        .collect();
    assert_eq!(sent, ["needs-it"]);
    assert!(host.halted().is_empty());
    host.stop();
}
