//! What a batch costs, printed for whoever looks (`--nocapture`); only gross slowness fails.

use std::time::{Duration, Instant};

use serde_json::json;
use taskhost::plugin::{Component, Limits, Question};
use taskhost_core::record::TopicPartition;

use crate::support::{causes, engine, guest, works};

#[test]
fn a_batch_costs_microseconds() {
    // The first does real work; the second hardly any, so it shows what the host and the crossing cost.
    for name in ["web_crawl", "guest_swap_v1"] {
        measure(name);
    }
}

fn measure(name: &str) {
    let bytes = guest(name);
    let engine = engine(Limits::default());
    let started = Instant::now();
    let component = Component::compile(&engine, &bytes).expect("it is a plugin");
    println!(
        "compile {name} ({} KiB): {:?}",
        bytes.len() / 1024,
        started.elapsed()
    );
    let descriptor = component.describe("{}").expect("it describes itself");
    let topic = descriptor.consumes[0].clone();
    let at = TopicPartition::new(topic.as_str(), 0);
    for (count, rounds) in [(1, 2_000), (10, 1_000), (500, 100)] {
        let body = |number: i32| {
            json!({
                "id": format!("task-{number}"),
                "requestId": format!("request-{number}"),
                "userEmail": "somebody@example.com",
                "userQuery": "what is the weather like in the mountains next week ".repeat(4),
                "originalUrl": "https://example.com/weather?place=mountains",
            })
        };
        let causes = causes(
            &topic,
            &descriptor,
            &(0..count).map(body).collect::<Vec<_>>(),
        );
        let works = works(&causes);
        let question = Question {
            config: "{}",
            logical_topic: &topic,
            at: &at,
            works: &works,
        };
        let mut times: Vec<Duration> = (0..rounds)
            .map(|_| {
                let started = Instant::now();
                component.decide(&question).expect("it answers");
                started.elapsed()
            })
            .collect();
        times.sort();
        let (fastest, median) = (times[0], times[times.len() / 2]);
        let each = median / count.unsigned_abs();
        println!(
            "{name} decides {count}: fastest {fastest:?}, median {median:?}, {each:?} a cause"
        );
        assert!(
            median < Duration::from_millis(500),
            "{count} causes took {median:?}"
        );
    }
}
