//! `taskhost plugin history`: the versions that decided a route's messages, and the first record of each in every
//! partition.

use clap::Args;

use super::activate;
use crate::app;
use crate::cli::database::Database;
use crate::cli::output::{self, table};
use crate::cli::routed::number_of;
use crate::cli::{EXIT_CODES, Failure, Global, Output};
use crate::telemetry::health::PastActivation;

/// List the activations of each route, the current one first, with the record at which each took effect.
///
/// The offset is that of the first record of the route that the activation decided. If a timer or a waiting message
/// came first, it is the offset of the next record at that moment. A partition without an offset decided nothing.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost plugin history --route task-status --limit 2\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    /// Only this route: a logical topic, or topic/task type.
    #[arg(long)]
    route: Option<String>,
    /// The most activations of each route to list.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    output: Output,
}

pub(in crate::cli) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let routes = match &arguments.route {
        Some(name) => {
            let number = number_of(&config, name)?;
            &config.routes[number..=number]
        }
        None => &config.routes[..],
    };
    let database = Database::open(&config)?;
    let (store, group) = (&database.store, &config.kafka.group_id);
    let mut all = Vec::new();
    for route in routes {
        let past = store.past_activations(group, &route.name, arguments.limit);
        all.extend(database.ask(past)?.into_iter().map(app::shown));
    }
    output::print(&match arguments.output.json {
        true => lines(&all),
        false => rows(&all),
    })
}

fn lines(all: &[PastActivation]) -> String {
    all.iter()
        .filter_map(|one| serde_json::to_string(one).ok())
        .map(|line| line + "\n")
        .collect()
}

fn rows(all: &[PastActivation]) -> String {
    let mut table = table([
        "route", "number", "plugin", "version", "digest", "since", "by", "because", "from",
    ]);
    for one in all {
        table.add_row([
            one.route.clone(),
            one.activation.to_string(),
            one.name.clone(),
            one.version.clone(),
            one.digest.chars().take(activate::DIGITS_SHOWN).collect(),
            one.since.clone(),
            one.by.clone(),
            one.reason.clone(),
            from(one),
        ]);
    }
    output::text(&table)
}

/// All pairs of partition and offset.
fn from(one: &PastActivation) -> String {
    let starts: Vec<String> = one
        .starts
        .iter()
        .map(|start| format!("{}@{}", start.partition, start.offset))
        .collect();
    match starts.is_empty() {
        true => "decided nothing".to_owned(),
        false => starts.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::health::ActivationStart;

    fn activation(starts: &[(i32, i64)]) -> PastActivation {
        let start = |&(partition, offset): &(i32, i64)| ActivationStart {
            topic: "topic".into(),
            partition,
            offset,
            at: "2026-01-01T00:00:01Z".into(),
        };
        PastActivation {
            route: "r".into(),
            activation: 2,
            name: "why".into(),
            version: "1.2.0".into(),
            digest: "0123456789abcdef".into(),
            since: "2026-01-01T00:00:00Z".into(),
            by: "host a".into(),
            reason: "the file why.wasm changed".into(),
            probation: true,
            rollback_of: None,
            starts: starts.iter().map(start).collect(),
        }
    }

    #[test]
    fn people_see_from_which_record_each_version_decided() {
        let text = rows(&[activation(&[(0, 17), (2, 4)]), activation(&[])]);
        for part in ["0123456789ab ", "0@17 2@4", "decided nothing", "host a"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn scripts_get_an_activation_a_line() {
        let text = lines(&[activation(&[(0, 17)])]);
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).expect("a line");
        assert_eq!(line["starts"][0]["offset"], 17);
        assert_eq!(line["activation"], 2);
    }
}
