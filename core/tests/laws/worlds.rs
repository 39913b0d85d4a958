//! Laws 1, 3 and 4 in drawn worlds: several partitions, replays, timers, holds, hints, and people.
//!
//! `TASKHOST_WORLDS` says how many worlds are tried, `TASKHOST_WORLD` tries the one of a seed again. What fails is told
//! with its seed and its story, the shortest one of all.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::draw::Drawn;

/// Worlds that take a few seconds in the development profile.
const WORLDS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// Runs a world; if something is wrong with it, its story and what.
fn failure(seed: u64) -> Option<(Vec<String>, String)> {
    let mut drawn = Drawn::new(seed);
    let ran = catch_unwind(AssertUnwindSafe(|| drawn.run()));
    let bad = match ran {
        Ok(Ok(())) => return None,
        Ok(Err(bad)) => bad,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            text.unwrap_or_else(|| "it panicked".to_owned())
        }
    };
    Some((drawn.world.story, bad))
}

#[test]
fn whatever_waits_and_whoever_interferes_the_laws_hold() {
    let seeds = match number("TASKHOST_WORLD") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TASKHOST_WORLDS").unwrap_or(WORLDS),
    };
    let failures: Vec<_> = seeds
        .filter_map(|seed| Some((seed, failure(seed)?)))
        .collect();
    let shortest = failures.iter().min_by_key(|(_, (story, _))| story.len());
    if let Some((seed, (story, bad))) = shortest {
        let count = failures.len();
        panic!(
            "{count} worlds fail; TASKHOST_WORLD={seed}:\n{}\n{bad}",
            story.join("\n")
        );
    }
}
