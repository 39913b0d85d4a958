//! Health reports in the shape of NestJS Terminus: `{status, info, error, details}`.
//!
//! `info` has the parts that are up, `error` those that are down, `details` both; `status` is `ok` or `error`. Monitors of
//! the replaced system can read this.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::status::{DependencyState, PartitionState, Snapshot};
use crate::dependency::Dependency;
use crate::telemetry::Metrics;

/// A health report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `ok`, or `error` if anything is down.
    pub status: &'static str,
    /// What is up.
    pub info: Map<String, Value>,
    /// What is down.
    pub error: Map<String, Value>,
    /// All of it.
    pub details: Map<String, Value>,
}

impl Report {
    /// Whether nothing is down.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.error.is_empty()
    }
}

/// The report on Kafka alone.
#[must_use]
pub fn kafka(now: &Snapshot, metrics: &Metrics) -> Report {
    report([kafka_indicator(now, metrics)])
}

/// The report on everything.
#[must_use]
pub fn detailed(now: &Snapshot, metrics: &Metrics) -> Report {
    let database = indicator(
        Dependency::Postgres.health_name(),
        down_reason(now, Dependency::Postgres),
        Map::new(),
    );
    report([
        kafka_indicator(now, metrics),
        database,
        plugins_indicator(now),
        breakers_indicator(now),
        partitions_indicator(now),
        // Dead letters block nothing, so they never make a host unhealthy.
        indicator(
            "deadLetters",
            None,
            object(json!({ "open": now.dead_letters })),
        ),
        // One that was started again does its work; whoever reads this should know of the bug all the same.
        indicator(
            "background",
            now.troubles.get("background").cloned(),
            object(json!({ "restarted": now.restarted })),
        ),
    ])
}

/// One part's name, whether it is up, and its facts.
type Indicator = (&'static str, bool, Value);

fn report<const N: usize>(indicators: [Indicator; N]) -> Report {
    let mut report = Report {
        status: "ok",
        info: Map::new(),
        error: Map::new(),
        details: Map::new(),
    };
    for (name, up, value) in indicators {
        let side = if up {
            &mut report.info
        } else {
            &mut report.error
        };
        side.insert(name.into(), value.clone());
        report.details.insert(name.into(), value);
    }
    if !report.is_ok() {
        report.status = "error";
    }
    report
}

fn indicator(name: &'static str, down: Option<String>, mut facts: Map<String, Value>) -> Indicator {
    let up = down.is_none();
    facts.insert("status".into(), if up { "up" } else { "down" }.into());
    if let Some(reason) = down {
        facts.insert("message".into(), reason.into());
    }
    (name, up, facts.into())
}

fn kafka_indicator(now: &Snapshot, metrics: &Metrics) -> Indicator {
    let assigned: Vec<Value> = now
        .partitions
        .keys()
        .map(|(topic, partition)| json!({ "topic": topic, "partition": partition }))
        .collect();
    let rates = metrics.rates();
    let facts = object(json!({
        "brokers": now.brokers,
        "group": {
            "id": now.group.id,
            "state": now.group.state,
            "members": now.group.members,
            "joined": now.group.joined,
            "assignedPartitions": assigned,
        },
        "lag": metrics.lag_by_topic(),
        "processingRate": rates.processed,
        "errorRate": rates.failed,
    }));
    indicator(
        Dependency::Kafka.health_name(),
        down_reason(now, Dependency::Kafka).or_else(|| now.troubles.values().next().cloned()),
        facts,
    )
}

fn plugins_indicator(now: &Snapshot) -> Indicator {
    let missing: Vec<&str> = now
        .routes
        .iter()
        .map(|route| route.name.as_str())
        .filter(|name| !now.plugins.contains_key(*name))
        .collect();
    let down =
        (!missing.is_empty()).then(|| format!("no plugin is active for {}", missing.join(", ")));
    let mut facts = object(json!({ "active": now.plugins.values().collect::<Vec<_>>() }));
    if !now.impure.is_empty() {
        facts.insert(
            "impure".into(),
            json!(now.impure.values().collect::<Vec<_>>()),
        );
    }
    indicator("plugins", down, facts)
}

/// An open breaker counts as down although the host is healthy: its messages wait until somebody acts.
fn breakers_indicator(now: &Snapshot) -> Indicator {
    let open = now.breakers.values().filter(|breaker| !breaker.is_closed());
    let told: Vec<String> = open
        .map(|breaker| {
            let held = if breaker.held { "held " } else { "" };
            let (route, state, reason) = (&breaker.route, breaker.state, &breaker.reason);
            format!("{route} is {held}{state}: {reason}")
        })
        .collect();
    let down = (!told.is_empty()).then(|| told.join("; "));
    let facts = object(json!({ "routes": now.breakers.values().collect::<Vec<_>>() }));
    indicator("breakers", down, facts)
}

fn partitions_indicator(now: &Snapshot) -> Indicator {
    let all: Vec<Value> = now
        .partitions
        .iter()
        .map(|(id, state)| {
            let mut facts = object(json!(state));
            facts.insert("topic".into(), id.0.as_str().into());
            facts.insert("partition".into(), id.1.into());
            // Stranded wakeups block nothing, so they don't make the part unhealthy.
            if let Some(stranded) = now.stranded.get(id) {
                facts.insert("stranded".into(), json!(stranded));
            }
            facts.into()
        })
        .collect();
    let halted = |state: &PartitionState| matches!(state, PartitionState::Halted { .. });
    let halts = now
        .partitions
        .values()
        .filter(|state| halted(state))
        .count();
    let down =
        (halts > 0).then(|| format!("{halts} of {} partitions halted", now.partitions.len()));
    indicator(
        "partitions",
        down,
        object(json!({ "halts": halts, "partitions": all })),
    )
}

fn down_reason(now: &Snapshot, dependency: Dependency) -> Option<String> {
    match now.dependencies.get(&dependency) {
        Some(DependencyState::Up) => None,
        Some(DependencyState::Down { reason }) => Some(reason.clone()),
        None => Some("not known yet".into()),
    }
}

/// The fields of what is known to be an object.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
