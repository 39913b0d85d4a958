//! One process of a host: the real workers, publisher, waker and breakers, with clients of the simulated servers.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use taskhost::breakers::dependencies::{self as breaker, Breakers};
use taskhost::breakers::routes::{self as route_breaker, RouteBreakers};
use taskhost::dependency::Dependency;
use taskhost::kafka::Limits;
use taskhost::log::{Feeder, Publisher, PublisherSettings};
use taskhost::shared::{
    Gate, HaltObserver, Impurity, Places, Purity, PurityObserver, Rules, Shared, Waker,
};
use taskhost::store::{BreakerOrder, OrderedState};
use taskhost::telemetry::{Metrics, Status};
use taskhost::worker::Worker;
use taskhost_core::batch::Deferral;
use taskhost_core::cause::OnDeadLetter;
use taskhost_core::halt::Halt;
use taskhost_core::record::{Message, Record, TopicPartition};
use taskhost_core::recovery::Reset;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::broker::{Brokers, Client, Fetched, Producers};
use crate::ledger::{self, MemoryLedger};
use crate::net::{Freezable, Net, Process, Server};
use crate::rules::{self, EVENTS, INPUTS, Versions};
use crate::story::Story;

/// The consumer group.
pub(crate) const GROUP: &str = "g";

/// How often a member tells the coordinator that it is there.
const HEARTBEAT: Duration = Duration::from_millis(1_000);

/// How long a revoked partition's worker may take.
const REVOKE_PATIENCE: Duration = Duration::from_secs(1);

/// Records of one fetch.
const FETCHED_MAX: usize = 40;

/// What the processes of a world have in common.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) net: Arc<Net>,
    pub(crate) server: Arc<ledger::Server>,
    pub(crate) brokers: Arc<Brokers>,
    pub(crate) on_dead_letter: OnDeadLetter,
    /// Decisions below which no breaker of a route opens.
    pub(crate) breaker_minimum: u32,
    /// Messages of a batch.
    pub(crate) messages_max: usize,
}

/// A process at work.
pub(crate) struct Host {
    pub(crate) process: Process,
    tasks: Arc<Tasks>,
    shared: Arc<Shared>,
    client: Arc<Client>,
    versions: Arc<Versions>,
}

/// What a process runs.
struct Tasks {
    net: Arc<Net>,
    process: Process,
    handles: Mutex<Vec<AbortHandle>>,
}

impl Tasks {
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let (net, process) = (self.net.clone(), self.process);
        // A task that panics is a fault of the host, whoever takes over.
        let work = AssertUnwindSafe(work).catch_unwind().map(move |ended| {
            if ended.is_err() {
                net.panicked(process);
            }
        });
        let work = Freezable {
            net: self.net.clone(),
            process: self.process,
            work: Box::pin(work),
        };
        let handle = tokio::spawn(work).abort_handle();
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.push(handle);
    }

    fn abort(&self) {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.iter().for_each(AbortHandle::abort);
    }
}

impl Host {
    /// Starts a process.
    pub(crate) fn start(place: &Place, process: Process) -> Self {
        place.net.story.tell(format!("process {process} starts"));
        let tasks = Arc::new(Tasks {
            net: place.net.clone(),
            process,
            handles: Mutex::default(),
        });
        let client = Client::new(place.net.clone(), process, place.brokers.clone());
        let ledger = MemoryLedger::over(place.net.clone(), process, place.server.clone());
        let ids: Vec<String> = (0..taskhost::log::PRODUCERS)
            .map(|number| format!("id-{process}-{number}"))
            .collect();
        let settings = PublisherSettings {
            transactional_ids: ids.clone(),
            transaction_bytes_max: 100_000,
            transactional_prefix: "id".to_owned(),
        };
        let (publisher, publishing) =
            Publisher::new(settings, Producers(client.clone()), Arc::new(()));
        tasks.spawn(publishing.run());
        let versions = Arc::new(Versions {
            ledger: ledger.clone(),
            net: place.net.clone(),
            seen: Mutex::new(vec![None; INPUTS.len()]),
        });
        (0..INPUTS.len()).for_each(|route| versions.follow(route));
        let (waker, waking) = Waker::new(Arc::new(ledger.clone()));
        tasks.spawn(waking);
        let metrics = Arc::new(Metrics::new());
        let story = place.net.story.clone();
        let breakers = Arc::new(Breakers::new(
            Duration::from_millis(200),
            Silent(process, story.clone()),
        ));
        let shared = Arc::new(Shared {
            ledger: Arc::new(ledger),
            log: client.clone(),
            publisher,
            deciders: versions.clone(),
            waker,
            breakers,
            routes_breakers: Arc::new(RouteBreakers::new(
                route_rules(place),
                INPUTS.into_iter(),
                Silent(process, story.clone()),
            )),
            health: Status::new(GROUP, &[]),
            metrics: metrics.clone(),
            places: Places::default(),
            observer: Arc::new(Silent(process, story.clone())),
            purity: Arc::new(Purity::new(0.0, metrics, Silent(process, story))),
            gate: Gate::new(2),
            rules: rules_of(place, ids),
        });
        let host = Self {
            process,
            tasks,
            shared,
            client,
            versions,
        };
        host.look_after_dependencies();
        host.join_the_group();
        host.fetch();
        host.follow_activations();
        host
    }

    /// A person orders that the routes' breakers stay closed.
    pub(crate) fn hold_breakers_closed(&self) {
        for route in INPUTS {
            self.shared.routes_breakers.ordered(&BreakerOrder {
                route: route.to_owned(),
                number: 1,
                state: OrderedState::HeldClosed,
                since: taskhost::clock::now(),
                by: "somebody".to_owned(),
                reason: "to see it through".to_owned(),
            });
        }
    }

    /// Ends it as kill -9 does.
    pub(crate) fn kill(&self) {
        self.tasks.abort();
    }

    /// Gives everything back in order, then ends; it may crash before.
    pub(crate) fn stop(&self) {
        let (client, shared) = (self.client.clone(), self.shared.clone());
        let tasks = Arc::downgrade(&self.tasks);
        self.tasks.spawn(async move {
            let held = client.ownership.held();
            client.ownership.drain(&held);
            for _ in 0..50 {
                if client.ownership.wait_released(&held, Duration::ZERO) {
                    break;
                }
                sleep(Duration::from_millis(100)).await;
            }
            shared.publisher.stop(Duration::from_secs(2)).await;
            let process = client.process;
            let left = client.call(move |cluster| cluster.group.leave(process));
            let _ = left.await;
            client.net.story.tell(format!("process {process} ends"));
            if let Some(tasks) = tasks.upgrade() {
                tasks.abort();
            }
        });
    }

    fn look_after_dependencies(&self) {
        for (name, server) in [
            (Dependency::Postgres, Server::Postgres),
            (Dependency::Kafka, Server::Kafka),
        ] {
            let (breakers, client) = (self.shared.breakers.clone(), self.client.clone());
            self.tasks.spawn(async move {
                let probe = |_| async {
                    let changed = client.brokers.changed.clone();
                    let net = &client.net;
                    let asked = net.call(client.process, server, changed, || Some(()));
                    asked.await.map_err(|_| "no answer".to_owned())
                };
                breakers.look_after(name, probe).await;
            });
        }
    }

    fn join_the_group(&self) {
        let (client, shared) = (self.client.clone(), self.shared.clone());
        let tasks = Arc::downgrade(&self.tasks);
        self.tasks.spawn(async move {
            loop {
                let Some(tasks) = tasks.upgrade() else { return };
                heartbeat(&client, &shared, &tasks).await;
                sleep(HEARTBEAT).await;
            }
        });
    }

    fn fetch(&self) {
        let client = self.client.clone();
        self.tasks.spawn(async move {
            loop {
                let reading = wanted(&client);
                if reading.is_empty() {
                    let millis = 50 + client.net.below(250);
                    sleep(Duration::from_millis(millis)).await;
                    continue;
                }
                for (partition, from) in reading {
                    fetch(&client, partition, from).await;
                }
            }
        });
    }

    /// A host learns of an activation after a while; until then its batches are refused.
    fn follow_activations(&self) {
        let versions = self.versions.clone();
        self.tasks.spawn(async move {
            loop {
                let millis = 500 + versions.net.below(3_000);
                sleep(Duration::from_millis(millis)).await;
                (0..INPUTS.len()).for_each(|route| versions.follow(route));
            }
        });
    }
}

/// One heartbeat: what is to be given back, and what is new.
async fn heartbeat(client: &Arc<Client>, shared: &Arc<Shared>, tasks: &Tasks) {
    let (process, owned) = (client.process, client.ownership.held());
    let had = client.generation.lock().map_or(None, |known| *known);
    let asked = client.call(move |cluster| cluster.group.heartbeat(process, &owned, had.is_some()));
    let Ok(told) = asked.await else { return };
    let story = &client.net.story;
    let Some(told) = told else {
        story.tell(format!("process {process} is no member any more"));
        *client
            .generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        let held = client.ownership.held();
        end(client, &held);
        return;
    };
    if !told.revoked.is_empty() {
        story.tell(format!(
            "process {process} gives back {:?}",
            names(&told.revoked)
        ));
        client.ownership.drain(&told.revoked);
        let rounds = REVOKE_PATIENCE.as_millis() / 20;
        for _ in 0..rounds {
            if client
                .ownership
                .wait_released(&told.revoked, Duration::ZERO)
            {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        end(client, &told.revoked);
    }
    *client
        .generation
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(told.generation);
    for partition in told.assigned {
        let (tag, draining) = client.ownership.assign(&partition);
        let (feeder, feed) = taskhost::log::feed(|| {});
        let mut reading = client
            .reading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        reading.insert(partition.clone(), (tag, feeder, None));
        drop(reading);
        story.tell(format!("process {process} is assigned {partition}"));
        let worker = Worker::new(shared.clone(), partition, tag, feed, draining);
        tasks.spawn(worker.run());
    }
}

/// Drops the tags of partitions: from here on nothing more is published or added for them.
fn end(client: &Client, partitions: &[TopicPartition]) {
    let mut held = client.ownership.lock();
    for partition in partitions {
        held.drop_tag(partition);
        let mut reading = client
            .reading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, feeder, _)) = reading.remove(partition) {
            feeder.close();
        }
    }
}

/// The partitions of which there is more to read, and from where.
fn wanted(client: &Client) -> Vec<(TopicPartition, i64)> {
    let reading = client
        .reading
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let places = reading.iter().filter_map(|(partition, (_, _, next))| {
        let next = (*next)?;
        let (_, end) = client.brokers.with(|cluster| cluster.bounds(partition));
        (next < end).then(|| (partition.clone(), next))
    });
    places.collect()
}

async fn fetch(client: &Client, partition: TopicPartition, from: i64) {
    let of = partition.clone();
    let fetched = client.call(move |cluster| cluster.fetch(&of, from, FETCHED_MAX));
    let Ok(fetched) = fetched.await else { return };
    let mut reading = client
        .reading
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let Some((_, feeder, next)) = reading.get_mut(&partition) else {
        return;
    };
    // It may have been removed, or added elsewhere, meanwhile.
    if *next != Some(from) {
        return;
    }
    for one in fetched {
        *next = Some(push(feeder, &partition, one));
    }
}

fn push(feeder: &Feeder, partition: &TopicPartition, fetched: Fetched) -> i64 {
    match fetched {
        Fetched::Record(offset, record) => {
            feeder.push(taskhost::log::Fed::Message(message(
                partition, offset, record,
            )));
            offset + 1
        }
        Fetched::End(offset) => {
            feeder.push(taskhost::log::Fed::End { offset });
            offset
        }
    }
}

fn message(partition: &TopicPartition, offset: i64, record: Record) -> Message {
    Message {
        position: partition.at(offset),
        timestamp: record.timestamp.unwrap_or(0),
        key: record.key,
        value: record.value,
        headers: record.headers,
    }
}

fn names(partitions: &[TopicPartition]) -> Vec<String> {
    partitions.iter().map(ToString::to_string).collect()
}

fn route_rules(place: &Place) -> taskhost_core::route_breaker::Rules {
    taskhost_core::route_breaker::Rules {
        window: Duration::from_secs(20),
        minimum: place.breaker_minimum,
        percent: 50,
        open_time: Duration::from_secs(2),
        open_time_max: Duration::from_secs(10),
    }
}

fn rules_of(place: &Place, transactional_ids: Vec<String>) -> Rules {
    let letters = |topic: &str| (topic.to_owned(), format!("{topic}.dlq"));
    Rules {
        group: GROUP.into(),
        routes: rules::routes(place.on_dead_letter).into(),
        topics: Arc::new(rules::topics()),
        limits: Arc::new(Limits::new()),
        transactional_ids,
        events_topic: EVENTS.into(),
        dead_letter_topics: INPUTS.into_iter().map(letters).collect(),
        reset: Reset::Earliest,
        messages_max: place.messages_max,
        bytes_max: 100_000,
        unpublished_max: 4,
        retries_max: 2,
        backoff: Duration::from_millis(200),
        spring_headers: false,
        deferral: Deferral {
            attempts_max: 4,
            age_max: Duration::from_secs(120),
            delay_min: Duration::from_millis(500),
            delay_max: Duration::from_secs(60),
        },
        replays_max: 3,
    }
}

/// Tells the story what changes.
#[derive(Debug)]
struct Silent(Process, Story);

impl breaker::Observer for Silent {
    fn opened(&self, name: Dependency, reason: &str) {
        let Self(process, story) = self;
        story.tell(format!("process {process}: {name:?} is away: {reason}"));
    }

    fn still_open(&self, _: Dependency, _: &str) {}

    fn closed(&self, name: Dependency, _: Duration) {
        let Self(process, story) = self;
        story.tell(format!("process {process}: {name:?} is back"));
    }
}

impl route_breaker::Observer for Silent {
    fn changed(&self, told: &route_breaker::Told) {
        let Self(process, story) = self;
        let (name, state) = (&told.name, told.state);
        story.tell(format!("process {process}: breaker of {name} is {state:?}"));
    }
}

impl HaltObserver for Silent {
    fn halted(&self, partition: &TopicPartition, halt: &Halt) {
        let Self(process, story) = self;
        story.tell(format!("process {process}: {partition} halts: {halt}"));
    }

    fn resolved(&self, partition: &TopicPartition) {
        let Self(process, story) = self;
        story.tell(format!("process {process}: {partition} goes on"));
    }
}

impl PurityObserver for Silent {
    fn impure(&self, _: &Impurity, _: bool) {}
}
