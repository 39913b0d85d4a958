//! The contract's table, cell by cell, and what stands around it.

use serde_json::{Value, json};
use taskhost_sdk::testing::{self, Applied, Case, message};

use super::*;

/// What the table says of a cell.
#[derive(Debug, Clone, Copy)]
enum Cell {
    /// Applied: the status after and the event.
    Moves(&'static str, &'static str),
    /// Nothing changes.
    Ignored,
    /// It waits for its task.
    Deferred,
    /// A dead letter.
    Illegal,
}

use Cell::{Deferred, Ignored, Illegal, Moves};

/// The statuses that a message finds: the columns.
const FOUND: [Option<&str>; 5] = [
    None,
    Some("new"),
    Some("started"),
    Some("completed"),
    Some("error"),
];

/// One row: what each of [`FOUND`] makes of a message.
fn row(body: &Value, cells: [Cell; 5]) {
    for (found, cell) in FOUND.into_iter().zip(cells) {
        let case = match found {
            None => message(body),
            Some(status) => message(body).on(stored(status)),
        };
        let answer = case.decide::<TaskStatus>();
        println!("{body} finds {found:?}: {cell:?}");
        match cell {
            Moves(status, event) => {
                let applied = answer.applied();
                assert_eq!(applied.status, status);
                assert_eq!(applied.events.len(), 1);
                assert_eq!(applied.events[0].0, event);
                assert_eq!((applied.messages, applied.timers), (vec![], vec![]));
            }
            Ignored => drop(answer.ignored()),
            Deferred => assert_eq!(answer.deferred(), Duration::from_secs(1)),
            Illegal => assert_eq!(answer.rejected(), "illegal-transition"),
        }
    }
}

/// A task as it is in a status: completed with the result `r`, failed with the error `e`.
fn stored(status: &str) -> Task {
    let data = match status {
        "completed" => json!({"userQuery": "q", "result": "r"}),
        "error" => json!({"userQuery": "q", "error": "e"}),
        _ => json!({"userQuery": "q"}),
    };
    testing::task("t-1", status, data)
}

fn update(fields: &Value) -> Case {
    let mut body = json!({"taskId": "t-1"});
    let all = body.as_object_mut().expect("an object");
    all.extend(fields.as_object().expect("an object").clone());
    message(body)
}

fn applied(case: Case) -> Applied {
    case.decide::<TaskStatus>().applied()
}

#[test]
fn new_creates_a_missing_task_and_is_ignored_otherwise() {
    row(
        &json!({"taskId": "t-1", "status": "new"}),
        [
            Moves("new", "task.created"),
            Ignored,
            Ignored,
            Ignored,
            Ignored,
        ],
    );
}

#[test]
fn started_waits_for_the_task_moves_a_new_one_and_is_stale_after_the_end() {
    row(
        &json!({"taskId": "t-1", "status": "started", "startedAt": "2024-01-01T00:00:00Z"}),
        [
            Deferred,
            Moves("started", "task.started"),
            Ignored,
            Ignored,
            Ignored,
        ],
    );
}

#[test]
fn completed_ends_a_task_and_again_with_the_same_result_is_ignored() {
    let completes = Moves("completed", "task.completed");
    row(
        &json!({"taskId": "t-1", "status": "completed", "result": "r"}),
        [Deferred, completes, completes, Ignored, Illegal],
    );
}

#[test]
fn completed_again_with_another_result_is_rejected() {
    let completes = Moves("completed", "task.completed");
    for body in [
        json!({"taskId": "t-1", "status": "completed", "result": "other"}),
        json!({"taskId": "t-1", "status": "completed"}),
        json!({"taskId": "t-1", "status": "completed", "result": null, "error": "r"}),
    ] {
        row(&body, [Deferred, completes, completes, Illegal, Illegal]);
    }
}

#[test]
fn error_ends_a_task_and_again_with_the_same_error_is_ignored() {
    let fails = Moves("error", "task.failed");
    row(
        &json!({"taskId": "t-1", "status": "error", "error": "e"}),
        [Deferred, fails, fails, Illegal, Ignored],
    );
}

#[test]
fn error_again_with_another_error_is_rejected() {
    let fails = Moves("error", "task.failed");
    for body in [
        json!({"taskId": "t-1", "status": "error", "error": "other"}),
        json!({"taskId": "t-1", "status": "error"}),
        json!({"taskId": "t-1", "status": "error", "error": null, "result": "e"}),
    ] {
        row(&body, [Deferred, fails, fails, Illegal, Illegal]);
    }
}

#[test]
fn every_message_that_is_repeated_after_it_was_applied_is_ignored() {
    for body in [
        json!({"taskId": "t-1", "status": "started", "result": "early"}),
        json!({"taskId": "t-1", "status": "completed", "result": "r"}),
        json!({"taskId": "t-1", "status": "completed"}),
        json!({"taskId": "t-1", "status": "completed", "result": null}),
        json!({"taskId": "t-1", "status": "error", "error": "e"}),
        json!({"taskId": "t-1", "status": "error"}),
    ] {
        let early = testing::task("t-1", "new", json!({"result": "early", "error": "early"}));
        let first = applied(message(&body).on(early));
        message(&body)
            .on(first.task)
            .decide::<TaskStatus>()
            .ignored();
    }
}

#[test]
fn the_data_gains_the_fields_of_each_message_and_keeps_unknown_ones() {
    let created = applied(update(&json!({
        "status": "new", "userQuery": "q", "receivedAt": "2024-01-01T00:00:00.000Z", "price": {"is": 1.5},
    })));
    let kept =
        json!({"userQuery": "q", "receivedAt": "2024-01-01T00:00:00.000Z", "price": {"is": 1.5}});
    assert_eq!(created.data, kept);
    assert_eq!(created.events, [("task.created".to_owned(), kept)]);

    let started = applied(update(&json!({"status": "started", "worker": "w-7"})).on(created.task));
    assert_eq!(
        started.events,
        [("task.started".to_owned(), json!({"worker": "w-7"}))]
    );

    let fields = json!({"status": "completed", "result": "5 found", "worker": "w-8"});
    let completed = applied(update(&fields).on(started.task));
    assert_eq!(
        completed.data,
        json!({
            "userQuery": "q", "receivedAt": "2024-01-01T00:00:00.000Z", "price": {"is": 1.5},
            "worker": "w-8", "result": "5 found",
        })
    );
    assert_eq!(
        completed.events,
        [(
            "task.completed".to_owned(),
            json!({"worker": "w-8", "result": "5 found"})
        )]
    );
}

#[test]
fn numbers_keep_their_digits() {
    let digits = "123456789012345678901234567890.10";
    let body: Fields = serde_json::from_str(&format!(
        r#"{{"taskId": "t-1", "status": "new", "amount": {digits}}}"#
    ))
    .expect("JSON");
    let data: Fields = applied(message(body)).task.data().expect("an object");
    assert_eq!(data["amount"].get(), digits);
}

#[test]
fn an_outcome_without_text_is_null_whatever_was_there_before() {
    let task = testing::task(
        "t-1",
        "started",
        json!({"result": "early", "error": "early"}),
    );
    let failed = applied(update(&json!({"status": "error"})).on(task.clone()));
    assert_eq!(failed.data, json!({"result": "early", "error": null}));
    let completed = applied(update(&json!({"status": "completed"})).on(task));
    assert_eq!(completed.data, json!({"result": null, "error": "early"}));
}

#[test]
fn the_task_id_is_taken_from_the_body_the_envelope_the_header_and_the_key_in_this_order() {
    let new = || message(json!({"status": "new"})).key("key");
    assert_eq!(applied(new()).task.id(), "key");
    assert_eq!(
        applied(new().header("taskId", "header")).task.id(),
        "header"
    );
    assert_eq!(
        applied(new().envelope("taskId", "envelope")).task.id(),
        "envelope"
    );
    assert_eq!(
        applied(update(&json!({"status": "new"})).key("key"))
            .task
            .id(),
        "t-1"
    );
    let missing = message(json!({"status": "new"})).decide::<TaskStatus>();
    assert_eq!(missing.rejected(), "task-id-missing");
}

#[test]
fn ids_that_agree_are_accepted_and_ids_that_differ_are_rejected() {
    let new = || update(&json!({"status": "new"}));
    let same = new()
        .envelope("taskId", "t-1")
        .header("taskId", "t-1")
        .key("another-key");
    assert_eq!(applied(same).task.id(), "t-1");
    for case in [
        new().envelope("taskId", "t-2"),
        new().header("taskId", "t-2"),
        new().envelope("taskId", "t-1").header("taskId", "t-2"),
        message(json!({"status": "new"}))
            .envelope("taskId", "t-1")
            .header("taskId", "t-2"),
    ] {
        assert_eq!(case.decide::<TaskStatus>().rejected(), "task-id-mismatch");
    }
}

#[test]
fn another_status_is_rejected() {
    for status in ["", "New", "failed", "done"] {
        let answer = update(&json!({"status": status})).decide::<TaskStatus>();
        assert_eq!(answer.rejected(), "unknown-status");
    }
}

#[test]
fn malformed_times_are_rejected() {
    let started = update(&json!({"status": "started", "startedAt": "now"}));
    assert_eq!(
        started.decide::<TaskStatus>().rejected(),
        "invalid-started-at"
    );
    let completed = update(&json!({"status": "completed", "finishedAt": "2024-01-01"}));
    assert_eq!(
        completed.decide::<TaskStatus>().rejected(),
        "invalid-finished-at"
    );
}

#[test]
fn a_missing_status_or_a_field_that_is_no_text_is_named() {
    for (fields, reason) in [
        (json!({}), "missing field `status`"),
        (json!({"status": 1}), "field `status`: expected a string"),
        (
            json!({"status": "completed", "result": {"a": 1}}),
            "field `result`: expected a string",
        ),
        (
            json!({"status": "error", "error": 500}),
            "field `error`: expected a string",
        ),
    ] {
        let answer = update(&fields).decide::<TaskStatus>();
        assert_eq!(answer.clone().rejected(), "invalid-body");
        assert_eq!(answer.rejected_because(), reason);
    }
}
