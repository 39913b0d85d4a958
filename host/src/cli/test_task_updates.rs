//! `taskhost test-task-updates`: moves a task through its statuses, and waits for each result.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use taskhost_core::task::TaskId;
use uuid::Uuid;

use super::database::Database;
use super::messages::Step;
use super::{EXIT_CODES, Failure, Global, Output, broker, output};
use crate::config::{Config, Origin};
use crate::kafka::{Admin, Settings, Tail};

/// Create a task, report it started and completed, and wait until the host has decided each message.
///
/// The command looks for the result in the database, or, without one, at the task's events in Kafka.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost test-task-updates --error --timeout 10\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// Report an error instead of a completion.
    #[arg(long)]
    pub(super) error: bool,
    /// How long to wait for the host, in seconds, for all steps together.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) timeout: u64,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The pause between two reads of the task's row. A host takes a few ms for a message, so the first read is early.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How often the command checks whether the message became a dead letter.
const LETTERS_EVERY: Duration = Duration::from_secs(1);

/// How many dead letters are searched: others may arrive at the same time.
const LETTERS_LOOKED_AT: u32 = 100;

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let loaded = global.load()?;
    // A running `taskhost dev`'s database says nothing about the host of another broker.
    let strange = matches!(loaded.origins.of("database.url"), Some(Origin::Dev(_)))
        && !matches!(loaded.origins.of("kafka.brokers"), Some(Origin::Dev(_)));
    let config = loaded.config;
    let in_database = config.database.url.is_some() && !strange;
    let cluster = broker::reach(&config)?;
    let sender = broker::sender(&cluster.settings)?;
    let id = Uuid::new_v4().to_string();
    let watch = Watch::start(&config, &cluster.settings, &id, in_database)?;
    let deadline = Instant::now() + Duration::from_secs(arguments.timeout);
    let last = if arguments.error {
        Step::Error
    } else {
        Step::Completed
    };
    if !arguments.output.json {
        output::print(&format!("task {id}\n"))?;
    }
    for step in [Step::New, Step::Started, last] {
        let began = Instant::now();
        let record = step.message(&config.topics.named.task_status, &id);
        broker::send(&sender, &[record], &config)?;
        let Some(version) = watch.wait(step, deadline)? else {
            return Err(too_late(arguments, &config, &cluster.settings, step));
        };
        output::print(&told(arguments, &id, step, version, began.elapsed()))?;
    }
    if !arguments.output.json {
        output::print(&format!(
            "done; `taskhost task show {id}` shows its history\n"
        ))?;
    }
    Ok(())
}

fn told(arguments: &Arguments, id: &str, step: Step, version: i64, took: Duration) -> String {
    let (status, ms) = (step.status(), took.as_millis());
    if arguments.output.json {
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        let line = json!({ "taskId": id, "status": status, "version": version, "ms": ms });
        format!("{line}\n")
    } else {
        format!("  {status:<10} {ms:>6} ms  version {version}\n")
    }
}

/// The place where the command looks for the result.
enum Watch {
    Rows {
        database: Box<Database>,
        group: String,
        id: TaskId,
    },
    Events {
        tail: Tail,
        id: String,
    },
}

impl Watch {
    fn start(
        config: &Config,
        settings: &Settings,
        id: &str,
        in_database: bool,
    ) -> Result<Self, Failure> {
        if in_database {
            let id = TaskId::new(id).map_err(|error| Failure::of("the new task", &error))?;
            let database = Database::open(config)?;
            return Ok(Self::Rows {
                database: Box::new(database),
                group: config.kafka.group_id.clone(),
                id,
            });
        }
        let topic = &config.topics.named.task_events;
        let tail = Tail::start(settings, topic, broker::patience(config)).map_err(|error| {
            Failure::Failed(format!(
                "{error}; without DATABASE_URL the command reads the result from {topic}, which a host creates when it starts"
            ))
        })?;
        Ok(Self::Events {
            tail,
            id: id.to_owned(),
        })
    }

    /// Waits until the task has a step's status, and returns its version; none after the timeout.
    fn wait(&self, step: Step, deadline: Instant) -> Result<Option<i64>, Failure> {
        match self {
            Self::Rows {
                database,
                group,
                id,
            } => wait_for_row(database, group, id, step, deadline),
            Self::Events { tail, id } => wait_for_event(tail, id, step, deadline),
        }
    }
}

fn wait_for_row(
    database: &Database,
    group: &str,
    id: &TaskId,
    step: Step,
    deadline: Instant,
) -> Result<Option<i64>, Failure> {
    let store = &database.store;
    let mut look_for_letters = Instant::now() + LETTERS_EVERY;
    loop {
        let task = database.ask(store.show_task(id))?;
        if let Some((task, _)) = task.filter(|(task, _)| *task.status == *step.status()) {
            return Ok(Some(task.version));
        }
        if Instant::now() >= look_for_letters {
            let letters = database.ask(store.list_dead_letters(group, LETTERS_LOOKED_AT))?;
            let ours = letters
                .into_iter()
                .find(|stored| stored.letter.task_id.as_ref() == Some(id));
            if let Some(stored) = ours {
                let (status, letter) = (step.status(), stored.letter);
                return Err(Failure::Failed(format!(
                    "the message `{status}` became a dead letter: {} ({})",
                    letter.reason, letter.code
                )));
            }
            look_for_letters = Instant::now() + LETTERS_EVERY;
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn wait_for_event(
    tail: &Tail,
    id: &str,
    step: Step,
    deadline: Instant,
) -> Result<Option<i64>, Failure> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let message = tail
            .next(left)
            .map_err(|error| Failure::of("kafka", &error))?;
        let Some(message) = message else {
            return Ok(None);
        };
        let version = message
            .value
            .as_deref()
            .and_then(|value| version_of(value, id, step));
        if version.is_some() {
            return Ok(version);
        }
    }
}

/// The version, if the task event is that of this task's step.
fn version_of(value: &[u8], id: &str, step: Step) -> Option<i64> {
    let value: Value = serde_json::from_slice(value).ok()?;
    let body = &value["message"];
    (body["taskId"] == id && body["to"] == step.status()).then(|| body["version"].as_i64())?
}

/// Why there is no result, as far as the group's state shows it.
fn too_late(arguments: &Arguments, config: &Config, settings: &Settings, step: Step) -> Failure {
    let (group, status, timeout) = (&config.kafka.group_id, step.status(), arguments.timeout);
    let members = Admin::new(settings, broker::patience(config)).and_then(|admin| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime
                .block_on(admin.group(group))
                .map(|group| group.members.len()),
            // The state is unknown then; assume that a host is in the group.
            Err(_) => Ok(1),
        }
    });
    let why = match members {
        Ok(0) => format!(
            "no host is in the group {group}; start one with `taskhost run` or `taskhost dev`"
        ),
        Ok(count) => format!(
            "{count} in the group {group}, so a host runs; see how far it is behind (kafka_consumer_lag at \
             /api/metrics, or /api/health/kafka), look into {}, or wait longer with --timeout",
            config.dead_letter_topic(&config.topics.named.task_status)
        ),
        Err(error) => format!("{error}; check that a host runs (`taskhost run` or `taskhost dev`)"),
    };
    Failure::Failed(format!(
        "the task is not `{status}` after {timeout} s: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn arguments(json: bool) -> Arguments {
        Arguments {
            error: false,
            timeout: 30,
            output: Output { json },
        }
    }

    #[test]
    fn a_step_is_told_with_its_time() {
        let told = |json| {
            told(
                &arguments(json),
                "t-1",
                Step::Started,
                2,
                Duration::from_millis(7),
            )
        };
        assert_eq!(told(false), "  started         7 ms  version 2\n");
        expect![[r#"
            {"ms":7,"status":"started","taskId":"t-1","version":2}
        "#]]
        .assert_eq(&told(true));
    }

    #[test]
    fn only_the_tasks_own_event_ends_the_wait() {
        let event = |id: &str, to: &str| {
            json!({ "headers": {}, "message": { "taskId": id, "to": to, "version": 2 } })
                .to_string()
        };
        let version = |value: &str| version_of(value.as_bytes(), "t-1", Step::Started);
        assert_eq!(version(&event("t-1", "started")), Some(2));
        assert_eq!(version(&event("t-1", "new")), None);
        assert_eq!(version(&event("t-2", "started")), None);
        assert_eq!(version("no JSON"), None);
    }
}
