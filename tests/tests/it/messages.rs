//! What becomes of the documented messages.

use serde_json::json;
use taskhost_tests::{Message, World};

#[test]
fn a_new_task_becomes_a_row_and_an_event() {
    let world = World::new();
    let host = world.host().start();
    world.send(Message::to("task-status").key("t-1").json(&json!({"taskId": "t-1", "status": "new"})));
    world.wait_caught_up();
    assert_eq!(world.task("t-1").status, "new");
    assert_eq!(world.read("task-events").len(), 1);
    host.stop();
}
