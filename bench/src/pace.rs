//! How long a message takes at half of what its contender can do.
//!
//! Open loop: each message has a moment at which it is due, whether or not the ones before it are done, and its time runs from there.
//! So whatever makes messages wait counts, a stall of the sender included.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::contender::{Contender, Running};
use crate::drain::{Mark, prepare, reader, tell_cost};
use crate::load::{Sink, Source};
use crate::report::{Report, percentile};
use crate::stream::Stream;
use crate::subject::Stage;
use crate::tally::{self, Tally};

/// How long the next event may take before the round is void.
const PATIENCE: Duration = Duration::from_secs(30);

/// `linger.ms` of the sender: what Java's producer does unless it is told otherwise, since Kafka 4.0 (KIP-1030). Without it
/// each message is a request of its own, and the broker is busier with the load than with the contender.
const LINGER_MS: &str = "5";

/// How often the sender looks what is due.
const STEP: Duration = Duration::from_micros(500);

/// What a round is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Messages a second.
    pub(crate) rate: f64,
    /// Before it is measured: the runtime warms up.
    pub(crate) warm: Duration,
    /// Measured.
    pub(crate) measured: Duration,
    /// Partitions of each topic.
    pub(crate) partitions: i32,
}

impl Pace {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of messages"
    )]
    fn messages(&self) -> u64 {
        ((self.warm + self.measured).as_secs_f64() * self.rate) as u64
    }

    /// When the n-th message is due, after the beginning.
    fn due(&self, number: usize) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
        Duration::from_secs_f64(number as f64 / self.rate)
    }
}

/// One round. An error says why it is void.
pub(crate) fn pace(
    stage: &Stage,
    report: &mut Report,
    contender: Contender,
    pace: Pace,
) -> anyhow::Result<()> {
    let suffix = Stage::suffix();
    let outcome = measured(stage, report, contender, pace, &suffix)
        .map_err(|error| anyhow::anyhow!("{error:#}\nIt said last:\n{}", stage.said(&suffix)));
    let cleared = stage.clear(&suffix);
    outcome.and(cleared)
}

fn measured(
    stage: &Stage,
    report: &mut Report,
    contender: Contender,
    pace: Pace,
    suffix: &str,
) -> anyhow::Result<()> {
    prepare(stage, suffix, pace.partitions)?;
    let stream = Stream::of(pace.messages());
    let sink = reader(stage, contender, suffix, pace.partitions)?;
    let source = Source::lingering(&stage.brokers(), LINGER_MS)?;
    let running = contender.start(stage, suffix, pace.partitions)?;
    let began = Instant::now();
    let sender = send(source, suffix, stream, pace, began);
    let mark = |tally: &Tally| Mark::now(stage, &running, tally);
    let Received {
        mut taken,
        first,
        last,
    } = receive(&sink, stream, pace, began, mark)?;
    let memory = running.memory_peak()?;
    let late = sender
        .join()
        .map_err(|_| anyhow::anyhow!("the sender failed"))??;
    end(stage, contender, running, suffix, pace.partitions, stream)?;
    report.add("rate", "messages/s", pace.rate);
    for (name, share) in [
        ("latency, p50", 0.5),
        ("latency, p99", 0.99),
        ("latency, p99.9", 0.999),
    ] {
        report.add(name, "ms", percentile(&mut taken, share));
    }
    tell_cost(report, &first, &last);
    report.add("memory, peak resident", "MiB", memory);
    // If the load itself was late, the machine was too small for both.
    report.add("sender late, at most", "ms", late.as_secs_f64() * 1000.0);
    Ok(())
}

fn end(
    stage: &Stage,
    contender: Contender,
    running: Running,
    suffix: &str,
    partitions: i32,
    stream: Stream,
) -> anyhow::Result<()> {
    tally::settle(stage, suffix, partitions)?;
    running.stop()?;
    tally::check(stage, contender, suffix, partitions, stream)
}

/// Sends each message when it is due; how late the latest one was.
fn send(
    source: Source,
    suffix: &str,
    stream: Stream,
    pace: Pace,
    began: Instant,
) -> JoinHandle<anyhow::Result<Duration>> {
    let (statuses, requests) = (Stage::status_topic(suffix), Stage::request_topic(suffix));
    thread::spawn(move || {
        let mut late = Duration::ZERO;
        for (number, message) in stream.messages().enumerate() {
            let due = began + pace.due(number);
            while Instant::now() < due {
                thread::sleep(STEP.min(due.saturating_duration_since(Instant::now())));
            }
            late = late.max(due.elapsed());
            let topic = if message.is_request {
                &requests
            } else {
                &statuses
            };
            source.send(topic, &message.key, &message.value)?;
        }
        source.flush()?;
        Ok(late)
    })
}

/// What is measured after the warm-up.
struct Received {
    /// Milliseconds from when each message was due to its event.
    taken: Vec<f64>,
    /// When it began, and when the last event had come.
    first: Mark,
    last: Mark,
}

/// Takes all events.
fn receive(
    sink: &Sink,
    stream: Stream,
    pace: Pace,
    began: Instant,
    mark: impl Fn(&Tally) -> anyhow::Result<Mark>,
) -> anyhow::Result<Received> {
    let mut due = vec![Duration::ZERO; stream.len()];
    for (number, message) in stream.messages().enumerate() {
        due[message.place] = pace.due(number);
    }
    let mut tally = Tally::new(stream);
    let (mut taken, mut first) = (Vec::with_capacity(stream.len()), None);
    while !tally.is_whole() {
        let event = sink
            .next_id(PATIENCE)?
            .with_context(|| format!("{} of {} events came", tally.count(), stream.len()))?;
        let now = began.elapsed();
        let due = due[tally.take(&event)?];
        if due >= pace.warm {
            if first.is_none() {
                first = Some(mark(&tally)?);
            }
            taken.push(now.saturating_sub(due).as_secs_f64() * 1000.0);
        }
    }
    Ok(Received {
        taken,
        first: first.context("no event after the warm-up")?,
        last: mark(&tally)?,
    })
}
