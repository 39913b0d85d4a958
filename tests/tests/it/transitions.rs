//! The contract's table: what each update means in each status.

use expect_test::expect;
use serde_json::{Value, json};
use taskhost_tests::{Message, World, soon};

/// The columns: what the task went through before the message.
const STATES: [(&str, &[&str]); 5] = [
    ("missing", &[]),
    ("new", &["new"]),
    ("started", &["new", "started"]),
    ("completed", &["new", "completed"]),
    ("error", &["new", "error"]),
];

/// The rows: a status, and the result or error that comes with it. A task that ended, ended with `a`.
const MESSAGES: [(&str, &str); 6] = [
    ("new", ""),
    ("started", ""),
    ("completed", "a"),
    ("completed", "b"),
    ("error", "a"),
    ("error", "b"),
];

fn message(id: &str, status: &str, outcome: &str) -> Message {
    let mut body = json!({ "taskId": id, "status": status });
    match status {
        "completed" => body["result"] = outcome.into(),
        "error" => body["error"] = outcome.into(),
        _ => body["note"] = "kept".into(),
    }
    Message::to("task-status").key(id).json(&body)
}

#[test]
fn each_update_means_in_each_status_what_the_table_says() {
    let world = World::new();
    // Deferred at most three times, a moment each, so that the test sees the end of it.
    let host = world
        .host()
        .env("TASKHOST_DEFERRAL_ATTEMPTS_MAX", "3")
        .env("TASKHOST_DEFERRAL_DELAY_MIN", "50")
        .env("TASKHOST_DEFERRAL_DELAY_MAX", "100")
        .start();
    let mut messages = Vec::new();
    for (state, before) in STATES {
        for (status, outcome) in MESSAGES {
            let id = format!("{state} {status} {outcome}");
            messages.extend(before.iter().map(|status| message(&id, status, "a")));
            messages.push(message(&id, status, outcome));
        }
    }
    world.send_all(&messages);
    world.wait_caught_up();
    soon("nothing waits any more", || {
        world.waiting().is_empty().then_some(())
    });
    world.wait_caught_up();

    let mut table = String::new();
    for (status, outcome) in MESSAGES {
        let cells = STATES.map(|(state, before)| {
            let id = format!("{state} {status} {outcome}");
            format!("{:<20}", what_became(&world, &id, before))
        });
        table += &format!(
            "{:<12}| {}\n",
            format!("{status} {outcome}"),
            cells.join("| ").trim_end()
        );
    }
    // missing, new, started, completed, error
    expect![[r#"
        new         | created             | ignored             | ignored             | ignored             | ignored
        started     | task-missing        | to started          | ignored             | ignored             | ignored
        completed a | task-missing        | to completed        | to completed        | ignored             | illegal-transition
        completed b | task-missing        | to completed        | to completed        | illegal-transition  | illegal-transition
        error a     | task-missing        | to error            | to error            | illegal-transition  | ignored
        error b     | task-missing        | to error            | to error            | illegal-transition  | illegal-transition
    "#]]
    .assert_eq(&table);

    for letter in world
        .dead_letters()
        .iter()
        .filter(|letter| letter.code == "task-missing")
    {
        assert_eq!(
            letter.attempts, 4,
            "decided, and three times again: {letter:?}"
        );
    }
    crate::laws::check(&world);
    host.stop();
}

/// The last message's outcome, as the task and the dead letters show it.
fn what_became(world: &World, id: &str, before: &[&str]) -> String {
    let letters = world.dead_letters();
    if let Some(letter) = letters
        .iter()
        .find(|letter| letter.task_id.as_deref() == Some(id))
    {
        let version = world.find_task(id).map_or(0, |task| task.version);
        assert_eq!(
            usize::try_from(version),
            Ok(before.len()),
            "a dead letter changes nothing: {id}"
        );
        return letter.code.clone();
    }
    let task = world.task(id);
    let version = usize::try_from(task.version).expect("a version");
    assert_eq!(
        world.events(id).len(),
        version,
        "one event for each transition: {id}"
    );
    if version == before.len() {
        assert_eq!(before.last().copied(), Some(task.status.as_str()), "{id}");
        return "ignored".to_owned();
    }
    assert_eq!(version, before.len() + 1, "{id}");
    if task.status == "completed" || task.status == "error" {
        let field = if task.status == "completed" {
            "result"
        } else {
            "error"
        };
        let told = id.rsplit(' ').next().unwrap_or_default();
        assert_eq!(task.data[field], Value::from(told), "{id}");
    }
    match before {
        [] => "created".to_owned(),
        _ => format!("to {}", task.status),
    }
}
