//! A seeded load for the two shipped plugins whose outcome is the same whenever the host dies.
//!
//! Two things make it so. All status messages of a task are keyed by its id, so they keep their order within one
//! partition. And where a task is created through the other topic, so that a message may find it missing or not, each
//! of its messages is applied or ignored in the end, whether it waited or not; what is rejected belongs to tasks whose
//! creation comes before it in its own partition, so that even the number of attempts is the same.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use taskhost_tests::Message;

const REQUESTS: &str = "requests-web-crawl";
const STATUS: &str = "task-status";

/// Tasks whose messages are interleaved.
const AT_ONCE: usize = 100;

/// At least that many messages, in the order in which they are sent: no story is cut short. `from` is the first one's
/// timestamp: near enough to now that the broker keeps it.
pub(crate) fn load(seed: u64, count: usize, from: i64) -> Vec<Message> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut open: Vec<std::vec::IntoIter<Message>> = Vec::new();
    let (mut made, mut messages) = (0, Vec::with_capacity(count));
    loop {
        while open.len() < AT_ONCE && messages.len() < count {
            open.push(story(&mut rng, made).into_iter());
            made += 1;
        }
        if open.is_empty() {
            return messages;
        }
        let turn = rng.random_range(0..open.len());
        match open[turn].next() {
            Some(message) => {
                let at = from + i64::try_from(messages.len()).expect("a small number");
                messages.push(message.at(at));
            }
            None => drop(open.swap_remove(turn)),
        }
    }
}

/// Everything that is sent about one thing.
fn story(rng: &mut StdRng, number: usize) -> Vec<Message> {
    match rng.random_range(0..100) {
        0..50 => requested(rng, &format!("requested-{number}")),
        50..85 => direct(rng, &format!("direct-{number}")),
        _ => vec![garbage(rng, number)],
    }
}

/// A task that is created through the requests: each later message may come before its creation is decided.
fn requested(rng: &mut StdRng, id: &str) -> Vec<Message> {
    let mut story = vec![request(id)];
    if rng.random_ratio(1, 5) {
        story.push(request(id));
    }
    story.extend(started(rng, id));
    let early = rng.random_ratio(1, 4);
    if early {
        story.reverse();
    }
    if rng.random_ratio(4, 5) {
        let (status, field) = *[("completed", "result"), ("error", "error")]
            .choose(rng)
            .expect("one");
        let end = json!({"taskId": id, "status": status, field: format!("{status} {id}")});
        story.push(update(id, &end));
        if rng.random_ratio(1, 3) {
            story.push(update(id, &end));
        }
        if rng.random_ratio(1, 4) {
            story.push(update(
                id,
                &json!({"taskId": id, "status": "started", "late": true}),
            ));
        }
    }
    story
}

/// A task that another service creates: what contradicts its end is rejected.
fn direct(rng: &mut StdRng, id: &str) -> Vec<Message> {
    let mut story = vec![update(
        id,
        &json!({"taskId": id, "status": "new", "userQuery": id}),
    )];
    story.extend(started(rng, id));
    let (end, field) = *[("completed", "result"), ("error", "error")]
        .choose(rng)
        .expect("one");
    story.push(update(
        id,
        &json!({"taskId": id, "status": end, field: "first"}),
    ));
    for _ in 0..rng.random_range(0..4) {
        let again = *["new", "started", "completed", "error"]
            .choose(rng)
            .expect("one");
        let outcome = *["first", "second"].choose(rng).expect("one");
        story.push(update(
            id,
            &json!({"taskId": id, "status": again, field: outcome}),
        ));
    }
    story
}

fn started(rng: &mut StdRng, id: &str) -> Option<Message> {
    let body = json!({"taskId": id, "status": "started", "startedAt": "2024-01-01T00:00:00Z"});
    rng.random_ratio(3, 4).then(|| update(id, &body))
}

fn request(id: &str) -> Message {
    let body = json!({
        "userEmail": "somebody@example.com", "userQuery": format!("all about {id}"), "originalUrl": "https://example.com",
    });
    let headers = json!({"requestId": id, "requestType": "web-crawl"});
    Message::to(REQUESTS)
        .key(id)
        .json(&json!({"headers": headers, "message": body}))
}

/// In one of the forms in which the document can be read.
fn update(id: &str, body: &Value) -> Message {
    let message = Message::to(STATUS).key(id);
    match body["status"].as_str() {
        Some("started") => message
            .json(&json!({"headers": {"taskId": id, "taskType": "web-crawl"}, "message": body})),
        Some("completed") => message.json(body).header("taskId", id),
        _ => message.json(body),
    }
}

/// What can't be anything but a dead letter. Its number tells it apart.
fn garbage(rng: &mut StdRng, number: usize) -> Message {
    let key = format!("garbage-{number}");
    let status = || Message::to(STATUS).key(key.clone());
    let request = |email: &str, query: &str| {
        let body =
            json!({"userEmail": email, "userQuery": query, "originalUrl": "https://example.com"});
        Message::to(REQUESTS)
            .key(key.clone())
            .json(&json!({"headers": {"requestId": key}, "message": body}))
    };
    match rng.random_range(0..9) {
        0 => status().value(format!("no JSON {number}")),
        1 => status(),
        2 => status().value(vec![0xff, 0xfe, 0x00]),
        3 => status().json(&json!([number])),
        4 => status().json(&json!({"taskId": key, "status": "paused"})),
        5 => status()
            .json(&json!({"taskId": key, "status": "new"}))
            .header("taskId", "somebody-else"),
        6 => status().value(format!(
            r#"{{"taskId": "{key}", "status": "new", "n": "\u0000"}}"#
        )),
        7 => request("nobody", "something"),
        _ => request("somebody@example.com", " "),
    }
}
