//! `taskhost dlq replay`: lets the host decide dead letters again, and waits for the results.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use uuid::Uuid;

use super::chosen::{Chosen, IDS_MAX, Walk};
use crate::cli::confirm::confirm;
use crate::cli::database::Database;
use crate::cli::person::by;
use crate::cli::{EXIT_CODES, Failure, Global, Output, output};
use crate::config::Config;
use crate::letters;
use crate::store::State;

/// Decide dead letters again, with the active plugin version.
///
/// The host of the dead letter's partition decides it, in the order of its task, exactly once. A dead letter that fails
/// again stays one, with the new reason. After TASKHOST_DLQ_REPLAYS_MAX replays it is parked, and only --force replays
/// it. The exit code is 1 if a dead letter failed again.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dlq replay $id\n  taskhost dlq replay --code task-missing --since 1d --rate 100 --yes\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    chosen: Chosen,
    /// Only print their number, with a sample.
    #[arg(long)]
    dry_run: bool,
    /// The most replays to request in a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Replay parked dead letters too.
    #[arg(long)]
    force: bool,
    /// Send them to their topic again, for all its readers, instead of deciding them.
    #[arg(long)]
    republish: bool,
    /// Don't wait for the results.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait without progress, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

/// Dead letters in a sample.
const SAMPLE: usize = 5;

/// How often the command reads their states.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The results of the replays, as numbers of dead letters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Outcome {
    requested: u64,
    applied: u64,
    ignored: u64,
    republished: u64,
    failed: u64,
    parked: u64,
    waiting: u64,
    pending: u64,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    arguments.chosen.check()?;
    let database = Database::open(&config)?;
    let mut states = vec![State::Open];
    if arguments.force {
        states.push(State::Parked);
    }
    let mut walk = Walk::of(&arguments.chosen, &database, &config, &states)?;
    let count = walk.count()?;
    if arguments.dry_run {
        return dry_run(arguments, &database, &config, walk, count);
    }
    if arguments.chosen.ids.is_empty() && count > 0 {
        let what = match arguments.republish {
            true => "sent again",
            false => "decided again",
        };
        eprintln!("to be {what}: {count}");
        confirm(arguments.yes)?;
    }
    let bar = bar(count);
    let mut run = Run {
        arguments,
        database: &database,
        config: &config,
        ids: Vec::new(),
        settled: Outcome::default(),
        bar: bar.clone(),
    };
    let named = run.request(&mut walk)?;
    let outcome = match arguments.no_wait {
        true => Outcome {
            requested: run.requested(),
            pending: run.requested(),
            ..Outcome::default()
        },
        false => run.wait()?,
    };
    bar.finish_and_clear();
    output::print(&told(outcome, arguments))?;
    if arguments.no_wait {
        return refused(named, outcome);
    }
    if outcome.pending > 0 {
        return Err(Failure::Failed(format!(
            "{} are not decided after {} s without progress; they will be once a host has their partitions and no breaker \
             of their routes is open: see `taskhost partition list` and `taskhost breaker list`; `taskhost dlq cancel` \
             cancels them",
            outcome.pending, arguments.timeout
        )));
    }
    match outcome.failed + outcome.parked {
        0 => refused(named, outcome),
        failed => Err(Failure::Failed(format!(
            "{failed} of {} failed again; `taskhost dlq show` shows why",
            outcome.requested
        ))),
    }
}

/// An error if dead letters were named one by one, and some were not accepted.
fn refused(named: Option<u64>, outcome: Outcome) -> Result<(), Failure> {
    match named {
        Some(named) if named > outcome.requested => Err(Failure::Failed(format!(
            "{} of {named} were not accepted: they don't exist or are not open (a parked one needs --force, a message \
             that its topic refused needs --republish, and a timer can't be sent again); `taskhost dlq show` shows which",
            named - outcome.requested
        ))),
        _ => Ok(()),
    }
}

fn dry_run(
    arguments: &Arguments,
    database: &Database,
    config: &Config,
    mut walk: Walk<'_>,
    count: u64,
) -> Result<(), Failure> {
    let mut sample = Vec::new();
    for id in walk.next(SAMPLE)? {
        let found = database.ask(database.store.show_dead_letter(&config.kafka.group_id, id))?;
        sample.extend(found.map(|(stored, _)| letters::summary(&stored)));
    }
    if arguments.output.json {
        let line = json!({"dryRun": true, "count": count, "sample": sample});
        return output::print(&format!("{line}\n"));
    }
    let mut text = format!("{count} to be decided again\n");
    for one in &sample {
        let field = |name: &str| one[name].as_str().unwrap_or("-").to_owned();
        text.push_str(&format!(
            "  {} {}[{}]@{} {} {}\n",
            field("id"),
            field("topic"),
            one["partition"],
            one["offset"],
            field("code"),
            field("task")
        ));
    }
    output::print(&text)
}

/// One run of the command.
struct Run<'a> {
    arguments: &'a Arguments,
    database: &'a Database,
    config: &'a Config,
    /// Replays that were requested and may not be decided yet.
    ids: Vec<Vec<Uuid>>,
    settled: Outcome,
    bar: ProgressBar,
}

impl Run<'_> {
    fn requested(&self) -> u64 {
        let count: usize = self.ids.iter().map(Vec::len).sum();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Requests all of them, not faster than the rate. Returns how many were named, if they were named one by one.
    fn request(&mut self, walk: &mut Walk<'_>) -> Result<Option<u64>, Failure> {
        let Self {
            arguments,
            database,
            config,
            ..
        } = *self;
        let named = match arguments.chosen.ids.is_empty() {
            true => None,
            false => Some(walk.count()?),
        };
        // The number for a tenth of a second at a time.
        let some = arguments.rate.map_or(IDS_MAX, |rate| {
            usize::try_from(rate.div_ceil(10))
                .unwrap_or(IDS_MAX)
                .min(IDS_MAX)
        });
        let (began, mut asked) = (Instant::now(), 0_u32);
        loop {
            let ids = walk.next(some)?;
            if ids.is_empty() {
                return Ok(named);
            }
            let (store, group) = (&database.store, &config.kafka.group_id);
            let requested = database.ask(store.request_replays(
                group,
                &ids,
                arguments.force,
                arguments.republish,
                &by(),
            ))?;
            // Only a hint: the hosts look once a second.
            if let Err(error) = database.runtime.block_on(store.notify(&requested.keys)) {
                eprintln!(
                    "note: the hosts can't be notified ({error}); they find the replays within a second"
                );
            }
            asked = asked.saturating_add(u32::try_from(ids.len()).unwrap_or(u32::MAX));
            if !requested.ids.is_empty() {
                self.ids.push(requested.ids);
            }
            if let Some(rate) = arguments.rate {
                let due = Duration::from_secs_f64(f64::from(asked) / f64::from(rate));
                thread::sleep(due.saturating_sub(began.elapsed()));
            }
            self.bar.set_message("requested");
        }
    }

    /// Waits until all of them are decided, or nothing changes for too long.
    fn wait(&mut self) -> Result<Outcome, Failure> {
        let patience = Duration::from_secs(self.arguments.timeout);
        let requested = self.requested();
        let (mut before, mut moved) = (None, Instant::now());
        loop {
            let now = self.look()?;
            self.bar.set_position(requested - now.pending);
            if before != Some(now.pending) {
                (before, moved) = (Some(now.pending), Instant::now());
            }
            if now.pending == 0 || moved.elapsed() >= patience {
                return Ok(now);
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// The results so far. Groups of ids that are all decided aren't read again.
    fn look(&mut self) -> Result<Outcome, Failure> {
        let requested = self.settled.requested;
        let mut now = self.settled;
        let mut open = Vec::new();
        for ids in std::mem::take(&mut self.ids) {
            let group = &self.config.kafka.group_id;
            let states = self
                .database
                .ask(self.database.store.dead_letter_states(group, &ids))?;
            let mut these = Outcome {
                requested: u64::try_from(ids.len()).unwrap_or(0),
                ..Outcome::default()
            };
            for counted in states {
                let count = u64::try_from(counted.count).unwrap_or(0);
                match counted.state {
                    State::Replaying => these.pending += count,
                    State::Waiting => these.waiting += count,
                    State::Open => these.failed += count,
                    State::Parked => these.parked += count,
                    State::Applied => these.applied += count,
                    State::Ignored => these.ignored += count,
                    State::Republished => these.republished += count,
                    State::Discarded => {}
                }
            }
            match these.pending {
                0 => self.settled.add(these),
                _ => open.push(ids),
            }
            now.add(these);
        }
        debug_assert!(now.requested >= requested);
        self.ids = open;
        Ok(now)
    }
}

impl Outcome {
    fn add(&mut self, more: Self) {
        self.requested += more.requested;
        self.applied += more.applied;
        self.ignored += more.ignored;
        self.republished += more.republished;
        self.failed += more.failed;
        self.parked += more.parked;
        self.waiting += more.waiting;
        self.pending += more.pending;
    }
}

fn told(outcome: Outcome, arguments: &Arguments) -> String {
    let Outcome {
        requested,
        applied,
        ignored,
        republished,
        failed,
        parked,
        waiting,
        pending,
    } = outcome;
    if arguments.output.json {
        let line = json!({
            "requested": requested, "applied": applied, "ignored": ignored, "republished": republished,
            "failed": failed, "parked": parked, "waiting": waiting, "pending": pending,
        });
        return format!("{line}\n");
    }
    let all = [
        ("applied", applied),
        ("ignored", ignored),
        ("sent again", republished),
        ("failed again", failed),
        ("parked", parked),
        ("waiting for their task", waiting),
        ("not decided yet", pending),
    ];
    let parts: Vec<String> = all
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    match parts.is_empty() {
        true => "nothing to do: none is open\n".to_owned(),
        false => format!("{requested} requested: {}\n", parts.join(", ")),
    }
}

/// A progress bar, visible on a terminal only.
fn bar(count: u64) -> ProgressBar {
    let bar = ProgressBar::new(count);
    // The template is a constant and valid.
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {msg}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_named_and_not_taken_are_a_failure() {
        let outcome = Outcome {
            requested: 2,
            ..Outcome::default()
        };
        assert!(refused(Some(2), outcome).is_ok());
        assert!(refused(None, outcome).is_ok());
        assert!(refused(Some(3), outcome).is_err());
    }
}
