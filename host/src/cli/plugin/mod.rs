//! `taskhost plugin list`: the active plugin versions of a running host.

mod activate;
mod history;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::output::{self, table};
use crate::cli::{EXIT_CODES, Failure, Global, Output, host_url};

/// The subcommands of `taskhost plugin`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    List(List),
    Activate(activate::Arguments),
    History(history::Arguments),
}

/// List the active version of each route with its start, and refused versions with the reason.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost plugin list --url http://127.0.0.1:3000\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct List {
    /// The host's HTTP API. Without it: TASKHOST_URL, else http.addr if it is set, else a running `taskhost dev`.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(in crate::cli) fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list(arguments, global),
        Command::Activate(arguments) => activate::run(arguments, global),
        Command::History(arguments) => history::run(arguments, global),
    }
}

fn list(arguments: &List, global: &Global) -> Result<(), Failure> {
    let url = format!(
        "{}/api/plugins",
        host_url::host_url(arguments.url.as_deref(), global)?
    );
    let answer = host_url::answer(&url)?;
    let text = match arguments.output.json {
        true => lines(&answer),
        false => tables(&answer),
    };
    output::print(&text)
}

/// One JSON object a line: the routes, then the refusals.
fn lines(answer: &Value) -> String {
    let kinds = [("route", "routes"), ("refused", "refused")];
    kinds
        .into_iter()
        .flat_map(|(kind, field)| {
            let items = answer[field].as_array().cloned().unwrap_or_default();
            items.into_iter().map(move |mut item| {
                if let Value::Object(fields) = &mut item {
                    fields.insert("kind".into(), kind.into());
                }
                format!("{item}\n")
            })
        })
        .collect()
}

fn tables(answer: &Value) -> String {
    let mut routes = table(["route", "plugin", "version", "digest", "since"]);
    for route in answer["routes"].as_array().into_iter().flatten() {
        let active = &route["active"];
        if active.is_null() {
            routes.add_row([
                text(&route["route"]),
                text(&route["plugin"]),
                "none is active".into(),
            ]);
        } else {
            routes.add_row([
                text(&route["route"]),
                text(&active["name"]),
                text(&active["version"]),
                text(&active["digest"]).chars().take(12).collect(),
                text(&active["since"]),
            ]);
        }
    }
    let mut rolled_back = table(["rolled back", "route", "at", "because"]);
    for route in answer["routes"].as_array().into_iter().flatten() {
        for each in route["rolledBack"].as_array().into_iter().flatten() {
            rolled_back.add_row([
                text(&each["digest"]).chars().take(12).collect(),
                text(&route["route"]),
                text(&each["since"]),
                text(&each["reason"]),
            ]);
        }
    }
    let mut refused = table(["refused", "route", "at", "because"]);
    for each in answer["refused"].as_array().into_iter().flatten() {
        refused.add_row(["file", "route", "at", "reason"].map(|field| text(&each[field])));
    }
    let more = [rolled_back, refused];
    let more = more.iter().filter(|table| !table.is_empty());
    more.fold(output::text(&routes), |all, table| {
        format!("{all}\n{}", output::text(table))
    })
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Value {
        json!({
            "routes": [
                { "route": "a", "plugin": "x", "active": null, "rolledBack": [
                    { "digest": "fedcba9876543210", "since": "2026-01-01T00:00:00Z", "reason": "20 of 20 decisions were faults" },
                ] },
                { "route": "b", "plugin": "y", "active": {
                    "name": "why", "version": "1.2.0", "digest": "0123456789abcdef", "since": "2026-01-01T00:00:00Z",
                } },
            ],
            "refused": [{ "route": "a", "file": "x.wasm", "reason": "it is no component", "at": "2026-01-01T00:00:00Z" }],
        })
    }

    #[test]
    fn people_see_what_runs_and_what_was_refused() {
        let text = tables(&answer());
        for part in [
            "none is active",
            "why",
            "1.2.0",
            "0123456789ab ",
            "it is no component",
            "fedcba987654 ",
            "20 of 20",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn scripts_get_an_object_a_line() {
        let kinds: Vec<Value> = lines(&answer())
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).expect("an object a line")["kind"].clone()
            })
            .collect();
        assert_eq!(kinds, ["route", "route", "refused"]);
    }
}
