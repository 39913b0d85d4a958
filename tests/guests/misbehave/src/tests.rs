//! What can be seen natively: the good behaviour, and the answers that are only wrong.

use std::collections::HashSet;

use taskhost_sdk::bindings::taskhost::plugin::types::{Meta, Task};

use super::*;

fn message(body: &str) -> Cause {
    Cause::Message(Message {
        cause: 0,
        topic: "misbehave".to_owned(),
        partition: 0,
        offset: 0,
        timestamp: 0,
        seed: String::new(),
        attempt: 0,
        key: None,
        headers: Vec::new(),
        envelope: Vec::new(),
        meta: Meta {
            task_id: None,
            task_type: "thing".to_owned(),
            request_id: None,
            timestamp: 0,
            trace_id: String::new(),
        },
        body: body.to_owned(),
    })
}

fn told(behaviours: &[&str]) -> Vec<Decision> {
    let body = |behaviour: &&str| message(&format!(r#"{{"id": "a", "misbehave": "{behaviour}"}}"#));
    let causes = behaviours.iter().map(body).collect();
    decide_work(
        &Work {
            task_id: "a".to_owned(),
            task: None,
            causes,
        },
        "a",
    )
}

#[test]
fn it_is_good_unless_it_is_told_otherwise() {
    let causes = vec![message(r#"{"id": "a"}"#), message(r#"{"id": "a"}"#)];
    let [first, second] = &decide_work(
        &Work {
            task_id: "a".to_owned(),
            task: None,
            causes,
        },
        "a",
    )[..] else {
        panic!("two decisions");
    };
    assert_eq!(*first, answers::open(&Value::Null));
    assert!(matches!(second, Decision::Ignore(_)));

    let task = Task {
        id: "a".to_owned(),
        type_: "thing".to_owned(),
        status: "open".to_owned(),
        data: "{}".to_owned(),
        version: 1,
        created_at: 0,
        updated_at: 0,
    };
    let causes = vec![message(r#"{"id": "a"}"#)];
    let known = decide_work(
        &Work {
            task_id: "a".to_owned(),
            task: Some(task),
            causes,
        },
        "a",
    );
    assert!(matches!(known[0], Decision::Ignore(_)));
}

#[test]
fn the_count_is_wrong_where_it_is_told_to_be() {
    assert_eq!(told(&["reject", "wrong-count", "reject"]).len(), 2);
    assert_eq!(told(&["too-many"]).len(), 2);
}

#[test]
fn each_wrong_answer_is_another_one() {
    let wrong = [
        "undeclared-status",
        "undeclared-event",
        "undeclared-topic",
        "non-initial-status",
        "bad-json",
        "bad-event-json",
        "event-not-an-object",
        "nul",
        "lone-surrogate",
        "huge-number",
        "reject",
        "defer",
        "ignore",
    ];
    let answers: HashSet<String> = told(&wrong)
        .iter()
        .map(|answer| format!("{answer:?}"))
        .collect();
    assert_eq!(answers.len(), wrong.len());
    assert!(!answers.contains(&format!("{:?}", answers::open(&Value::Null))));
    assert!(
        !answers
            .iter()
            .any(|answer| answer.contains("unknown-behaviour"))
    );
}

#[test]
fn large_answers_are_json_of_the_size_that_is_promised() {
    let Decision::Apply(large) = &told(&["answer-large"])[0] else {
        panic!("it is applied");
    };
    assert_eq!(large.data.len(), 20_000_000);
    assert!(serde_json::from_str::<Value>(&large.data).is_ok());
}

#[test]
fn an_unknown_behaviour_is_rejected_so_that_a_typing_error_is_seen() {
    assert!(matches!(&told(&["trab"])[0], Decision::Reject(r) if r.code == "unknown-behaviour"));
}

#[test]
fn state_counts_within_an_instance() {
    let states = told(&["keep-state", "keep-state"]);
    assert_ne!(states[0], states[1]);
}

#[test]
fn a_decision_that_is_put_elsewhere_leaves_its_own_place_empty() {
    let work = |id: &str, behaviour: &str| Work {
        task_id: id.to_owned(),
        task: None,
        causes: vec![message(&format!(
            r#"{{"id": "{id}", "misbehave": "{behaviour}"}}"#
        ))],
    };
    let answers = Component::decide(vec![work("a", "answer-elsewhere"), work("b", "")]);
    assert_eq!((answers[0].len(), answers[1].len()), (0, 2));
    assert_eq!(
        Component::decide(vec![work("a", "answer-elsewhere")])[0].len(),
        0
    );
    let answers = Component::decide(vec![work("a", ""), work("b", "answer-of-another")]);
    assert_eq!(answers[1][0], answers::open(&"a".into()));
}
