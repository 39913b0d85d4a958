//! `taskhost-chaos`: hosts as processes on a broker and a Postgres of their own, faults drawn from a seed, and an oracle.
//!
//! ```text
//!  load ──► input topics ──► hosts ──► tasks, history, task-events, dead letters
//!               │              ▲                      │
//!               │            faults                   ▼
//!               └────────► oracle ─────────────► compare ──► report.json
//! ```
//!
//! The load goes on while faults strike. Then what is left of it is sent, everything has to settle within a deadline, and
//! the oracle reads the input topics and says what must be. A schedule of its own instead of random faults
//! (`--scenario`) shows, with a guard of the protocol switched off (`--mutant`), that the oracle can find fault.

mod arguments;
mod faults;
mod fleet;
mod load;
mod oracle;
mod plan;
mod progress;
mod report;
mod scenario;
mod verdict;
mod versions;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Parser as _;
use taskhost_tests::{Services, World};

use arguments::{Arguments, Guard};
use faults::Faults;
use fleet::{Fleet, SESSION, keep_logs};
use load::Load;
use progress::Progress;
use report::{Recovery, Report, Spread, seconds};
use scenario::Stage;
use verdict::Verdict;
use watch::Watch;

/// Messages are sent so often, a few at a time.
const SEND_EVERY: Duration = Duration::from_millis(100);

/// What the broker and Postgres can be told so that hosts that come and go find their place.
const CONNECTIONS_MAX: &str = "300";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match catch_unwind(AssertUnwindSafe(|| run(&arguments))) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::from(1),
        Ok(Err(error)) => {
            eprintln!("taskhost-chaos: {error:#}");
            ExitCode::from(2)
        }
        // What it panicked about has been said.
        Err(_) => ExitCode::from(2),
    }
}

/// Whether all is as it must be.
fn run(arguments: &Arguments) -> Result<bool> {
    let faults = if arguments.scenario.is_some() || arguments.seconds.is_some() {
        0
    } else {
        arguments.faults
    };
    let progress = Progress::new(faults);
    progress.say("starting a broker and a Postgres");
    let mut services = Services::with(&[], &[("max_connections", CONNECTIONS_MAX)]);
    let partitions = if arguments.scenario.is_some() {
        1
    } else {
        arguments.partitions
    };
    let world = World::on(&services, partitions);
    let mut report = Report {
        seed: arguments.seed,
        scenario: arguments.scenario.map(Guard::name),
        mutant: arguments.mutant.map(Guard::name),
        ..Report::default()
    };
    let mut fleet = Fleet::new(&world, arguments.mutant);
    if arguments.scenario.is_none() {
        // Each swap compiles a version that nobody needs again: they go with the world.
        let cache = world.dir().join("cache").display().to_string();
        fleet.set("TASKHOST_PLUGINS_CACHE_DIR", cache);
    }
    let fleet = match arguments.scenario {
        Some(guard) => {
            let (world, progress) = (&world, &progress);
            let mutant = arguments.mutant;
            let mut stage = Stage {
                world,
                fleet,
                progress,
                mutant,
            };
            stage.play(guard)?;
            stage.fleet
        }
        None => random(
            arguments,
            &world,
            &mut services,
            fleet,
            &progress,
            &mut report,
        )?,
    };
    conclude(arguments, &world, fleet, &progress, &mut report)?;
    let path = arguments.report();
    report.write(&path)?;
    if !report.is_good() {
        let logs = path.with_file_name("logs");
        keep_logs(&world, &logs)?;
        progress.say(&format!("the logs of the hosts are in {}", logs.display()));
    }
    progress.say(&format!("the report is in {}", path.display()));
    progress.end(&report.summary(), report.is_good());
    Ok(report.is_good())
}

/// Faults drawn from the seed, over a load that goes on meanwhile.
fn random<'a>(
    arguments: &Arguments,
    world: &'a World,
    services: &mut Services,
    mut fleet: Fleet<'a>,
    progress: &Progress,
    report: &mut Report,
) -> Result<Fleet<'a>> {
    let watch = Watch::start(world.database_url());
    (0..plan::HOSTS).for_each(|place| fleet.launch(place, None));
    for place in 0..plan::HOSTS {
        fleet
            .host(place)
            .into_iter()
            .for_each(taskhost_tests::Host::wait_ready);
    }
    let (plan, over) = (
        plan::plan(arguments.seed, arguments.planned(), &arguments.only),
        AtomicBool::new(false),
    );
    let load = Load::new(arguments.seed);
    progress.say(&format!(
        "{} hosts are ready; {} follow, drawn from seed {}",
        plan::HOSTS,
        match arguments.seconds {
            Some(time) => format!("faults for {} s", time.as_secs()),
            None => format!("{} faults", plan.len()),
        },
        arguments.seed
    ));
    let (fleet, load) = thread::scope(|scope| {
        let sender = scope.spawn(|| send(world, load, arguments.rate, &over));
        let done = catch_unwind(AssertUnwindSafe(|| -> Result<Fleet<'a>> {
            let mut faults = Faults::new(world, services, fleet, &watch, progress)?;
            faults.run(plan, arguments.seconds)?;
            (report.faults, report.overlapped) = (faults.struck, faults.overlapped);
            report.kinds = std::mem::take(&mut faults.kinds);
            report.notes = std::mem::take(&mut faults.notes);
            Ok(faults.fleet)
        }));
        // Also when it failed: the sender has to end.
        over.store(true, Ordering::Relaxed);
        let load = sender
            .join()
            .map_err(|_| anyhow!("sending the load failed"));
        (done, load)
    });
    let fleet = fleet.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let rest = load?.rest();
    progress.say(&format!(
        "no more faults; the last {} messages are sent",
        rest.len()
    ));
    world.send_all(&rest);
    let (alone, beside): (Vec<_>, Vec<_>) =
        watch.takeovers().into_iter().partition(|one| one.alone);
    let times =
        |takeovers: Vec<watch::Takeover>| takeovers.into_iter().map(|one| one.time).collect();
    report.recovery = Recovery {
        session_timeout_seconds: seconds(SESSION),
        alone: Spread::of(times(alone)),
        beside_others: Spread::of(times(beside)),
    };
    report.recovery_seconds_max = report
        .recovery
        .alone
        .max
        .max(report.recovery.beside_others.max);
    Ok(fleet)
}

/// Sends until it is over, and gives back what has not been sent.
fn send(world: &World, mut load: Load, rate: u32, over: &AtomicBool) -> Load {
    let (began, mut sent) = (Instant::now(), 0_u64);
    while !over.load(Ordering::Relaxed) {
        let due = u64::try_from(began.elapsed().as_millis()).unwrap_or(0) * u64::from(rate) / 1_000;
        // After a while without a broker it isn't made up for at once.
        let count = due.saturating_sub(sent).min(u64::from(rate));
        let messages: Vec<_> = load
            .by_ref()
            .take(usize::try_from(count).unwrap_or(0))
            .collect();
        world.send_all(&messages);
        sent += count;
        thread::sleep(SEND_EVERY);
    }
    load
}

/// Waits until all is settled, ends the hosts and asks the oracle.
fn conclude(
    arguments: &Arguments,
    world: &World,
    mut fleet: Fleet<'_>,
    progress: &Progress,
    report: &mut Report,
) -> Result<()> {
    let began = Instant::now();
    loop {
        // What waited is published behind what was caught up with before.
        report.settled = world.is_caught_up() && world.waiting().is_empty() && world.is_caught_up();
        if report.settled || began.elapsed() > arguments.settle {
            break;
        }
        report.notes.extend(fleet.tend());
        thread::sleep(SEND_EVERY);
    }
    report.settle_seconds = seconds(began.elapsed());
    report.notes.extend(fleet.halts());
    match report.settled {
        true => progress.say(&format!("settled after {} s", report.settle_seconds)),
        false => progress.say(&format!(
            "not settled after {} s; where everything stands: {}",
            report.settle_seconds,
            world.state()
        )),
    }
    report.notes.extend(fleet.stop());
    report.seconds = seconds(progress.began().elapsed());
    report.verdict = Verdict::of(world);
    Ok(())
}
