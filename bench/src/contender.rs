//! Who is measured, and how each is started on a stage.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use taskhost::dev::{DeathSignal, Process};

use crate::subject::{Stage, Subject};
use crate::usage;

/// The tables of those that bring none themselves.
const SCHEMA: &str = include_str!("../contenders/schema.sql");

/// How long a contender may take until it has its partitions.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// How long an orderly end may take.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// At most so many workers of one topic: two cores are shared by everybody, and more of them gained nothing.
const WORKERS_MAX: i32 = 4;

/// A program that does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Contender {
    /// kafkajs `eachMessage` and pg, as in the document.
    Seed,
    /// The same with several partitions at a time, which the document doesn't have.
    SeedConcurrent,
    /// kafkajs `eachBatch`, one statement a batch.
    SeedBatched,
    /// Spring Kafka's batch listener, JDBC batches.
    Spring,
    /// This project, exactly once.
    Taskhost,
    /// The host with the rules compiled in instead of plugins.
    Native,
    /// The host with decisions that are there already.
    Bare,
}

impl Contender {
    /// Its name in figures and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::SeedConcurrent => "seed-concurrent",
            Self::SeedBatched => "seed-batched",
            Self::Spring => "spring",
            Self::Taskhost => "taskhost",
            Self::Native => "native",
            Self::Bare => "bare",
        }
    }

    /// Of so many messages of a round, how many this one gets: one that is a tenth as fast would take minutes.
    pub(crate) fn share(self, messages: u64) -> u64 {
        match self {
            Self::Seed | Self::SeedConcurrent => (messages / 10).max(400),
            _ => messages,
        }
    }

    /// Whether it publishes in transactions, so that its readers read what is committed.
    pub(crate) fn is_transactional(self) -> bool {
        self.program().is_some()
    }

    /// Which of the host's programs it is, if it is one.
    pub(crate) fn program(self) -> Option<&'static str> {
        match self {
            Self::Taskhost => Some("taskhost"),
            Self::Native => Some("taskhost-native"),
            Self::Bare => Some("taskhost-bare"),
            _ => None,
        }
    }

    /// What must be built before it can be started.
    pub(crate) fn files(self, stage: &Stage) -> Vec<std::path::PathBuf> {
        let own = |files: &[&str]| {
            files
                .iter()
                .map(|file| stage.contenders().join(file))
                .collect()
        };
        match self {
            Self::Seed | Self::SeedConcurrent => own(&[
                "seed/main.mjs",
                "rules.mjs",
                "node_modules/kafkajs/package.json",
            ]),
            Self::SeedBatched => own(&[
                "seed-batched/main.mjs",
                "rules.mjs",
                "node_modules/kafkajs/package.json",
            ]),
            Self::Spring => own(&["spring/target/spring.jar"]),
            _ => self
                .program()
                .map(|name| stage.program(name))
                .into_iter()
                .collect(),
        }
    }

    /// Starts it on topics and a database of its own, which are made from `suffix`, and waits until it is ready.
    pub(crate) fn start(
        self,
        stage: &Stage,
        suffix: &str,
        partitions: i32,
    ) -> anyhow::Result<Running> {
        match self.program() {
            Some(program) => Ok(Running::Host(stage.run_program(program, suffix, None)?)),
            None => Ok(Running::Peer(self.start_peer(stage, suffix, partitions)?)),
        }
    }

    fn start_peer(self, stage: &Stage, suffix: &str, partitions: i32) -> anyhow::Result<Peer> {
        let database = format!("bench_{suffix}");
        stage.create_database(&database)?;
        crate::database::execute(&stage.database_url(&database), SCHEMA)?;
        let directory = stage.directory(suffix)?;
        let mut command = self.command(stage.contenders(), partitions);
        let log = directory.join("contender.log");
        let file = File::create(&log)?;
        command
            .env("KAFKA_BROKERS", stage.brokers())
            .env("KAFKA_GROUP_ID", Stage::group(suffix))
            .env("DATABASE_URL", stage.database_url(&database))
            .env("TASK_STATUS_TOPIC", Stage::status_topic(suffix))
            .env("WEB_CRAWL_REQUEST_TOPIC", Stage::request_topic(suffix))
            .env("TASK_EVENTS_TOPIC", Stage::event_topic(suffix))
            .env("PARTITIONS", partitions.to_string())
            // Flags meant for other programs would be taken by this one.
            .env_remove("JAVA_TOOL_OPTIONS")
            .env_remove("NODE_OPTIONS")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let began = Instant::now();
        let process = Process::spawn(self.name(), command, DeathSignal(Signal::SIGKILL))
            .with_context(|| format!("{} can't be started", self.name()))?;
        loop {
            let said = fs::read_to_string(&log)?;
            if said.lines().any(|line| line == "ready") {
                break;
            }
            let ended = process.exit_status().is_some();
            if ended || began.elapsed() > READY_PATIENCE {
                bail!("{} is not ready:\n{said}", self.name());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Peer {
            process,
            ready_after: began.elapsed(),
            log,
        })
    }

    fn command(self, directory: &Path, partitions: i32) -> Command {
        let node = |script: &str| {
            let mut command = Command::new("node");
            command.arg(directory.join(script));
            command
        };
        let workers = partitions.min(WORKERS_MAX);
        let mut command = match self {
            Self::SeedConcurrent | Self::Seed => node("seed/main.mjs"),
            Self::SeedBatched => node("seed-batched/main.mjs"),
            _ => {
                let mut command = Command::new("java");
                // As much as the broker; the default, a quarter of the machine's memory, would make the peak meaningless.
                command
                    .args(["-Xmx512m", "-jar"])
                    .arg(directory.join("spring/target/spring.jar"));
                command.env("LISTENERS", workers.to_string());
                command
            }
        };
        // Both topics are worked on by one pool.
        let at_a_time = match self {
            Self::SeedConcurrent => Some(2 * partitions),
            Self::SeedBatched => Some(2 * workers),
            _ => None,
        };
        if let Some(count) = at_a_time {
            command.env("PARTITIONS_CONCURRENTLY", count.to_string());
        }
        command
    }
}

/// One that isn't taskhost, running.
pub(crate) struct Peer {
    process: Process,
    ready_after: Duration,
    log: std::path::PathBuf,
}

/// A contender that has its partitions.
pub(crate) enum Running {
    /// One of the host's programs.
    Host(Subject),
    /// Another stack.
    Peer(Peer),
}

impl Running {
    /// Its process; there may be children.
    pub(crate) fn pid(&self) -> i32 {
        match self {
            Self::Host(subject) => subject.pid(),
            Self::Peer(peer) => peer.process.pid(),
        }
    }

    /// From the start of its process until it had its partitions.
    pub(crate) fn ready_after(&self) -> Duration {
        match self {
            Self::Host(subject) => subject.ready_after,
            Self::Peer(peer) => peer.ready_after,
        }
    }

    /// The most memory that it ever had, in MiB.
    pub(crate) fn memory_peak(&self) -> anyhow::Result<f64> {
        usage::memory_peak(self.pid())
    }

    /// Ends it in good order.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Host(subject) => subject.stop(),
            Self::Peer(peer) => {
                let status = peer.process.stop(&[(Signal::SIGTERM, STOP_PATIENCE)]);
                // A JVM that was told to end says 128 and the signal's number.
                let in_order = status.success() || status.code() == Some(143);
                anyhow::ensure!(
                    in_order,
                    "it ended with {status}:\n{}",
                    fs::read_to_string(&peer.log)?
                );
                Ok(())
            }
        }
    }
}
