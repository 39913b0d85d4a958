//! `taskhost task show`: one task, its data and its whole history.

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use taskhost_core::task::{Task, TaskId};
use taskhost_core::timestamp;

use crate::cli::database::Database;
use crate::cli::output::{self, table};
use crate::cli::{EXIT_CODES, Failure, Global, Output};
use crate::store::RecordedEvent;

/// Show one task and its whole history.
///
/// With --json the output is one object on one line: the task with its `data` and its `events`.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost task show 0b6f7f0e-6f6e-5c43-9d0e-3a1c2b4d5e6f\n  taskhost task show $id --json | jq -r '.events[].kind'\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    /// The task's id.
    pub(super) id: String,
    #[command(flatten)]
    pub(super) output: Output,
}

/// A task for scripts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    status: &'a str,
    version: i64,
    created_at: String,
    updated_at: String,
    /// As it is stored: numbers keep all their digits.
    data: Box<RawValue>,
    events: Vec<ShownEvent<'a>>,
}

/// A task event for scripts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
// Many fields: each is a field of the line that scripts read.
struct ShownEvent<'a> {
    event_id: String,
    version: i64,
    number: i32,
    kind: &'a str,
    from: Option<&'a str>,
    to: &'a str,
    at: String,
    recorded_at: String,
    data: Box<RawValue>,
    cause: ShownCause<'a>,
    plugin: ShownPlugin<'a>,
    trace_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    foreign_trace_id: Option<&'a str>,
}

/// The message that caused an event.
#[derive(Serialize)]
struct ShownCause<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

/// The version that decided.
#[derive(Serialize)]
struct ShownPlugin<'a> {
    name: &'a str,
    version: &'a str,
    digest: &'a str,
}

pub(in crate::cli) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let id = TaskId::new(&arguments.id)
        .map_err(|error| Failure::Usage(format!("{:?} is not a task id: {error}", arguments.id)))?;
    let database = Database::open(&global.config()?)?;
    let found = database.ask(database.store.show_task(&id))?;
    let (task, events) = found.ok_or_else(|| {
        Failure::Failed(format!(
            "there is no task {id}; `taskhost task list` lists the tasks"
        ))
    })?;
    let text = match arguments.output.json {
        true => line(&task, &events)?,
        false => page(&task, &events),
    };
    output::print(&text)
}

fn line(task: &Task, events: &[RecordedEvent]) -> Result<String, Failure> {
    let unreadable = |error| Failure::of("the task can't be shown", &error);
    let raw = |json: &str| RawValue::from_string(output::one_line(json)).map_err(unreadable);
    let events = events.iter().map(|recorded| {
        let event = &recorded.event;
        Ok(ShownEvent {
            event_id: event.id(),
            version: event.version,
            number: event.number,
            kind: &event.kind,
            from: event.from.as_deref(),
            to: &event.to,
            at: timestamp::to_rfc3339(event.at),
            recorded_at: timestamp::to_rfc3339(recorded.stored_at),
            data: raw(&event.data)?,
            cause: ShownCause {
                topic: &event.cause.topic,
                partition: event.cause.partition,
                offset: event.cause.offset,
            },
            plugin: ShownPlugin {
                name: &event.plugin.name,
                version: &event.plugin.version,
                digest: &event.plugin.digest,
            },
            trace_id: &event.trace_id,
            foreign_trace_id: event.foreign_trace_id.as_deref(),
        })
    });
    let shown = Shown {
        id: task.id.as_str(),
        kind: &task.kind,
        status: &task.status,
        version: task.version,
        created_at: timestamp::to_rfc3339(task.created_at),
        updated_at: timestamp::to_rfc3339(task.updated_at),
        data: raw(&task.data)?,
        events: events.collect::<Result<_, Failure>>()?,
    };
    let text = serde_json::to_string(&shown).map_err(unreadable)?;
    Ok(text + "\n")
}

pub(in crate::cli) fn page(task: &Task, events: &[RecordedEvent]) -> String {
    let mut head = table(["id", task.id.as_str()]);
    head.add_row(["type", &task.kind]);
    head.add_row(["status".into(), output::status(&task.status)]);
    head.add_row(["version", &task.version.to_string()]);
    head.add_row(["created", &timestamp::to_rfc3339(task.created_at)]);
    head.add_row(["updated", &timestamp::to_rfc3339(task.updated_at)]);
    let mut text = format!("{}\n{}\n\n", output::text(&head), pretty(&task.data));
    let mut history = table([
        "version",
        "event",
        "from",
        "to",
        "at",
        "caused by",
        "decided by",
        "data",
    ]);
    for RecordedEvent { event, .. } in events {
        history.add_row([
            event.version.to_string().into(),
            event.kind.as_str().into(),
            event
                .from
                .as_deref()
                .map_or_else(|| "-".into(), output::status),
            output::status(&event.to),
            timestamp::to_rfc3339(event.at).into(),
            event.cause.to_string().into(),
            format!("{} {}", event.plugin.name, event.plugin.version).into(),
            output::one_line(&event.data).into(),
        ]);
    }
    text.push_str(&output::text(&history));
    text
}

/// JSON over several lines; unchanged if it can't be parsed.
fn pretty(json: &str) -> String {
    serde_json::from_str::<serde_json::Value>(json)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| json.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::expect;
    use taskhost_core::record::TopicPartition;
    use taskhost_core::task::{PluginVersion, TaskEvent};

    use super::*;

    fn task() -> (Task, Vec<RecordedEvent>) {
        let id = TaskId::new("t-1").expect("an id");
        let plugin = PluginVersion {
            name: "p".into(),
            version: "1.0.0".into(),
            digest: "ab".into(),
        };
        let event = TaskEvent {
            task_id: id.clone(),
            version: 1,
            number: 0,
            kind: "task.created".into(),
            from: None,
            to: "new".into(),
            data: "{\"n\":12345678901234567890.10}".into(),
            at: 1_704_067_200_000,
            cause: TopicPartition::new("task-status", 3).at(7),
            cause_bytes: Arc::default(),
            plugin: Arc::new(plugin),
            basis: None,
            trace_id: "0".repeat(32),
            foreign_trace_id: None,
        };
        let task = Task {
            id,
            kind: "web-crawl".into(),
            status: "new".into(),
            data: "{\n  \"a\": 1}".into(),
            version: 1,
            created_at: 1_704_067_200_000,
            updated_at: 1_704_067_200_000,
        };
        (
            task,
            vec![RecordedEvent {
                event,
                stored_at: 1_704_067_200_001,
            }],
        )
    }

    #[test]
    fn a_script_gets_all_of_it_on_one_line() {
        let (task, events) = task();
        expect![[r#"
            {"id":"t-1","type":"web-crawl","status":"new","version":1,"createdAt":"2024-01-01T00:00:00.000Z","updatedAt":"2024-01-01T00:00:00.000Z","data":{   "a": 1},"events":[{"eventId":"t-1:1:0","version":1,"number":0,"kind":"task.created","from":null,"to":"new","at":"2024-01-01T00:00:00.000Z","recordedAt":"2024-01-01T00:00:00.001Z","data":{"n":12345678901234567890.10},"cause":{"topic":"task-status","partition":3,"offset":7},"plugin":{"name":"p","version":"1.0.0","digest":"ab"},"traceId":"00000000000000000000000000000000"}]}
        "#]]
        .assert_eq(&line(&task, &events).expect("a line"));
    }

    #[test]
    fn a_person_gets_data_and_history() {
        let (task, events) = task();
        expect![[r#"
             id       t-1
             type     web-crawl
             status   new
             version  1
             created  2024-01-01T00:00:00.000Z
             updated  2024-01-01T00:00:00.000Z

            {
              "a": 1
            }

             version  event         from  to   at                        caused by         decided by  data
             1        task.created  -     new  2024-01-01T00:00:00.000Z  task-status[3]@7  p 1.0.0     {"n":12345678901234567890.10}
        "#]]
        .assert_eq(&page(&task, &events));
    }
}
