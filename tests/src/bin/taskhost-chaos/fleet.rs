//! The hosts: processes that are killed, frozen and started again. Each process has transactional ids of its own, so that
//! the progress rows tell whose a partition is.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use taskhost_tests::{Host, World};

use crate::arguments::Guard;

/// How soon the broker misses a host that is gone.
pub(crate) const SESSION: Duration = Duration::from_secs(3);

/// What orchestrators give a process between SIGTERM and SIGKILL.
const STOP_LIMIT: Duration = Duration::from_secs(10);

struct Member {
    host: Host,
    owner: String,
    /// Whether it is meant to be dead, or to die by itself.
    doomed: bool,
}

/// The places that hosts run in; some may be empty.
pub(crate) struct Fleet<'a> {
    world: &'a World,
    mutant: Option<Guard>,
    /// Further variables of every host.
    environment: Vec<(&'static str, String)>,
    places: Vec<Option<Member>>,
    started: usize,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(world: &'a World, mutant: Option<Guard>) -> Self {
        Self {
            world,
            mutant,
            environment: Vec::new(),
            places: Vec::new(),
            started: 0,
        }
    }

    /// With a variable of the environment of every host that is started from now on.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.push((name, value.into()));
    }

    /// Starts a host in a place and waits for nothing; it may be armed to die at a failpoint. Small batches make many
    /// commits and transactions, and nothing that waits is given up however long it takes.
    pub(crate) fn launch(&mut self, place: usize, failpoint: Option<&str>) {
        self.started += 1;
        let owner = format!("chaos{}-", self.started);
        let mut builder = self
            .world
            .host()
            .env(
                "TASKHOST_TRANSACTIONAL_ID_PREFIX",
                owner.trim_end_matches('-'),
            )
            .env("TASKHOST_BATCH_MESSAGES_MAX", "20")
            .env("TASKHOST_DEFERRAL_DELAY_MAX", "1000")
            .env("TASKHOST_DEFERRAL_ATTEMPTS_MAX", "1000000")
            .env("KAFKA_SESSION_TIMEOUT", SESSION.as_millis().to_string())
            .env("KAFKA_HEARTBEAT_INTERVAL", "500");
        for (name, value) in &self.environment {
            builder = builder.env(name, value);
        }
        if let Some(text) = failpoint {
            builder = builder.failpoint(text);
        }
        if let Some(mutant) = self.mutant {
            builder = builder.env("TASKHOST_MUTANT", mutant.name());
        }
        let member = Member {
            host: builder.spawn(),
            owner,
            doomed: failpoint.is_some(),
        };
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        self.places[place] = Some(member);
    }

    fn member(&self, place: usize) -> Option<&Member> {
        self.places.get(place)?.as_ref()
    }

    /// The host in a place, if there is one.
    pub(crate) fn host(&self, place: usize) -> Option<&Host> {
        self.member(place).map(|member| &member.host)
    }

    /// What the transactional ids of the process in a place begin with.
    pub(crate) fn owner(&self, place: usize) -> String {
        self.member(place)
            .map(|member| member.owner.clone())
            .unwrap_or_default()
    }

    /// Kills the host in a place, which stays so until another one is launched there.
    pub(crate) fn kill(&mut self, place: usize) {
        if let Some(Some(member)) = self.places.get_mut(place) {
            member.doomed = true;
            member.host.kill();
        }
    }

    pub(crate) fn signal(&self, place: usize, signal: Signal) {
        if let Some(host) = self.host(place) {
            host.signal(signal);
        }
    }

    /// Empties a place in good order. What was not in order, if anything.
    pub(crate) fn leave(&mut self, place: usize) -> Option<String> {
        let member = self.places.get_mut(place)?.take()?;
        member.host.signal(Signal::SIGTERM);
        let began = Instant::now();
        while member.host.exit_status().is_none() && began.elapsed() < STOP_LIMIT {
            std::thread::sleep(Duration::from_millis(10));
        }
        match member.host.exit_status() {
            Some(status) if status.success() => None,
            Some(status) => Some(format!(
                "after SIGTERM {} ended with {status}",
                member.owner
            )),
            None => Some(format!(
                "{} did not end within {STOP_LIMIT:?} of SIGTERM",
                member.owner
            )),
        }
    }

    /// Starts those again that ended by themselves, as an orchestrator would, and says which.
    pub(crate) fn tend(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        for place in 0..self.places.len() {
            let ended = self.member(place).filter(|member| !member.doomed);
            let Some((member, status)) =
                ended.and_then(|member| Some((member, member.host.exit_status()?)))
            else {
                continue;
            };
            let log = member.host.log();
            let last = log.lines().last().unwrap_or_default();
            notes.push(format!(
                "{}ended by itself ({status}) and is started again: {last}",
                member.owner
            ));
            self.launch(place, None);
        }
        notes
    }

    /// Ends all in good order.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        (0..self.places.len())
            .filter_map(|place| self.leave(place))
            .collect()
    }

    /// Log lines that say that a partition stands still until a person decides.
    pub(crate) fn halts(&self) -> Vec<String> {
        let lines = self
            .places
            .iter()
            .flatten()
            .flat_map(|member| member.host.log_lines());
        let halts = lines.filter(|line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.starts_with("the partition stops"))
        });
        halts.map(|line| line.to_string()).collect()
    }
}

/// Copies what all hosts said to a directory.
pub(crate) fn keep_logs(world: &World, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("can't make {}", to.display()))?;
    for entry in fs::read_dir(world.dir())
        .context("can't list the logs")?
        .flatten()
    {
        if entry
            .path()
            .extension()
            .is_some_and(|ending| ending == "log")
        {
            fs::copy(entry.path(), to.join(entry.file_name())).context("can't copy a log")?;
        }
    }
    Ok(())
}
