//! Carries the plan out: each fault strikes, something is awaited, and what it took away comes back.
//!
//! The moments are drawn, so there are pauses of a drawn length; all else is awaited, with a deadline.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use taskhost_tests::{Services, World};

use crate::fleet::Fleet;
use crate::plan::{Fault, HOSTS, Planned};
use crate::progress::Progress;
use crate::report::seconds;
use crate::versions::Versions;
use crate::watch::Watch;

/// How long a fault's effects are waited for before the run goes on without.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long nothing at all may be decided before there is no sense in further faults.
const STANDSTILL: Duration = Duration::from_secs(60);

/// How long an armed host may take to come to its failpoint.
const FAILPOINT_PATIENCE: Duration = Duration::from_secs(8);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the fourth host runs.
const GUEST: usize = HOSTS;

/// A fault that has struck and is not over.
struct Open {
    planned: Planned,
    since: Instant,
    /// The transactional ids of the host that was struck.
    owner: String,
    /// Activations before a swap.
    activations: i64,
}

/// Everything that faults happen to.
pub(crate) struct Faults<'w, 'r> {
    pub(crate) services: &'r mut Services,
    pub(crate) fleet: Fleet<'w>,
    pub(crate) watch: &'r Watch,
    pub(crate) progress: &'r Progress,
    versions: BTreeMap<&'static str, Versions>,
    pub(crate) struck: usize,
    pub(crate) kinds: BTreeMap<&'static str, usize>,
    pub(crate) overlapped: usize,
    pub(crate) notes: Vec<String>,
}

impl<'w, 'r> Faults<'w, 'r> {
    pub(crate) fn new(
        world: &'w World,
        services: &'r mut Services,
        fleet: Fleet<'w>,
        watch: &'r Watch,
        progress: &'r Progress,
    ) -> Result<Self> {
        let plugins = ["web_crawl", "task_status"];
        let versions = plugins
            .into_iter()
            .map(|plugin| Ok((plugin, Versions::of(world, plugin)?)));
        Ok(Self {
            services,
            fleet,
            watch,
            progress,
            versions: versions.collect::<Result<_>>()?,
            struck: 0,
            kinds: BTreeMap::new(),
            overlapped: 0,
            notes: Vec::new(),
        })
    }

    /// All of them, or those that begin in time, unless everything stands still before.
    pub(crate) fn run(&mut self, plan: Vec<Planned>, limit: Option<Duration>) -> Result<()> {
        let began = Instant::now();
        let mut open: Vec<Open> = Vec::new();
        for planned in plan {
            // One that overlaps the one before belongs to it: both are begun, and both end.
            if open.is_empty() && limit.is_some_and(|limit| began.elapsed() >= limit) {
                break;
            }
            thread::sleep(planned.after);
            self.tend();
            let (number, overlaps) = (planned.number, planned.overlaps);
            self.overlapped += usize::from(!open.is_empty());
            let begun = self.begin(planned, open.is_empty())?;
            open.push(begun);
            if overlaps {
                continue;
            }
            // Nobody takes anything over while broker or Postgres is away.
            open.sort_by_key(|open| {
                !matches!(
                    open.planned.fault,
                    Fault::Broker { .. } | Fault::Postgres { .. }
                )
            });
            for open in open.drain(..) {
                self.end(&open)?;
            }
            let before = self.watch.consumed();
            if !self.wait(STANDSTILL, |all| all.watch.consumed() > before) {
                self.note(format!(
                    "after fault {number} nothing was decided for {STANDSTILL:?}"
                ));
                break;
            }
            self.progress.done(number);
        }
        Ok(())
    }

    fn begin(&mut self, planned: Planned, alone: bool) -> Result<Open> {
        self.struck += 1;
        *self.kinds.entry(planned.fault.kind()).or_default() += 1;
        let beside = if alone {
            ""
        } else {
            ", while the one before is not over"
        };
        self.progress.say(&format!(
            "fault {}: {}{beside}",
            planned.number, planned.fault
        ));
        self.watch.disturbed();
        let mut owner = String::new();
        let activations = self.watch.activations();
        match &planned.fault {
            Fault::Kill { host, at_once } => {
                owner = self.kill(*host, alone);
                if *at_once {
                    self.fleet.launch(*host, None);
                }
            }
            Fault::Failpoint { host, name, turn } => {
                owner = self.kill(*host, alone);
                self.fleet.launch(*host, Some(&format!("{name}:{turn}")));
            }
            Fault::Freeze { host, .. } => {
                owner = self.fleet.owner(*host);
                self.fleet.signal(*host, Signal::SIGSTOP);
                self.watch.struck(&owner, false, alone);
            }
            Fault::Broker { crash: true, .. } => self.services.broker.kill(),
            Fault::Broker { crash: false, .. } => self.services.broker.stop(),
            Fault::Postgres { crash: true, .. } => self.services.postgres.kill(),
            Fault::Postgres { crash: false, .. } => self.services.postgres.stop(),
            Fault::Swap { plugin } => {
                if let Some(versions) = self.versions.get_mut(plugin) {
                    versions.swap()?;
                }
            }
            Fault::Join => self.fleet.launch(GUEST, None),
            Fault::Leave => {
                let trouble = self.fleet.leave(GUEST);
                trouble.into_iter().for_each(|text| self.note(text));
            }
        }
        Ok(Open {
            planned,
            since: Instant::now(),
            owner,
            activations,
        })
    }

    fn kill(&mut self, host: usize, alone: bool) -> String {
        let owner = self.fleet.owner(host);
        self.fleet.kill(host);
        self.watch.struck(&owner, true, alone);
        owner
    }

    fn end(&mut self, open: &Open) -> Result<()> {
        let number = open.planned.number;
        let awaited = match &open.planned.fault {
            Fault::Kill { host, at_once } => {
                let taken = self.taken(open);
                if !at_once {
                    self.fleet.launch(*host, None);
                }
                let again = if *at_once {
                    "was started at once"
                } else {
                    "is started again"
                };
                format!("{taken}; it {again}")
            }
            Fault::Failpoint { host, name, .. } => self.at_failpoint(*host, name),
            Fault::Freeze {
                host,
                beyond_session,
                more,
            } => {
                let taken = match beyond_session {
                    true => self.taken(open),
                    false => "not for long".to_owned(),
                };
                thread::sleep(*more);
                self.fleet.signal(*host, Signal::SIGCONT);
                format!(
                    "{taken}; SIGCONT after {:.1} s",
                    open.since.elapsed().as_secs_f64()
                )
            }
            Fault::Broker { down, .. } => {
                thread::sleep(down.saturating_sub(open.since.elapsed()));
                self.services.broker.restart()?;
                format!("back after {:.1} s", open.since.elapsed().as_secs_f64())
            }
            Fault::Postgres { down, .. } => {
                thread::sleep(down.saturating_sub(open.since.elapsed()));
                self.services.postgres.restart()?;
                format!("back after {:.1} s", open.since.elapsed().as_secs_f64())
            }
            Fault::Swap { .. } => {
                let before = open.activations;
                match self.wait(PATIENCE, |all| all.watch.activations() > before) {
                    true => format!(
                        "activated after {:.1} s",
                        open.since.elapsed().as_secs_f64()
                    ),
                    false => {
                        self.note(format!(
                            "fault {number}: the swap was not activated within {PATIENCE:?}"
                        ));
                        "not activated".to_owned()
                    }
                }
            }
            Fault::Join => "waited for nothing".to_owned(),
            Fault::Leave => "waited for its end".to_owned(),
        };
        self.progress
            .say(&format!("fault {number} is over: {awaited}"));
        Ok(())
    }

    /// Waits until somebody else has committed for each partition that the host had.
    fn taken(&mut self, open: &Open) -> String {
        let owner = &open.owner;
        if self.wait(PATIENCE, |all| all.watch.is_taken(owner)) {
            return format!(
                "others had committed for its partitions after {} s",
                seconds(open.since.elapsed())
            );
        }
        self.watch.forget(owner);
        self.note(format!(
            "fault {}: nobody had committed for some of its partitions within {PATIENCE:?}",
            open.planned.number
        ));
        "its partitions were not taken".to_owned()
    }

    /// Waits until the armed host has died, and starts it again.
    fn at_failpoint(&mut self, host: usize, name: &str) -> String {
        let died = self.wait(FAILPOINT_PATIENCE, |all| {
            all.fleet
                .host(host)
                .is_none_or(|host| host.exit_status().is_some())
        });
        self.watch.disturbed();
        let owner = self.kill(host, true);
        let since = Instant::now();
        let taken = self.wait(PATIENCE, |all| all.watch.is_taken(&owner));
        self.watch.forget(&owner);
        self.fleet.launch(host, None);
        let death = if died {
            format!("it died at {name}")
        } else {
            format!("it did not come to {name} and was killed")
        };
        match taken {
            true => format!(
                "{death}; others had committed for its partitions after {} s",
                seconds(since.elapsed())
            ),
            false => format!("{death}; some of its partitions were not taken within {PATIENCE:?}"),
        }
    }

    fn wait(&mut self, limit: Duration, mut come: impl FnMut(&Self) -> bool) -> bool {
        let began = Instant::now();
        loop {
            if come(self) {
                return true;
            }
            if began.elapsed() > limit {
                return false;
            }
            self.tend();
            thread::sleep(LOOK_EVERY);
        }
    }

    fn tend(&mut self) {
        let notes = self.fleet.tend();
        notes.into_iter().for_each(|text| self.note(text));
    }

    fn note(&mut self, text: String) {
        self.progress.say(&text);
        self.notes.push(text);
    }
}
