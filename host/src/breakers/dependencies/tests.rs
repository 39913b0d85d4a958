//! Breakers that are open, closed and suspected, as workers see them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

#[derive(Default)]
struct Heard {
    changes: Mutex<Vec<String>>,
}

impl Observer for Arc<Heard> {
    fn opened(&self, name: Dependency, reason: &str) {
        self.hear(format!("{} opened: {reason}", name.as_str()));
    }

    fn still_open(&self, _: Dependency, _: &str) {}

    fn closed(&self, name: Dependency, _: Duration) {
        self.hear(format!("{} closed", name.as_str()));
    }
}

impl Heard {
    fn hear(&self, what: String) {
        self.changes.lock().unwrap().push(what);
    }

    fn all(&self) -> Vec<String> {
        self.changes.lock().unwrap().clone()
    }
}

fn breakers() -> (Arc<Breakers>, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let breakers = Breakers::new(Duration::from_millis(10), heard.clone());
    (Arc::new(breakers), heard)
}

/// Probes Kafka until the end of the test; it works as long as the flag says so.
fn probing(breakers: &Arc<Breakers>) -> (Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (works, probes) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (breakers, told, counted) = (breakers.clone(), works.clone(), probes.clone());
    tokio::spawn(async move {
        let probe = |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let works = told.load(Ordering::Relaxed);
            async move { works.then_some(()).ok_or_else(|| "gone".to_owned()) }
        };
        breakers.look_after(Dependency::Kafka, probe).await;
    });
    (works, probes)
}

#[tokio::test]
async fn everybody_waits_while_one_is_open_and_goes_on_when_a_probe_succeeds() {
    let (breakers, heard) = breakers();
    let mut open = breakers.subscribe();
    let eras = breakers.eras();
    let (works, _) = probing(&breakers);
    works.store(false, Ordering::Relaxed);
    breakers.failed(Dependency::Kafka, eras, Extent::Whole, "no broker");
    assert_eq!(open.peek().reason().as_deref(), Some("kafka: no broker"));
    works.store(true, Ordering::Relaxed);
    open.wait_for(|open| !open.any()).await;
    assert_eq!(heard.all(), ["kafka opened: no broker", "kafka closed"]);
}

#[tokio::test]
async fn what_a_step_meets_alone_opens_nothing_and_what_is_unclear_is_probed_at_once() {
    let (breakers, heard) = breakers();
    let (works, probes) = probing(&breakers);
    breakers.failed(Dependency::Kafka, breakers.eras(), Extent::Own, "a lock");
    while probes.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    breakers.failed(
        Dependency::Kafka,
        breakers.eras(),
        Extent::Unclear,
        "it broke",
    );
    while probes.load(Ordering::Relaxed) == 1 {
        tokio::task::yield_now().await;
    }
    assert!(heard.all().is_empty());
    works.store(false, Ordering::Relaxed);
    breakers.failed(
        Dependency::Kafka,
        breakers.eras(),
        Extent::Unclear,
        "it broke",
    );
    let mut open = breakers.subscribe();
    open.wait_for(Open::any).await;
    assert_eq!(heard.all(), ["kafka opened: gone"]);
}

#[tokio::test]
async fn a_failure_of_a_step_that_began_before_the_outage_opens_nothing_after_it() {
    let (breakers, heard) = breakers();
    let before = breakers.eras();
    breakers.gone(Dependency::Kafka, "no broker");
    let _ = probing(&breakers);
    let mut open = breakers.subscribe();
    open.wait_for(|open| !open.any()).await;
    breakers.failed(
        Dependency::Kafka,
        before,
        Extent::Whole,
        "no answer for 15 s",
    );
    assert!(!open.peek().any());
    assert_eq!(heard.all().len(), 2);
}
