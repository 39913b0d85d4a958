//! The pure steps of one batch of 500 messages, each alone: decode, decide, write set, frame.
//!
//! Deciding runs the shipped plugin as WebAssembly, in a fresh instance for each batch as the host does it; `make plugins` builds it.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use taskhost::background::Background;
use taskhost::plugin::{Component, Engine, Limits, Question};
use taskhost_core::batch::{Decided, Decider, Deferral, Fold, Retries, Settings, WriteSet};
use taskhost_core::cause::{Cause, Route, of_message};
use taskhost_core::decision::Decision;
use taskhost_core::descriptor::Descriptor;
use taskhost_core::frame::Frame;
use taskhost_core::record::{Message, TopicPartition};
use taskhost_core::round::Work;
use taskhost_core::task::{PluginVersion, RecordedDecider};
use taskhost_core::trace::Trace;
use uuid::Uuid;

/// Messages of a full batch: the host's own bound.
const MESSAGES: i64 = 500;

const TOPIC: &str = "requests-web-crawl";

/// When everything happens, in milliseconds since 1970.
const NOW: i64 = 1_700_000_000_000;

fn messages() -> Vec<Arc<Message>> {
    let partition = TopicPartition::new(TOPIC, 0);
    let message = |offset: i64| {
        let id = format!("{:08x}-0000-4000-8000-{offset:012x}", offset * 7919);
        let value = format!(
            r#"{{"headers":{{"requestId":"{id}","requestType":"web-crawl","timestamp":"2024-01-01T00:00:00.000Z","traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7"}},"message":{{"userEmail":"user@example.com","userQuery":"Find product information","originalUrl":"https://example.com","requestedAt":"2024-01-01T00:00:00.000Z"}}}}"#
        );
        Arc::new(Message {
            position: partition.at(offset),
            timestamp: NOW,
            key: Some(id.into_bytes()),
            value: Some(value.into_bytes()),
            headers: Vec::new(),
        })
    };
    (0..MESSAGES).map(message).collect()
}

fn routes() -> [Route; 1] {
    [Route {
        name: TOPIC.to_owned(),
        logical_topic: TOPIC.to_owned(),
        topic: TOPIC.to_owned(),
        task_type: None,
        default_task_type: Some("web-crawl".to_owned()),
        on_dead_letter: taskhost_core::cause::OnDeadLetter::GoOn,
    }]
}

fn causes(messages: &[Arc<Message>], descriptor: &Arc<Descriptor>) -> Vec<Cause> {
    let routes = routes();
    let trace = |_: &_| Trace {
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        span_id: "b7ad6b7169203331".to_owned(),
        flags: 1,
        tracestate: None,
        foreign: None,
    };
    let cause = |message| of_message(message, &routes, Uuid::nil(), |_| descriptor.clone(), trace);
    let causes = messages.iter().map(cause);
    causes.collect::<Result<_, _>>().expect("they decode")
}

fn works<'a>(causes: &'a [Cause]) -> Vec<Work<'a>> {
    let work = |(number, cause): (u32, &'a Cause)| Work {
        task_id: &cause.task_id,
        task: None,
        causes: vec![cause],
        numbers: vec![number],
    };
    (0..).zip(causes).map(work).collect()
}

fn plugin() -> Arc<PluginVersion> {
    Arc::new(PluginVersion {
        name: "web-crawl".into(),
        version: "0.1.0".into(),
        digest: "00".repeat(32),
    })
}

fn decider(descriptor: &Arc<Descriptor>) -> Decider {
    Decider {
        route: TOPIC.into(),
        plugin: plugin(),
        descriptor: descriptor.clone(),
        topics: Arc::new(BTreeMap::from([(
            "task-status".to_owned(),
            "task-status".to_owned(),
        )])),
        record: Arc::new(RecordedDecider {
            route: TOPIC.into(),
            activation: 1,
            plugin: plugin(),
            config: "".into(),
            interface: "".into(),
            topics: Arc::new(BTreeMap::new()),
        }),
        hold: None,
        on_dead_letter: taskhost_core::cause::OnDeadLetter::GoOn,
    }
}

fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        group: "bench".into(),
        partition: TopicPartition::new(TOPIC, 0),
        topic_id: Uuid::nil(),
        events_topic: "task-events".into(),
        dead_letter_topic: "requests-web-crawl.dlq".into(),
        spring_headers: false,
        deferral: Deferral {
            attempts_max: 10,
            age_max: Duration::from_secs(60),
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_secs(1),
        },
        retries: Retries {
            max: 3,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
        },
        replays_max: 3,
        record_bytes_max: Arc::default(),
    })
}

fn fold(
    settings: &Arc<Settings>,
    causes: &[Cause],
    decisions: Vec<Decision>,
    decider: &Decider,
) -> WriteSet {
    let mut fold = Fold::new(settings.clone(), NOW, [], HashMap::new());
    for (cause, decision) in causes.iter().zip(decisions) {
        let taken = fold.decided(cause, Decided::Answer(decision), decider);
        taken.expect("the plugin answers what it declared");
    }
    fold.finish()
}

fn steps(criterion: &mut Criterion) {
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../plugins/target/wasm32-wasip2/release/web_crawl.wasm");
    let bytes = std::fs::read(plugin).expect("`make plugins` builds it");
    let engine = Engine::new(Limits::default(), Arc::new(()), &Background::unsupervised())
        .expect("an engine");
    let component = Component::compile(&engine, &bytes).expect("a plugin");
    let descriptor = Arc::new(component.describe("{}").expect("it describes itself"));
    let messages = messages();
    let causes_of = || causes(&messages, &descriptor);
    let known = causes_of();
    let works = works(&known);
    let at = TopicPartition::new(TOPIC, 0);
    let question = Question {
        config: "{}",
        logical_topic: TOPIC,
        at: &at,
        works: &works,
    };
    let decide = || component.decide(&question).expect("it decides");
    let decisions: Vec<Decision> = decide().into_iter().flatten().collect();
    let (settings, decider) = (settings(), decider(&descriptor));
    let frame = Frame {
        batch: 1,
        next_offset: MESSAGES,
        records: fold(&settings, &known, decisions.clone(), &decider).records,
    };
    let stored = frame.encode();

    let mut group = criterion.benchmark_group("batch of 500");
    group.throughput(Throughput::Elements(MESSAGES.unsigned_abs()));
    group.bench_function("decode", |bencher| bencher.iter(|| black_box(causes_of())));
    group.bench_function("decide", |bencher| bencher.iter(|| black_box(decide())));
    group.bench_function("write set", |bencher| {
        bencher.iter_batched(
            || decisions.clone(),
            |decisions| fold(&settings, &known, decisions, &decider),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("frame, encode", |bencher| {
        bencher.iter(|| black_box(frame.encode()));
    });
    group.bench_function("frame, decode", |bencher| {
        bencher.iter(|| Frame::decode(black_box(&stored)).expect("a frame"));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    steps(&mut criterion);
    criterion.final_summary();
}
