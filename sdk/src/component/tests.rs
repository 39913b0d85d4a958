//! The fold: every cause is decided on the task as the ones before it left it.

use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::testing::{self, Case, message, wakeup};
use crate::{Level, TaskId, Timestamp, Transition};

/// Adds up amounts and does what it is told besides.
struct Counter;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    step: u64,
}

#[derive(Debug, Deserialize)]
struct Add {
    #[serde(default)]
    amount: u64,
    #[serde(default)]
    then: String,
}

/// What the task was when the last cause was decided, and the sum.
#[derive(Debug, Default, Deserialize, Serialize, PartialEq)]
struct Data {
    sum: u64,
    seen: Option<(String, u64, String, i64, i64)>,
}

impl Plugin for Counter {
    type Config = Config;
    type Message = Add;

    fn check(config: &Config) -> Result<(), String> {
        if config.step > 10 {
            Err("the step is above 10".to_owned())
        } else {
            Ok(())
        }
    }

    fn describe(_: &Config) -> Description {
        Description::new("counter", "1.0.0")
            .initial("open")
            .transition("open", "open")
            .consumes("amounts")
            .event("added")
            .task_id(TaskId::Body("/id"))
    }

    fn validate(_: &Config, add: Add, context: &Context) -> Result<Add, Rejection> {
        context.log(Level::Debug, "validating");
        if add.amount > 100 {
            return Err(Rejection::new("too-much", "the amount is above 100"));
        }
        Ok(add)
    }

    fn transition(
        config: &Config,
        task: Option<&Task>,
        add: Add,
        _: &Context,
    ) -> Result<Decision, Rejection> {
        match add.then.as_str() {
            "wait" => return Ok(Decision::defer("told to", Duration::from_secs(2))),
            "ignore" => return Ok(Decision::ignore("told to")),
            _ => {}
        }
        let before: Data = task.map_or_else(|| Ok(Data::default()), Task::data)?;
        let seen = task.map(|task| {
            let (created, updated) = (task.created_at().millis(), task.updated_at().millis());
            let named = format!("{} {}", task.id(), task.task_type());
            (
                named,
                task.version(),
                task.status().to_owned(),
                created,
                updated,
            )
        });
        let data = Data {
            sum: before.sum + add.amount + config.step,
            seen,
        };
        Ok(Transition::to("open")
            .data(&data)
            .event("added", &())
            .into())
    }

    fn wakeup(
        _: &Config,
        task: &Task,
        wakeup: &Wakeup,
        context: &Context,
    ) -> Result<Decision, Rejection> {
        let add: Add = wakeup.data()?;
        assert_eq!((context.task_type(), wakeup.name()), ("test", "later"));
        let sum = task.data::<Data>()?.sum + add.amount;
        Ok(Transition::to("open")
            .data(&Data { sum, seen: None })
            .event("added", &())
            .into())
    }
}

fn work(task: Option<types::Task>, cases: impl IntoIterator<Item = Case>) -> types::Work {
    let causes = cases.into_iter().map(Case::into_cause).collect();
    types::Work {
        task_id: "c-1".to_owned(),
        task,
        causes,
    }
}

fn stored() -> types::Task {
    types::Task {
        id: "c-1".to_owned(),
        type_: "test".to_owned(),
        status: "open".to_owned(),
        data: r#"{"sum": 40}"#.to_owned(),
        version: 7,
        created_at: 1,
        updated_at: 2,
    }
}

fn data(decision: &types::Decision) -> Data {
    match decision {
        types::Decision::Apply(transition) => serde_json::from_str(&transition.data).expect("data"),
        other => panic!("not applied: {other:?}"),
    }
}

fn decided(works: Vec<types::Work>) -> Vec<Vec<types::Decision>> {
    decide::<Counter>(Some(&Config::default()), works)
}

#[test]
fn each_cause_is_decided_on_the_task_as_the_ones_before_it_left_it() {
    let add = |amount: u64, at: &str| message(json!({"amount": amount})).at(at);
    let decisions = decided(vec![work(
        None,
        [
            add(1, "2024-01-01T00:00:01Z"),
            add(2, "2024-01-01T00:00:02Z"),
            add(3, "2024-01-01T00:00:03Z"),
        ],
    )]);
    let at = |time| Timestamp::parse(time).expect("a time").millis();
    let (first, second) = (at("2024-01-01T00:00:01Z"), at("2024-01-01T00:00:02Z"));
    let seen = |version, updated| {
        Some((
            "c-1 test".to_owned(),
            version,
            "open".to_owned(),
            first,
            updated,
        ))
    };
    assert_eq!(data(&decisions[0][0]), Data { sum: 1, seen: None });
    assert_eq!(
        data(&decisions[0][1]),
        Data {
            sum: 3,
            seen: seen(1, first)
        }
    );
    assert_eq!(
        data(&decisions[0][2]),
        Data {
            sum: 6,
            seen: seen(2, second)
        }
    );
}

#[test]
fn a_stored_task_keeps_its_creation_and_counts_on() {
    let one = || message(json!({"amount": 1})).at("1970-01-01T00:00:01Z");
    let decisions = decided(vec![work(Some(stored()), [one(), one()])]);
    let seen = |version, updated| {
        Some((
            "c-1 test".to_owned(),
            version,
            "open".to_owned(),
            1,
            updated,
        ))
    };
    assert_eq!(
        data(&decisions[0][0]),
        Data {
            sum: 41,
            seen: seen(7, 2)
        }
    );
    assert_eq!(
        data(&decisions[0][1]),
        Data {
            sum: 42,
            seen: seen(8, 1000)
        }
    );
}

#[test]
fn what_is_not_applied_leaves_the_task_as_it_is_and_what_is_behind_is_answered() {
    let decisions = decided(vec![work(
        Some(stored()),
        [
            message(json!({"amount": 1})),
            message(json!({"then": "wait"})),
            message(json!({"then": "ignore"})),
            message(json!({"amount": 101})),
            message(json!({"amount": "none"})),
            message(json!({"amount": 1})),
        ],
    )]);
    let [first, wait, ignore, too_much, malformed, last] = &decisions[0][..] else {
        panic!("six decisions: {decisions:?}");
    };
    assert_eq!(data(first).sum, 41);
    assert_eq!(
        *wait,
        types::Decision::Defer(types::Deferral {
            reason: "told to".to_owned(),
            delay: 2000
        })
    );
    assert_eq!(*ignore, types::Decision::Ignore("told to".to_owned()));
    assert!(matches!(too_much, types::Decision::Reject(r) if r.code == "too-much"));
    assert!(matches!(malformed, types::Decision::Reject(r) if r.code == "invalid-body"));
    assert_eq!(data(last).sum, 42);
}

#[test]
fn works_are_answered_in_their_order_and_do_not_touch_each_other() {
    let one = || message(json!({"amount": 1}));
    let decisions = decided(vec![
        work(None, [one()]),
        work(Some(stored()), [one()]),
        work(None, []),
    ]);
    assert_eq!(
        decisions.iter().map(Vec::len).collect::<Vec<_>>(),
        [1, 1, 0]
    );
    assert_eq!(
        (data(&decisions[0][0]).sum, data(&decisions[1][0]).sum),
        (1, 41)
    );
}

#[test]
fn a_timer_wakes_its_task_between_messages() {
    let decisions = decided(vec![work(
        Some(stored()),
        [
            wakeup("later", json!({"amount": 10})),
            message(json!({"amount": 1})),
        ],
    )]);
    assert_eq!(data(&decisions[0][0]).sum, 50);
    assert_eq!(data(&decisions[0][1]).sum, 51);
}

#[test]
fn a_timer_without_its_task_is_ignored() {
    let decisions = decided(vec![work(None, [wakeup("later", json!({}))])]);
    assert!(matches!(decisions[0][0], types::Decision::Ignore(_)));
}

#[test]
fn a_timer_whose_data_is_unreadable_is_rejected() {
    let task = testing::task("c-1", "open", json!({"sum": 1}));
    let answer = wakeup("later", json!({"amount": -1}))
        .on(task)
        .decide::<Counter>();
    assert_eq!(answer.rejected(), "invalid-timer-data");
}

#[test]
fn task_data_that_does_not_fit_is_rejected() {
    let task = testing::task("c-1", "open", json!({"sum": "forty"}));
    let answer = message(json!({"amount": 1})).on(task).decide::<Counter>();
    assert_eq!(answer.rejected(), "invalid-task-data");
}

#[test]
fn log_lines_are_collected_once() {
    let answer = message(json!({"id": "c-1"})).decide::<Counter>();
    assert_eq!(answer.logged(), [(Level::Debug, "validating".to_owned())]);
}

#[test]
fn configure_keeps_a_good_configuration_and_refuses_others() {
    let kept = OnceLock::new();
    let error = |config| configure::<Counter>(&kept, config).expect_err(config);
    assert!(error(r#"{"steps": 1}"#).contains("steps"));
    assert!(error(r#"{"step": "one"}"#).contains("`step`"));
    assert_eq!(error(r#"{"step": 11}"#), "the step is above 10");

    let descriptor = configure::<Counter>(&kept, r#"{"step": 5}"#).expect("a good configuration");
    assert_eq!(descriptor.name, "counter");
    let decisions = decide::<Counter>(
        kept.get(),
        vec![work(None, [message(json!({"amount": 1}))])],
    );
    assert_eq!(data(&decisions[0][0]).sum, 6);
    assert!(
        configure::<Counter>(&kept, "{}").is_err(),
        "an instance is configured once"
    );
}

#[test]
#[should_panic(expected = "is not declared")]
fn a_test_refuses_what_the_host_would_refuse() {
    let task = testing::task("c-1", "closed", json!({"sum": 1}));
    let _ = message(json!({"amount": 1})).on(task).decide::<Counter>();
}

#[test]
fn ids_repeat_for_the_same_position_and_name_only() {
    let id = |offset, name: &str| {
        let types::Cause::Message(message) = message(json!({})).position(0, offset).into_cause()
        else {
            unreachable!("a message's cause is a message");
        };
        Context::of_message("c-1", &message).uuid(name)
    };
    assert_eq!(id(1, "a"), id(1, "a"));
    assert_ne!(id(1, "a"), id(1, "b"));
    assert_ne!(id(1, "a"), id(2, "a"));
    assert_eq!(id(1, "a").get_version_num(), 5);
}
