//! Hosts that die, and hosts that only seem to: what they leave behind equals an undisturbed run.

pub(crate) mod load;
pub(crate) mod outcome;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use taskhost_tests::{Cut, Host, HostBuilder, Message, Proxy, World, soon};

use load::load;
use outcome::{Outcome, assert_order};

/// Another seed is another load and other moments.
const SEED: u64 = 20_000;

/// Recoveries follow one another; each may take as long as a session and a fence, on a busy machine.
const SETTLED: Duration = Duration::from_secs(60);

/// How a host is made to die.
enum Death {
    /// At a failpoint, at its n-th turn.
    At(&'static str),
    /// From outside, once so many more records are consumed, drawn up to this: somewhere in its work.
    Random(i64),
}

use Death::{At, Random};

/// Each failpoint at least once. Those in recovery follow a death that leaves something to recover: after the commit to
/// Postgres and inside the transaction a frame is left to publish.
const DEATHS: [Death; 20] = [
    At("before-postgres-commit:4"),
    Random(500),
    At("after-postgres-commit:3"),
    At("recovery-after-publish"),
    At("publish-inside-transaction:3"),
    At("recovery-after-claim:2"),
    Random(800),
    At("recovery-after-fence:3"),
    At("publish-before-commit:2"),
    At("recovery-after-publish"),
    Random(300),
    At("publish-after-commit:2"),
    At("recovery-after-claim:5"),
    Random(600),
    At("after-postgres-commit"),
    At("publish-inside-transaction"),
    Random(50),
    At("before-postgres-commit:9"),
    At("publish-after-commit:5"),
    Random(900),
];

/// Small batches make many commits and transactions; a killed member is missed soon.
pub(crate) fn host(world: &World) -> HostBuilder {
    world
        .host()
        .env("TASKHOST_BATCH_MESSAGES_MAX", "50")
        .env("TASKHOST_DEFERRAL_DELAY_MAX", "1000")
        .env("KAFKA_SESSION_TIMEOUT", "1500")
        .env("KAFKA_HEARTBEAT_INTERVAL", "300")
}

pub(crate) fn an_hour_ago() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time after 1970");
    i64::try_from(now.as_millis()).expect("a time of our age") - 3_600_000
}

/// Waits until everything is decided and published, and nothing waits.
pub(crate) fn wait_settled(world: &World) {
    let began = Instant::now();
    // What waited is published behind what was caught up with before.
    while !(world.is_caught_up() && world.waiting().is_empty() && world.is_caught_up()) {
        assert!(
            began.elapsed() < SETTLED,
            "not everything is settled: {}",
            world.state()
        );
    }
}

/// What the same load comes to when nothing happens.
pub(crate) fn undisturbed(load: &[Message]) -> Outcome {
    let world = World::with_partitions(4);
    let host = host(&world).start();
    let began = Instant::now();
    world.send_all(load);
    wait_settled(&world);
    println!(
        "undisturbed: {} messages in {:?}",
        load.len(),
        began.elapsed()
    );
    host.stop();
    assert_order(&world);
    let outcome = Outcome::of(&world);
    println!("{}", outcome.summary());
    outcome
}

pub(crate) fn consumed(world: &World) -> i64 {
    world.progress().iter().map(|row| row.consumed).sum()
}

fn await_death(world: &World, host: &Host, death: &Death, before: i64, rng: &mut StdRng) {
    match death {
        At(name) => {
            let status = host.wait_exit();
            assert_eq!(status.code(), None, "{name}: it was killed: {status}");
        }
        Random(most) => {
            let enough = before + rng.random_range(1..=*most);
            soon("the host is at work", || {
                (consumed(world) >= enough).then_some(())
            });
            host.kill();
        }
    }
}

#[test]
fn after_twenty_deaths_in_twenty_thousand_messages_everything_is_as_if_nobody_had_died() {
    let load = load(SEED, 20_000, an_hour_ago());
    let expected = undisturbed(&load);
    for (part, least) in [("tasks", 2_000), ("history", 5_000), ("dead letters", 500)] {
        assert!(
            expected.count(part) >= least,
            "{part}: {}",
            expected.count(part)
        );
    }

    let world = World::with_partitions(4);
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut chunks = load.chunks(load.len().div_ceil(DEATHS.len() + 1));
    let began = Instant::now();
    for death in &DEATHS {
        let before = match death {
            At(_) => 0,
            Random(_) => consumed(&world),
        };
        let host = match death {
            At(name) => host(&world).failpoint(name).spawn(),
            Random(_) => host(&world).spawn(),
        };
        world.send_all(chunks.next().expect("a chunk for each death"));
        await_death(&world, &host, death, before, &mut rng);
    }
    let host = host(&world).start();
    chunks.for_each(|chunk| world.send_all(chunk));
    wait_settled(&world);
    println!("with {} deaths: {:?}", DEATHS.len(), began.elapsed());
    host.stop();
    Outcome::of(&world).assert_is(&expected);
    assert_order(&world);
}

#[test]
fn a_frozen_host_whose_partitions_were_taken_changes_nothing_when_it_wakes() {
    let load = load(SEED + 1, 4_000, an_hour_ago());
    let expected = undisturbed(&load);

    let world = World::with_partitions(4);
    let mut frozen = host(&world).start();
    for chunk in load.chunks(load.len().div_ceil(2)) {
        let before = consumed(&world);
        world.send_all(chunk);
        let other = host(&world).spawn();
        soon("the host is at work", || {
            (consumed(&world) > before + 100).then_some(())
        });
        frozen.signal(Signal::SIGSTOP);
        // Somewhere in its batches and transactions. What it holds is taken when its session is over, and Postgres ends
        // what it has open there; a message whose task comes with the next chunk still waits.
        soon("the other host does the rest", || {
            world.is_caught_up().then_some(())
        });
        frozen.signal(Signal::SIGCONT);
        let both = ("Stable".to_owned(), 2);
        soon("it is back in the group", || {
            (world.group_state() == both).then_some(())
        });
        // The one that took over is the next to be frozen.
        frozen.kill();
        frozen = other;
    }
    frozen.stop();
    Outcome::of(&world).assert_is(&expected);
    assert_order(&world);
}

#[test]
fn a_commit_whose_answer_is_lost_takes_effect_once_whether_it_was_committed_or_not() {
    let load = load(SEED + 2, 3_000, an_hour_ago());
    let expected = undisturbed(&load);

    let world = World::with_partitions(4);
    let proxy = Proxy::start(world.database_url());
    let host = host(&world).env("DATABASE_URL", proxy.url()).start();
    for (turn, chunk) in load.chunks(300).enumerate() {
        let cut = if turn % 2 == 0 {
            Cut::BeforeCommit
        } else {
            Cut::AfterCommit
        };
        proxy.cut_next(cut);
        world.send_all(chunk);
        soon("the line is cut", || (proxy.cuts() > turn).then_some(()));
    }
    wait_settled(&world);
    let log = host.log();
    assert!(
        log.contains("the answer to COMMIT was lost"),
        "the host noticed"
    );
    assert_eq!(host.get("/readyz").status, 200);
    host.stop();
    Outcome::of(&world).assert_is(&expected);
    assert_order(&world);
}
