//! `taskhost breaker list|open|close`: shows the routes' breakers, and opens or closes them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use taskhost_core::timestamp;

use crate::cli::database::Database;
use crate::cli::output::{self, table};
use crate::cli::person::by;
use crate::cli::routed::number_of;
use crate::cli::{EXIT_CODES, Failure, Global, Output, host_url};
use crate::store::OrderedState;

/// The subcommands of `taskhost breaker`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    List(List),
    Open(Open),
    Close(Close),
}

/// List the breakers of a running host's routes, with the reason of each open one.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost breaker list --url http://127.0.0.1:3000\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct List {
    /// The host's HTTP API. Without it: TASKHOST_URL, else http.addr if it is set, else a running `taskhost dev`.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Hold a route's breaker open on all hosts: nothing of its topic is decided until it is closed again.
///
/// Messages wait in Kafka; nothing is lost and no attempt is spent. The breaker stays open over restarts and new
/// versions.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost breaker open task-status --reason 'prices are wrong'\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Open {
    /// The route: a logical topic, or topic/task type.
    route: String,
    /// Why, for the person who finds it open.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    output: Output,
}

/// Close a route's breaker on all hosts, whether it is held open or opened by itself.
///
/// Its window starts empty, and it may open by itself again. With --hold it doesn't open by itself, whatever fails,
/// until it is closed without --hold.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost breaker close task-status\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Close {
    /// The route: a logical topic, or topic/task type.
    route: String,
    /// Keep it closed: every message on which the plugin faults becomes a dead letter.
    #[arg(long)]
    hold: bool,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "a command closed it")]
    reason: String,
    #[command(flatten)]
    output: Output,
}

pub(in crate::cli) fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list(arguments, global),
        Command::Open(Open {
            route,
            reason,
            output,
        }) => order(route, OrderedState::Open, reason, *output, global),
        Command::Close(Close {
            route,
            hold,
            reason,
            output,
        }) => {
            let state = match hold {
                true => OrderedState::HeldClosed,
                false => OrderedState::Closed,
            };
            order(route, state, reason, *output, global)
        }
    }
}

fn list(arguments: &List, global: &Global) -> Result<(), Failure> {
    let url = format!(
        "{}/api/breakers",
        host_url::host_url(arguments.url.as_deref(), global)?
    );
    let answer = host_url::answer(&url)?;
    let all = answer["breakers"].as_array().cloned().unwrap_or_default();
    output::print(&match arguments.output.json {
        true => all.iter().map(|one| format!("{one}\n")).collect(),
        false => rows(&all),
    })
}

fn rows(all: &[Value]) -> String {
    let mut table = table(["route", "state", "since", "why", "next try", "because"]);
    for one in all {
        let text = |field: &str| one[field].as_str().unwrap_or("-").to_owned();
        let state = match one["held"] == true {
            true => format!("{} (held)", text("state")),
            false => text("state"),
        };
        let because = match one["by"].as_str() {
            Some(by) => format!("{by}: {}", text("reason")),
            None => text("reason"),
        };
        table.add_row([
            text("route"),
            state,
            text("since"),
            text("why"),
            text("probeAt"),
            because,
        ]);
    }
    output::text(&table)
}

fn order(
    route: &str,
    state: OrderedState,
    reason: &str,
    output: Output,
    global: &Global,
) -> Result<(), Failure> {
    let config = global.config()?;
    let number = number_of(&config, route)?;
    let route = &config.routes[number].name;
    if reason.trim().is_empty() {
        return Err(Failure::Usage("--reason must say why".to_owned()));
    }
    let database = Database::open(&config)?;
    let by = by();
    let done = database.ask(database.store.order_breaker(route, state, &by, reason))?;
    output::print(&match output.json {
        true => {
            let line = json!({
                "route": done.route,
                "state": done.state.as_str(),
                "since": timestamp::to_rfc3339(done.since),
                "by": done.by,
                "reason": done.reason,
            });
            format!("{line}\n")
        }
        false => match state {
            OrderedState::Open => format!(
                "{route}: held open; nothing is decided until `taskhost breaker close {route}`\n"
            ),
            OrderedState::Closed => format!("{route}: closed; it may open by itself again\n"),
            OrderedState::HeldClosed => format!(
                "{route}: held closed, whatever fails, until `taskhost breaker close {route}`\n"
            ),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_which_breaker_is_open_and_who_holds_it() {
        let all = [
            json!({"route": "a", "state": "closed", "held": false, "reason": ""}),
            json!({"route": "b", "state": "open", "held": true, "since": "2026-01-01T00:00:00Z", "why": "person", "by": "me", "reason": "wrong prices"}),
        ];
        let text = rows(&all);
        for part in ["open (held)", "me: wrong prices", "closed"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
