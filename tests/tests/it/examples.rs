//! The example, by its own configuration.

use std::fs;

use serde_json::json;
use taskhost_tests::{Message, World, checkout};

#[test]
fn a_new_task_type_takes_a_plugin_and_a_route_and_no_change_of_the_host() {
    let mut world = World::bare();
    world.consumes(&["invoices"]);
    world.install("invoice_approval", "invoice_approval");
    let own = fs::read_to_string(checkout().join("examples/invoice-approval/taskhost.toml"))
        .expect("its file");
    let topics: String = ["invoices", "payments", "invoice-notices"]
        .iter()
        .map(|topic| format!("{topic} = \"{}\"\n", world.topic(topic)))
        .collect();
    let host = world
        .host()
        .config(&format!("{own}\n[topics]\n{topics}"))
        .start();
    let send = |id: &str, body: serde_json::Value| {
        let mut body = body;
        body["invoiceId"] = id.into();
        Message::to("invoices").key(id).json(&body)
    };
    let submitted = |cents: u32| json!({"kind": "submitted", "supplier": "Acme", "amountCents": cents, "submittedBy": "jo"});
    world.send_all(&[
        send("small", submitted(100_000)),
        send("large", submitted(100_001)),
        send("large", json!({"kind": "approved", "by": "jo"})),
        send("large", json!({"kind": "approved", "by": "kim"})),
        send("open", submitted(250_000)),
    ]);
    world.wait_caught_up();

    let tasks: Vec<_> = world
        .tasks()
        .into_iter()
        .map(|task| (task.id, task.kind, task.status))
        .collect();
    let task = |id: &str, status: &str| (id.to_owned(), "invoice".to_owned(), status.to_owned());
    assert_eq!(
        tasks,
        [
            task("large", "approved"),
            task("open", "waiting"),
            task("small", "approved")
        ]
    );
    let mut payments: Vec<_> = world
        .read("payments")
        .iter()
        .map(|record| record.json()["message"].clone())
        .collect();
    payments.sort_by_key(|payment| payment["amountCents"].as_u64());
    assert_eq!(payments.len(), 2);
    assert_eq!(
        (&payments[0]["invoiceId"], &payments[0]["amountCents"]),
        (&json!("small"), &json!(100_000))
    );
    assert_eq!(
        (&payments[1]["invoiceId"], &payments[1]["amountCents"]),
        (&json!("large"), &json!(100_001))
    );
    let letters: Vec<_> = world
        .dead_letters()
        .into_iter()
        .map(|letter| letter.code)
        .collect();
    assert_eq!(letters, ["own-invoice"]);
    let timers: Vec<_> = world
        .waiting()
        .into_iter()
        .map(|timer| (timer.task_id, timer.name))
        .collect();
    let timer = |name: &str| ("open".to_owned(), Some(name.to_owned()));
    assert!(
        timers.len() == 2
            && timers.contains(&timer("reminder"))
            && timers.contains(&timer("expiry")),
        "{timers:?}"
    );
    crate::laws::check(&world);
    host.stop();
}
