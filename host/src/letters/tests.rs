//! Forms that come back, and times that people write.

use std::sync::Arc;

use taskhost_core::dead_letter::{DeadLetter, Source, Stage};
use taskhost_core::record::TopicPartition;
use taskhost_core::task::PluginVersion;

use super::*;
use crate::store::Key;

fn stored(value: &[u8]) -> StoredDeadLetter {
    StoredDeadLetter {
        owner: Key::new("g", TopicPartition::new("t", 3)),
        letter: DeadLetter {
            id: Uuid::from_u128(7),
            message: Arc::new(Message {
                position: TopicPartition::new("t", 3).at(258),
                timestamp: 1_704_067_200_000,
                key: Some(b"k".to_vec()),
                value: Some(value.to_vec()),
                headers: vec![
                    ("a".into(), Some(b"text".to_vec())),
                    ("a".into(), Some(vec![0xff, 0])),
                    ("nothing".into(), None),
                ],
            }),
            code: "no-way".into(),
            reason: "because".into(),
            backtrace: Some("at somewhere".into()),
            stage: Stage::Decide,
            attempts: 2,
            task_id: Some(TaskId::new("t-1").expect("an id")),
            route: Some("task-status".into()),
            plugin: Some(Arc::new(PluginVersion {
                name: "p".into(),
                version: "1.0.0".into(),
                digest: "ab".into(),
            })),
            failed_at: 1_704_067_200_000,
            source: Source::Record,
            replays: 1,
            sequence: None,
            holds: false,
        },
        created_at: 1_704_067_201_000,
        state: State::Open,
        state_at: 1_704_067_201_000,
        republish: false,
        edits: 0,
        edited_value: None,
        decided_by: None,
        note: None,
        imported: None,
    }
}

#[test]
fn a_line_of_an_export_comes_back_whole() {
    for value in [b"{\"a\": 1}".as_slice(), &[0xff, 0xfe], b""] {
        let mut letter = stored(value);
        let line = whole(&letter, &[]).to_string();
        let read = from_line(&line).expect("a dead letter");
        assert_eq!(read.letter, letter.letter);
        assert_eq!(read.owner, letter.owner.partition);
        assert_eq!(read.edited, None);
        (letter.edits, letter.edited_value) = (1, Some(b"fixed".to_vec()));
        let read = from_line(&whole(&letter, &[]).to_string()).expect("a dead letter");
        assert_eq!(read.letter, letter.letter, "what it came with stays");
        assert_eq!(read.edited, Some(Some(b"fixed".to_vec())));
    }
    for line in ["", "{}", "[]", "{\"id\": \"x\"}"] {
        assert!(from_line(line).is_err(), "{line}");
    }
}

#[test]
fn times_are_points_or_how_long_ago() {
    assert_eq!(time("2024-01-01T00:00:00Z"), Ok(1_704_067_200_000));
    let now = time("0s").expect("now");
    assert!((now - time("2h").expect("a time") - 7_200_000).abs() < 1000);
    for text in ["", "yesterday", "5", "h", "1.5h", "ä"] {
        assert!(time(text).is_err(), "{text}");
    }
}

#[test]
fn a_place_comes_back_from_its_text() {
    let place = Place {
        created_micros: 17,
        offset: -1,
        id: Uuid::from_u128(9),
    };
    assert_eq!(place_of(&place_text(&place)), Some(place));
    assert_eq!(place_of("17_x"), None);
}

#[test]
fn bytes_that_are_no_text_are_dumped() {
    assert_eq!(
        readable(Some(&[0xff, b'a', 0])),
        "00000000  ff 61 00                                         |.a.|"
    );
    assert_eq!(readable(Some(b"{\"a\":1}")), "{\n  \"a\": 1\n}");
    assert_eq!(readable(Some(b"hello")), "hello");
}
