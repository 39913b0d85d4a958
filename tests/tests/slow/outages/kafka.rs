//! The broker away in every way it can be.

use std::time::{Duration, Instant};

use taskhost_tests::{Services, World};

use super::story::{self, KAFKA, OUTAGE};

/// How soon a broker that ends its connections is noticed.
const AT_ONCE: Duration = Duration::from_secs(4);

#[test]
fn a_broker_that_stops_pauses_all_partitions_and_loses_nothing() {
    let mut services = Services::start();
    let world = World::on(&services, 3);
    let host = story::host(&world).start();
    story::load(&world, "before");
    world.wait_caught_up();
    story::load(&world, "during");
    services.broker.stop();
    let began = Instant::now();
    let shown = story::wait_open(&host, KAFKA, began, AT_ONCE);
    story::wait_paused(&host, KAFKA);
    story::last(OUTAGE);
    services.broker.restart().expect("the broker is back");
    let resumed = story::wait_resumed(&world, &host, KAFKA, Instant::now());
    story::load(&world, "after");
    world.wait_caught_up();
    story::check(&world, &["before", "during", "after"]);
    story::tell("broker stopped", shown, resumed);
    host.stop();
}
