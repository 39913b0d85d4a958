//! Runs seeded worlds, and prints the story of one that breaks a law.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use taskhost_sim::{Ended, live};

/// Runs the worker and the publisher in worlds where processes crash, freeze and lose answers, and checks the laws.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  taskhost-sim --seeds 10000\n  taskhost-sim --seed 4711 --seeds 1 --story"
)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many worlds, one for each seed from the first on.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Prints the story of each world, event by event, also of those in which all is well.
    #[arg(long)]
    story: bool,
    /// Threads; as many as there are cores by default.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    let jobs = args
        .jobs
        .or_else(|| std::thread::available_parallelism().ok().map(Into::into));
    let next = AtomicU64::new(args.seed);
    let end = args.seed.saturating_add(args.seeds);
    let (failed, seen) = (Mutex::new(None), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(1).max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let lived = std::panic::catch_unwind(|| live(seed, args.story));
                    let Ok(ended) = lived else {
                        eprintln!("The world of seed {seed} panicked.");
                        std::process::exit(101);
                    };
                    count(&seen, &ended);
                    if args.story {
                        ended.story.iter().for_each(|line| println!("{line}"));
                    }
                    if !ended.wrong.is_empty() {
                        keep_first(&failed, seed);
                        next.store(end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let worlds = next.load(Ordering::Relaxed).min(end) - args.seed;
    let first = failed.into_inner().ok().flatten();
    let Some(seed) = first else {
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{worlds} worlds in {seconds:.1} s, from seed {} on: all laws hold.",
            args.seed
        );
        for (what, times) in seen.into_inner().unwrap_or_default() {
            println!("{times:>9} x {what}");
        }
        return ExitCode::SUCCESS;
    };
    let ended = live(seed, true);
    if !args.story {
        ended.story.iter().for_each(|line| println!("{line}"));
    }
    println!();
    println!("The world of seed {seed} is wrong:");
    ended.wrong.iter().for_each(|wrong| println!("  {wrong}"));
    println!("Live through it again: taskhost-sim --seed {seed} --seeds 1 --story");
    ExitCode::FAILURE
}

fn count(seen: &Mutex<BTreeMap<&'static str, u64>>, ended: &Ended) {
    if let Ok(mut seen) = seen.lock() {
        for (what, times) in &ended.seen {
            *seen.entry(what).or_default() += times;
        }
    }
}

fn keep_first(failed: &Mutex<Option<u64>>, seed: u64) {
    if let Ok(mut failed) = failed.lock() {
        *failed = Some(failed.map_or(seed, |known: u64| known.min(seed)));
    }
}
