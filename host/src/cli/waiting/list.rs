//! `taskhost waiting list`: lists what waits, page by page.

use clap::Args;
use serde_json::{Value, json};
use taskhost_core::batch::{Wakeup, WakeupKind};
use taskhost_core::timestamp::to_rfc3339;
use taskhost_core::waiting::Why;

use crate::cli::database::Database;
use crate::cli::output::{self, table};
use crate::cli::paged::{Listing, rows_to_ask};
use crate::cli::routed::real_topic;
use crate::cli::{EXIT_CODES, Failure, Global, Output};
use crate::store::{WaitingFilter, WaitingRow};

/// What a timer waits for, in the list.
const TIMER: &str = "timer";

/// List the messages and timers that wait, task by task in the order in which they are decided.
///
/// The reasons to wait: `turn`, behind an earlier message of the task. `deferral`, for the time that the plugin asked for.
/// `task-missing`, for the creation of the task. `deadline`, for another try after one was exceeded. `held`, for the end of
/// the plugin's probation. `stranded`, for a host that can decide it.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost waiting list --task order-17\n  taskhost waiting list --why stranded --all --json | jq -r .id\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    /// Only of this topic, by its name in Kafka or in the routes.
    #[arg(long)]
    topic: Option<String>,
    /// Only of this partition of the topic.
    #[arg(long, requires = "topic")]
    partition: Option<i32>,
    /// Only of this task.
    #[arg(long)]
    task: Option<String>,
    /// Only what waits for this: turn, deferral, task-missing, deadline, held, stranded or timer; may be repeated.
    #[arg(long, value_parser = why)]
    why: Vec<For>,
    /// The most to list.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// List everything.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[command(flatten)]
    output: Output,
}

/// What something waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Message(Why),
    Timer,
}

fn why(text: &str) -> Result<For, String> {
    match Why::from_name(text) {
        Some(why) => Ok(For::Message(why)),
        None if text == TIMER => Ok(For::Timer),
        None => {
            let all: Vec<&str> = Why::ALL.iter().map(|why| why.name()).collect();
            Err(format!("it is one of {} or {TIMER}", all.join(", ")))
        }
    }
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let messages = arguments.why.iter().filter_map(|one| match one {
        For::Message(why) => Some(*why),
        For::Timer => None,
    });
    let whys: Vec<Why> = messages.collect();
    let timers = arguments.why.contains(&For::Timer);
    if timers && !whys.is_empty() {
        return Err(Failure::Usage(
            "timers are listed without other reasons: give --why timer alone".to_owned(),
        ));
    }
    let limit = if arguments.all {
        u32::MAX
    } else {
        arguments.limit
    };
    let filter = WaitingFilter {
        topic: arguments
            .topic
            .as_ref()
            .map(|topic| real_topic(&config, topic)),
        partition: arguments.partition,
        task: arguments.task.clone(),
        kind: timers.then_some(WakeupKind::Timer),
        whys,
        limit: rows_to_ask(limit),
    };
    let database = Database::open(&config)?;
    let pages = database.ask(
        database
            .store
            .waiting_pages(&config.kafka.group_id, &filter),
    )?;
    let listing = Listing {
        limit,
        output: arguments.output,
        nothing: "nothing waits\n",
    };
    listing.print(&database, pages, |page, is_first| {
        match arguments.output.json {
            true => page.iter().map(|row| format!("{}\n", line(row))).collect(),
            false => shown(page, is_first),
        }
    })
}

fn reason_to_wait(wakeup: &Wakeup) -> &'static str {
    match wakeup.kind {
        WakeupKind::Timer => TIMER,
        WakeupKind::Deferred | WakeupKind::Replay => wakeup.why.name(),
    }
}

fn line(row: &WaitingRow) -> Value {
    let wakeup = &row.wakeup;
    json!({
        "id": wakeup.id,
        "topic": &*row.partition.topic,
        "partition": row.partition.partition,
        "sequence": wakeup.rank.sequence,
        "task": wakeup.task_id.as_str(),
        "route": wakeup.route,
        "timer": wakeup.name,
        "why": reason_to_wait(wakeup),
        "since": to_rfc3339(wakeup.since),
        "due": wakeup.due.map(to_rfc3339),
        "attempt": wakeup.attempt,
        "deadlines": wakeup.tries,
        "reason": wakeup.reason,
        "givenUpBy": wakeup.given_up_by,
    })
}

fn shown(page: &[WaitingRow], with_head: bool) -> String {
    let mut rows = match with_head {
        true => table([
            "id", "record", "task", "why", "since", "next try", "attempt", "reason",
        ]),
        false => output::headless_table(),
    };
    for WaitingRow { partition, wakeup } in page {
        let reason = match (&wakeup.given_up_by, &wakeup.name) {
            (Some(by), _) => format!("given up by {by}"),
            (None, Some(name)) => name.clone(),
            (None, None) => wakeup.reason.clone(),
        };
        rows.add_row([
            wakeup.id.to_string(),
            format!("{partition}@{}", wakeup.rank.sequence),
            wakeup.task_id.to_string(),
            reason_to_wait(wakeup).to_owned(),
            to_rfc3339(wakeup.since),
            wakeup.due.map_or("its turn".to_owned(), to_rfc3339),
            wakeup.attempt.to_string(),
            reason,
        ]);
    }
    output::text(&rows)
}
