//! A network that breaks, or swallows everything without a word.

use taskhost_tests::{Proxy, Services, World};

use super::postgres::{AT_ONCE, SILENT};
use super::story::{self, KAFKA, POSTGRES, Story};

#[test]
fn a_network_to_postgres_that_breaks_or_swallows_everything_is_survived() {
    let services = Services::start();
    let world = World::on(&services, 3);
    let proxy = Proxy::start(world.database_url());
    let host = story::host(&world).env("DATABASE_URL", proxy.url()).start();
    let mut story = Story::begin(&world, &host, POSTGRES);
    story.outage(
        "broken off",
        AT_ONCE,
        || proxy.break_off(),
        || proxy.resume(),
    );
    story.outage("swallowed", SILENT, || proxy.stall(), || proxy.resume());
    let forgetful = || proxy.resume_forgetful();
    story.outage("forgotten", SILENT, || proxy.stall(), forgetful);
    host.stop();
}

#[test]
fn a_host_that_is_partitioned_away_from_the_brokers_comes_back_by_itself() {
    // Whatever address a client begins with, the broker leads it to the one that it advertises: the proxy's.
    let proxy = Proxy::to("127.0.0.1:9");
    let advertised = format!("PLAINTEXT://{}", proxy.address());
    let services = Services::with(&[("advertised.listeners", &advertised)], &[]);
    proxy.lead_to(&services.bootstrap());
    let world = World::at(proxy.address(), &services.admin_url(), 3);
    let host = story::host(&world).start();
    let mut story = Story::begin(&world, &host, KAFKA);
    story.outage(
        "broken off",
        SILENT,
        || proxy.break_off(),
        || proxy.resume(),
    );
    story.outage("swallowed", SILENT, || proxy.stall(), || proxy.resume());
    host.stop();
}
