//! The metrics as a scraper sees them.

use std::time::Duration;

use expect_test::expect;

use super::{Metrics, Outcome, TEXT_CONTENT_TYPE};

/// The samples of the seven names that the replaced system had.
fn seven(metrics: &Metrics) -> String {
    metrics
        .text()
        .lines()
        .filter(|line| line.starts_with("kafka_"))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn declared_topics_begin_at_zero_under_the_seven_names_but_lag() {
    let metrics = Metrics::new();
    metrics.declare_consumed("task-status");
    metrics.declare_produced("task-status");
    expect![[r#"
        kafka_consumer_messages_failed_total{topic="task-status"} 0
        kafka_consumer_messages_processed_total{topic="task-status"} 0
        kafka_consumer_processing_duration_seconds{topic="task-status"} 0
        kafka_producer_messages_failed_total{topic="task-status"} 0
        kafka_producer_messages_sent_total{topic="task-status"} 0
        kafka_producer_send_duration_seconds{topic="task-status"} 0
    "#]]
    .assert_eq(&seven(&metrics));
    assert_eq!(TEXT_CONTENT_TYPE, "text/plain; version=0.0.4");
}

#[test]
fn what_is_told_is_what_is_read() {
    let metrics = Metrics::new();
    metrics.processed("task-status", 4, Duration::from_millis(500));
    metrics.dead_lettered("task-status", 1);
    metrics.set_lag("task-status", 0, 10);
    metrics.set_lag("task-status", 1, 5);
    metrics.sent("task-events", 3);
    metrics.send_took("task-events", Duration::from_millis(250));
    metrics.send_failed("task-events", 2);
    expect![[r#"
        kafka_consumer_lag{partition="0",topic="task-status"} 10
        kafka_consumer_lag{partition="1",topic="task-status"} 5
        kafka_consumer_messages_failed_total{topic="task-status"} 1
        kafka_consumer_messages_processed_total{topic="task-status"} 4
        kafka_consumer_processing_duration_seconds{topic="task-status"} 0.5
        kafka_producer_messages_failed_total{topic="task-events"} 2
        kafka_producer_messages_sent_total{topic="task-events"} 3
        kafka_producer_send_duration_seconds{topic="task-events"} 0.25
    "#]]
    .assert_eq(&seven(&metrics));
    assert_eq!(
        metrics.lag_by_topic().into_iter().collect::<Vec<_>>(),
        [("task-status".into(), 15)]
    );
    assert!(metrics.rates().processed > metrics.rates().failed && metrics.rates().failed > 0.0);
}

#[test]
fn a_partition_that_was_given_back_is_no_longer_reported() {
    let metrics = Metrics::new();
    metrics.set_lag("t", 0, 10);
    metrics.set_halted("t", 0, true);
    metrics.set_deferred_pending("t", 0, 1);
    metrics.set_stranded("t", 0, 1);
    metrics.set_outbox_frames("t", 0, 1);
    assert_eq!(metrics.text().matches("partition=\"0\"").count(), 5);
    metrics.remove_partition("t", 0);
    metrics.remove_partition("t", 1);
    assert_eq!(metrics.text().matches("partition=").count(), 0);
    assert!(metrics.lag_by_topic().is_empty());
}

#[test]
fn one_version_of_a_route_is_reported_and_another_one_is_a_swap() {
    let metrics = Metrics::new();
    metrics.set_plugin("task-status", "task-status", "1.0.0", "aa");
    metrics.set_plugin("task-status", "task-status", "1.0.0", "aa");
    metrics.set_plugin("task-status", "task-status", "1.1.0", "bb");
    let text = metrics.text();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("taskhost_plugin_"))
        .collect();
    assert_eq!(
        lines,
        [
            r#"taskhost_plugin_info{digest="bb",name="task-status",route="task-status",version="1.1.0"} 1"#,
            "taskhost_plugin_swaps_total 1",
        ]
    );
}

#[test]
fn a_declared_route_has_all_outcomes() {
    let metrics = Metrics::new();
    metrics.declare_route("r");
    metrics.outcome("r", Outcome::Deferred, 2);
    metrics.plugin_fault("p", "trap");
    let text = metrics.text();
    for line in [
        r#"taskhost_outcomes_total{outcome="applied",route="r"} 0"#,
        r#"taskhost_outcomes_total{outcome="dead_letter",route="r"} 0"#,
        r#"taskhost_outcomes_total{outcome="deferred",route="r"} 2"#,
        r#"taskhost_outcomes_total{outcome="ignored",route="r"} 0"#,
        r#"taskhost_plugin_refused_total{route="r"} 0"#,
        r#"taskhost_plugin_faults_total{kind="trap",plugin="p"} 1"#,
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn json_has_the_shape_that_prom_client_has() {
    let metrics = Metrics::new();
    metrics.processed("t", 2, Duration::from_millis(500));
    metrics.committed(Duration::from_millis(750));
    let json = metrics.json();
    let family = |name: &str| {
        let families = json.as_array().expect("a list");
        families
            .iter()
            .find(|family| family["name"] == name)
            .expect("the family")
            .to_string()
    };
    expect![[r#"{"aggregator":"sum","help":"Records with a committed outcome.","name":"kafka_consumer_messages_processed_total","type":"counter","values":[{"labels":{"topic":"t"},"value":2}]}"#]]
        .assert_eq(&family("kafka_consumer_messages_processed_total"));
    let histogram = family("taskhost_batch_commit_seconds");
    for part in [
        r#"{"labels":{"le":0.5},"metricName":"taskhost_batch_commit_seconds_bucket","value":0}"#,
        r#"{"labels":{"le":1},"metricName":"taskhost_batch_commit_seconds_bucket","value":1}"#,
        r#"{"labels":{"le":"+Inf"},"metricName":"taskhost_batch_commit_seconds_bucket","value":1}"#,
        r#"{"labels":{},"metricName":"taskhost_batch_commit_seconds_sum","value":0.75}"#,
        r#"{"labels":{},"metricName":"taskhost_batch_commit_seconds_count","value":1}"#,
    ] {
        assert!(histogram.contains(part), "{part} in {histogram}");
    }
}
