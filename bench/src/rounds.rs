//! One round of what only the host is measured at: latency at a fixed rate, pause of a swap.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::load::{self, Sink, Source};
use crate::report::{Report, percentile};
use crate::subject::{Stage, Subject};

/// How long an event may take before the round is void.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Requests at 100 a second, open loop: from handing the message to the producer to the arrival of its event.
pub(crate) fn latency(stage: &Stage, report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let suffix = Stage::suffix();
    let (brokers, requests) = (stage.brokers(), format!("requests-{suffix}"));
    let events = format!("events-{suffix}");
    load::create(
        &brokers,
        &[&requests, &events, &format!("task-status-{suffix}")],
        4,
    )?;
    let subject = stage.run(&suffix, None)?;
    let sink = Sink::new(&brokers, &events, 4)?;
    let source = Source::new(&brokers)?;
    warm(&source, &sink, &requests, &suffix)?;
    let (sent, sends) = mpsc::channel();
    let count = usize::try_from(seconds * 100)?;
    let sender = std::thread::spawn(move || -> anyhow::Result<()> {
        let began = Instant::now();
        for number in 0..count {
            let due = began + Duration::from_millis(10) * u32::try_from(number)?;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let id = format!("latency-{suffix}-{number}");
            let _ = sent.send((id.clone(), due));
            source.send(&requests, &id, &load::request(&id))?;
        }
        source.flush()
    });
    let mut times: HashMap<String, Instant> = HashMap::new();
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        let key = sink
            .next(PATIENCE)?
            .context("events are missing: the round is void")?;
        let now = Instant::now();
        times.extend(sends.try_iter());
        let due = times
            .remove(&key)
            .context("an event came twice: the round is void")?;
        taken.push(now.duration_since(due).as_secs_f64() * 1000.0);
    }
    sender
        .join()
        .map_err(|_| anyhow::anyhow!("the sender failed"))??;
    report.add(
        "latency at 100 messages/s, p50",
        "ms",
        percentile(&mut taken, 0.5),
    );
    report.add(
        "latency at 100 messages/s, p99",
        "ms",
        percentile(&mut taken, 0.99),
    );
    finish(report, subject)
}

/// A host that was here before starts again: its schema, topics, versions and compiled plugins are there.
pub(crate) fn restart(stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let suffix = Stage::suffix();
    crate::drain::prepare(stage, &suffix, 4)?;
    let first = stage.run(&suffix, None)?;
    report.add(
        "time to ready, first start on an empty database",
        "ms",
        first.ready_after.as_secs_f64() * 1000.0,
    );
    first.stop()?;
    let again = stage.run(&suffix, None)?;
    report.add(
        "time to ready, started again",
        "ms",
        again.ready_after.as_secs_f64() * 1000.0,
    );
    again.stop()
}

fn warm(source: &Source, sink: &Sink, requests: &str, suffix: &str) -> anyhow::Result<()> {
    const WARM: usize = 50;
    for number in 0..WARM {
        let id = format!("warm-{suffix}-{number}");
        source.send(requests, &id, &load::request(&id))?;
    }
    source.flush()?;
    for _ in 0..WARM {
        sink.next(PATIENCE)?
            .context("events are missing: the round is void")?;
    }
    Ok(())
}

/// A plugin file is replaced while 1,000 messages a second come: the longest gap between two events.
pub(crate) fn swap(stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let suffix = Stage::suffix();
    let (brokers, topic) = (stage.brokers(), format!("swap-{suffix}"));
    let events = format!("events-{suffix}");
    load::create(&brokers, &[&topic, &events], 4)?;
    let config = format!(
        "[[route]]\ntopic = \"swap\"\nplugin = \"swap\"\ndefault_task_type = \"thing\"\n[topics]\nswap = \"{topic}\"\n"
    );
    let subject = stage.run(&suffix, Some(&config))?;
    let sink = Sink::new(&brokers, &events, 4)?;
    let source = Source::new(&brokers)?;
    let next = subject.plugins.join("swap.next");
    std::fs::copy(stage.plugin("guest_swap_v2.wasm"), &next)?;
    let count = 10_000;
    let target = subject.plugins.join("swap.wasm");
    let name = topic;
    let sender = std::thread::spawn(move || -> anyhow::Result<Instant> {
        let (began, mut swapped) = (Instant::now(), Instant::now());
        for number in 0..count {
            let due = began + Duration::from_millis(1) * u32::try_from(number)?;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if number == count / 2 {
                std::fs::rename(&next, &target)?;
                swapped = Instant::now();
            }
            let id = format!("swap-{number}");
            source.send(&name, &id, &format!(r#"{{"id":"{id}"}}"#))?;
        }
        source.flush()?;
        Ok(swapped)
    });
    let mut arrivals = Vec::with_capacity(count);
    let mut keys = HashSet::new();
    while arrivals.len() < count {
        let key = sink
            .next(PATIENCE)?
            .context("events are missing: the round is void")?;
        arrivals.push(Instant::now());
        anyhow::ensure!(keys.insert(key), "an event came twice: the round is void");
    }
    let swapped = sender
        .join()
        .map_err(|_| anyhow::anyhow!("the sender failed"))??;
    let around =
        |at: &Instant| *at >= swapped && at.duration_since(swapped) < Duration::from_secs(3);
    let gaps = arrivals.windows(2).filter(|pair| around(&pair[1]));
    let longest = gaps
        .map(|pair| pair[1].duration_since(pair[0]))
        .max()
        .unwrap_or_default();
    report.add(
        "longest gap between events around a swap",
        "ms",
        longest.as_secs_f64() * 1000.0,
    );
    finish(report, subject)
}

pub(crate) fn finish(report: &mut Report, subject: Subject) -> anyhow::Result<()> {
    report.add("memory, peak resident", "MiB", subject.memory_peak()?);
    subject.stop()
}
