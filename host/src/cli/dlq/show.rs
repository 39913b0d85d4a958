//! `taskhost dlq show`: shows one dead letter with its payload, its reason, and its task's history.

use clap::Args;
use serde_json::{Value, json};
use taskhost_core::dead_letter::Source;
use taskhost_core::task::Task;
use taskhost_core::timestamp::to_rfc3339;
use uuid::Uuid;

use crate::cli::database::Database;
use crate::cli::output::{self, table};
use crate::cli::task;
use crate::cli::{EXIT_CODES, Failure, Global, Output};
use crate::config::Config;
use crate::letters;
use crate::store::{Edit, RecordedEvent, StoredDeadLetter};

/// Show one dead letter: its payload, why and where it failed, and its task.
///
/// With --json the output is one object on one line, in the form of an export, with the task under `taskRow`.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dlq show 5e5a1f4e-6f0a-5ad5-8c0e-3a1c2b4d5e6f\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    /// The dead letter's id.
    id: Uuid,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let database = Database::open(&config)?;
    let (stored, edits) = find(&database, &config, arguments.id)?;
    let task = match &stored.letter.task_id {
        None => None,
        Some(id) => database.ask(database.store.show_task(id))?,
    };
    let text = match arguments.output.json {
        true => {
            let mut all = letters::whole(&stored, &edits);
            all["taskRow"] = task.as_ref().map_or(Value::Null, |(task, events)| {
                json!({
                    "status": &*task.status,
                    "version": task.version,
                    "updatedAt": to_rfc3339(task.updated_at),
                    "events": events.len(),
                })
            });
            format!("{all}\n")
        }
        false => page(&stored, &edits, task.as_ref()),
    };
    output::print(&text)
}

/// A dead letter that must exist.
pub(super) fn find(
    database: &Database,
    config: &Config,
    id: Uuid,
) -> Result<(StoredDeadLetter, Vec<Edit>), Failure> {
    let group = &config.kafka.group_id;
    database
        .ask(database.store.show_dead_letter(group, id))?
        .ok_or_else(|| {
            Failure::Failed(format!(
                "there is no dead letter {id}; `taskhost dlq list` lists the dead letters"
            ))
        })
}

fn page(
    stored: &StoredDeadLetter,
    edits: &[Edit],
    task: Option<&(Task, Vec<RecordedEvent>)>,
) -> String {
    let letter = &stored.letter;
    let mut text = head(stored);
    text.push_str(&payload(stored));
    for edit in edits {
        text.push_str(&format!(
            "\nedit {} by {} at {}: {}\n",
            edit.number,
            edit.by,
            to_rfc3339(edit.at),
            edit.reason
        ));
    }
    if let Some(backtrace) = &letter.backtrace {
        text.push_str(&format!("\nbacktrace:\n{backtrace}\n"));
    }
    match (task, &letter.task_id) {
        (Some((task, events)), _) => {
            text.push_str("\ntask:\n");
            text.push_str(&task::show::page(task, events));
        }
        (None, Some(id)) => text.push_str(&format!("\nthe task {id} does not exist\n")),
        (None, None) => {}
    }
    text
}

/// What is known of it, a line for each.
fn head(stored: &StoredDeadLetter) -> String {
    let letter = &stored.letter;
    let mut rows = table(["id", &letter.id.to_string()]);
    let source = match letter.source {
        Source::Record => "a record",
        Source::Timer => "a timer",
        Source::Outgoing => "a message that its topic refused",
    };
    let state = match &stored.decided_by {
        Some(by) => format!(
            "{} since {}, by {by}",
            stored.state.name(),
            to_rfc3339(stored.state_at)
        ),
        None => format!(
            "{} since {}",
            stored.state.name(),
            to_rfc3339(stored.state_at)
        ),
    };
    let mut add = |name: &str, value: String| {
        rows.add_row([name, &value]);
    };
    add("state", state);
    add("what", source.to_owned());
    add("record", letter.message.position.to_string());
    add("partition", stored.owner.partition.to_string());
    add("code", letter.code.clone());
    add("reason", letter.reason.clone());
    if let Some(plugin) = &letter.plugin {
        let digest = plugin.digest.get(..12).unwrap_or(&plugin.digest);
        add(
            "plugin",
            format!("{} {} ({digest})", plugin.name, plugin.version),
        );
    }
    if let Some(route) = &letter.route {
        add("route", route.clone());
    }
    add("attempts", letter.attempts.to_string());
    add("replays", letter.replays.to_string());
    add("failed", to_rfc3339(letter.failed_at));
    for (name, value) in [
        ("discarded because", &stored.note),
        ("imported from", &stored.imported),
    ] {
        if let Some(value) = value {
            add(name, value.clone());
        }
    }
    if let Some(key) = &letter.message.key {
        add("key", String::from_utf8_lossy(key).into_owned());
    }
    for (name, value) in &letter.message.headers {
        let value = value
            .as_deref()
            .map_or("null".into(), String::from_utf8_lossy);
        add(&format!("header {name}"), value.into_owned());
    }
    output::text(&rows)
}

/// Its payload, and how it was edited last.
fn payload(stored: &StoredDeadLetter) -> String {
    let original = letters::readable(stored.letter.message.value.as_deref());
    match stored.edits {
        0 => format!("\npayload:\n{original}\n"),
        _ => {
            let current = letters::readable(stored.edited_value.as_deref());
            format!("\npayload, edited:\n{current}\n\npayload, original:\n{original}\n")
        }
    }
}
