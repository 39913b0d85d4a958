//! The guests, an engine for them, and causes to ask them about.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskhost::background::Background;
use taskhost::plugin::{
    Catalog, Component, Engine, InMemory, Library, Limits, PluginObserver, PluginRoute, Question,
    Refusal,
};
use taskhost_core::cause::{Cause, Route, of_message};
use taskhost_core::decision::Decision;
use taskhost_core::descriptor::Descriptor;
use taskhost_core::record::{Message, TopicPartition};
use taskhost_core::round::{Unanswered, Work};
use taskhost_core::task::PluginVersion;
use taskhost_core::trace::Trace;
use uuid::Uuid;

/// The bytes of a guest.
pub(crate) fn guest(name: &str) -> Arc<[u8]> {
    let built = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../plugins/target/wasm32-wasip2/release"
    );
    let directory = std::env::var_os("TASKHOST_TEST_PLUGINS")
        .map_or_else(|| PathBuf::from(built), PathBuf::from);
    let path = directory.join(format!("{name}.wasm"));
    match std::fs::read(&path) {
        Ok(bytes) => bytes.into(),
        Err(error) => panic!(
            "the guest {} can't be read ({error}): run `make plugins` first",
            path.display()
        ),
    }
}

/// The same component with other bytes: a custom section at its end changes its digest and nothing else.
pub(crate) fn variant(bytes: &[u8], number: u32) -> Arc<[u8]> {
    let mut varied = bytes.to_vec();
    varied.extend([0, 6, 1, b'n']);
    varied.extend(number.to_le_bytes());
    varied.into()
}

/// Limits that a test reaches quickly.
pub(crate) fn quick() -> Limits {
    Limits {
        memory_bytes_max: 32 << 20,
        instances_max: 4,
        configure_deadline: Duration::from_millis(500),
        decide_deadline: Duration::from_millis(300),
        ..Limits::default()
    }
}

pub(crate) fn engine(limits: Limits) -> Arc<Engine> {
    Engine::new(limits, Arc::new(()), &Background::unsupervised())
        .expect("the machine has room for an engine")
}

/// The guest that does what a message's `misbehave` tells it.
pub(crate) fn misbehaving(limits: Limits) -> Component {
    Component::compile(&engine(limits), &guest("guest_misbehave")).expect("it is a plugin")
}

/// A route on a topic of the same name.
pub(crate) fn route(topic: &str) -> Route {
    Route {
        name: topic.to_owned(),
        logical_topic: topic.to_owned(),
        topic: topic.to_owned(),
        task_type: None,
        default_task_type: Some("thing".to_owned()),
        on_dead_letter: taskhost_core::cause::OnDeadLetter::GoOn,
    }
}

/// Causes for tasks of their own, one for each body.
pub(crate) fn causes(topic: &str, descriptor: &Descriptor, bodies: &[Value]) -> Vec<Cause> {
    let routes = [route(topic)];
    let descriptor = Arc::new(descriptor.clone());
    let partition = TopicPartition::new(topic, 0);
    let cause = |(offset, body): (i64, &Value)| {
        let message = Arc::new(Message {
            position: partition.at(offset),
            timestamp: 1_700_000_000_000,
            key: None,
            value: Some(body.to_string().into_bytes()),
            headers: Vec::new(),
        });
        let trace = |_: &_| Trace {
            trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            span_id: "b7ad6b7169203331".to_owned(),
            flags: 1,
            tracestate: None,
            foreign: None,
        };
        of_message(
            &message,
            &routes,
            Uuid::nil(),
            |_| descriptor.clone(),
            trace,
        )
        .expect("it decodes")
    };
    (0..).zip(bodies).map(cause).collect()
}

/// A work for each cause.
pub(crate) fn works(causes: &[Cause]) -> Vec<Work<'_>> {
    (0..)
        .zip(causes)
        .map(|(number, cause)| Work {
            task_id: &cause.task_id,
            task: None,
            causes: vec![cause],
            numbers: vec![number],
        })
        .collect()
}

/// Asks the misbehaving guest, one message for each behaviour.
pub(crate) fn ask(
    component: &Component,
    behaviours: &[&str],
) -> Result<Vec<Vec<Decision>>, Unanswered> {
    let descriptor = component.describe("{}").expect("it describes itself");
    let body = |(number, behaviour): (usize, &&str)| json!({"id": format!("t{number}"), "misbehave": behaviour});
    let bodies: Vec<Value> = behaviours.iter().enumerate().map(body).collect();
    let causes = causes("misbehave", &descriptor, &bodies);
    let at = TopicPartition::new("misbehave", 0);
    let question = Question {
        config: "{}",
        logical_topic: "misbehave",
        at: &at,
        works: &works(&causes),
    };
    component.decide(&question)
}

/// What the misbehaving guest says it has seen.
pub(crate) fn seen(component: &Component, behaviour: &str) -> Value {
    let answer = ask(component, &[behaviour]).expect("it answers");
    let Some(Decision::Apply(transition)) = answer.first().and_then(|work| work.first()) else {
        panic!("it does not apply: {answer:?}");
    };
    let data: Value = serde_json::from_str(&transition.data).expect("the data is JSON");
    data["seen"].clone()
}

/// A catalog with one route, and what it is made of.
pub(crate) struct Setting {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) versions: Arc<InMemory>,
    pub(crate) heard: Arc<Heard>,
}

/// A catalog whose only route is on `topic` and names the file `plugin`.
pub(crate) fn catalog(topic: &str, plugin: &str, config: &str) -> Setting {
    let versions = Arc::new(InMemory::new());
    let heard = Arc::new(Heard::default());
    let engine = Engine::new(quick(), heard.clone(), &Background::unsupervised())
        .expect("the machine has room for an engine");
    let routes = vec![PluginRoute {
        route: route(topic),
        plugin: plugin.to_owned(),
        config: config.into(),
    }];
    let catalog = Catalog::new(
        Library::new(engine),
        versions.clone(),
        routes,
        HashSet::from(["elsewhere".to_owned()]),
    );
    Setting {
        catalog: Arc::new(catalog),
        versions,
        heard,
    }
}

/// Remembers what an observer is told.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) told: Mutex<Vec<String>>,
}

impl Heard {
    pub(crate) fn all(&self) -> Vec<String> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, what: String) {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }
}

impl PluginObserver for Heard {
    fn refused(&self, route: &str, refusal: &Refusal) {
        self.note(format!("{route} refused: {}", refusal.reason));
    }

    fn swapped(&self, route: &str, version: &PluginVersion, number: i64) {
        self.note(format!(
            "{route} swapped: {} {} as {number}",
            version.name, version.version
        ));
    }

    fn log_dropped(&self, _: &str, lines: u64) {
        self.note(format!("dropped {lines}"));
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
