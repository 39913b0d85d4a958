//! What poison costs the good messages: the same backlog without any, with messages at which the plugin faults, and with
//! messages that can't be decoded, one behind the other in each round.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::Context as _;

use crate::arrivals::{self, Arrivals};
use crate::load::{self, Sink, Source};
use crate::report::Report;
use crate::rounds::{PATIENCE, finish};
use crate::subject::Stage;

/// One message in a hundred is poison.
const GOOD_FOR_EACH: usize = 100;

const PARTITIONS: i32 = 4;

/// What is poured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poison {
    Nothing,
    /// The plugin traps.
    Faults,
    /// No JSON.
    Undecodable,
}

impl Poison {
    fn figure(self) -> &'static str {
        match self {
            Self::Nothing => "good messages without poison",
            Self::Faults => "good messages, 1 % of faults besides",
            Self::Undecodable => "good messages, 1 % of undecodable ones besides",
        }
    }

    fn body(self, id: &str) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Faults => Some(format!(r#"{{"id":"{id}","misbehave":"trap"}}"#)),
            Self::Undecodable => Some(format!(r#"{{"id":"{id}""#)),
        }
    }
}

/// One round of all three; which is first changes with the round.
pub(crate) fn rounds(
    stage: &Stage,
    report: &mut Report,
    messages: u64,
    round: usize,
) -> anyhow::Result<()> {
    let mut order = [Poison::Nothing, Poison::Faults, Poison::Undecodable];
    let turn = round % order.len();
    order.rotate_left(turn);
    let messages = usize::try_from(messages)?;
    let mut rates = Vec::new();
    for poison in order {
        rates.push((poison, one(stage, report, messages, poison)?));
    }
    let rate = |wanted| rates.iter().find(|(poison, _)| *poison == wanted);
    let (_, clean) = rate(Poison::Nothing).context("every kind was measured")?;
    for (poison, name) in [
        (Poison::Faults, "kept with 1 % of faults"),
        (Poison::Undecodable, "kept with 1 % of undecodable messages"),
    ] {
        let (_, poisoned) = rate(poison).context("every kind was measured")?;
        report.add(name, "%", 100.0 * poisoned / clean);
    }
    Ok(())
}

/// How many good messages a second are worked off, from when the host is ready and the first one's event is there to the last one's event.
fn one(stage: &Stage, report: &mut Report, messages: usize, poison: Poison) -> anyhow::Result<f64> {
    let suffix = Stage::suffix();
    let (brokers, topic) = (stage.brokers(), format!("misbehave-{suffix}"));
    let events = format!("events-{suffix}");
    load::create(&brokers, &[&topic, &events], PARTITIONS)?;
    let source = Source::new(&brokers)?;
    let mut poisoned = 0;
    for number in 0..messages {
        let id = format!("good-{suffix}-{number}");
        source.send(&topic, &id, &format!(r#"{{"id":"{id}"}}"#))?;
        let bad = format!("bad-{suffix}-{number}");
        if let Some(body) = poison
            .body(&bad)
            .filter(|_| number % GOOD_FOR_EACH == GOOD_FOR_EACH / 2)
        {
            source.send(&topic, &bad, &body)?;
            poisoned += 1;
        }
    }
    source.flush()?;
    let config = format!(
        "[[route]]\ntopic = \"misbehave\"\nplugin = \"misbehave\"\ndefault_task_type = \"thing\"\n[topics]\nmisbehave = \"{topic}\"\n"
    );
    let arrivals = Arrivals::of(Sink::new(&brokers, &events, PARTITIONS)?, Sink::next);
    let subject = stage.run(&suffix, Some(&config))?;
    let (mut first, mut keys) = (None, HashSet::new());
    while keys.len() < messages {
        let next = arrivals.next(PATIENCE)?;
        let next = next.context("events are missing: the round is void")?;
        // All that is there is counted before the clock is looked at.
        for key in std::iter::once(Ok(next)).chain(arrivals.arrived()) {
            let key = key?;
            anyhow::ensure!(
                key.starts_with("good-") && keys.insert(key),
                "an event came twice, or of poison: the round is void"
            );
        }
        first.get_or_insert_with(|| (Instant::now(), keys.len()));
    }
    let (began, before) = first.context("no event")?;
    let rate = arrivals::rate(messages - before, began.elapsed())?;
    report.add(poison.figure(), "messages/s", rate);
    // The last of them may be behind the last good one.
    let began = Instant::now();
    while subject.failed(&topic)? < poisoned {
        anyhow::ensure!(
            began.elapsed() < PATIENCE,
            "dead letters are missing: the round is void"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    anyhow::ensure!(
        subject.failed(&topic)? == poisoned,
        "a good message became a dead letter: the round is void"
    );
    finish(report, subject)?;
    Ok(rate)
}
