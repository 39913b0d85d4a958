//! Laws 1, 3 and 4 as properties: whatever the messages, tasks and decisions are.

mod checks;
mod dice;
mod draw;
mod halving;
mod plugin;
mod reading;
mod solo;
mod steps;
mod store;
mod waiting;
mod world;
mod worlds;

use std::sync::Arc;

use proptest::prelude::*;
use taskhost_core::record::Message;

use plugin::{Asked, message};
use solo::{cause, log, messages};
use world::World;

proptest! {
    #[test]
    fn deciding_in_batches_equals_deciding_one_by_one(asked in messages(), size in 1usize..40) {
        let log = log(&asked);
        let (mut whole, mut single) = (World::solo(), World::solo());
        for batch in log.chunks(size) {
            whole.batch(batch);
        }
        for message in &log {
            single.batch(std::slice::from_ref(message));
        }
        prop_assert_eq!(&whole.store, &single.store);
        // What waits is decided again and again, until nothing does.
        for _ in 0..1000 {
            if whole.rows().is_empty() {
                break;
            }
            whole.wake(size);
            single.wake(1);
            prop_assert_eq!(whole.by_task(), single.by_task());
        }
        prop_assert!(whole.rows().is_empty());
    }

    #[test]
    fn every_record_has_exactly_one_outcome(asked in messages(), size in 1usize..40) {
        let log = log(&asked);
        let mut world = World::solo();
        for batch in log.chunks(size) {
            world.batch(batch);
        }
        let counts = world.counts();
        prop_assert_eq!(counts.consumed(), log.len() as u64);
        prop_assert_eq!(counts.dead_letters, world.letters().len() as u64);
        prop_assert_eq!(counts.deferred, world.rows().len() as u64);
        prop_assert_eq!(counts.applied, world.store.events.len() as u64);
        let versions: i64 = world.store.tasks.values().map(|task| task.version).sum();
        prop_assert_eq!(counts.applied, versions.unsigned_abs());
    }

    #[test]
    fn the_decoder_never_panics(value in proptest::collection::vec(any::<u8>(), 0..200), name in ".{0,12}", header in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)), timestamp: i64) {
        let mut message = Message::clone(&message(0, 0, Asked::Create));
        message.value = Some(value);
        message.timestamp = timestamp;
        message.headers = vec![(name, header.clone()), ("taskId".into(), header)];
        let _ = cause(&Arc::new(message));
    }

    #[test]
    fn json_of_any_shape_is_decoded_or_named(id in any::<Option<i32>>(), text in ".{0,30}", wrap: bool) {
        let body = serde_json::json!({ "id": id, "ask": text, "traceId": id, "timestamp": text });
        let value = if wrap { serde_json::json!({ "headers": { "taskType": text }, "message": body }) } else { body };
        let mut message = Message::clone(&message(0, 0, Asked::Create));
        message.value = Some(value.to_string().into_bytes());
        let _ = cause(&Arc::new(message));
    }
}
