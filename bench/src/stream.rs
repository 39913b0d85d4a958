//! The messages of a run, and how an event is told to belong to one of them.
//!
//! Half of the tasks are created by a request and left there; the other half go through `new`, `started` and `completed` on
//! `task-status`. So of four messages one is a request and one each of the three statuses, and each brings about exactly one event.
//! No task has messages on both topics: which topic is read first would then decide what has to wait, and only taskhost waits.

use std::fmt::Write as _;

/// So many tasks lie between two messages of a task: most of them meet in different batches.
const SPREAD_MAX: u64 = 1_000;

/// What a message is, in the order of a task's life.
const KINDS: [&str; 4] = ["request", "new", "started", "completed"];

/// Messages of a run, in the order in which they are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    /// Tasks of each half.
    tasks: u64,
    spread: u64,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Which one, from 0: what [`Stream::place`] finds again by its event.
    pub(crate) place: usize,
    /// For the topic of requests; else for that of statuses.
    pub(crate) is_request: bool,
    /// Key, which is the task's id.
    pub(crate) key: String,
    /// Value.
    pub(crate) value: String,
}

impl Stream {
    /// About so many messages.
    pub(crate) fn of(messages: u64) -> Self {
        let tasks = (messages / 4).max(1);
        Self {
            tasks,
            spread: SPREAD_MAX.min(tasks / 4),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.tasks * 4).unwrap_or(usize::MAX)
    }

    /// Tasks of each half: so many requests, so many creations by status.
    pub(crate) fn tasks(&self) -> u64 {
        self.tasks
    }

    /// All of them.
    pub(crate) fn messages(self) -> impl Iterator<Item = Sent> {
        let rounds = 0..self.tasks + 2 * self.spread;
        rounds.flat_map(move |round| {
            let delays = [0, 0, self.spread, 2 * self.spread];
            (0..4u64).zip(delays).filter_map(move |(kind, delay)| {
                let number = round.checked_sub(delay).filter(|it| *it < self.tasks)?;
                Some(self.message(kind, number))
            })
        })
    }

    fn message(self, kind: u64, number: u64) -> Sent {
        let key = id(kind == 0, number);
        let value = match kind {
            0 => crate::load::request(&key),
            1 => crate::load::status(&key, KINDS[1]),
            2 => crate::load::status(&key, KINDS[2]),
            _ => crate::load::status(&key, KINDS[3]),
        };
        Sent {
            place: usize::try_from(kind * self.tasks + number).unwrap_or(usize::MAX),
            is_request: kind == 0,
            key,
            value,
        }
    }

    /// The message that brought about an event, by the event's id: `<task id>:<version>:<n>`. None if it is nobody's.
    pub(crate) fn place(&self, event: &str) -> Option<usize> {
        let (task, rest) = event.split_once(':')?;
        let version: u64 = rest.strip_suffix(":0")?.parse().ok()?;
        let number = u64::from_str_radix(task.get(24..)?, 16).ok()?;
        let is_request = is_created_by_request(task)?;
        let last = if is_request { 1 } else { 3 };
        let fits =
            (1..=last).contains(&version) && number < self.tasks && id(is_request, number) == task;
        let kind = if is_request { 0 } else { version };
        fits.then(|| usize::try_from(kind * self.tasks + number).ok())?
    }

    /// The message of the same task before this one, if there is one: its event has to come first.
    pub(crate) fn before(&self, place: usize) -> Option<usize> {
        let tasks = usize::try_from(self.tasks).ok()?;
        (place / tasks > 1).then(|| place - tasks)
    }
}

/// Whether a task's id says that a request created it; none if it says neither.
fn is_created_by_request(task: &str) -> Option<bool> {
    match task.get(9..13)? {
        "0000" => Some(true),
        "0001" => Some(false),
        _ => None,
    }
}

/// An id like a UUID, with its number in it. Ids of neighbours are far apart in an index, as those of UUIDs are.
fn id(is_request: bool, number: u64) -> String {
    // Fibonacci hashing: 2^64 divided by the golden ratio.
    let far = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let half = u8::from(!is_request);
    let mut id = String::with_capacity(36);
    write!(id, "{far:08x}-{half:04x}-4000-8000-{number:012x}").ok();
    id
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_message_has_a_place_of_its_own_and_a_task_is_told_in_order() {
        let stream = Stream::of(4_000);
        let (mut places, mut sent) = (HashSet::new(), HashSet::new());
        for message in stream.messages() {
            assert!(places.insert(message.place));
            if let Some(before) = stream.before(message.place) {
                assert!(sent.contains(&before));
            }
            sent.insert(message.place);
        }
        assert_eq!(places.len(), stream.len());
    }

    #[test]
    fn an_event_leads_back_to_its_message_and_a_strange_one_to_none() {
        let stream = Stream::of(400);
        let mut versions = std::collections::HashMap::new();
        for message in stream.messages() {
            let version = versions.entry(message.key.clone()).or_insert(0);
            *version += 1;
            let event = format!("{}:{version}:0", message.key);
            assert_eq!(stream.place(&event), Some(message.place));
        }
        let key = id(true, 3);
        for strange in [
            format!("{key}:2:0"),
            format!("{key}:1:1"),
            key,
            format!("{}:4:0", id(false, 3)),
            format!("{}:1:0", id(false, 100)),
            "x:1:0".to_owned(),
            String::new(),
        ] {
            assert_eq!(stream.place(&strange), None, "{strange}");
        }
    }
}
