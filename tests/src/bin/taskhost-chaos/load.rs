//! A seeded load without end, for the two shipped plugins, whose outcome can be computed from the topics alone.
//!
//! All status messages of a task are keyed by its id, so they keep their order within one partition; all requests of a
//! task are, too. Where a task is created through the requests, its status messages may come before it: they wait, and
//! take effect in their own order. There are repeats, disorder, what contradicts a task's end, and garbage.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use taskhost_tests::Message;

pub(crate) const REQUESTS: &str = "requests-web-crawl";
pub(crate) const STATUS: &str = "task-status";

/// Tasks whose messages are interleaved.
const AT_ONCE: usize = 60;

/// After how many further messages the request comes that a late task's messages wait for.
const LATE: std::ops::Range<usize> = 1_000..4_000;

/// The messages in the order in which they are sent.
pub(crate) struct Load {
    rng: StdRng,
    made: usize,
    sent: usize,
    open: Vec<std::vec::IntoIter<Message>>,
    /// Requests that are held back, and when they are due.
    late: VecDeque<(usize, Message)>,
}

impl Load {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self {
            rng,
            made: 0,
            sent: 0,
            open: Vec::new(),
            late: VecDeque::new(),
        }
    }

    /// What is left of the stories that have begun: none is cut short.
    pub(crate) fn rest(mut self) -> Vec<Message> {
        let mut rest = Vec::new();
        while !self.open.is_empty() {
            rest.extend(self.turn());
        }
        rest.extend(self.late.into_iter().map(|(_, request)| request));
        rest
    }

    /// The next message of one of the open stories; none if that one is at its end.
    fn turn(&mut self) -> Option<Message> {
        let turn = self.rng.random_range(0..self.open.len());
        let message = self.open[turn].next();
        if message.is_none() {
            drop(self.open.swap_remove(turn));
        }
        message
    }

    /// Everything that is sent about one thing.
    fn story(&mut self) -> Vec<Message> {
        let number = self.made;
        self.made += 1;
        let rng = &mut self.rng;
        match rng.random_range(0..100) {
            0..45 => requested(rng, &format!("requested-{number}")),
            45..85 => direct(rng, &format!("direct-{number}")),
            85..86 => {
                let mut story = requested(rng, &format!("late-{number}"));
                let due = self.sent + rng.random_range(LATE);
                let request = |message: &Message| message.topic() == REQUESTS;
                self.late.extend(
                    story
                        .extract_if(.., |message| request(message))
                        .map(|message| (due, message)),
                );
                story
            }
            _ => vec![garbage(rng, number)],
        }
    }
}

impl Iterator for Load {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let late = self.late.front().is_some_and(|(due, _)| *due <= self.sent);
        let message = match late {
            true => self.late.pop_front().map(|(_, request)| request),
            false => None,
        };
        let message = message.unwrap_or_else(|| {
            loop {
                while self.open.len() < AT_ONCE {
                    let story = self.story();
                    self.open.push(story.into_iter());
                }
                if let Some(message) = self.turn() {
                    break message;
                }
            }
        });
        self.sent += 1;
        Some(message)
    }
}

/// A task that is created through the requests: each of its other messages may come before that is decided.
fn requested(rng: &mut StdRng, id: &str) -> Vec<Message> {
    let mut story = vec![request(id)];
    if rng.random_ratio(1, 5) {
        story.push(request(id));
    }
    story.extend(started(rng, id));
    if rng.random_ratio(1, 4) {
        story.reverse();
    }
    story.extend(end(rng, id));
    story.extend(afterwards(rng, id));
    story
}

/// A task that another service creates.
fn direct(rng: &mut StdRng, id: &str) -> Vec<Message> {
    let mut story = vec![update(id, "new", "query")];
    story.extend(started(rng, id));
    story.extend(end(rng, id));
    story.extend(afterwards(rng, id));
    story
}

fn started(rng: &mut StdRng, id: &str) -> Option<Message> {
    rng.random_ratio(3, 4).then(|| update(id, "started", ""))
}

fn end(rng: &mut StdRng, id: &str) -> Option<Message> {
    let end = *["completed", "completed", "error"].choose(rng)?;
    rng.random_ratio(9, 10).then(|| update(id, end, "first"))
}

/// Repeats, what is late, and what contradicts what was said before.
fn afterwards(rng: &mut StdRng, id: &str) -> Vec<Message> {
    let more = match rng.random_ratio(1, 3) {
        true => rng.random_range(1..4),
        false => 0,
    };
    let message = |_| {
        let status = *["started", "completed", "error"]
            .choose(rng)
            .unwrap_or(&"started");
        let text = *["first", "first", "second"].choose(rng).unwrap_or(&"first");
        update(id, status, text)
    };
    (0..more).map(message).collect()
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
fn update(id: &str, status: &str, text: &str) -> Message {
    let message = Message::to(STATUS).key(id);
    match status {
        "started" => {
            let body = json!({"taskId": id, "status": status, "startedAt": "2024-01-01T00:00:00Z"});
            message
                .json(&json!({"headers": {"taskId": id, "taskType": "web-crawl"}, "message": body}))
        }
        "completed" => message
            .json(&json!({"taskId": id, "status": status, "result": text}))
            .header("taskId", id),
        "error" => message.json(&json!({"taskId": id, "status": status, "error": text})),
        _ => message.json(&json!({"taskId": id, "status": status, "userQuery": text})),
    }
}

/// What can't be anything but a dead letter.
fn garbage(rng: &mut StdRng, number: usize) -> Message {
    let key = format!("garbage-{number}");
    let status = || Message::to(STATUS).key(key.clone());
    let update = |status: &str| -> Value { json!({"taskId": key, "status": status}) };
    let request = |email: &str, query: &str| {
        let body =
            json!({"userEmail": email, "userQuery": query, "originalUrl": "https://example.com"});
        Message::to(REQUESTS)
            .key(key.clone())
            .json(&json!({"headers": {"requestId": key}, "message": body}))
    };
    match rng.random_range(0..10) {
        0 => status().value(format!("no JSON {number}")),
        1 => status(),
        2 => status().value(""),
        3 => status().value(vec![0xff, 0xfe, 0x00]),
        4 => status().json(&json!([number])),
        5 => status().json(&update("paused")),
        6 => status()
            .json(&update("new"))
            .header("taskId", "somebody-else"),
        7 => status().value(format!(
            r#"{{"taskId": "{key}", "status": "new", "n": "\u0000"}}"#
        )),
        8 => request("nobody", "something"),
        _ => request("somebody@example.com", " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(seed: u64, count: usize) -> Vec<String> {
        let mut load = Load::new(seed);
        let mut messages: Vec<Message> = load.by_ref().take(count).collect();
        messages.extend(load.rest());
        messages
            .iter()
            .map(|message| format!("{message:?}"))
            .collect()
    }

    #[test]
    fn a_seed_is_one_load() {
        assert_eq!(shown(1, 2_000), shown(1, 2_000));
        assert_ne!(shown(1, 2_000), shown(2, 2_000));
    }
}
