//! Records that can't be decided, whatever is wrong with them: each becomes one dead letter, whole, with the code that
//! says what is wrong, and holds up nothing.

mod table;
mod topics;
mod unreadable;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use table::Becomes;
use taskhost_tests::{DeadLetterRow, Host, Message, Record, World, checkout, soon};
use topics::{AFTER_TIME, REQUESTS, STATUS, THINGS};

use crate::documented::update;

const TOPICS: [&str; 3] = [STATUS, REQUESTS, THINGS];

/// Three plugins: one that takes any type and has a default, one for a single type, one without a default.
fn config(world: &World) -> String {
    format!(
        "[topics]\nmisbehave = \"{}\"\n\n\
         [[route]]\ntopic = \"task-status\"\nplugin = \"task_status\"\ndefault_task_type = \"web-crawl\"\n\n\
         [[route]]\ntopic = \"requests-web-crawl\"\nplugin = \"web_crawl\"\ntask_type = \"web-crawl\"\n\
         default_task_type = \"web-crawl\"\n\n\
         [[route]]\ntopic = \"misbehave\"\nplugin = \"misbehave\"\n",
        world.topic(THINGS),
    )
}

/// Topics of one partition that take records of 24 MiB and of any time. The dead letter topic of the requests takes what
/// the broker's topics take: 1 MiB.
fn world() -> World {
    let mut world = World::bare();
    world.consumes(&TOPICS);
    let any_time = ("message.timestamp.after.max.ms", "9223372036854775807");
    let large = ("max.message.bytes", "25165824");
    for topic in TOPICS {
        world.create_topic_with(topic, 1, &[any_time, large]);
    }
    world.create_topic_with("task-status.dlq", 1, &[large]);
    world.create_topic("requests-web-crawl.dlq", 1);
    for (artefact, name) in [
        ("web_crawl", "web_crawl"),
        ("task_status", "task_status"),
        ("guest_misbehave", "misbehave"),
    ] {
        world.install(artefact, name);
    }
    world
}

/// What every bad record has besides what is wrong with it.
fn dressed(topic: &str, number: usize, at: i64) -> Message {
    Message::to(topic)
        .key(format!("key-{number}"))
        .header("case", number.to_string())
        .header("origin", [0xff, 0x00])
        .null_header("nothing")
        // Those of an earlier failure: its coordinates stay, the rest is replaced.
        .header("__connect.errors.offset", "77")
        .header("__connect.errors.exception.message", "an earlier one")
        .header("taskhost-dlq-code", "earlier")
        .at(at)
}

fn good(topic: &str, number: usize) -> Message {
    let id = format!("good-{number}");
    match topic {
        STATUS => update(&id, "new"),
        REQUESTS => Message::to(REQUESTS)
            .key(id.as_str())
            .header("requestId", id.as_str())
            .json(&crate::documented::request()),
        _ => Message::to(THINGS)
            .key(id.as_str())
            .header("taskType", "thing")
            .json(&json!({"id": id})),
    }
}

/// The tasks whose end is contradicted.
fn ended() -> Vec<Message> {
    let end = |id: &str, status: &str, field: &str| {
        let body = json!({"taskId": id, "status": status, field: "first"});
        [update(id, "new"), Message::to(STATUS).key(id).json(&body)]
    };
    [
        end("was-completed", "completed", "result"),
        end("was-error", "error", "error"),
    ]
    .concat()
}

#[test]
fn whatever_cannot_be_decided_is_one_dead_letter_with_its_code_and_holds_up_nothing() {
    let world = world();
    let host = world.host().config(&config(&world)).start();
    let cases = table::all();
    // Recent, so that the broker's retention leaves it alone.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock")
        .as_millis();
    let hour_ago = i64::try_from(now).expect("a time") - 3_600_000;
    let mut messages = ended();
    for (number, (topic, make, _)) in cases.iter().enumerate() {
        let at = hour_ago + i64::try_from(number).expect("a few hundred");
        messages.push(make(dressed(topic, number, at)));
        messages.push(good(topic, number));
    }
    world.send_all(&messages);
    world.wait_caught_up();

    let bad = cases
        .iter()
        .filter(|(_, _, becomes)| becomes.code().is_some())
        .count();
    assert!(bad >= 80, "{bad} bad inputs");
    for number in 0..cases.len() {
        assert!(
            world.find_task(&format!("good-{number}")).is_some(),
            "the good message behind case {number} is applied"
        );
    }
    let found = Found::of(&world);
    let mut wrong = Vec::new();
    for (number, (topic, _, becomes)) in cases.iter().enumerate() {
        if let Err(what) = found.check(&world, topic, number, *becomes) {
            wrong.push(format!("case {number} of {topic}, {becomes:?}: {what}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(found.letters.len(), bad, "each once");
    check_counts(&world, &host, bad);
    crate::laws::check(&world);
    host.stop();
}

/// Not in the table: the crate neither sends nor reads such names.
#[test]
fn a_header_name_that_is_no_utf8_is_kept_as_far_as_it_is_text_and_harms_nobody() {
    let world = world();
    let host = world.host().config(&config(&world)).start();
    unreadable::send(&world, None, None);
    let body = json!({"taskId": "good", "status": "new"}).to_string();
    unreadable::send(&world, Some(c"good"), Some(body.as_bytes()));
    soon("the good one is applied", || world.find_task("good"));
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert_eq!(letters[0].code, "tombstone");
    let kept = json!([{"name": "na\u{fffd}me", "text": "value"}]);
    assert_eq!(letters[0].headers, kept);
    let told = soon("it is on the dead letter topic", || {
        world.read("task-status.dlq").pop()
    });
    assert_eq!(
        told.header("na\u{fffd}me").as_deref(),
        Some("value"),
        "{told:?}"
    );
    assert_eq!(host.halted(), []);
    crate::laws::sums_add_up(&world);
    host.stop();
}

/// Law 1, and that nothing stands still.
fn check_counts(world: &World, host: &Host, bad: usize) {
    assert_eq!(host.halted(), []);
    assert_eq!(host.get("/readyz").status, 200);
    let failed = TOPICS.map(|topic| {
        host.count(
            "kafka_consumer_messages_failed_total",
            &[("topic", &world.topic(topic))],
        )
    });
    assert_eq!(failed.iter().sum::<usize>(), bad);
    for topic in TOPICS {
        let real = world.topic(topic);
        soon(&format!("{topic} has no lag"), || {
            let lag = host.metric(
                "kafka_consumer_lag",
                &[("topic", &real), ("partition", "0")],
            );
            (lag == Some(0.0)).then_some(())
        });
    }
}

impl Becomes {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Dead(code) | Self::DeadCut(code) => Some(code),
            Self::Applied | Self::Ignored => None,
        }
    }
}

/// What there is at the end.
struct Found {
    letters: Vec<DeadLetterRow>,
    /// Topics and offsets of the records that changed a task.
    applied: BTreeSet<(String, i64)>,
    sources: BTreeMap<&'static str, Vec<Record>>,
    told: BTreeMap<&'static str, Vec<Record>>,
}

impl Found {
    fn of(world: &World) -> Self {
        let events = world.all_events();
        Self {
            letters: world.dead_letters(),
            applied: events
                .into_iter()
                .map(|event| (event.cause_topic, event.cause_offset))
                .collect(),
            sources: TOPICS.map(|topic| (topic, world.read(topic))).into(),
            told: TOPICS
                .map(|topic| (topic, world.read(&format!("{topic}.dlq"))))
                .into(),
        }
    }

    /// What became of a case's record, and whether all of it was kept.
    fn check(
        &self,
        world: &World,
        topic: &str,
        number: usize,
        becomes: Becomes,
    ) -> Result<(), String> {
        let number = number.to_string();
        let of = |record: &&Record| record.header("case").as_ref() == Some(&number);
        let sources: Vec<&Record> = self.sources[topic].iter().filter(of).collect();
        let [source] = sources[..] else {
            return Err(format!("{} records were sent", sources.len()));
        };
        let place = (world.topic(topic), source.offset);
        let rows = self
            .letters
            .iter()
            .filter(|row| (&row.record_topic, row.record_offset) == (&place.0, place.1));
        let rows: Vec<&DeadLetterRow> = rows.collect();
        let told = self.told[topic]
            .iter()
            .filter(|record| is_of(record, &rows));
        let told: Vec<&Record> = told.collect();
        let Some(code) = becomes.code() else {
            let became = match (self.applied.contains(&place), rows.first()) {
                (true, _) => Becomes::Applied,
                (false, None) => Becomes::Ignored,
                (false, Some(row)) => return Err(format!("{}: {}", row.code, row.reason)),
            };
            return (became == becomes)
                .then_some(())
                .ok_or_else(|| format!("{became:?}"));
        };
        let ([row], [told]) = (&rows[..], &told[..]) else {
            return Err(format!("{} rows and {} records", rows.len(), told.len()));
        };
        if row.code != code {
            return Err(format!("{}: {}", row.code, row.reason));
        }
        check_row(row, source);
        match becomes {
            Becomes::DeadCut(_) => check_cut(row, told),
            _ => check_letter(world, row, source, told),
        }
        Ok(())
    }
}

/// Whether a record of the dead letter topic tells of one of these rows.
fn is_of(record: &Record, rows: &[&DeadLetterRow]) -> bool {
    let id = record.header("taskhost-dlq-id");
    rows.iter().any(|row| Some(row.id.to_string()) == id)
}

/// The row has every byte.
fn check_row(row: &DeadLetterRow, source: &Record) {
    let code = &row.code;
    assert!(
        (&row.key, &row.value) == (&source.key, &source.value),
        "{code}: key and value are kept"
    );
    assert_eq!(
        (row.record_offset, row.record_timestamp),
        (source.offset, source.timestamp),
        "{code}"
    );
    let headers = row.headers.as_array().expect("a list");
    assert_eq!(headers.len(), source.headers.len(), "{code}");
    for (kept, (name, value)) in headers.iter().zip(&source.headers) {
        let bytes = match (&kept["text"], &kept["hex"]) {
            (Value::String(text), _) => Some(text.as_bytes().to_vec()),
            (_, Value::String(digits)) => Some(unhex(digits)),
            _ => None,
        };
        assert_eq!(
            (kept["name"].as_str(), &bytes),
            (Some(name.as_str()), value),
            "{code}"
        );
    }
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).expect("hexadecimal digits"));
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits"))
        .collect()
}

/// The record says that the row has more, and fits.
fn check_cut(row: &DeadLetterRow, told: &Record) {
    assert_eq!(
        told.header("taskhost-dlq-truncated").as_deref(),
        Some("true"),
        "{}",
        row.code
    );
    assert_eq!(told.header("taskhost-dlq-code").as_ref(), Some(&row.code));
    assert!(
        told.value.is_none() && told.key.as_ref().is_none_or(|key| key.len() < 1 << 20),
        "{}",
        row.code
    );
}

fn check_letter(world: &World, row: &DeadLetterRow, source: &Record, told: &Record) {
    let code = &row.code;
    assert!(
        (&told.key, &told.value) == (&source.key, &source.value),
        "{code}: key and value are told"
    );
    if (0..AFTER_TIME).contains(&source.timestamp) {
        assert_eq!(told.timestamp, source.timestamp, "{code}");
    }

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
        ("__connect.errors.offset", earlier_offset(source)),
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

/// Where it was read first: what an earlier failure said, the first time that it is said.
fn earlier_offset(source: &Record) -> String {
    let is_said = |(name, _): &&(String, _)| name == "__connect.errors.offset";
    let (_, said) = source.headers.iter().find(is_said).expect("on every case");
    String::from_utf8(said.clone().expect("an offset")).expect("a text")
}

/// Codes of the host that no input alone brings about.
const SHOWN_ELSEWHERE: [&str; 6] = [
    "deferred-too-long",
    "given-up",
    "task-missing",
    "unpublishable-message",
    "refused-by-database",
    "plugin-deadline",
];

#[test]
fn each_code_is_documented_and_each_documented_code_has_an_input() {
    let read = |path: &str| {
        fs::read_to_string(checkout().join("docs").join(path)).expect("the documentation")
    };
    let (host, plugins) = (read("messages.md"), read("plugins.md"));
    let told: BTreeSet<&str> = table::all()
        .iter()
        .filter_map(|(_, _, becomes)| becomes.code())
        .collect();
    for code in &told {
        let quoted = format!("`{code}`");
        let is_the_guests = *code == "told-to";
        assert!(
            is_the_guests || host.contains(&quoted) || plugins.contains(&quoted),
            "{code} is not documented"
        );
    }
    let (_, tables) = host.split_once("### Codes of the host").expect("the codes");
    let rows = tables.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<&str> = rows
        .filter_map(|row| row.split_once(" |"))
        .flat_map(|(codes, _)| codes.split(", ").map(|code| code.trim_matches('`')))
        .collect();
    assert!(documented.len() > 25, "{documented:?}");
    for code in documented {
        assert!(
            told.contains(code) || SHOWN_ELSEWHERE.contains(&code),
            "{code} has no input"
        );
    }
}
