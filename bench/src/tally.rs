//! Whether every message brought about its event, once and in its task's order.

use anyhow::Context as _;

use crate::contender::Contender;
use crate::database;
use crate::load;
use crate::stream::Stream;
use crate::subject::Stage;

use std::time::{Duration, Instant};

/// A group that hasn't moved for so long has nothing left to commit but what it commits at its end.
const STILL: Duration = Duration::from_secs(2);

/// The events that came.
pub(crate) struct Tally {
    stream: Stream,
    seen: Vec<bool>,
    count: usize,
}

impl Tally {
    /// None so far.
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            seen: vec![false; stream.len()],
            count: 0,
        }
    }

    /// Takes an event and says which message it belongs to.
    pub(crate) fn take(&mut self, event: &str) -> anyhow::Result<usize> {
        let place = self
            .stream
            .place(event)
            .with_context(|| format!("the event {event} belongs to no message"))?;
        if let Some(before) = self.stream.before(place) {
            anyhow::ensure!(
                self.seen[before],
                "the event {event} came before the one before it"
            );
        }
        anyhow::ensure!(!self.seen[place], "the event {event} came twice");
        self.seen[place] = true;
        self.count += 1;
        Ok(place)
    }

    /// How many came.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether all did.
    pub(crate) fn is_whole(&self) -> bool {
        self.count == self.seen.len()
    }
}

/// Waits until the group has read both topics to their end, or seems to stand still.
pub(crate) fn settle(stage: &Stage, suffix: &str, partitions: i32) -> anyhow::Result<()> {
    let (mut last, mut since) = (Vec::new(), Instant::now());
    while since.elapsed() < STILL {
        let found = committed(stage, suffix, partitions)?;
        if unread(stage, &found)? == 0 {
            return Ok(());
        }
        if found != last {
            (last, since) = (found, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Fails unless what the contender left is right: rows, history, announcements, committed offsets. It has ended.
pub(crate) fn check(
    stage: &Stage,
    contender: Contender,
    suffix: &str,
    partitions: i32,
    stream: Stream,
) -> anyhow::Result<()> {
    let database = format!("bench_{suffix}");
    database::check(&stage.database_url(&database), stream)?;
    let start = vec![0; usize::try_from(partitions)?];
    let brokers = stage.brokers();
    let events = load::count_from(&brokers, &Stage::event_topic(suffix), &start)?;
    anyhow::ensure!(
        usize::try_from(events)? == stream.len(),
        "{events} events on the topic for {} messages",
        stream.len()
    );
    let statuses = load::count_from(&brokers, &Stage::status_topic(suffix), &start)?;
    let announced = statuses.saturating_sub(3 * stream.tasks());
    anyhow::ensure!(
        announced == stream.tasks(),
        "{announced} messages New Task for {} requests",
        stream.tasks()
    );
    let unread = unread(stage, &committed(stage, suffix, partitions)?)?;
    anyhow::ensure!(
        unread == 0,
        "{} ended with {unread} messages whose offsets it never committed",
        contender.name()
    );
    Ok(())
}

/// The committed offsets of both topics.
fn committed(
    stage: &Stage,
    suffix: &str,
    partitions: i32,
) -> anyhow::Result<Vec<(String, Vec<i64>)>> {
    let group = Stage::group(suffix);
    [Stage::status_topic(suffix), Stage::request_topic(suffix)]
        .into_iter()
        .map(|topic| {
            let offsets = load::committed(&stage.brokers(), &group, &topic, partitions)?;
            Ok((topic, offsets))
        })
        .collect()
}

/// How many messages lie behind the committed offsets.
fn unread(stage: &Stage, committed: &[(String, Vec<i64>)]) -> anyhow::Result<u64> {
    committed
        .iter()
        .map(|(topic, offsets)| load::count_from(&stage.brokers(), topic, offsets))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: Stream) -> Vec<String> {
        let mut versions = std::collections::HashMap::new();
        stream
            .messages()
            .map(|message| {
                let version = versions.entry(message.key.clone()).or_insert(0);
                *version += 1;
                format!("{}:{version}:0", message.key)
            })
            .collect()
    }

    #[test]
    fn a_whole_stream_is_whole_and_one_without_an_event_is_not() {
        let stream = Stream::of(40);
        let events = events(stream);
        let mut tally = Tally::new(stream);
        for event in &events {
            assert!(!tally.is_whole());
            tally.take(event).expect("an event of the stream");
        }
        assert!(tally.is_whole());
        assert_eq!(tally.count(), 40);
    }

    #[test]
    fn an_event_that_comes_twice_or_too_early_or_from_nowhere_is_noticed() {
        let stream = Stream::of(40);
        let events = events(stream);
        let mut tally = Tally::new(stream);
        tally.take(&events[0]).expect("the first");
        let refused =
            |tally: &mut Tally, event: &str| tally.take(event).expect_err("refused").to_string();
        assert!(refused(&mut tally, &events[0]).contains("twice"));
        let started = events.iter().find(|event| event.ends_with(":2:0"));
        assert!(refused(&mut tally, started.expect("one")).contains("before the one before it"));
        assert!(refused(&mut tally, "nobody:1:0").contains("no message"));
    }
}
