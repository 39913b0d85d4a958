//! Moves a task through its statuses by the messages of `task-status`.
//!
//! | message   | task missing | new         | started     | completed                                | error                                   |
//! |-----------|--------------|-------------|-------------|------------------------------------------|-----------------------------------------|
//! | new       | created      | ignored     | ignored     | ignored                                  | ignored                                 |
//! | started   | deferred     | → started   | ignored     | ignored: stale                           | ignored: stale                          |
//! | completed | deferred     | → completed | → completed | same result: ignored; other: rejected    | rejected                                |
//! | error     | deferred     | → error     | → error     | rejected                                 | same error: ignored; other: rejected    |
//!
//! The task's data gain all fields of each applied message, except `taskId` and `status`; the event has the gained fields.
//! `result` and `error` are those of the message that ended the task, or `null` if it had none.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use taskhost_sdk::{
    Context, Decision, Description, NoConfig, Plugin, Rejection, Task, TaskId, Timestamp,
    Transition,
};

#[cfg(test)]
mod tests;

/// How long a message waits for its task at first. Another service or another partition creates the task, usually within a
/// second.
const MISSING_TASK_DELAY: Duration = Duration::from_secs(1);

/// Fields as they were sent: numbers keep their digits.
type Fields = BTreeMap<String, Box<RawValue>>;

/// The plugin.
struct TaskStatus;

/// The fields of a message that the rules use.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    task_id: Option<String>,
    status: String,
    result: Option<String>,
    error: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
}

/// The data of an ended task that a repeated message is compared with.
#[derive(Debug, Deserialize)]
struct Ended {
    result: Option<String>,
    error: Option<String>,
}

impl Plugin for TaskStatus {
    type Config = NoConfig;
    type Message = Update;

    fn describe(_: &NoConfig) -> Description {
        Description::new("task-status", env!("CARGO_PKG_VERSION"))
            .initial("new")
            .status("started")
            .terminal("completed")
            .terminal("error")
            .transition("new", "started")
            .transition("new", "completed")
            .transition("new", "error")
            .transition("started", "completed")
            .transition("started", "error")
            .consumes("task-status")
            .event("task.created")
            .event("task.started")
            .event("task.completed")
            .event("task.failed")
            .task_id(TaskId::Body("/taskId"))
            .task_id(TaskId::Envelope("taskId"))
            .task_id(TaskId::Header("taskId"))
            .task_id(TaskId::Key)
    }

    fn validate(_: &NoConfig, update: Update, context: &Context) -> Result<Update, Rejection> {
        let ids = [
            update.task_id.as_deref(),
            context.envelope("taskId"),
            context.header("taskId"),
        ];
        let ids: Vec<&str> = ids.into_iter().flatten().collect();
        if ids.windows(2).any(|pair| pair[0] != pair[1]) {
            let reason = "the body and the headers name different tasks";
            return Err(Rejection::new("task-id-mismatch", reason));
        }
        if !matches!(
            update.status.as_str(),
            "new" | "started" | "completed" | "error"
        ) {
            let reason = "status is none of new, started, completed and error";
            return Err(Rejection::new("unknown-status", reason));
        }
        check_time(
            update.started_at.as_deref(),
            "invalid-started-at",
            "startedAt",
        )?;
        check_time(
            update.finished_at.as_deref(),
            "invalid-finished-at",
            "finishedAt",
        )?;
        Ok(update)
    }

    fn transition(
        _: &NoConfig,
        task: Option<&Task>,
        update: Update,
        context: &Context,
    ) -> Result<Decision, Rejection> {
        let Some(task) = task else {
            return match update.status.as_str() {
                "new" => apply(None, "task.created", &update, context),
                _ => Ok(Decision::defer(
                    "the task does not exist yet",
                    MISSING_TASK_DELAY,
                )),
            };
        };
        match (update.status.as_str(), task.status()) {
            ("new", _) => Ok(Decision::ignore("the task exists already")),
            ("started", "new") => apply(Some(task), "task.started", &update, context),
            ("started", "started") => Ok(Decision::ignore("the task is started already")),
            ("started", _) => Ok(Decision::ignore("stale: the task has ended")),
            ("completed", "new" | "started") => {
                apply(Some(task), "task.completed", &update, context)
            }
            ("error", "new" | "started") => apply(Some(task), "task.failed", &update, context),
            ("completed", "completed") if task.data::<Ended>()?.result == update.result => Ok(
                Decision::ignore("the task is completed with this result already"),
            ),
            ("error", "error") if task.data::<Ended>()?.error == update.error => {
                Ok(Decision::ignore("the task failed with this error already"))
            }
            (to, from) => {
                let reason = match from == to {
                    true => format!("the task is in status {from} already, with another outcome"),
                    false => format!("a task in status {from} can't change to {to}"),
                };
                Err(Rejection::new("illegal-transition", reason))
            }
        }
    }
}

/// Moves the task to its next status; its data gain the message's fields.
fn apply(
    task: Option<&Task>,
    event: &str,
    update: &Update,
    context: &Context,
) -> Result<Decision, Rejection> {
    let mut gained: Fields = context.body()?;
    gained.remove("taskId");
    gained.remove("status");
    // The outcome is that of this message, even if only an earlier message had a value.
    match update.status.as_str() {
        "completed" => gained.insert("result".to_owned(), text(update.result.as_deref())),
        "error" => gained.insert("error".to_owned(), text(update.error.as_deref())),
        _ => None,
    };
    let mut data: Fields = task.map_or_else(|| Ok(Fields::new()), Task::data)?;
    let transition = Transition::to(&update.status).event(event, &gained);
    data.append(&mut gained);
    Ok(transition.data(&data).into())
}

fn check_time(time: Option<&str>, code: &str, field: &str) -> Result<(), Rejection> {
    if time.is_some_and(|time| Timestamp::parse(time).is_err()) {
        return Err(Rejection::new(
            code,
            format!("{field} is not an RFC 3339 time"),
        ));
    }
    Ok(())
}

fn text(text: Option<&str>) -> Box<RawValue> {
    to_raw_value(&text).expect("text can be written as JSON")
}

taskhost_sdk::export!(TaskStatus);
