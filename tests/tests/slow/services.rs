//! The fixture itself: services of a test's own go away and come back as they were.

use serde_json::json;
use taskhost_tests::{Message, Services, World};

#[test]
fn a_world_on_services_of_its_own_survives_their_restart() {
    let mut services = Services::start();
    let world = World::on(&services, 1);
    services.broker.restart().expect("the broker is back");
    services.postgres.restart().expect("Postgres is back");
    let host = world.host().start();
    world.send(
        Message::to("task-status")
            .key("t-1")
            .json(&json!({"taskId": "t-1", "status": "new"})),
    );
    world.wait_caught_up();
    assert_eq!(world.task("t-1").status, "new");
    host.stop();
}
