//! A Postgres that stops, crashes or freezes.

use std::cell::RefCell;
use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use taskhost_tests::{Services, World, soon};

use super::story::{self, POSTGRES, Story};

/// How soon a server that ends its connections, or refuses, is noticed under load. Within a second of the first message
/// that is decided after it went, or of the next probe.
pub(super) const AT_ONCE: Duration = Duration::from_secs(2);

/// How soon one that doesn't answer any more is noticed: 0.9 s between probes, and a second for each of two ways to ask.
pub(super) const SILENT: Duration = Duration::from_secs(5);

#[test]
fn a_postgres_that_stops_crashes_or_freezes_pauses_all_partitions_and_loses_nothing() {
    let services = RefCell::new(Services::start());
    let world = World::on(&services.borrow(), 3);
    let host = story::host(&world).start();
    let mut story = Story::begin(&world, &host, POSTGRES);
    let restart = || {
        let mut services = services.borrow_mut();
        services.postgres.restart().expect("Postgres is back");
    };
    let stop = || services.borrow_mut().postgres.stop();
    story.outage("stopped", AT_ONCE, stop, restart);
    let kill = || services.borrow_mut().postgres.kill();
    story.outage("killed", AT_ONCE, kill, restart);
    let signal = |signal| {
        let services = services.borrow();
        family(services.postgres.process().pid())
            .into_iter()
            .for_each(|pid| {
                // A backend may have ended since.
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).ok();
            });
    };
    let (freeze, thaw) = (|| signal(Signal::SIGSTOP), || signal(Signal::SIGCONT));
    story.outage("frozen", SILENT, freeze, thaw);
    for kind in ["breaker.opened", "breaker.closed"] {
        soon("each outage is told on the topic for that", || {
            let told = world.read("taskhost-events");
            let told = told.iter().filter(|record| record.json()["kind"] == kind);
            (told.count() >= 3).then_some(())
        });
    }
    host.stop();
}

/// A process and its children: Postgres' backends.
pub(super) fn family(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("the server's processes");
    let children = children
        .split_whitespace()
        .map(|pid| pid.parse().expect("a pid"));
    std::iter::once(pid).chain(children).collect()
}
