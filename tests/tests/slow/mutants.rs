//! The oracle of the chaos run can find fault: for each guard of the protocol there is a schedule that does damage without
//! it, and none with it.

use std::fs;
use std::process::Command;

use serde_json::Value;

/// Plays a guard's schedule, with the guard or without, and answers the exit code and the report.
fn play(guard: &str, without: bool) -> (Option<i32>, Value) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let report = dir.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskhost-chaos"));
    command.args(["--scenario", guard, "--report"]).arg(&report);
    if without {
        // What stands still then does so for good.
        command.args(["--mutant", guard, "--settle", "15"]);
    }
    let output = command.output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    let report = fs::read(&report).unwrap_or_else(|error| {
        panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr))
    });
    let report = serde_json::from_slice(&report).expect("a report");
    (output.status.code(), report)
}

fn counts(report: &Value) -> [u64; 4] {
    ["lost", "duplicated", "reordered", "wrong"]
        .map(|count| report[count].as_u64().expect("a count"))
}

/// With the guard nothing is amiss; without it, at least one of the named counts says so.
fn is_needed(guard: &str, named: &[&str]) {
    let (code, report) = play(guard, false);
    assert_eq!((code, counts(&report)), (Some(0), [0; 4]), "{report:#}");
    let (code, report) = play(guard, true);
    assert_eq!(code, Some(1), "{report:#}");
    let found = |count: &&str| report[*count].as_u64() > Some(0);
    assert!(named.iter().any(found), "{report:#}");
}

#[test]
fn without_the_compare_and_set_of_progress_a_zombie_does_damage_that_is_found() {
    is_needed("epoch", &["wrong", "duplicated", "lost"]);
}

#[test]
fn without_the_token_anothers_batch_is_taken_for_ones_own_and_it_is_found() {
    is_needed("token", &["duplicated", "lost"]);
}

#[test]
fn without_the_offsets_in_the_transaction_messages_are_published_twice_and_it_is_found() {
    is_needed("offsets", &["duplicated"]);
}

#[test]
fn without_recoverys_publishing_messages_are_lost_and_it_is_found() {
    is_needed("republish", &["lost"]);
}
