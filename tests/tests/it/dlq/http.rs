//! The API's half: the same over HTTP.

use serde_json::{Value, json};
use taskhost_tests::{Host, Message, World, soon};

use super::parsed;
use crate::documented::update;

fn post(host: &Host, path: &str, body: &Value) -> (u16, Value) {
    let answer = host.post(path, "application/json", &body.to_string());
    (answer.status, answer.json())
}

#[test]
fn dead_letters_are_seen_edited_replayed_and_discarded_over_http() {
    let world = World::with_partitions(1);
    let host = world.host().start();
    let messages: Vec<Message> = (0..5)
        .map(|number| update(&format!("t-{number}"), "done"))
        .collect();
    world.send_all(&messages);
    world.wait_caught_up();

    // Page by page, each once.
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = host
            .get(&format!("/api/dlq?code=unknown-status&limit=2{next}"))
            .json();
        let items = page["items"].as_array().expect("a list").clone();
        seen.extend(items.into_iter().map(|item| item["task"].to_string()));
        match page["next"].as_str() {
            Some(place) => next = format!("&after={place}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5, "{seen:?}");

    let of = |task: &str| {
        let page = host.get(&format!("/api/dlq?task={task}")).json();
        page["items"][0]["id"].as_str().expect("an id").to_owned()
    };
    let id = of("t-0");
    let shown = host.get(&format!("/api/dlq/{id}")).json();
    assert_eq!(
        shown["value"]["text"],
        json!({"taskId": "t-0", "status": "done"}).to_string()
    );
    let edit = format!("/api/dlq/{id}/edit");
    let bad = json!({ "value": { "text": "{" }, "by": "me", "reason": "a try" });
    assert_eq!(post(&host, &edit, &bad).0, 409);
    let value = json!({ "taskId": "t-0", "status": "new" }).to_string();
    let good = json!({ "value": { "text": value }, "by": "me", "reason": "misspelt" });
    assert_eq!(
        post(&host, &edit, &good),
        (200, json!({ "id": id, "edits": 1 }))
    );

    let dry = json!({ "filter": { "task": "t-0" }, "by": "me", "dryRun": true });
    assert_eq!(
        post(&host, "/api/dlq/replay", &dry),
        (200, json!({ "dryRun": true, "count": 1 }))
    );
    let replay = json!({ "ids": [id], "by": "me" });
    assert_eq!(
        post(&host, "/api/dlq/replay", &replay),
        (202, json!({ "requested": 1, "notTaken": 0 }))
    );
    soon("the replay is applied", || {
        let state = host.get(&format!("/api/dlq/{id}")).json()["state"].clone();
        (state == "applied").then_some(())
    });
    assert_eq!(world.task("t-0").status, "new");
    assert_eq!(
        post(&host, "/api/dlq/replay", &replay),
        (202, json!({ "requested": 0, "notTaken": 1 }))
    );

    let discard = json!({ "filter": { "code": "unknown-status" }, "by": "me", "reason": "a test" });
    assert_eq!(
        post(&host, "/api/dlq/discard", &discard),
        (200, json!({ "discarded": 4, "notTaken": 0 }))
    );
    let export = host.get("/api/dlq/export?state=discarded").body;
    assert_eq!(parsed(&export).len(), 4);
    let again = host.post("/api/dlq/import", "application/x-ndjson", &export);
    assert_eq!((again.status, &again.json()["new"]), (200, &json!(0)));

    // What is wrong says so.
    for (path, code) in [
        ("/api/dlq?limit=0", 400),
        ("/api/dlq?colour=red", 400),
        ("/api/dlq?state=gone", 400),
        ("/api/dlq?after=x", 400),
        ("/api/dlq/x", 400),
        ("/api/dlq/00000000-0000-0000-0000-000000000000", 404),
    ] {
        assert_eq!(host.get(path).status, code, "{path}");
    }
    let both = json!({ "ids": [id], "filter": {}, "by": "me" });
    assert_eq!(post(&host, "/api/dlq/replay", &both).0, 400);
    assert_eq!(
        post(&host, "/api/dlq/replay", &json!({ "by": "me" })).0,
        400
    );
    assert_eq!(
        post(&host, "/api/dlq/replay", &json!({ "ids": [id] })).0,
        400,
        "who does it is said"
    );
    let form = host.post("/api/dlq/replay", "text/plain", &replay.to_string());
    assert_eq!(form.status, 400, "a page of another origin can't send it");
    host.stop();
}
