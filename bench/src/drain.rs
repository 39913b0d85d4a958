//! How fast a contender works off what waits for it, and what that costs.
//!
//! All messages are in their topics before it is started. The clock runs from when the first tenth of the events has come and the contender
//! is ready to the arrival of the last event, so that neither start-up nor the first batches of a cold runtime count. What came before
//! counts for nothing.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::arrivals::{self, Arrivals};
use crate::contender::{Contender, Running};
use crate::load::{self, Sink, Source};
use crate::report::Report;
use crate::stream::Stream;
use crate::subject::Stage;
use crate::tally::{self, Tally};
use crate::usage;

/// How long the next event may take before the round is void.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was used when so many events had come.
pub(crate) struct Mark {
    at: Instant,
    count: usize,
    /// Processor seconds of contender, broker and Postgres.
    cpu: [f64; 3],
}

impl Mark {
    pub(crate) fn now(stage: &Stage, running: &Running, tally: &Tally) -> anyhow::Result<Self> {
        let at = Instant::now();
        let [broker, postgres] = stage.cpu_seconds()?;
        Ok(Self {
            at,
            count: tally.count(),
            cpu: [usage::cpu_seconds(running.pid())?, broker, postgres],
        })
    }
}

/// Who looks at a contender while it is measured.
pub(crate) trait Watch {
    /// The clock begins to run. The contender's process.
    fn begin(&mut self, pid: i32) -> anyhow::Result<()> {
        let _ = pid;
        Ok(())
    }

    /// The clock stops.
    fn end(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Nobody.
impl Watch for () {}

/// One round. An error says why it is void.
pub(crate) fn drain(
    stage: &Stage,
    report: &mut Report,
    contender: Contender,
    partitions: i32,
    messages: u64,
) -> anyhow::Result<()> {
    watched(stage, report, contender, partitions, messages, &mut ())
}

/// [`drain`], with somebody who looks.
pub(crate) fn watched(
    stage: &Stage,
    report: &mut Report,
    contender: Contender,
    partitions: i32,
    messages: u64,
    watch: &mut dyn Watch,
) -> anyhow::Result<()> {
    let suffix = Stage::suffix();
    let stream = Stream::of(contender.share(messages));
    let outcome = measured(stage, report, contender, partitions, stream, &suffix, watch)
        .map_err(|error| anyhow::anyhow!("{error:#}\nIt said last:\n{}", stage.said(&suffix)));
    let cleared = stage.clear(&suffix);
    outcome.and(cleared)
}

fn measured(
    stage: &Stage,
    report: &mut Report,
    contender: Contender,
    partitions: i32,
    stream: Stream,
    suffix: &str,
    watch: &mut dyn Watch,
) -> anyhow::Result<()> {
    let brokers = stage.brokers();
    prepare(stage, suffix, partitions)?;
    let source = Source::new(&brokers)?;
    let (statuses, requests) = (Stage::status_topic(suffix), Stage::request_topic(suffix));
    for message in stream.messages() {
        let topic = if message.is_request {
            &requests
        } else {
            &statuses
        };
        source.send(topic, &message.key, &message.value)?;
    }
    source.flush()?;
    let sink = reader(stage, contender, suffix, partitions)?;
    let arrivals = Arrivals::of(sink, Sink::next_id);
    let running = contender.start(stage, suffix, partitions)?;
    let mut tally = Tally::new(stream);
    let mut first: Option<Mark> = None;
    while !tally.is_whole() {
        let event = arrivals
            .next(PATIENCE)?
            .with_context(|| format!("{} of {} events came", tally.count(), stream.len()))?;
        tally.take(&event)?;
        // All that is there is counted before the clock is looked at.
        for event in arrivals.arrived() {
            tally.take(&event?)?;
        }
        if first.is_none() && tally.count() * 10 >= stream.len() {
            first = Some(Mark::now(stage, &running, &tally)?);
            watch.begin(running.pid())?;
        }
    }
    let last = Mark::now(stage, &running, &tally)?;
    watch.end()?;
    let memory = running.memory_peak()?;
    let ready = running.ready_after();
    tally::settle(stage, suffix, partitions)?;
    running.stop()?;
    tally::check(stage, contender, suffix, partitions, stream)?;
    let first = first.context("no event")?;
    tell(report, &first, &last)?;
    report.add("memory, peak resident", "MiB", memory);
    report.add("time to ready", "ms", ready.as_secs_f64() * 1000.0);
    Ok(())
}

/// The topics of a round.
pub(crate) fn prepare(stage: &Stage, suffix: &str, partitions: i32) -> anyhow::Result<()> {
    let topics = [
        Stage::status_topic(suffix),
        Stage::request_topic(suffix),
        Stage::event_topic(suffix),
    ];
    load::create(
        &stage.brokers(),
        &topics.each_ref().map(String::as_str),
        partitions,
    )
}

/// Who waits for the events: of a contender that publishes in transactions, a reader of what is committed.
pub(crate) fn reader(
    stage: &Stage,
    contender: Contender,
    suffix: &str,
    partitions: i32,
) -> anyhow::Result<Sink> {
    let isolation = match contender.is_transactional() {
        true => "read_committed",
        false => "read_uncommitted",
    };
    Sink::isolated(
        &stage.brokers(),
        &Stage::event_topic(suffix),
        partitions,
        isolation,
    )
}

fn tell(report: &mut Report, first: &Mark, last: &Mark) -> anyhow::Result<()> {
    let count = last.count - first.count;
    let rate = arrivals::rate(count, last.at.duration_since(first.at))?;
    report.add("throughput", "messages/s", rate);
    tell_cost(report, first, last);
    Ok(())
}

/// Processor time between two marks.
pub(crate) fn tell_cost(report: &mut Report, first: &Mark, last: &Mark) {
    #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
    let messages = (last.count - first.count) as f64;
    let names = [
        "processor time, contender",
        "processor time, broker",
        "processor time, Postgres",
    ];
    for (name, (before, after)) in names.into_iter().zip(first.cpu.iter().zip(last.cpu)) {
        report.add(name, "s/million", (after - before) / messages * 1e6);
    }
}
