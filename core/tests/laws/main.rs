//! Laws 1, 3 and 4 as properties: whatever the messages, tasks and decisions are.

mod halving;
mod waiting;
mod world;

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use taskhost_core::record::Message;
use taskhost_core::task::TaskId;

use world::{Ask, World, cause, message, messages};

proptest! {
    #[test]
    fn deciding_in_batches_equals_deciding_one_by_one(asks in messages(), size in 1usize..40) {
        let log: Vec<_> = (0..).zip(&asks).map(|(offset, (id, ask))| message(offset, *id, *ask)).collect();
        let (mut whole, mut single) = (World::default(), World::default());
        for batch in log.chunks(size) {
            whole.batch(batch);
        }
        for message in &log {
            single.batch(std::slice::from_ref(message));
        }
        prop_assert_eq!(&whole, &single);
        // What waits is decided again and again, until nothing does.
        for _ in 0..1000 {
            if whole.waiting.is_empty() {
                break;
            }
            whole.wake(size);
            single.wake(1);
            prop_assert_eq!(whole.by_task(), single.by_task());
        }
        prop_assert!(whole.waiting.is_empty());
    }

    #[test]
    fn every_record_has_exactly_one_outcome(asks in messages(), size in 1usize..40) {
        let log: Vec<_> = (0..).zip(&asks).map(|(offset, (id, ask))| message(offset, *id, *ask)).collect();
        let mut world = World::default();
        for batch in log.chunks(size) {
            world.batch(batch);
        }
        let counts = world.rest.counts;
        prop_assert_eq!(counts.consumed(), log.len() as u64);
        prop_assert_eq!(counts.dead_letters, world.rest.dead_letters.len() as u64);
        prop_assert_eq!(counts.deferred, world.waiting.len() as u64);
        prop_assert_eq!(counts.applied, world.rest.events.len() as u64);
        let versions: i64 = world.tasks.values().map(|task| task.version).sum();
        prop_assert_eq!(counts.applied, versions.unsigned_abs());
    }

    #[test]
    fn nothing_of_a_task_takes_effect_while_an_earlier_message_of_it_waits(asks in messages(), size in 1usize..40) {
        let log: Vec<_> = (0..).zip(&asks).map(|(offset, (id, ask))| message(offset, *id, *ask)).collect();
        let mut world = World::default();
        for batch in log.chunks(size) {
            world.batch(batch);
        }
        let mut first: HashMap<TaskId, i64> = HashMap::new();
        for row in &world.waiting {
            first.entry(row.task_id.clone()).or_insert(row.rank.sequence);
        }
        for event in &world.rest.events {
            if let Some(waiting) = first.get(&event.task_id) {
                prop_assert!(event.cause.offset < *waiting);
            }
        }
    }

    #[test]
    fn the_decoder_never_panics(value in proptest::collection::vec(any::<u8>(), 0..200), name in ".{0,12}", header in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)), timestamp: i64) {
        let mut message = Message::clone(&message(0, 0, Ask::Create));
        message.value = Some(value);
        message.timestamp = timestamp;
        message.headers = vec![(name, header.clone()), ("taskId".into(), header)];
        let _ = cause(&Arc::new(message));
    }

    #[test]
    fn json_of_any_shape_is_decoded_or_named(id in any::<Option<i32>>(), text in ".{0,30}", wrap: bool) {
        let body = serde_json::json!({ "id": id, "ask": text, "traceId": id, "timestamp": text });
        let value = if wrap { serde_json::json!({ "headers": { "taskType": text }, "message": body }) } else { body };
        let mut message = Message::clone(&message(0, 0, Ask::Create));
        message.value = Some(value.to_string().into_bytes());
        let _ = cause(&Arc::new(message));
    }
}
