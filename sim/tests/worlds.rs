//! The same seed gives the same world, and the oracle reports damage when a guard of the protocol is switched off.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::process::Command;

use taskhost::mutant::Mutant;
use taskhost_sim::live;

/// Worlds in which a defect must show.
const SEEDS: &str = "1000";

#[test]
fn a_world_is_the_same_each_time() {
    for seed in 1..=25 {
        let (once, again) = (live(seed, false), live(seed, false));
        assert_eq!(once.digest, again.digest, "seed {seed}");
        assert_eq!(once.wrong, Vec::<String>::new(), "seed {seed}");
    }
}

/// That the absence of a guard is noticed. In a process of its own, because a guard is switched off for a whole process.
fn is_missed(guard: &str) {
    let mut worlds = Command::new(env!("CARGO_BIN_EXE_taskhost-sim"));
    worlds
        .args(["--seeds", SEEDS])
        .env("TASKHOST_MUTANT", guard);
    let output = worlds.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let told = said.find("The world of seed").map(|at| &said[at..]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "nothing is wrong without {guard}: {told:?}"
    );
    assert!(told.is_some(), "what is wrong without {guard} is not told");
}

macro_rules! guards {
    ($($name:ident: $guard:literal),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                is_missed($guard);
            }
        )*

        #[test]
        fn every_guard_but_one_has_a_test() {
            let guards = Mutant::ALL.map(|(name, _)| name).into_iter();
            // Too rare: docs/protocol-tests.md.
            let expected: Vec<&str> = guards.filter(|name| *name != "token").collect();
            assert_eq!(expected, [$($guard),*]);
        }
    };
}

guards! {
    without_the_epoch: "epoch",
    with_offsets_outside_of_the_transaction: "offsets",
    without_recovery: "republish",
    without_the_version: "version",
    without_the_activation: "activation",
    without_the_rows: "rows",
    without_settling: "settle",
    with_frames_published_twice: "twice",
    without_withdrawing: "withdraw",
    without_a_look_after_the_commit: "wake",
    without_fencing: "fence",
}
