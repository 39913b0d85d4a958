//! What the run is told.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::plan::Kind;

/// Hosts die, freeze and swap rules, broker and Postgres go away and come back, and an oracle says what it did to the messages.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "taskhost-chaos",
    after_help = "Examples:\n  \
        make chaos FAULTS=40 SEED=7\n  \
        taskhost-chaos --faults 200 --seed 1\n  \
        taskhost-chaos --seconds 7200 --seed 1\n  \
        taskhost-chaos --faults 20 --only broker,kill\n  \
        taskhost-chaos --scenario token                  one schedule instead of random faults\n  \
        taskhost-chaos --scenario token --mutant token   the same with a guard switched off: must report damage\n\n\
        The seed makes the load and the plan of faults repeatable. How far the load is when a fault strikes is not.\n\n\
        Exit code: 0 all is as it must be, 1 damage was found, 2 it could not run."
)]
pub(crate) struct Arguments {
    /// How many faults.
    #[arg(long, default_value_t = 40, value_name = "N")]
    pub(crate) faults: usize,
    /// Faults for so long instead of a number of them: none begins after it.
    #[arg(long, value_parser = seconds, conflicts_with = "faults", value_name = "SECONDS")]
    pub(crate) seconds: Option<Duration>,
    /// Faults of these kinds only.
    #[arg(long, value_delimiter = ',', value_name = "KIND,…")]
    pub(crate) only: Vec<Kind>,
    /// What load and faults are drawn from.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(crate) seed: u64,
    /// Messages a second, while faults go on.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub(crate) rate: u32,
    /// Partitions of each consumed topic.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..), value_name = "N")]
    pub(crate) partitions: i32,
    /// How long everything may take to settle once the last fault is over.
    #[arg(long, default_value = "120", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) settle: Duration,
    /// Instead of random faults: one schedule that a guard of the protocol exists for.
    #[arg(long, value_name = "NAME")]
    pub(crate) scenario: Option<Guard>,
    /// Runs hosts with that guard switched off (the environment variable `TASKHOST_MUTANT`).
    #[arg(long, value_name = "NAME")]
    pub(crate) mutant: Option<Guard>,
    /// Where the report goes; the logs of the hosts lie beside it if damage was found.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// A guard of the exactly-once protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Guard {
    /// A batch is committed only where nobody else was since it began.
    Epoch,
    /// A batch whose COMMIT got no answer is known by its own token.
    Token,
    /// The offsets are in the transaction of the messages.
    Offsets,
    /// Recovery publishes what an earlier owner committed.
    Republish,
}

impl Guard {
    /// Its name, as it is given to the host.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Token => "token",
            Self::Offsets => "offsets",
            Self::Republish => "republish",
        }
    }
}

impl Arguments {
    /// How many faults are planned: for a time, one a second, several times what it can come to.
    pub(crate) fn planned(&self) -> usize {
        match self.seconds {
            Some(time) => usize::try_from(time.as_secs()).unwrap_or(usize::MAX),
            None => self.faults,
        }
    }

    /// Where the report goes: `chaos/report.json` in the target directory that this program is from.
    pub(crate) fn report(&self) -> PathBuf {
        self.report.clone().unwrap_or_else(|| {
            let exe = env::current_exe().unwrap_or_default();
            let target = exe
                .ancestors()
                .nth(2)
                .map_or_else(PathBuf::new, PathBuf::from);
            target.join("chaos/report.json")
        })
    }
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}
