//! What becomes of the documented messages, in each of their forms.

use serde_json::{Value, json};
use taskhost_tests::{Record, World};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::documented::{self, Form};

/// 2025-06-01T12:00:00.250Z: the records' own time.
const AT_MILLIS: i64 = 1_748_779_200_250;
const AT: &str = "2025-06-01T12:00:00.250Z";

fn at() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(AT_MILLIS) * 1_000_000).expect("a time")
}

fn of<'a>(records: &'a [Record], key: &str) -> Vec<&'a Record> {
    records
        .iter()
        .filter(|record| record.key_text() == key)
        .collect()
}

#[test]
fn the_documented_updates_mean_the_same_in_every_form() {
    let world = World::new();
    let host = world.host().start();
    let mut messages = Vec::new();
    for form in Form::ALL {
        for (id, end) in [
            (
                format!("completes-{form:?}"),
                documented::completion as fn(&str) -> Value,
            ),
            (format!("fails-{form:?}"), documented::failure),
        ] {
            for body in [documented::new_task(&id), end(&id)] {
                let message = form.message("task-status", &documented::task_headers(&id), &body);
                messages.push(message.key(id.as_str()).at(AT_MILLIS));
            }
        }
    }
    world.send_all(&messages);
    world.wait_caught_up();
    let events = world.read("task-events");
    for form in Form::ALL {
        let outcome = json!({"result": "Found 5 products matching criteria", "finishedAt": "2024-01-01T00:00:00.000Z"});
        check_story(
            &world,
            &events,
            form,
            "completes",
            ("completed", "task.completed"),
            &outcome,
        );
        let outcome =
            json!({"error": "Network timeout occurred", "finishedAt": "2024-01-01T00:00:00.000Z"});
        check_story(
            &world,
            &events,
            form,
            "fails",
            ("error", "task.failed"),
            &outcome,
        );
    }
    assert_eq!(events.len(), 12, "two events for each of six tasks");
    assert_eq!(world.dead_letters(), []);

    // The group's offset is the published watermark, with the batch and its token in its metadata.
    for row in world.progress() {
        let watermark = world.watermarks()[&(row.topic.clone(), row.partition)]
            .clone()
            .expect("a watermark");
        assert_eq!(watermark.batch(), Some(row.batch));
        assert_eq!(Some(watermark.offset), row.next_offset);
    }
    host.stop();
}

/// A task that was created and ended, with all that tells of it.
fn check_story(
    world: &World,
    records: &[Record],
    form: Form,
    name: &str,
    (status, kind): (&str, &str),
    outcome: &Value,
) {
    let id = format!("{name}-{form:?}");
    let created = json!({
        "userEmail": "user@example.com", "userQuery": "Find product information",
        "originalUrl": "https://example.com", "receivedAt": "2024-01-01T00:00:00.000Z"
    });
    let mut data = created.clone();
    for (name, value) in outcome.as_object().expect("an object") {
        data[name] = value.clone();
    }
    let task = world.task(&id);
    assert_eq!(
        (task.kind.as_str(), task.status.as_str(), task.version),
        ("web-crawl", status, 2),
        "{id}"
    );
    assert_eq!(task.data, data, "{id}");
    assert_eq!((task.created_at, task.updated_at), (at(), at()), "{id}");

    let expected = [
        (1, "task.created", None, "new", &created),
        (2, kind, Some("new"), status, outcome),
    ];
    let history = world.events(&id);
    let told = of(records, &id);
    assert_eq!((history.len(), told.len()), (2, 2), "{id}");
    for ((event, record), (version, kind, from, to, data)) in history.iter().zip(told).zip(expected)
    {
        assert_eq!(
            (event.version, event.number, event.kind.as_str()),
            (version, 0, kind),
            "{id}"
        );
        assert_eq!(
            (event.from_status.as_deref(), event.to_status.as_str()),
            (from, to),
            "{id}"
        );
        assert_eq!(
            (&event.data, event.at, event.plugin_name.as_str()),
            (data, at(), "task-status"),
            "{id}"
        );
        assert_eq!(event.cause_topic, world.topic("task-status"), "{id}");
        let foreign = (form != Form::Bare).then_some(documented::TRACE);
        assert_eq!(
            event.foreign_trace_id.as_deref(),
            foreign,
            "{id}: the documented trace id is kept"
        );

        let event_id = format!("{id}:{version}:0");
        let value = record.json();
        assert_eq!(
            value["message"],
            json!({
                "eventId": event_id, "taskId": id, "taskType": "web-crawl", "version": version, "kind": kind,
                "from": from, "to": to, "at": AT, "data": data
            }),
        );
        check_headers(record, &id, &event.trace_id);
        assert_eq!(record.header("eventId"), Some(event_id));
    }
}

/// The meta fields stand in the envelope and on the record, once each and alike.
fn check_headers(record: &Record, task: &str, trace_id: &str) {
    let value = record.json();
    let fields = ["taskId", "taskType", "timestamp", "traceId", "spanId"];
    assert_eq!(
        value["headers"].as_object().expect("an envelope").len(),
        fields.len()
    );
    for name in fields {
        assert_eq!(
            record.header(name).as_deref(),
            value["headers"][name].as_str(),
            "{name}"
        );
    }
    let header = |name: &str| {
        record
            .header(name)
            .unwrap_or_else(|| panic!("{name} is missing: {record:?}"))
    };
    assert_eq!(
        (header("taskId").as_str(), header("taskType").as_str()),
        (task, "web-crawl")
    );
    assert_eq!(
        (header("timestamp").as_str(), header("traceId").as_str()),
        (AT, trace_id)
    );
    assert_eq!(
        header("traceparent"),
        format!("00-{trace_id}-{}-01", header("spanId"))
    );
    let mut names: Vec<&str> = record
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(
        names.len(),
        record.headers.len(),
        "no header stands twice: {names:?}"
    );
}

#[test]
fn a_request_creates_a_task_and_tells_task_status_of_it() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let world = World::new();
    let host = world.host().start();
    let headers = |id: &str| {
        json!({
            "requestId": id, "requestType": "web-crawl", "timestamp": "2024-01-01T00:00:00.000Z",
            "traceId": TRACE, "spanId": "b7ad6b7169203331"
        })
    };
    let request = |form: Form, id: &str| {
        form.message("requests-web-crawl", &headers(id), &documented::request())
            .partition(1)
            .at(AT_MILLIS)
    };
    world.send_all(&[
        request(Form::Envelope, "r-envelope"),
        request(Form::RecordHeaders, "r-record"),
        request(Form::Bare, ""),
        // The same request again is the same task.
        request(Form::RecordHeaders, "r-envelope"),
    ]);
    world.wait_caught_up();

    let topic_id = world
        .ask("SELECT topic_id::text FROM progress WHERE topic LIKE 'requests%' AND partition = 1");
    let topic_id: Uuid = topic_id[0]
        .as_deref()
        .expect("the topic's id")
        .parse()
        .expect("a UUID");
    let derived = Uuid::new_v5(&topic_id, b"1:2").to_string();
    let data = json!({
        "userEmail": "user@example.com", "userQuery": "Find product information",
        "originalUrl": "https://example.com", "requestedAt": "2024-01-01T00:00:00.000Z", "receivedAt": AT
    });
    let (events, sent) = (world.read("task-events"), world.read("task-status"));
    assert_eq!((world.tasks().len(), events.len(), sent.len()), (3, 3, 3));
    for id in ["r-envelope", "r-record", derived.as_str()] {
        let task = world.task(id);
        assert_eq!(
            (task.kind.as_str(), task.status.as_str(), task.version),
            ("web-crawl", "new", 1),
            "{id}"
        );
        assert_eq!(task.data, data, "{id}");
        let history = world.events(id);
        assert_eq!(
            (history.len(), history[0].kind.as_str()),
            (1, "task.created"),
            "{id}"
        );
        assert_eq!(history[0].plugin_name, "web-crawl");
        assert_eq!(
            history[0].trace_id == TRACE,
            id != derived,
            "the request's trace goes on: {id}"
        );

        let told = of(&events, id);
        assert_eq!(told.len(), 1, "{id}");
        assert_eq!(told[0].json()["message"]["data"], data);
        check_headers(told[0], id, &history[0].trace_id);

        let new_task = of(&sent, id);
        assert_eq!(new_task.len(), 1, "{id}");
        assert_eq!(
            new_task[0].json()["message"],
            json!({
                "taskId": id, "userEmail": "user@example.com", "userQuery": "Find product information",
                "originalUrl": "https://example.com", "receivedAt": AT, "status": "new"
            }),
        );
        check_headers(new_task[0], id, &history[0].trace_id);
    }
    let counts = |topic: &str| {
        let rows = world
            .progress()
            .into_iter()
            .filter(|row| row.topic == world.topic(topic));
        rows.fold((0, 0, 0), |sum, row| {
            (
                sum.0 + row.consumed,
                sum.1 + row.applied,
                sum.2 + row.ignored,
            )
        })
    };
    assert_eq!(counts("requests-web-crawl"), (4, 3, 1));
    assert_eq!(
        counts("task-status"),
        (3, 0, 3),
        "the host's own New Task is news to nobody here"
    );
    host.stop();
}
