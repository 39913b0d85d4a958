//! Answers that the host must not accept, and the ordinary ones.

use serde_json::{Value, json};
use taskhost_sdk::bindings::Decision;
use taskhost_sdk::bindings::taskhost::plugin::types::{
    Deferral, Event, Outgoing, Rejection, Transition,
};

/// Larger than any limit on memory.
const HUGE_BYTES: usize = 100_000_000;
/// Larger than the limit on an answer, and fits the memory.
const LARGE_BYTES: usize = 20_000_000;
/// Larger than any limit on a text.
const LONG_BYTES: usize = 1_000_000;
/// More than any limit on events.
const EVENTS: usize = 100_000;
/// Deeper than any limit on nesting.
const DEEP_LEVELS: usize = 100_000;

/// The good answer, with what was seen.
pub(crate) fn open(seen: &Value) -> Decision {
    Decision::Apply(opened(json!({ "seen": seen }).to_string()))
}

fn opened(data: String) -> Transition {
    Transition {
        status: "open".to_owned(),
        data,
        events: vec![event("thing.opened", "{}")],
        messages: Vec::new(),
        timers: Vec::new(),
    }
}

fn event(kind: &str, data: &str) -> Event {
    Event {
        kind: kind.to_owned(),
        data: data.to_owned(),
    }
}

/// The answer of that name.
pub(crate) fn answer(behaviour: &str) -> Decision {
    let mut good = opened(r#"{"seen": null}"#.to_owned());
    match behaviour {
        "answer-huge" => good.data = sized(HUGE_BYTES),
        "answer-large" => good.data = sized(LARGE_BYTES),
        "many-events" => good.events = vec![event("thing.opened", "{}"); EVENTS],
        "undeclared-status" => good.status = "lost".to_owned(),
        "non-initial-status" => good.status = "closed".to_owned(),
        "undeclared-event" => good.events.push(event("thing.lost", "{}")),
        "undeclared-topic" => good.messages.push(Outgoing {
            topic: "somebody-elses".to_owned(),
            key: None,
            body: "{}".to_owned(),
            headers: Vec::new(),
        }),
        "bad-json" => good.data = r#"{"seen": "#.to_owned(),
        "bad-event-json" => good.events[0].data = "seen".to_owned(),
        "event-not-an-object" => good.events[0].data = "7".to_owned(),
        "nul" => good.data = r#"{"seen": "a\u0000b"}"#.to_owned(),
        "lone-surrogate" => good.data = r#"{"seen": "\ud800"}"#.to_owned(),
        "huge-number" => good.data = r#"{"seen": 1e999999}"#.to_owned(),
        "deep-json" => {
            good.data = format!(
                r#"{{"seen": {}{}}}"#,
                "[".repeat(DEEP_LEVELS),
                "]".repeat(DEEP_LEVELS)
            );
        }
        "bad-code" => return reject(&"Not A Code ".repeat(LONG_BYTES / 11), "told to"),
        "huge-reason" => return reject("told-to", &"told to ".repeat(LONG_BYTES / 8)),
        "reject" => return reject("told-to", "told to"),
        "defer" => {
            return Decision::Defer(Deferral {
                reason: "told to".to_owned(),
                delay: 1000,
            });
        }
        "ignore" => return Decision::Ignore("told to".to_owned()),
        _ => {
            return reject(
                "unknown-behaviour",
                "this guest does not know how to do that",
            );
        }
    }
    Decision::Apply(good)
}

/// Data of that size, made without a copy: the limit on memory must not be what it meets first.
fn sized(bytes: usize) -> String {
    let mut data = String::with_capacity(bytes);
    data.push_str(r#"{"seen": ""#);
    data.extend(std::iter::repeat_n('x', bytes - data.len() - 2));
    data.push_str(r#""}"#);
    data
}

fn reject(code: &str, reason: &str) -> Decision {
    Decision::Reject(Rejection {
        code: code.to_owned(),
        reason: reason.to_owned(),
    })
}
