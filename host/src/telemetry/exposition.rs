//! Gathered metrics as Prometheus' text, and as the JSON of Node's prom-client.
//!
//! The JSON shape is prom-client's `getMetricsAsJSON`: `[{name, help, type, values: [{value, labels,
//! metricName?}], aggregator}]`, where a histogram's values name their series and a bucket's `le` is a number,
//! or `"+Inf"`.

use prometheus::proto::{Metric, MetricFamily, MetricType};
use serde_json::{Map, Value, json};

/// The text format, version 0.0.4.
pub(super) fn text(families: &[MetricFamily]) -> String {
    prometheus::TextEncoder::new()
        .encode_to_string(families)
        .unwrap_or_else(|error| unreachable!("every family has a name and samples: {error}"))
}

/// prom-client's shape.
pub(super) fn json(families: &[MetricFamily]) -> Value {
    families.iter().map(family).collect()
}

fn family(family: &MetricFamily) -> Value {
    let kind = family.get_field_type();
    let values: Vec<Value> = family
        .get_metric()
        .iter()
        .flat_map(|metric| match kind {
            MetricType::HISTOGRAM => histogram(family.name(), metric),
            MetricType::COUNTER => vec![sample(metric, metric.get_counter().get_value())],
            _ => vec![sample(metric, metric.get_gauge().get_value())],
        })
        .collect();
    json!({
        "name": family.name(),
        "help": family.help(),
        "type": match kind {
            MetricType::HISTOGRAM => "histogram",
            MetricType::COUNTER => "counter",
            _ => "gauge",
        },
        "values": values,
        "aggregator": "sum",
    })
}

fn sample(metric: &Metric, value: f64) -> Value {
    json!({ "value": number(value), "labels": labels(metric) })
}

fn histogram(name: &str, metric: &Metric) -> Vec<Value> {
    let histogram = metric.get_histogram();
    let series = |suffix: &str, labels: Map<String, Value>, value: Value| json!({ "value": value, "labels": labels, "metricName": format!("{name}{suffix}") });
    let bucket = |le: Value, count: u64| {
        let mut labels = labels(metric);
        labels.insert("le".into(), le);
        series("_bucket", labels, count.into())
    };
    let mut values: Vec<Value> = histogram
        .get_bucket()
        .iter()
        .filter(|each| each.upper_bound().is_finite())
        .map(|each| bucket(number(each.upper_bound()), each.cumulative_count()))
        .collect();
    values.push(bucket("+Inf".into(), histogram.get_sample_count()));
    values.push(series(
        "_sum",
        labels(metric),
        number(histogram.get_sample_sum()),
    ));
    values.push(series(
        "_count",
        labels(metric),
        histogram.get_sample_count().into(),
    ));
    values
}

fn labels(metric: &Metric) -> Map<String, Value> {
    metric
        .get_label()
        .iter()
        .map(|label| (label.name().to_owned(), label.value().into()))
        .collect()
}

/// A number as JavaScript writes it: without a fraction if it has none.
fn number(value: f64) -> Value {
    /// Above it a float has no fraction and no exact last digit.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a whole number within 2^53"
        )]
        let whole = value as i64;
        return whole.into();
    }
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}
