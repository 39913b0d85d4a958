//! The HTTP API of a host that has done some work.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use taskhost_tests::{Host, Message, World, soon};

use crate::documented::{self, Form, update};
use crate::prometheus::{self, Sample};

/// The document's seven metrics, each with its type and its labels.
const DOCUMENTED: [(&str, &str, &[&str]); 7] = [
    (
        "kafka_consumer_messages_processed_total",
        "counter",
        &["topic"],
    ),
    (
        "kafka_consumer_messages_failed_total",
        "counter",
        &["topic"],
    ),
    ("kafka_consumer_lag", "gauge", &["partition", "topic"]),
    (
        "kafka_consumer_processing_duration_seconds",
        "gauge",
        &["topic"],
    ),
    ("kafka_producer_messages_sent_total", "counter", &["topic"]),
    (
        "kafka_producer_messages_failed_total",
        "counter",
        &["topic"],
    ),
    ("kafka_producer_send_duration_seconds", "gauge", &["topic"]),
];

#[test]
fn the_api_tells_of_work_in_the_documented_words() {
    let world = World::new();
    let host = world.host().start();
    world.send_all(&[
        Form::Envelope.message(
            "requests-web-crawl",
            &json!({ "requestId": "r" }),
            &documented::request(),
        ),
        update("a", "new"),
        update("a", "started"),
        Message::to("task-status").key("b").value("no JSON"),
    ]);
    world.wait_caught_up();
    let lagging = || {
        let (_, samples) = prometheus::parse(&host.get("/api/metrics").body);
        samples
            .iter()
            .filter(|sample| sample.name == "kafka_consumer_lag" && sample.value == 0.0)
            .count()
            < 6
    };
    soon("no partition lags", || (!lagging()).then_some(()));
    documented_metrics(&world, &host);
    metrics_as_json(&host);
    health(&world, &host);
    plugins(&world, &host);
    not_there(&host);
    host.stop();
}

fn documented_metrics(world: &World, host: &Host) {
    let answer = host.get("/api/metrics");
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (200, "text/plain; version=0.0.4")
    );
    let (kinds, samples) = prometheus::parse(&answer.body);
    for (name, kind, labels) in DOCUMENTED {
        assert_eq!(kinds.get(name).map(String::as_str), Some(kind), "{name}");
        let own: Vec<&Sample> = samples
            .iter()
            .filter(|sample| sample.name == name)
            .collect();
        assert!(!own.is_empty(), "{name} has samples");
        for sample in own {
            assert_eq!(
                sample.labels.keys().map(String::as_str).collect::<Vec<_>>(),
                labels,
                "{sample:?}"
            );
        }
    }
    let undocumented = kinds
        .keys()
        .filter(|name| !DOCUMENTED.iter().any(|(known, ..)| known == name));
    undocumented.for_each(|name| assert!(name.starts_with("taskhost_"), "{name}"));
    counted(world, host, &samples);
}

/// What was sent shows in the figures.
fn counted(world: &World, host: &Host, samples: &[Sample]) {
    let (status, requests) = (
        world.topic("task-status"),
        world.topic("requests-web-crawl"),
    );
    let value = |name: &str, topic: &str| host.metric(name, &[("topic", topic)]);
    assert_eq!(
        value("kafka_consumer_messages_processed_total", &status),
        Some(4.0)
    );
    assert_eq!(
        value("kafka_consumer_messages_processed_total", &requests),
        Some(1.0)
    );
    assert_eq!(
        value("kafka_consumer_messages_failed_total", &status),
        Some(1.0)
    );
    assert_eq!(
        value("kafka_consumer_messages_failed_total", &requests),
        Some(0.0),
        "there from the start"
    );
    assert_eq!(
        value("kafka_producer_messages_sent_total", &status),
        Some(1.0)
    );
    assert_eq!(
        value(
            "kafka_producer_messages_sent_total",
            &world.topic("task-events")
        ),
        Some(3.0)
    );
    assert_eq!(
        value(
            "kafka_producer_messages_sent_total",
            &world.topic("task-status.dlq")
        ),
        Some(1.0)
    );
    assert_eq!(
        value("kafka_producer_messages_failed_total", &status),
        Some(0.0)
    );
    assert!(
        value("kafka_consumer_processing_duration_seconds", &status).is_some_and(|mean| mean > 0.0)
    );
    assert!(value("kafka_producer_send_duration_seconds", &status).is_some_and(|mean| mean > 0.0));
    let lag: BTreeSet<(String, String)> = samples
        .iter()
        .filter(|sample| sample.name == "kafka_consumer_lag")
        .map(|sample| {
            (
                sample.labels["topic"].clone(),
                sample.labels["partition"].clone(),
            )
        })
        .collect();
    assert_eq!(lag.len(), 6, "one for each partition: {lag:?}");
}

fn metrics_as_json(host: &Host) {
    let answer = host.get("/api/metrics/json");
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (200, "application/json")
    );
    let families = answer.json();
    let families = families.as_array().expect("a list");
    let (kinds, _) = prometheus::parse(&host.get("/api/metrics").body);
    let names: BTreeSet<&str> = families
        .iter()
        .filter_map(|family| family["name"].as_str())
        .collect();
    assert_eq!(
        names,
        kinds.keys().map(String::as_str).collect(),
        "the same metrics in both forms"
    );
    for family in families {
        let keys: Vec<&str> = family
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            BTreeSet::from_iter(keys),
            BTreeSet::from(["name", "help", "type", "values", "aggregator"])
        );
        let is_histogram = family["type"] == "histogram";
        for value in family["values"].as_array().expect("its values") {
            assert!(
                value["value"].is_number() && value["labels"].is_object(),
                "{family}"
            );
            assert_eq!(value["metricName"].is_string(), is_histogram, "{value}");
        }
    }
}

fn health(world: &World, host: &Host) {
    assert_eq!(host.get("/livez").status, 200);
    let ready = host.get("/readyz");
    assert_eq!(
        (ready.status, ready.json()),
        (200, json!({ "status": "ok", "missing": [] }))
    );

    let kafka = soon("Kafka tells of the group", || {
        let answer = host.get("/api/health/kafka");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let report = answer.json();
        (report["details"]["kafka"]["group"]["state"] == "Stable").then_some(report)
    });
    assert_eq!(
        (&kafka["status"], &kafka["error"]),
        (&json!("ok"), &json!({}))
    );
    assert_eq!(kafka["info"], kafka["details"]);
    let details = &kafka["details"]["kafka"];
    assert_eq!(details["status"], "up");
    assert_eq!(details["brokers"], json!({ "known": 1, "reachable": 1 }));
    let group = &details["group"];
    assert_eq!(
        (&group["id"], &group["members"]),
        (&json!(world.group()), &json!(1))
    );
    assert_eq!(
        group["assignedPartitions"].as_array().map(Vec::len),
        Some(6)
    );
    assert_eq!(
        details["lag"],
        json!({ world.topic("task-status"): 0, world.topic("requests-web-crawl"): 0 })
    );
    let rate = |name: &str| {
        details[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name}: {details}"))
    };
    assert!(
        rate("processingRate") > 0.0 && rate("errorRate") > 0.0,
        "{details}"
    );

    let answer = host.get("/api/health/detailed");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let detailed = answer.json();
    let parts: BTreeSet<&str> = detailed["details"]
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        parts,
        BTreeSet::from([
            "background",
            "breakers",
            "database",
            "deadLetters",
            "kafka",
            "partitions",
            "plugins",
        ])
    );
    for part in parts {
        assert_eq!(detailed["info"][part]["status"], "up", "{part}");
    }
    let partitions = &detailed["details"]["partitions"];
    assert_eq!(
        (
            partitions["partitions"].as_array().map(Vec::len),
            &partitions["halts"]
        ),
        (Some(6), &json!(0))
    );
}

fn plugins(world: &World, host: &Host) {
    let answer = host.get("/api/plugins").json();
    assert_eq!(answer["refused"], json!([]));
    let routes = answer["routes"].as_array().expect("routes");
    let told: Vec<(&Value, &Value, &Value)> = routes
        .iter()
        .map(|route| (&route["route"], &route["topic"], &route["active"]["name"]))
        .collect();
    let (requests, status) = (
        json!(world.topic("requests-web-crawl")),
        json!(world.topic("task-status")),
    );
    assert_eq!(
        told,
        [
            (&json!("requests-web-crawl"), &requests, &json!("web-crawl")),
            (&json!("task-status"), &status, &json!("task-status")),
        ]
    );
    for route in routes {
        let active = &route["active"];
        assert_eq!(active["activation"], 1, "{route}");
        assert!(
            active["digest"]
                .as_str()
                .is_some_and(|digest| digest.len() == 64),
            "{route}"
        );
        let event = world
            .all_events()
            .into_iter()
            .find(|event| event.plugin_name == active["name"]);
        assert_eq!(
            event.map(|event| Value::from(event.plugin_digest)),
            Some(active["digest"].clone())
        );
    }
}

fn not_there(host: &Host) {
    let answer = host.get("/api/nothing");
    assert_eq!(
        (answer.status, answer.json()["status"].clone()),
        (404, json!("error"))
    );
}
