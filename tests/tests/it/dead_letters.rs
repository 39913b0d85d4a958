//! Messages that can't be decided: each becomes a dead letter, whole, and holds up nothing.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use taskhost_tests::{DeadLetterRow, Message, Record, World};

use crate::documented::update;

/// Where, what, and the code it gets.
type Case = (&'static str, fn(Message) -> Message, &'static str);

const STATUS: &str = "task-status";
const REQUESTS: &str = "requests-web-crawl";

/// 10000-01-01T00:00:00Z.
const AFTER_TIME: i64 = 253_402_300_800_000;

fn body(message: Message, text: &str) -> Message {
    message.value(text)
}

const CASES: &[Case] = &[
    (STATUS, |m| m, "tombstone"),
    (STATUS, |m| m.value(""), "empty-value"),
    (STATUS, |m| body(m, "hello"), "not-json"),
    (
        STATUS,
        |m| body(m, r#"{"taskId": "a", "status": "new"} {}"#),
        "not-json",
    ),
    (
        STATUS,
        |m| m.value([b"{\"a\": \"".as_slice(), &[0xff, 0xfe], b"\"}"].concat()),
        "not-utf8",
    ),
    (
        STATUS,
        |m| body(m, r#"{"taskId": "a", "status": "new", "note": "\u0000"}"#),
        "nul-character",
    ),
    (
        STATUS,
        |m| body(m, r#"{"taskId": "a", "taskId": "b", "status": "new"}"#),
        "duplicate-key",
    ),
    (
        STATUS,
        |m| {
            m.value(format!(
                "{{\"a\": {}1{}}}",
                "[".repeat(500),
                "]".repeat(500)
            ))
        },
        "nested-too-deep",
    ),
    (
        STATUS,
        |m| body(m, r#"[{"taskId": "a", "status": "new"}]"#),
        "not-an-object",
    ),
    (
        STATUS,
        |m| body(m, r#"{"taskId": "a", "status": "new", "note": 1e999}"#),
        "number-out-of-range",
    ),
    (
        STATUS,
        |m| body(m, r#"{"taskId": "a", "status": "new", "note": "\ud800"}"#),
        "lone-surrogate",
    ),
    (
        STATUS,
        |m| m.value(json!({"taskId": "x".repeat(201), "status": "new"}).to_string()),
        "invalid-task-id",
    ),
    (
        STATUS,
        |m| body(m, r#"{"taskId": "", "status": "new"}"#),
        "invalid-task-id",
    ),
    (
        STATUS,
        |m| body(m, r#"{"taskId": 5, "status": "new"}"#),
        "invalid-meta-field",
    ),
    (
        STATUS,
        |m| body(m, r#"{"taskId": "a", "status": "new"}"#).header("taskId", "b"),
        "task-id-mismatch",
    ),
    (
        STATUS,
        |m| body(m, r#"{"taskId": "a", "status": "done"}"#),
        "unknown-status",
    ),
    (STATUS, |m| body(m, r#"{"taskId": "a"}"#), "invalid-body"),
    (
        STATUS,
        |m| {
            body(
                m,
                r#"{"headers": {"taskType": 5}, "message": {"taskId": "a", "status": "new"}}"#,
            )
        },
        "invalid-meta-field",
    ),
    (
        STATUS,
        |m| body(m, r#"{"taskId": "a", "status": "new"}"#).header("taskType", [0xff]),
        "invalid-meta-field",
    ),
    (
        STATUS,
        |m| body(m, r#"{"taskId": "a", "status": "new"}"#).header("timestamp", "noon"),
        "invalid-timestamp",
    ),
    (
        STATUS,
        |m| body(m, r#"{"taskId": "a", "status": "new"}"#).at(AFTER_TIME),
        "invalid-timestamp",
    ),
    (
        REQUESTS,
        |m| m.value(request("no address", "q", "https://example.com")),
        "invalid-email",
    ),
    (
        REQUESTS,
        |m| m.value(request("a@example.com", " ", "https://example.com")),
        "query-blank",
    ),
    (
        REQUESTS,
        |m| m.value(request("a@example.com", "q", "ftp://example.com")),
        "invalid-url",
    ),
];

fn request(email: &str, query: &str, url: &str) -> String {
    json!({ "userEmail": email, "userQuery": query, "originalUrl": url }).to_string()
}

#[test]
fn whatever_cannot_be_decided_is_kept_whole_and_holds_up_nothing() {
    let world = World::bare();
    let any_time = [("message.timestamp.after.max.ms", "9223372036854775807")];
    for topic in [STATUS, REQUESTS] {
        world.create_topic_with(topic, 1, &any_time);
    }
    world.install("web_crawl", "web_crawl");
    world.install("task_status", "task_status");
    let host = world.host().start();

    // Recent, so that the broker's retention leaves it alone.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock")
        .as_millis();
    let hour_ago = i64::try_from(now).expect("a time") - 3_600_000;
    let mut messages = Vec::new();
    for (number, (topic, make, _)) in (0_i64..).zip(CASES) {
        let message = Message::to(topic)
            .key(format!("key-{number}"))
            .header("origin", "somewhere")
            .header("origin", [0xff, 0x00])
            .null_header("nothing")
            // Those of an earlier failure: its coordinates stay, the rest is replaced.
            .header("__connect.errors.offset", "77")
            .header("__connect.errors.exception.message", "an earlier one")
            .header("taskhost-dlq-code", "earlier")
            .at(hour_ago + number);
        messages.push(make(message));
        messages.push(update(&format!("good-{number}"), "new"));
    }
    messages.push(Message::to(STATUS).json(&json!({ "status": "new" })));
    world.send_all(&messages);
    world.wait_caught_up();

    assert_eq!(
        world.tasks().len(),
        CASES.len(),
        "each good message between the bad ones is applied"
    );
    let letters = world.dead_letters();
    let records = |suffix: &str| {
        let read = |topic: &str| (topic.to_owned(), world.read(&format!("{topic}{suffix}")));
        BTreeMap::from([STATUS, REQUESTS].map(read))
    };
    let (sources, told) = (records(""), records(".dlq"));
    for (number, (topic, _, code)) in CASES.iter().enumerate() {
        let key = format!("key-{number}");
        let own = |found: Option<&Vec<u8>>| found.is_some_and(|found| *found == key.as_bytes());
        let row = letters.iter().find(|letter| own(letter.key.as_ref()));
        let row = row.unwrap_or_else(|| panic!("{code}: no row"));
        let of = |records: &BTreeMap<String, Vec<Record>>| -> Vec<Record> {
            records[*topic]
                .iter()
                .filter(|record| own(record.key.as_ref()))
                .cloned()
                .collect()
        };
        let (source, told) = (of(&sources), of(&told));
        assert_eq!(
            (source.len(), told.len()),
            (1, 1),
            "{code}: one record on the dead letter topic"
        );
        assert_eq!(row.code, *code, "{}", row.reason);
        check_letter(&world, row, &source[0], &told[0]);
    }
    let nameless = letters
        .iter()
        .find(|letter| letter.key.is_none())
        .expect("the one without any id");
    assert_eq!(
        (nameless.code.as_str(), letters.len()),
        ("task-id-missing", CASES.len() + 1)
    );

    let failed = host.metric(
        "kafka_consumer_messages_failed_total",
        &[("topic", &world.topic(REQUESTS))],
    );
    assert_eq!(failed, Some(3.0));
    crate::laws::check(&world);
    host.stop();
}

fn check_letter(world: &World, row: &DeadLetterRow, source: &Record, told: &Record) {
    let code = &row.code;
    assert_eq!(
        (&row.key, &row.value),
        (&source.key, &source.value),
        "{code}"
    );
    assert_eq!(
        (row.record_offset, row.record_timestamp),
        (source.offset, source.timestamp),
        "{code}"
    );
    assert_eq!(
        (&told.key, &told.value),
        (&source.key, &source.value),
        "{code}"
    );
    if source.timestamp < AFTER_TIME {
        assert_eq!(told.timestamp, source.timestamp, "{code}");
    }
    let headers = row.headers.as_array().expect("a list");
    assert_eq!(headers.len(), source.headers.len(), "{code}: {headers:?}");
    assert_eq!(headers[1], json!({ "name": "origin", "hex": "ff00" }));
    assert_eq!(headers[2], json!({ "name": "nothing" }));

    let is_ours =
        |name: &str| name.starts_with("__connect.errors.") || name.starts_with("taskhost-dlq-");
    let kept = |record: &Record| -> Vec<(String, Option<Vec<u8>>)> {
        record
            .headers
            .iter()
            .filter(|(name, _)| !is_ours(name))
            .cloned()
            .collect()
    };
    assert_eq!(
        kept(told),
        kept(source),
        "{code}: the message's own headers, in order"
    );

    let decided = row.stage == "decide";
    let plugin = row.plugin_name.as_deref().unwrap_or("taskhost");
    assert_eq!(row.plugin_name.is_some(), decided, "{code}");
    let (stage, attempts) = if decided {
        ("TASK_PUT", "1")
    } else {
        ("VALUE_CONVERTER", "0")
    };
    let mut expected: Vec<(&str, String)> = vec![
        ("__connect.errors.topic", row.record_topic.clone()),
        (
            "__connect.errors.partition",
            row.record_partition.to_string(),
        ),
        ("__connect.errors.offset", "77".to_owned()),
        ("__connect.errors.connector.name", world.group()),
        ("__connect.errors.task.id", row.record_partition.to_string()),
        ("__connect.errors.stage", stage.to_owned()),
        ("__connect.errors.class.name", plugin.to_owned()),
        ("__connect.errors.exception.class.name", code.clone()),
        ("__connect.errors.exception.message", row.reason.clone()),
        ("taskhost-dlq-id", row.id.to_string()),
        ("taskhost-dlq-code", code.clone()),
        ("taskhost-dlq-attempts", attempts.to_owned()),
        ("taskhost-dlq-replays", "0".to_owned()),
    ];
    if decided {
        expected.push(("taskhost-dlq-plugin", plugin.to_owned()));
    }
    for (name, value) in expected {
        let found: Vec<_> = told
            .headers
            .iter()
            .filter(|(each, _)| each == name)
            .collect();
        assert_eq!(found.len(), 1, "{code}: {name}");
        assert_eq!(told.header(name), Some(value), "{code}: {name}");
    }
    for (name, value) in told.headers.iter().filter(|(name, _)| is_ours(name)) {
        let text = value
            .as_deref()
            .and_then(|value| std::str::from_utf8(value).ok());
        assert!(text.is_some(), "{code}: {name} is text");
    }
    assert_eq!(
        Value::from(row.attempts),
        json!(attempts.parse::<i32>().expect("a number")),
        "{code}"
    );
}
