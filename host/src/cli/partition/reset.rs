//! `taskhost partition reset`: a person sets where a partition goes on.

use std::ops::Range;
use std::str::FromStr;

use clap::Args;
use serde_json::json;
use taskhost_core::recovery::{Log, Progress, Watermark};
use taskhost_core::reset::{self, Plan, To};

use super::which::{Which, find};
use crate::cli::confirm::confirm;
use crate::cli::database::Database;
use crate::cli::{EXIT_CODES, Failure, Global, Output, broker, output};
use crate::config::Config;
use crate::kafka::{Admin, Positions};
use crate::store;

/// Set where a partition goes on, and what counts as published.
///
/// The command first lists what will be skipped, decided again, sent twice or never sent, then asks. The host that has
/// the partition goes on from there within a second. Other partitions are not affected.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost partition reset task-status 3 --to earliest\n  taskhost partition reset task-status 3 --to 1200 --yes\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Where to go on: `earliest` or `latest` in the log, `progress` (where Postgres is), `committed` (the group's
    /// offset in Kafka), or an offset.
    #[arg(long, value_name = "PLACE")]
    to: Place,
    /// Never send committed messages that are not known to be published.
    #[arg(long)]
    drop_unpublished: bool,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug)]
struct Place(To);

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(match text {
            "earliest" => To::Earliest,
            "latest" => To::Latest,
            "progress" => To::Progress,
            "committed" => To::Committed,
            number => To::Offset(
                number
                    .parse()
                    .ok()
                    .filter(|offset| *offset >= 0)
                    .ok_or("expected earliest, latest, progress, committed or an offset")?,
            ),
        }))
    }
}

pub(in crate::cli) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let partition = arguments.which.partition(&config);
    let database = Database::open(&config)?;
    let (key, seen) = find(&database, &config, &partition)?;
    let (watermark, log) = ask_kafka(&config, &database, &partition)?;
    let plan = reset::plan(
        seen.progress,
        watermark,
        log,
        arguments.to.0,
        arguments.drop_unpublished,
    )
    .map_err(|error| Failure::Failed(format!("{partition} can't go on there: {error}")))?;
    let consequences = consequences(&plan);
    eprint!("{}", before(seen.progress, log));
    for each in &consequences {
        eprintln!("- {each}");
    }
    confirm(arguments.yes)?;
    let reset = database
        .store
        .reset(&key, seen.progress, &plan, log.topic_id);
    match database.runtime.block_on(reset) {
        Ok(()) => {}
        Err(store::Error::Lost) => {
            return Err(Failure::Failed(format!(
                "nothing changed: {partition} has moved on meanwhile; look at it again"
            )));
        }
        Err(error) => return Err(database.failed(&error)),
    }
    let next = plan.next_offset;
    output::print(&match arguments.output.json {
        true => format!(
            "{}\n",
            json!({
                "topic": &*partition.topic,
                "partition": partition.partition,
                "nextOffset": next,
                "batch": plan.batch,
                "published": plan.published,
                "consequences": consequences,
            })
        ),
        false => format!("{partition} goes on at offset {next}\n"),
    })
}

fn ask_kafka(
    config: &Config,
    database: &Database,
    partition: &taskhost_core::record::TopicPartition,
) -> Result<(Watermark, Log), Failure> {
    let settings = broker::reach(config)?.settings;
    let patience = broker::patience(config);
    let failed = |error| Failure::of("kafka", &error);
    let positions = Positions::new(&settings, patience).map_err(failed)?;
    let admin = Admin::new(&settings, patience).map_err(failed)?;
    let topic = &*partition.topic;
    let described = database
        .runtime
        .block_on(admin.describe(&[topic]))
        .map_err(failed)?;
    let topic_id = described
        .get(topic)
        .map(|topic| topic.id)
        .ok_or_else(|| Failure::Failed(format!("Kafka has no topic {topic}")))?;
    let (low, high) = positions.log_bounds(partition).map_err(failed)?;
    let watermark = positions.committed(partition).map_err(failed)?;
    let log = Log {
        topic_id,
        low,
        high,
    };
    Ok((watermark, log))
}

fn before(progress: Progress, log: Log) -> String {
    let next = progress
        .next_offset
        .map_or("none".to_owned(), |next| next.to_string());
    let published = progress
        .published
        .map_or("none".to_owned(), |batch| batch.to_string());
    format!(
        "now: next record {next}, batch {}, published {published}; the log has {} to {}\n",
        progress.batch, log.low, log.high
    )
}

/// Where the partition goes on, and each consequence of the plan.
fn consequences(plan: &Plan) -> Vec<String> {
    let mut list = vec![format!("it goes on at offset {}", plan.next_offset)];
    let mut say = |range: &Range<i64>, text: String| {
        if !range.is_empty() {
            list.push(text);
        }
    };
    let offsets = |range: &Range<i64>| format!("{} to {}", range.start, range.end - 1);
    say(
        &plan.skipped,
        format!(
            "the records {} are never decided ({} at most)",
            offsets(&plan.skipped),
            plan.skipped.end - plan.skipped.start
        ),
    );
    say(
        &plan.gone,
        format!(
            "of those, {} are no longer in the log, so no choice decides them",
            offsets(&plan.gone)
        ),
    );
    say(
        &plan.repeated,
        format!(
            "the records {} are decided again ({} at most): their effects happen twice",
            offsets(&plan.repeated),
            plan.repeated.end - plan.repeated.start
        ),
    );
    let twice = match plan.may_be_sent_twice {
        true => "; messages that Kafka already has are then there twice",
        false => "",
    };
    say(
        &plan.publishes,
        format!(
            "the messages of batches {} are sent{twice}",
            offsets(&plan.publishes)
        ),
    );
    say(
        &plan.drops,
        format!(
            "the messages of batches {} are never sent, unless Kafka already has them",
            offsets(&plan.drops)
        ),
    );
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_skipped_repeated_or_sent_is_spelled_out() {
        let plan = Plan {
            next_offset: 20,
            batch: 5,
            published: 3,
            skipped: 3..20,
            gone: 3..10,
            repeated: 20..20,
            publishes: 4..6,
            may_be_sent_twice: true,
            drops: 6..6,
        };
        assert_eq!(
            consequences(&plan),
            [
                "it goes on at offset 20",
                "the records 3 to 19 are never decided (17 at most)",
                "of those, 3 to 9 are no longer in the log, so no choice decides them",
                "the messages of batches 4 to 5 are sent; messages that Kafka already has are then there twice",
            ]
        );
    }

    #[test]
    fn a_place_is_a_word_or_an_offset() {
        assert!(matches!("progress".parse(), Ok(Place(To::Progress))));
        assert!(matches!("17".parse(), Ok(Place(To::Offset(17)))));
        for text in ["-1", "first", ""] {
            assert!(Place::from_str(text).is_err(), "{text}");
        }
    }
}
