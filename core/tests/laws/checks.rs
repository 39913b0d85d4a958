//! What must be true of a world: after each commit, after each comparison, and at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use taskhost_core::batch::{Decided, Wakeup, WriteSet};
use taskhost_core::cause::{self, Cause, Stored};
use taskhost_core::dead_letter::{Source, TASK_MISSING};
use taskhost_core::decision::Decision;
use taskhost_core::record::Message;
use taskhost_core::round::{Ask, Items};
use taskhost_core::task::TaskId;
use taskhost_core::waiting::{Rank, Why};
use uuid::Uuid;

use crate::draw::Drawn;
use crate::plugin::{routes, trace};
use crate::store::{Shelf, State, Store};
use crate::world::{Bad, World};

impl World {
    /// Law 4: what a commit applied was applied before no earlier message that waits, nor past a dead letter that holds
    /// its task. The exception: a creation may overtake what waits for its task.
    pub(crate) fn check_order(
        &self,
        partition: usize,
        items: &Items,
        set: &WriteSet,
        before: &BTreeMap<Uuid, Wakeup>,
    ) -> Result<(), Bad> {
        let shelf = &self.store.shelves[partition];
        // A timer's event can have the time of a message.
        for event in set.events.iter().filter(|event| event.kind != "fired") {
            let mut causes = items.causes().map(|(_, cause)| cause);
            let is_its = |cause: &&Cause| cause.is_message() && cause.at == event.at;
            let Some(cause) = causes.find(is_its) else {
                continue;
            };
            let (rank, creates) = (cause.rank(), event.version == 1);
            for row in shelf.chain(&event.task_id) {
                let waited = before.get(&row.id).map_or(row.why, |row| row.why);
                let is_free = waited == Why::TaskMissing || row.why == Why::TaskMissing;
                if row.rank < rank && !(creates && is_free) {
                    return Err(format!("order: {rank:?} was applied before {row:?}"));
                }
            }
            let own = cause
                .waited
                .as_ref()
                .and_then(|waited| Some(waited.replay.as_ref()?.letter));
            for (id, kept) in shelf.letters.iter().filter(|(id, _)| Some(**id) != own) {
                let hold = kept.hold(&event.task_id).filter(|(hold, _)| *hold < rank);
                if hold.is_some_and(|(_, is_missing)| !(is_missing && creates)) {
                    return Err(format!(
                        "order: {rank:?} was applied past the dead letter {id}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Law 3: one by one, the same comes out.
    pub(crate) fn compare(&self, whole: &Store) -> Result<(), Bad> {
        let single = &self.store;
        let mut differences = Vec::new();
        let mut differ = |what: &str, left: String, right: String| {
            if left != right {
                differences.push(format!(
                    "{what}:\n  together   {left}\n  one by one {right}"
                ));
            }
        };
        if whole == single {
            return Ok(());
        }
        differ(
            "tasks",
            format!("{:?}", whole.tasks),
            format!("{:?}", single.tasks),
        );
        differ(
            "events",
            format!("{:?}", whole.events),
            format!("{:?}", single.events),
        );
        differ(
            "timers",
            format!("{:?}", whole.timers),
            format!("{:?}", single.timers),
        );
        differ(
            "records",
            format!("{:?}", whole.records),
            format!("{:?}", single.records),
        );
        for (left, right) in whole.shelves.iter().zip(&single.shelves) {
            differ("rows", rows(left, right), rows(right, left));
            differ(
                "letters",
                format!("{:?}", left.letters),
                format!("{:?}", right.letters),
            );
            differ(
                "replays",
                format!("{:?}", left.replays),
                format!("{:?}", right.replays),
            );
            differ(
                "counts",
                format!("{:?}", left.counts),
                format!("{:?}", right.counts),
            );
        }
        Err(format!("law 3: {}", differences.join("\n")))
    }
}

/// The rows of a shelf that another has otherwise, without their causes.
fn rows(shelf: &Shelf, other: &Shelf) -> String {
    let rows = shelf.rows.values();
    let differing = rows.filter(|row| other.rows.get(&row.id) != Some(row));
    let mut rows: Vec<Wakeup> = differing.cloned().collect();
    rows.sort_by_key(|row| row.rank);
    rows.iter_mut().for_each(|row| row.cause.clear());
    format!("{rows:?}")
}

/// The message of a row.
fn message_of(row: &Wakeup) -> Message {
    match Stored::decode(&row.cause) {
        Some(Stored::Message(message)) => message,
        other => panic!("no message: {other:?}"),
    }
}

impl Drawn {
    /// Law 1: each record is in one place, and the counts say how many are where.
    pub(crate) fn check_outcomes(&self) -> Result<(), Bad> {
        let store = &self.world.store;
        let mut places: BTreeMap<i64, u64> = BTreeMap::new();
        let mut put = |message: i64| *places.entry(message).or_default() += 1;
        let of_messages = store.events.iter().filter(|event| event.kind != "fired");
        let applied = of_messages.map(|event| put(event.at)).count();
        let (mut sums, mut decided) = ([0; 2], 0);
        for (shelf, given) in store.shelves.iter().zip(&self.given) {
            let rows = shelf.rows.values();
            let rows = rows.map(|row| put(message_of(row).timestamp)).count();
            let unsettled = |state: State| matches!(state, State::Open | State::Replaying);
            let kept = shelf.letters.values().filter(|kept| unsettled(kept.state));
            let of_records = kept.filter(|kept| kept.letter.source == Source::Record);
            let letters = of_records
                .map(|kept| put(kept.letter.message.timestamp))
                .count();
            let counts = shelf.counts;
            let found = [rows, letters].map(|count| u64::try_from(count).expect("small"));
            let counted = [
                counts.deferred - counts.left_waiting,
                counts.dead_letters - counts.left_dead_letters - shelf.dropped,
            ];
            let consumed = u64::try_from(shelf.next_offset + given).expect("positive");
            if found != counted || counts.consumed() != consumed {
                return Err(format!(
                    "law 1: {found:?} wait or are dead letters, {consumed} are consumed, counted: {counts:?}"
                ));
            }
            sums[0] += counts.applied;
            sums[1] += counts.ignored + shelf.dropped;
            decided += consumed;
        }
        if let Some((message, count)) = places.iter().find(|(_, count)| **count > 1) {
            return Err(format!(
                "law 1: the message at {message} is in {count} places"
            ));
        }
        let somewhere = u64::try_from(places.len()).expect("small");
        match [u64::try_from(applied).expect("small"), decided - somewhere] == sums {
            true => Ok(()),
            false => Err(format!(
                "law 1: {applied} applied, {somewhere} of {decided} somewhere, counted: {sums:?}"
            )),
        }
    }

    /// Law 4: at rest nothing waits but what its plugin still defers, and what is behind that or behind a dead letter that
    /// holds its task. Written after the protocol's words, without core's own.
    pub(crate) fn check_rest(&self) -> Result<(), Bad> {
        let world = &self.world;
        for (partition, shelf) in world.store.shelves.iter().enumerate() {
            let end = i64::try_from(world.log[partition].len()).expect("small");
            if shelf.next_offset != end || !shelf.replays.is_empty() && !self.endless {
                return Err(format!("rest: {partition} has something left"));
            }
            let tasks: BTreeSet<&TaskId> = shelf.rows.values().map(|row| &row.task_id).collect();
            for task_id in tasks {
                self.check_chain(shelf, task_id)?;
            }
        }
        Ok(())
    }

    fn check_chain(&self, shelf: &Shelf, task_id: &TaskId) -> Result<(), Bad> {
        let exists = self.world.store.tasks.contains_key(task_id);
        let chain = shelf.chain(task_id);
        let holds: Vec<Rank> = shelf
            .letters
            .values()
            .filter(|kept| exists || kept.letter.code != TASK_MISSING)
            .filter_map(|kept| Some(kept.hold(task_id)?.0))
            .collect();
        for row in &chain {
            let held = holds.iter().any(|hold| *hold < row.rank);
            let behind = chain
                .iter()
                .find(|other| other.rank < row.rank && (exists || other.why != Why::TaskMissing));
            if held || behind.is_some() {
                continue;
            }
            match self.asked(row) {
                Some(Decision::Defer { .. }) if self.endless => {}
                answer => return Err(format!("rest: {row:?} waits, answer {answer:?}")),
            }
        }
        Ok(())
    }

    /// What the plugin says of a row now.
    fn asked(&self, row: &Wakeup) -> Option<Decision> {
        let (world, message) = (&self.world, Arc::new(message_of(row)));
        let descriptor = |route| world.plugin.decider(route).descriptor.clone();
        let made = cause::of_message_in("in", &message, &routes(), row.id, descriptor, |_| trace());
        let cause = Cause {
            waited: Some(row.waited(None)),
            ..made.ok()?
        };
        match (world.plugin.rule)(world.store.tasks.get(&row.task_id), &cause) {
            Decided::Answer(decision) => Some(decision),
            Decided::Fault(_) => None,
        }
    }
}
