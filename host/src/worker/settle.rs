//! What follows a commit besides its rows: counts, log lines, and the tasks to look after.

use taskhost_core::batch::WriteSet;
use taskhost_core::dead_letter::Source;
use taskhost_core::replay::End;
use taskhost_core::round::{Fate, Round};
use taskhost_core::task::TaskId;
use tokio::time::Instant;

use super::Worker;
use crate::telemetry::metrics::Outcome;

impl Worker {
    /// All that follows the commit of a round.
    pub(super) fn settle(&mut self, round: &Round, began: Instant) {
        self.probed(round);
        self.tell_faults(round);
        self.count(&round.set, began);
        let set = &round.set;
        let letters = set
            .replayed
            .iter()
            .any(|replay| matches!(replay.end, End::Failed { .. }));
        self.claimed.waiting.holding |=
            letters || set.dead_letters.iter().any(|letter| letter.holds);
        if self.claimed.waiting.holding {
            // A command may have settled a dead letter since the batch read that it holds its task.
            self.shared.waker.look_at(set.settled.iter());
        }
    }

    /// Counts a committed batch and wakes what waits for its tasks.
    pub(super) fn count(&mut self, set: &WriteSet, began: Instant) {
        self.machine.succeeded();
        let counts = set.counts;
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.claimed.waiting.count += number(counts.deferred) - number(counts.left_waiting);
        let topic = &*self.partition.topic;
        let consumed = counts.consumed();
        if consumed > 0 {
            // Each message took its share of the batch's time.
            let share = began.elapsed() / u32::try_from(consumed).unwrap_or(u32::MAX);
            self.shared.metrics.processed(topic, consumed, share);
        }
        // Neither a replay that fails again, whose record was counted when it came, nor a timer.
        let letters = set.dead_letters.iter();
        let records = letters.filter(|letter| letter.source == Source::Record);
        let failed = u64::try_from(records.count()).unwrap_or(u64::MAX);
        if failed > 0 {
            self.shared.metrics.dead_lettered(topic, failed);
        }
        self.count_outcomes(set);
        for replay in &set.replayed {
            self.shared.metrics.replayed(topic, replay.end.state());
        }
        for letter in &set.dead_letters {
            tracing::warn!(
                offset = letter.message.position.offset,
                task = letter.task_id.as_ref().map(TaskId::as_str),
                code = letter.code,
                "a message became a dead letter"
            );
        }
        if !set.waiting.is_empty() || !set.timers.is_empty() {
            let due = set
                .waiting
                .iter()
                .chain(set.timers.values().flatten())
                .filter_map(|row| row.due);
            let next_due = &mut self.claimed.waiting.next_due;
            *next_due = due.chain(*next_due).min();
        }
        let changed = set.created.iter().chain(&set.updated);
        self.shared.waker.changed(changed);
    }

    /// Counts and logs the faults.
    fn tell_faults(&self, round: &Round) {
        for faulted in &round.faults {
            let (plugin, code) = (&faulted.decider.plugin, faulted.fault.kind.code());
            let said = match faulted.fate {
                Fate::DeadLetter => "a message at which the plugin faults became a dead letter",
                Fate::TriedAgain => "a message exceeded its deadline and is tried again",
                Fate::Held => "a message at which a plugin on probation faults is held",
            };
            if faulted.fate != Fate::TriedAgain {
                self.shared.metrics.plugin_fault(&plugin.name, code);
            }
            tracing::warn!(
                topic = &*faulted.position.topic,
                partition = faulted.position.partition,
                offset = faulted.position.offset,
                task = faulted.task_id.as_str(),
                plugin = plugin.name,
                version = plugin.version,
                digest = plugin.digest,
                code,
                reason = faulted.fault.reason,
                backtrace = faulted.fault.backtrace,
                "{said}"
            );
        }
    }

    fn count_outcomes(&self, set: &WriteSet) {
        for (route, counts) in &set.counts_by_route {
            for (outcome, count) in [
                (Outcome::Applied, counts.applied),
                (Outcome::Ignored, counts.ignored),
                (Outcome::Deferred, counts.deferred),
                (Outcome::DeadLetter, counts.dead_letters),
            ] {
                if count > 0 {
                    self.shared.metrics.outcome(route, outcome, count);
                }
            }
        }
        self.shared
            .places
            .set(&self.partition, self.claimed.reached.next_offset);
    }
}
