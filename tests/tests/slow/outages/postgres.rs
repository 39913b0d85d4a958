//! Postgres away in every way it can be.

use std::time::{Duration, Instant};

use taskhost_tests::{Services, World};

use super::story::{self, OUTAGE, POSTGRES};

/// How soon a server that ends its connections is noticed.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn a_postgres_that_stops_pauses_all_partitions_and_loses_nothing() {
    let mut services = Services::start();
    let world = World::on(&services, 3);
    let host = story::host(&world).start();
    story::load(&world, "before");
    world.wait_caught_up();
    let began = Instant::now();
    services.postgres.stop();
    let stopped = Instant::now();
    story::load(&world, "during");
    let shown = story::wait_open(&host, POSTGRES, began, AT_ONCE);
    println!("stopping took {} ms", (stopped - began).as_millis());
    story::wait_paused(&host, POSTGRES);
    story::last(OUTAGE);
    assert_eq!(world.group_state(), ("Stable".to_owned(), 1));
    services.postgres.restart().expect("Postgres is back");
    let resumed = story::wait_resumed(&world, &host, POSTGRES, Instant::now());
    story::load(&world, "after");
    world.wait_caught_up();
    story::check(&world, &["before", "during", "after"]);
    story::tell("Postgres stopped", shown, resumed);
    host.stop();
}
