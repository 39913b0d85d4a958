//! A guest reaches nothing but its arguments, and finds the same nothing in every instance.

use serde_json::{Value, json};
use taskhost_core::decision::Decision;

use crate::support::{ask, misbehaving, quick, seen};

#[test]
fn there_is_no_environment_no_argument_no_file_and_no_socket() {
    let component = misbehaving(quick());
    for (behaviour, nothing) in [
        ("read-env", json!({})),
        ("read-args", json!([])),
        ("read-file", json!([])),
        ("write-file", json!([])),
        ("open-socket", json!([])),
    ] {
        assert_eq!(seen(&component, behaviour), nothing, "{behaviour}");
    }
}

#[test]
fn the_clocks_stand_still() {
    let clock = json!({"wallBefore": "0", "wallAfter": "0", "passedNanos": "0"});
    assert_eq!(seen(&misbehaving(quick()), "read-clock"), clock);
}

#[test]
fn random_numbers_are_the_same_in_every_instance() {
    let first = seen(&misbehaving(quick()), "read-random");
    let second = seen(&misbehaving(quick()), "read-random");
    assert!(first.is_string());
    assert_eq!(first, second);
}

#[test]
fn state_does_not_outlive_the_batch() {
    let component = misbehaving(quick());
    for _ in 0..3 {
        let answer = ask(&component, &["keep-state", "keep-state"]).expect("it answers");
        let counts: Vec<Value> = answer
            .iter()
            .flatten()
            .map(|decision| match decision {
                Decision::Apply(it) => serde_json::from_str(&it.data).expect("the data is JSON"),
                other => panic!("it does not apply: {other:?}"),
            })
            .collect();
        // Within a batch the instance is shared; the next batch begins anew.
        assert_eq!(counts, [json!({"seen": 1}), json!({"seen": 2})]);
    }
}

#[test]
fn a_fault_leaves_nothing_behind() {
    let component = misbehaving(quick());
    for behaviour in ["trap", "allocate", "recurse", "sleep"] {
        ask(&component, &["keep-state", behaviour]).expect_err("it fails");
        assert_eq!(
            seen(&component, "keep-state"),
            json!(1),
            "after {behaviour}"
        );
    }
}
