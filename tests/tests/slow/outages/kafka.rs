//! A broker that stops, crashes or freezes.

use std::cell::RefCell;
use std::time::Duration;

use nix::sys::signal::Signal;
use taskhost_tests::{Services, World};

use super::story::{self, KAFKA, Story};

/// How soon a broker that ends its connections is noticed: its client tries again until the probe's patience is over.
const AT_ONCE: Duration = Duration::from_secs(4);

/// How soon one that doesn't answer any more is noticed: 0.9 s between probes, and 1.5 s for the answer.
const SILENT: Duration = Duration::from_secs(5);

#[test]
fn a_broker_that_stops_crashes_or_freezes_pauses_all_partitions_and_loses_nothing() {
    let services = RefCell::new(Services::start());
    let world = World::on(&services.borrow(), 3);
    let host = story::host(&world).start();
    let mut story = Story::begin(&world, &host, KAFKA);
    let restart = || {
        let mut services = services.borrow_mut();
        services.broker.restart().expect("the broker is back");
    };
    let stop = || services.borrow_mut().broker.stop();
    story.outage("stopped", AT_ONCE, stop, restart);
    let kill = || services.borrow_mut().broker.kill();
    story.outage("killed", AT_ONCE, kill, restart);
    let signal = |signal| services.borrow().broker.process().signal(signal);
    let (freeze, thaw) = (|| signal(Signal::SIGSTOP), || signal(Signal::SIGCONT));
    story.outage("frozen", SILENT, freeze, thaw);
    host.stop();
}
