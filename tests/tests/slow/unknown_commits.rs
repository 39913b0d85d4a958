//! Kafka transactions whose end nobody knows: the watermark tells it, and each message is there once.

use std::collections::HashSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use taskhost_tests::{Host, Message, Services, World, soon, soon_within};

/// A broker that was killed is back within seconds; what it had open follows with its timeouts.
const SETTLED: Duration = Duration::from_secs(120);

fn new_tasks(from: usize, count: usize) -> Vec<Message> {
    let message = |number: usize| {
        let id = format!("t-{number}");
        Message::to("task-status")
            .key(id.clone())
            .json(&json!({"taskId": id, "status": "new"}))
    };
    (from..from + count).map(message).collect()
}

/// How many it took until the host's failpoint had its turn. How many go into a transaction is a matter of speed.
fn send_until_frozen(world: &World, host: &Host) -> usize {
    let mut sent = 0;
    soon("the failpoint has its turn", || {
        world.send_all(&new_tasks(sent, 100));
        sent += 100;
        host.is_frozen().then_some(())
    });
    sent
}

fn wait_settled(world: &World) {
    soon_within(SETTLED, "everything is decided and published", || {
        world.is_caught_up().then_some(())
    });
}

/// Each message made its task, and each reader hears of it once.
fn assert_each_once(world: &World, sent: usize) {
    assert_eq!(world.tasks().len(), sent);
    let told = world.read("task-events");
    let distinct: HashSet<String> = told.iter().map(taskhost_tests::Record::key_text).collect();
    assert_eq!((told.len(), distinct.len()), (sent, sent));
    assert_eq!(world.dead_letters(), []);
}

fn has_rebuilt(host: &Host) -> bool {
    host.log()
        .contains("the outcome of a transaction is unknown")
}

#[test]
fn a_transaction_that_the_broker_has_ended_meanwhile_is_published_anew() {
    let world = World::with_partitions(2);
    let host = world
        .host()
        .env("KAFKA_SESSION_TIMEOUT", "40000")
        .env("KAFKA_TRANSACTION_TIMEOUT", "2000")
        .env("KAFKA_REQUEST_TIMEOUT", "2000")
        .failpoint("publish-before-commit:5=stop")
        .start();
    let sent = send_until_frozen(&world, &host);
    let before = world.ends("task-events");
    soon_within(SETTLED, "the broker ends the transaction", || {
        (world.ends("task-events") > before).then_some(())
    });
    host.signal(Signal::SIGCONT);
    soon("the host notices", || has_rebuilt(&host).then_some(()));
    wait_settled(&world);
    assert_eq!(host.get("/readyz").status, 200);
    host.stop();
    assert_each_once(&world, sent);
}

#[test]
fn a_broker_killed_at_a_commit_loses_and_doubles_nothing() {
    let mut services = Services::start();
    let world = World::on(&services, 4);
    let mut host = world
        .host()
        .env("TASKHOST_BATCH_MESSAGES_MAX", "50")
        .env("KAFKA_SESSION_TIMEOUT", "20000")
        .failpoint("publish-before-commit:8=stop")
        .start();
    let mut sent = send_until_frozen(&world, &host);
    // Messages and offsets are with the broker, the commit is not.
    services.broker.kill();
    host.signal(Signal::SIGCONT);
    services.broker.restart().expect("the broker is back");
    wait_settled(&world);
    assert_each_once(&world, sent);

    // Somewhere in its transactions, so that the answer is lost as often as the question.
    for _ in 0..4 {
        let consumed = || -> i64 { world.progress().iter().map(|row| row.consumed).sum() };
        let before = consumed();
        world.send_all(&new_tasks(sent, 2000));
        sent += 2000;
        soon("the host is at work", || {
            (consumed() > before + 200).then_some(())
        });
        services.broker.kill();
        services.broker.restart().expect("the broker is back");
        wait_settled(&world);
    }
    println!("made a new producer: {}", has_rebuilt(&host));
    assert_each_once(&world, sent);
    host.restart();
    host.stop();
}
