//! What is measured, in which order: rounds are interleaved, so that a machine that gets slower does so for everybody.

use std::fmt::Write as _;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::bail;
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::contender::Contender;
use crate::drain;
use crate::ledger::{Ledger, Settings};
use crate::machine;
use crate::pace::{self, Pace};
use crate::poison;
use crate::report::Report;
use crate::rounds;
use crate::subject::Stage;
use crate::summary::{RATIO_PARTITIONS, Summary, drain_subject, pace_subject};

/// A change of what is measured gets another number, so that older rounds don't count.
const VERSION: u32 = 4;

/// Rounds of draining until Java has compiled what a broker does most.
const WARM_ROUNDS: usize = 3;

/// Who takes part unless somebody is named.
const USUAL: [Contender; 6] = [
    Contender::Seed,
    Contender::SeedBatched,
    Contender::Spring,
    Contender::Taskhost,
    Contender::Native,
    Contender::Bare,
];

/// A measurement of the host, which may take that many seconds, in that round.
type Measure = fn(&Stage, &mut Report, u64, usize) -> anyhow::Result<()>;

/// Messages of the rounds of poison for each second that a measurement may take.
const POISON_A_SECOND: u64 = 10_000;

/// What only the host is measured at.
const HOST: [(&str, Measure); 4] = [
    ("host/latency", |stage, report, seconds, _| {
        rounds::latency(stage, report, seconds)
    }),
    ("host/restart", |stage, report, _, _| {
        rounds::restart(stage, report)
    }),
    ("host/swap", |stage, report, _, _| {
        rounds::swap(stage, report)
    }),
    ("host/poison", |stage, report, seconds, round| {
        poison::rounds(stage, report, seconds * POISON_A_SECOND, round)
    }),
];

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    quick: bool,
    messages: u64,
    rounds: usize,
    seconds: u64,
    rate: Option<f64>,
    partitions: Vec<i32>,
    contenders: Vec<Contender>,
    only: Vec<String>,
}

impl Plan {
    /// As the arguments say. A contender that was named must be built; of the usual ones, those that are take part.
    pub(crate) fn of(arguments: &Arguments, stage: &Stage) -> anyhow::Result<Self> {
        let pick = |usual, quick| if arguments.quick { quick } else { usual };
        let partitions = match (arguments.partitions.as_slice(), arguments.quick) {
            ([], false) => vec![1, 4, 16],
            ([], true) => vec![RATIO_PARTITIONS],
            (named, _) => named.to_vec(),
        };
        let built =
            |contender: Contender| contender.files(stage).into_iter().find(|it| !it.is_file());
        let mut contenders = arguments.contenders.clone();
        for contender in &contenders {
            if let Some(missing) = built(*contender) {
                let missing = missing.display();
                bail!(
                    "{} lacks {missing}: `make bench-setup` builds it",
                    contender.name()
                );
            }
        }
        if contenders.is_empty() {
            for contender in USUAL {
                match built(contender) {
                    None => contenders.push(contender),
                    Some(missing) => {
                        eprintln!(
                            "without {}: there is no {}",
                            contender.name(),
                            missing.display()
                        );
                    }
                }
            }
        }
        let plan = Self {
            quick: arguments.quick,
            messages: arguments.messages.unwrap_or_else(|| pick(200_000, 60_000)),
            rounds: arguments
                .rounds
                .unwrap_or(if arguments.quick { 1 } else { 5 }),
            seconds: arguments.seconds.unwrap_or_else(|| pick(20, 5)),
            rate: arguments.rate,
            partitions,
            contenders,
            only: arguments.only.clone(),
        };
        let subjects = plan.subjects();
        for part in &plan.only {
            if !subjects.iter().any(|subject| is_part(part, subject)) {
                bail!(
                    "nothing is called {part}; there are {}",
                    subjects.join(", ")
                );
            }
        }
        Ok(plan)
    }

    /// Everything that these contenders can be measured at.
    fn subjects(&self) -> Vec<String> {
        let drains = self.contenders.iter().flat_map(|contender| {
            let counts = self.partitions.iter();
            counts.map(|count| drain_subject(*contender, *count))
        });
        let paces = self.contenders.iter().copied().map(pace_subject);
        let own = HOST.iter().map(|(subject, _)| (*subject).to_owned());
        drains.chain(paces).chain(own).collect()
    }

    /// Whether it is measured now.
    fn wants(&self, subject: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| is_part(part, subject))
    }

    pub(crate) fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    pub(crate) fn contenders(&self) -> &[Contender] {
        &self.contenders
    }

    /// What the rounds of each subject must have in common to be told together: sizes, and the program itself.
    pub(crate) fn settings(&self, stage: &Stage) -> anyhow::Result<Settings> {
        let mut settings = Settings::new();
        for contender in &self.contenders {
            let text = self.settings_of(*contender, stage)?;
            let drains = self.partitions.iter();
            let subjects = drains.map(|count| drain_subject(*contender, *count));
            for subject in subjects.chain([pace_subject(*contender)]) {
                settings.insert(subject, text.clone());
            }
        }
        let host = self.settings_of(Contender::Taskhost, stage)?;
        let own = HOST
            .iter()
            .map(|(subject, _)| ((*subject).to_owned(), host.clone()));
        settings.extend(own);
        Ok(settings)
    }

    fn settings_of(&self, contender: Contender, stage: &Stage) -> anyhow::Result<String> {
        let mut text = format!(
            "{VERSION} messages={} seconds={} rate={:?}",
            self.messages, self.seconds, self.rate
        );
        for file in contender.files(stage) {
            let found = file.metadata()?;
            let changed = found.modified()?.duration_since(UNIX_EPOCH)?.as_secs();
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let _ = write!(text, " {name}={}@{changed}", found.len());
        }
        Ok(text)
    }

    /// What a reader of the figures must know.
    pub(crate) fn about(&self, stage: &Stage) -> Value {
        let mut about = machine::describe(stage);
        let quick = if self.quick { "QUICK=1 " } else { "" };
        let arguments = told_arguments(std::env::args().skip(1));
        let arguments = match arguments.is_empty() {
            true => String::new(),
            false => format!(" ARGS=\"{}\"", arguments.join(" ")),
        };
        about["command"] = json!(format!("{quick}make bench{arguments}"));
        about["date"] = json!(today());
        about["settings"] = json!({
            "messages": self.messages, "rounds": self.rounds, "seconds": self.seconds,
        });
        about
    }

    /// Does what isn't done yet.
    pub(crate) fn run(&self, stage: &Stage, ledger: &mut Ledger) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut step = 0;
        let subjects = self.subjects();
        let wanted = subjects.iter().filter(|subject| self.wants(subject));
        let steps = self.rounds * wanted.count();
        let mut round_of =
            |ledger: &mut Ledger,
             subject: &str,
             round: usize,
             what: &mut dyn FnMut(&mut Report) -> anyhow::Result<()>| {
                if !self.wants(subject) {
                    return Ok(());
                }
                step += 1;
                if ledger.has(subject, round) {
                    return Ok(());
                }
                let (minutes, rounds) = (began.elapsed().as_secs() / 60, self.rounds);
                eprintln!("[{step}/{steps}, {minutes} min] {subject}, round {round} of {rounds}");
                let mut report = Report::default();
                let void = what(&mut report).err().map(|error| format!("{error:#}"));
                if let Some(reason) = &void {
                    eprintln!("  VOID: {reason}");
                }
                ledger.add(subject, round, report.into_figures(), void)
            };
        if self.is_anything_left(ledger) {
            self.warm_up(stage)?;
        }
        for round in 1..=self.rounds {
            for partitions in &self.partitions {
                for contender in self.turn(round) {
                    let subject = drain_subject(contender, *partitions);
                    round_of(ledger, &subject, round, &mut |report| {
                        drain::drain(stage, report, contender, *partitions, self.messages)
                    })?;
                }
            }
        }
        let maxima = Summary::of(ledger.lines());
        for round in 1..=self.rounds {
            for contender in self.turn(round) {
                round_of(ledger, &pace_subject(contender), round, &mut |report| {
                    pace::pace(stage, report, contender, self.pace(&maxima, contender)?)
                })?;
            }
            for (subject, what) in HOST {
                round_of(ledger, subject, round, &mut |report| {
                    what(stage, report, self.seconds, round)
                })?;
            }
        }
        Ok(())
    }

    /// The contenders, each round another one first.
    fn turn(&self, round: usize) -> Vec<Contender> {
        let mut order = self.contenders.clone();
        let first = round % order.len().max(1);
        order.rotate_left(first);
        order
    }

    fn is_anything_left(&self, ledger: &Ledger) -> bool {
        let rounds = || 1..=self.rounds;
        ledger
            .subjects()
            .filter(|subject| self.wants(subject))
            .any(|subject| rounds().any(|round| !ledger.has(subject, round)))
    }

    /// Rounds that don't count: a broker that was just started has everything to compile and to create.
    fn warm_up(&self, stage: &Stage) -> anyhow::Result<()> {
        let Some(first) = self.contenders.last() else {
            bail!("nobody takes part");
        };
        eprintln!("warming up the broker and Postgres …");
        for _ in 0..if self.quick { 1 } else { WARM_ROUNDS } {
            let mut unheard = Report::default();
            let warmed = drain::drain(stage, &mut unheard, *first, RATIO_PARTITIONS, self.messages);
            // If it can't do its work, its own rounds will say so.
            if let Err(reason) = warmed {
                eprintln!("  {reason:#}");
            }
        }
        Ok(())
    }

    /// Half of what a contender's rounds of draining came to, unless the rate was named.
    fn pace(&self, maxima: &Summary, contender: Contender) -> anyhow::Result<Pace> {
        if let Some(rate) = self.rate {
            return Ok(self.paced(rate, RATIO_PARTITIONS));
        }
        let found = [RATIO_PARTITIONS]
            .into_iter()
            .chain(self.partitions.iter().copied());
        let found = found
            .filter_map(|partitions| Some((partitions, maxima.drained(contender, partitions)?)))
            .next();
        let Some((partitions, most)) = found else {
            bail!("no round of draining counts, so nobody knows its maximum");
        };
        Ok(self.paced(most / 2.0, partitions))
    }

    fn paced(&self, rate: f64, partitions: i32) -> Pace {
        Pace {
            rate,
            warm: Duration::from_secs(self.seconds) / 4,
            measured: Duration::from_secs(self.seconds),
            partitions,
        }
    }
}

/// Whether a subject is that one, or one of those below it.
fn is_part(part: &str, subject: &str) -> bool {
    let rest = subject.strip_prefix(part);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The arguments without where things are on this machine, which `make` adds.
fn told_arguments(mut all: impl Iterator<Item = String>) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(argument) = all.next() {
        match argument.as_str() {
            "--host" | "--plugins" | "--contenders-dir" | "--report" => drop(all.next()),
            _ => told.push(argument),
        }
    }
    told
}

/// Today, in UTC.
fn today() -> String {
    let now = time::OffsetDateTime::now_utc();
    now.date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_what_is_measured_is_named_by_whole_words() {
        assert!(is_part("drain", "drain/seed/4") && is_part("drain/seed", "drain/seed/4"));
        assert!(is_part("host/poison", "host/poison"));
        assert!(
            !is_part("drain/seed", "drain/seed-batched/4") && !is_part("poison", "host/poison")
        );
    }

    #[test]
    fn the_command_that_is_told_names_no_place_of_this_machine() {
        let all = [
            "--host",
            "/somewhere/taskhost",
            "--rounds",
            "3",
            "--report",
            "/there",
        ];
        let told = told_arguments(all.map(str::to_owned).into_iter());
        assert_eq!(told, ["--rounds", "3"]);
    }
}
