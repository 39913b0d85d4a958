//! The host's checks of a plugin's description and decisions, as assertions with a sentence.

use std::collections::HashSet;

use serde_json::Value;

use crate::Task;
use crate::bindings::taskhost::plugin::types;

/// The longest name of a status or a timer, in characters.
const NAME_CHARS_MAX: usize = 64;

/// Panics when a description contradicts itself.
pub(super) fn descriptor(d: &types::Descriptor) {
    let plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
    assert!(
        (1..=NAME_CHARS_MAX).contains(&d.name.len()) && d.name.chars().all(plain),
        "the name {:?} is not 1 to 64 of a-z, 0-9 and -",
        d.name
    );
    assert!(
        d.statuses.iter().any(|status| status.initial),
        "no status is initial"
    );
    assert!(!d.consumes.is_empty(), "no topic is consumed");
    assert!(
        !d.task_id.is_empty(),
        "no place is named where the task id is"
    );
    let names: HashSet<&str> = d
        .statuses
        .iter()
        .map(|status| status.name.as_str())
        .collect();
    assert_eq!(names.len(), d.statuses.len(), "a status is named twice");
    for name in &names {
        assert!(
            (1..=NAME_CHARS_MAX).contains(&name.chars().count()),
            "the status {name:?} is too long or empty"
        );
    }
    for rule in &d.transitions {
        for name in [&rule.from, &rule.to] {
            assert!(
                names.contains(name.as_str()),
                "the status {name} of a transition is not declared"
            );
        }
        let from = d.statuses.iter().find(|status| status.name == rule.from);
        assert!(
            rule.from == rule.to || from.is_some_and(|status| !status.terminal),
            "the terminal status {} has a transition to {}",
            rule.from,
            rule.to
        );
    }
    for source in &d.task_id {
        if let types::TaskIdSource::Body(pointer) = source {
            assert!(
                pointer.starts_with('/'),
                "{pointer:?} is not a JSON pointer to a field"
            );
        }
    }
}

/// Panics when the description doesn't cover a decision.
pub(super) fn decision(d: &types::Descriptor, task: Option<&Task>, decision: &types::Decision) {
    match decision {
        types::Decision::Apply(transition) => apply(d, task, transition),
        types::Decision::Reject(rejection) => code(&rejection.code),
        types::Decision::Ignore(_) | types::Decision::Defer(_) => {}
    }
}

fn apply(d: &types::Descriptor, task: Option<&Task>, transition: &types::Transition) {
    let to = &transition.status;
    match task {
        None => assert!(
            d.statuses
                .iter()
                .any(|status| status.initial && status.name == *to),
            "a task is created in the status {to}, which is not an initial one"
        ),
        Some(task) => assert!(
            d.transitions
                .iter()
                .any(|rule| rule.from == task.status() && rule.to == *to),
            "the transition from {} to {to} is not declared",
            task.status()
        ),
    }
    json("the data", &transition.data);
    for event in &transition.events {
        assert!(
            d.events.contains(&event.kind),
            "the event {} is not declared",
            event.kind
        );
        object("an event's data", &event.data);
    }
    for message in &transition.messages {
        assert!(
            d.produces.contains(&message.topic),
            "the topic {} is not declared",
            message.topic
        );
        object("a message's body", &message.body);
    }
    let mut timers = HashSet::new();
    for order in &transition.timers {
        let name = match order {
            types::TimerOrder::Set(timer) => &timer.name,
            types::TimerOrder::Cancel(name) => name,
        };
        assert!(
            (1..=NAME_CHARS_MAX).contains(&name.chars().count()),
            "the timer {name:?} is too long or empty"
        );
        assert!(
            timers.insert(name),
            "the timer {name} is set or cancelled twice"
        );
    }
}

fn code(code: &str) {
    let plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
    assert!(
        !code.is_empty() && code.chars().all(plain),
        "the code {code:?} is not lower case and hyphenated"
    );
}

fn object(what: &str, text: &str) {
    assert!(
        json(what, text).is_object(),
        "{what} is not an object: {text}"
    );
}

fn json(what: &str, text: &str) -> Value {
    let value = serde_json::from_str(text);
    value.unwrap_or_else(|error| panic!("{what} is not JSON: {error}"))
}
