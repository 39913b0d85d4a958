//! A host that is told to stop, or that takes its partitions, while something is away.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use taskhost_tests::{Message, Proxy, Services, World, soon};

use super::story::{self, KAFKA, POSTGRES, Story};

/// What orchestrators give a process after SIGTERM.
const TEN_SECONDS: Duration = Duration::from_secs(10);

fn send(world: &World, ids: std::ops::Range<usize>) {
    let message = |number: usize| {
        let id = format!("t-{number}");
        let body = json!({"taskId": id, "status": "new"});
        Message::to("task-status").key(id.as_str()).json(&body)
    };
    world.send_all(&ids.map(message).collect::<Vec<_>>());
}

#[test]
fn a_host_stops_within_ten_seconds_while_postgres_or_the_brokers_don_t_answer() {
    let services = Services::start();
    let world = World::on(&services, 3);
    let proxy = Proxy::start(world.database_url());
    let broker = services.broker.process();
    for (case, open) in [
        ("Postgres, at once", None),
        ("Postgres, its breaker open", Some(POSTGRES)),
        ("Kafka, at once", None),
        ("Kafka, its breaker open", Some(KAFKA)),
    ] {
        let host = story::host(&world).env("DATABASE_URL", proxy.url()).start();
        let story = Story::begin_anew(&world, &host, open.unwrap_or(POSTGRES));
        send(&world, 0..60);
        let postgres = case.starts_with("Postgres");
        match postgres {
            true => proxy.stall(),
            false => broker.signal(Signal::SIGSTOP),
        }
        if open.is_some() {
            soon("the breaker opens", || story.is_open().then_some(()));
        }
        let began = Instant::now();
        host.signal(Signal::SIGTERM);
        let status = host.wait_exit();
        let took = began.elapsed();
        println!("outage: stopping without {case}: {} ms", took.as_millis());
        match postgres {
            true => proxy.resume(),
            false => broker.signal(Signal::SIGCONT),
        }
        assert!(took < TEN_SECONDS, "{case}: {took:?}");
        assert_eq!(status.code(), Some(0), "{case}");
    }
    let host = story::host(&world).start();
    world.wait_caught_up();
    assert_eq!(world.tasks().len(), 60);
    assert_eq!(world.all_events().len(), 60);
    assert_eq!(world.read("task-events").len(), 60);
    assert_eq!(world.dead_letters(), []);
    host.stop();
}

#[test]
fn an_outage_in_the_middle_of_taking_partitions_is_survived() {
    let services = Services::start();
    let world = World::on(&services, 3);
    let proxy = Proxy::start(world.database_url());
    let broker = services.broker.process();
    let first = story::host(&world).start();
    send(&world, 0..30);
    world.wait_caught_up();
    first.kill();
    for (round, away) in [POSTGRES, KAFKA, POSTGRES, KAFKA].into_iter().enumerate() {
        let from = 30 + round * 30;
        send(&world, from..from + 30);
        let host = story::host(&world).env("DATABASE_URL", proxy.url()).spawn();
        let story = Story::begin_anew(&world, &host, away);
        soon("partitions are assigned", || {
            host.log().contains("partitions are assigned").then_some(())
        });
        let postgres = away.breaker == POSTGRES.breaker;
        match postgres {
            true => proxy.stall(),
            false => broker.signal(Signal::SIGSTOP),
        }
        soon("the breaker opens", || story.is_open().then_some(()));
        match postgres {
            true => proxy.resume_forgetful(),
            false => broker.signal(Signal::SIGCONT),
        }
        let back = Instant::now();
        world.wait_caught_up();
        let took = back.elapsed().as_millis();
        println!(
            "outage: {} in the middle of a claim: caught up {took} ms after",
            away.breaker
        );
        assert_eq!(world.tasks().len(), from + 30);
        host.kill();
    }
    assert_eq!(world.all_events().len(), 150);
    assert_eq!(world.read("task-events").len(), 150);
    assert_eq!(world.dead_letters(), []);
}
