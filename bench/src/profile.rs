//! Where the host's time goes at full load: a flame graph, and how much each stage takes.
//!
//! `perf` looks at the host's stacks while a backlog is drained, from when the first tenth of the events has come. The host
//! must have been built with frame pointers (`make profile` does), or the stacks end early.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use inferno::collapse::Collapse as _;
use inferno::collapse::perf::Folder;
use inferno::flamegraph;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::contender::Contender;
use crate::drain::{self, Watch};
use crate::report::Report;
use crate::subject::Stage;
use crate::summary::RATIO_PARTITIONS;

/// Stacks a second: a number that is no multiple of what timers in the host go by.
const FREQUENCY: &str = "499";

/// What a stack belongs to: the first of these of which a function or a thread of it has the name.
const STAGES: &[(&str, &str)] = &[
    (
        "wait for Kafka: librdkafka's threads, the poll thread",
        "rdk:",
    ),
    (
        "wait for Kafka: librdkafka's threads, the poll thread",
        "kafka-poll",
    ),
    ("publish: hand over, await reports, commit", "kafka-publish"),
    ("decode", "worker::causes::of_messages"),
    (
        "decide: the plugin's call",
        "plugin::component::Component::ask",
    ),
    ("decide: check and fold", "worker::decide::decide"),
    // A guest runs on a stack of its own, whose outermost function is the engine's.
    ("decide: the plugin's call", "wasmtime"),
    ("commit: encode the frame", "frame::Frame::encode"),
    ("commit: Postgres' client", "sqlx"),
    ("commit: the rest", "taskhost::store"),
    ("drop what a batch was made of", "drop_in_place"),
    ("worker: the rest", "taskhost::worker"),
];

/// Looks at one round and writes `flame.svg` and `stages.md` into a folder.
pub(crate) fn run(stage: &Stage, messages: u64, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let mut unheard = Report::default();
    let drain = |report: &mut Report, messages, watch: &mut dyn Watch| {
        let contender = Contender::Taskhost;
        drain::watched(stage, report, contender, RATIO_PARTITIONS, messages, watch)
    };
    eprintln!("warming up the broker and Postgres …");
    drain(&mut unheard, messages / 4, &mut ())?;
    let recorded = tempfile::NamedTempFile::new()?;
    let mut perf = Perf::new(recorded.path().to_owned());
    eprintln!("looking at the host while it drains {messages} messages …");
    drain(&mut unheard, messages, &mut perf)?;
    let folded = perf.folded()?;
    let mut options = flamegraph::Options::default();
    options.title = format!("taskhost at full load, {RATIO_PARTITIONS} partitions");
    options.image_width = Some(1600);
    options.min_width = 0.3;
    let svg = fs::File::create(folder.join("flame.svg"))?;
    flamegraph::from_lines(&mut options, folded.lines(), svg)?;
    let table = table(&folded);
    fs::write(folder.join("stages.md"), &table)?;
    print!("{table}");
    Ok(())
}

/// `perf record` on a process, as long as it is watched.
struct Perf {
    data: PathBuf,
    recording: Option<Child>,
}

impl Perf {
    fn new(data: PathBuf) -> Self {
        Self {
            data,
            recording: None,
        }
    }

    /// The stacks that were seen, each on a line with its number: functions from the outermost, `;` between them.
    fn folded(&self) -> anyhow::Result<String> {
        let script = Command::new("perf")
            .args(["script", "--no-inline", "-i"])
            .arg(&self.data)
            .stderr(Stdio::null())
            .output()
            .context("perf script")?;
        let mut folded = Vec::new();
        Folder::default().collapse(script.stdout.as_slice(), &mut folded)?;
        Ok(String::from_utf8_lossy(&folded).into_owned())
    }
}

impl Watch for Perf {
    fn begin(&mut self, pid: i32) -> anyhow::Result<()> {
        let recording = Command::new("perf")
            .args(["record", "-F", FREQUENCY, "--call-graph", "fp", "-p"])
            .arg(pid.to_string())
            .arg("-o")
            .arg(&self.data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("perf can't be started: it is in Debian's package linux-perf")?;
        self.recording = Some(recording);
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if let Some(mut recording) = self.recording.take() {
            kill(
                Pid::from_raw(i32::try_from(recording.id())?),
                Signal::SIGINT,
            )?;
            recording.wait()?;
        }
        Ok(())
    }
}

/// How much each stage takes.
fn table(folded: &str) -> String {
    let mut shares: Vec<(&str, u64)> = Vec::new();
    let mut total = 0;
    for (stack, count) in folded.lines().filter_map(|line| line.rsplit_once(' ')) {
        let count: u64 = count.parse().unwrap_or(0);
        let stage = STAGES.iter().find(|(_, part)| stack.contains(part));
        let name = stage.map_or("the rest: runtime, other threads", |(name, _)| name);
        total += count;
        match shares.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += count,
            None => shares.push((name, count)),
        }
    }
    shares.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut table = String::from("| stage | share of the host's processor time |\n|---|---|\n");
    for (name, count) in shares {
        let tenths = count * 1000 / total.max(1);
        table.push_str(&format!("| {name} | {}.{} % |\n", tenths / 10, tenths % 10));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_counts_for_the_first_stage_that_it_belongs_to() {
        let folded = "tokio;taskhost::worker::decide::decide;taskhost::plugin::component::Component::ask;memcpy 3\n\
                      tokio;taskhost::worker::decide::decide;memcpy 6\nrdk:broker1;x 1\n";
        let table = table(folded);
        assert!(table.contains("| decide: the plugin's call | 30.0 % |"));
        assert!(table.contains("| decide: check and fold | 60.0 % |"));
        assert!(table.contains("the poll thread | 10.0 % |"));
    }
}
