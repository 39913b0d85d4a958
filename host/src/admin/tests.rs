//! The API over a real socket.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;

use super::{State, router, serve};
use crate::config::Config;
use crate::dependency::Dependency;
use crate::telemetry::health::{
    BrokerCount, DependencyState, PartitionState, RefusedPlugin, RunningPlugin,
};
use crate::telemetry::{Metrics, Status};

/// A served API; the server ends with the test's runtime.
struct Served {
    address: String,
    status: Status,
    metrics: Arc<Metrics>,
}

/// An answer: its code, content type and text.
struct Answer {
    code: u16,
    content_type: String,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }
}

async fn served() -> Served {
    let config = Config::load(None, std::iter::empty())
        .expect("defaults")
        .config;
    let status = Status::new(&config.kafka.group_id, &config.routes);
    let metrics = Arc::new(Metrics::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let state = State {
        desk: super::Desk::default(),
        status: status.clone(),
        metrics: Arc::clone(&metrics),
        letters: None,
    };
    tokio::spawn(serve(listener, router(state), std::future::pending()));
    Served {
        address,
        status,
        metrics,
    }
}

impl Served {
    async fn get(&self, path: &str) -> Answer {
        let url = format!("{}{path}", self.address);
        tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .build()
                .into();
            let mut answer = agent.get(url).call().expect("an answer");
            let content_type = answer
                .headers()
                .get("content-type")
                .expect("a content type");
            let content_type = content_type.to_str().expect("text").to_owned();
            let text = answer.body_mut().read_to_string().expect("a body");
            Answer {
                code: answer.status().as_u16(),
                content_type,
                text,
            }
        })
        .await
        .expect("a request")
    }

    /// Makes everything as it should be.
    fn heal(&self) {
        self.status
            .set_dependency(Dependency::Kafka, DependencyState::Up);
        self.status
            .set_dependency(Dependency::Postgres, DependencyState::Up);
        self.status.set_brokers(BrokerCount {
            known: 3,
            reachable: 2,
        });
        self.status.set_group("Stable", Some(2), true);
        for route in ["requests-web-crawl", "task-status"] {
            self.status.set_plugin(plugin(route));
        }
    }
}

fn plugin(route: &str) -> RunningPlugin {
    RunningPlugin {
        route: route.into(),
        name: "p".into(),
        version: "1.0.0".into(),
        digest: "aa".into(),
        activation: 7,
        since: OffsetDateTime::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn a_host_that_just_began_lives_and_says_what_it_misses() {
    let served = served().await;
    assert_eq!(served.get("/livez").await.code, 200);
    let answer = served.get("/readyz").await;
    assert_eq!(answer.code, 503);
    let missing: Vec<Value> = answer.json()["missing"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|each| each["what"].clone())
        .collect();
    assert_eq!(
        json!(missing),
        json!([
            "kafka",
            "database",
            "group",
            "plugin requests-web-crawl",
            "plugin task-status"
        ])
    );
    assert_eq!(served.get("/api/health/kafka").await.code, 503);
    assert_eq!(served.get("/api/health/detailed").await.code, 503);
}

#[tokio::test]
async fn a_healthy_host_reports_in_the_shape_of_terminus() {
    let served = served().await;
    served.heal();
    served
        .status
        .set_partition("task-status", 0, PartitionState::Running);
    served.metrics.set_lag("task-status", 0, 4);
    served.metrics.processed("task-status", 120, Duration::ZERO);
    assert_eq!(
        served.get("/readyz").await.json(),
        json!({ "status": "ok", "missing": [] })
    );

    let answer = served.get("/api/health/kafka").await;
    let report = answer.json();
    assert_eq!(
        (answer.code, &report["status"], &report["error"]),
        (200, &json!("ok"), &json!({}))
    );
    assert_eq!(report["info"], report["details"]);
    let kafka = &report["details"]["kafka"];
    assert_eq!(kafka["status"], "up");
    assert_eq!(kafka["brokers"], json!({ "known": 3, "reachable": 2 }));
    assert_eq!(
        kafka["group"],
        json!({
            "id": "task-manager-group", "state": "Stable", "members": 2, "joined": true,
            "assignedPartitions": [{ "topic": "task-status", "partition": 0 }],
        })
    );
    assert_eq!(kafka["lag"], json!({ "task-status": 4 }));
    assert!(
        kafka["processingRate"]
            .as_f64()
            .is_some_and(|rate| rate > 0.0)
    );
    assert_eq!(kafka["errorRate"], 0.0);

    let detailed = served.get("/api/health/detailed").await.json();
    assert_eq!(detailed["details"]["database"], json!({ "status": "up" }));
    assert_eq!(
        detailed["details"]["plugins"]["active"][0]["since"],
        "1970-01-01T00:00:00Z"
    );
    let partitions = &detailed["details"]["partitions"];
    assert_eq!(
        partitions["partitions"],
        json!([{ "topic": "task-status", "partition": 0, "state": "running" }])
    );
}

#[tokio::test]
async fn a_halted_partition_is_an_error_but_the_host_stays_ready() {
    let served = served().await;
    served.heal();
    let halted = PartitionState::Halted {
        reason: "the offset is gone".into(),
    };
    served.status.set_partition("task-status", 1, halted);
    let answer = served.get("/api/health/detailed").await;
    let partitions = &answer.json()["error"]["partitions"];
    assert_eq!(
        (answer.code, &partitions["status"], &partitions["halts"]),
        (503, &json!("down"), &json!(1))
    );
    assert_eq!(partitions["partitions"][0]["reason"], "the offset is gone");
    assert_eq!(served.get("/readyz").await.code, 200);
    served.status.set_stopping();
    assert_eq!(served.get("/readyz").await.code, 503);
}

#[tokio::test]
async fn plugins_tells_what_runs_and_what_was_refused() {
    let served = served().await;
    served.status.set_plugin(plugin("task-status"));
    let refused = |reason: &str| RefusedPlugin {
        route: "requests-web-crawl".into(),
        file: "plugins/web_crawl.wasm".into(),
        digest: Some("bb".into()),
        reason: reason.into(),
        at: OffsetDateTime::UNIX_EPOCH,
    };
    for reason in [
        "it is no component",
        "it needs a socket",
        "it is no component",
    ] {
        served.status.refuse_plugin(refused(reason));
    }
    let answer = served.get("/api/plugins").await.json();
    assert_eq!(answer["routes"][0]["active"], Value::Null);
    assert_eq!(answer["routes"][1]["active"]["version"], "1.0.0");
    assert_eq!(answer["routes"][1]["plugin"], "task_status");
    let reasons: Vec<&Value> = answer["refused"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|each| &each["reason"])
        .collect();
    assert_eq!(reasons, ["it is no component", "it needs a socket"]);
    let missing = served.get("/readyz").await.json()["missing"].clone();
    assert!(
        missing.to_string().contains("it is no component"),
        "{missing}"
    );
}

#[tokio::test]
async fn metrics_are_served_as_text_and_as_json() {
    let served = served().await;
    served.metrics.declare_consumed("task-status");
    let text = served.get("/api/metrics").await;
    assert_eq!(text.content_type, "text/plain; version=0.0.4");
    assert!(
        text.text
            .contains("kafka_consumer_messages_processed_total{topic=\"task-status\"} 0\n")
    );
    let json = served.get("/api/metrics/json").await;
    assert_eq!(json.content_type, "application/json");
    assert!(
        json.json()
            .as_array()
            .is_some_and(|families| !families.is_empty())
    );
}

#[tokio::test]
async fn whatever_is_not_there_is_a_404_in_json() {
    let served = served().await;
    let answer = served.get("/api/nothing").await;
    assert_eq!(
        (answer.code, answer.content_type.as_str()),
        (404, "application/json")
    );
    assert_eq!(answer.json()["message"], "nothing is at /api/nothing");
}
