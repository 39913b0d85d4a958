//! The network between hosts and servers. Every call takes time. Its request or its answer may be lost, or the request comes
//! late. Before a call is sent and before its answer is received, the host may crash or freeze.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::story::Story;

/// Number of a process of a host: a restarted host is another one.
pub(crate) type Process = u32;

/// What a host calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    Postgres,
    Kafka,
}

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nothing arrived: certainly nothing was done.
    Refused,
    /// Nobody knows what was done, or will be.
    Unanswered,
}

/// What can happen to a call, in per mille.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Odds {
    /// The request is lost, or the connection.
    pub(crate) lost: u32,
    /// It is done, and the answer is lost.
    pub(crate) unanswered: u32,
    /// The client has given up when it arrives.
    pub(crate) late: u32,
    /// It takes seconds, and its answer is in time. No fault: networks are like that.
    pub(crate) slow: u32,
    /// The host crashes before it is sent, or before its answer is there.
    pub(crate) crash: u32,
    /// The host freezes at one of these places.
    pub(crate) freeze: u32,
}

/// The network, and a world's source of random numbers.
#[derive(Debug)]
pub(crate) struct Net {
    state: Mutex<State>,
    /// Rings when a process is to be ended.
    pub(crate) doomed: Notify,
    pub(crate) story: Story,
}

#[derive(Debug)]
struct State {
    rng: SmallRng,
    odds: Odds,
    /// Faults that are still to come.
    faults: u32,
    /// How often each fault happened.
    happened: BTreeMap<&'static str, u64>,
    /// Until when a server is away for everybody.
    away: BTreeMap<Server, Instant>,
    /// Until when a process can't reach a server.
    cut: BTreeMap<(Process, Server), Instant>,
    doomed: Vec<Process>,
    /// Processes of which a task panicked.
    panicked: Vec<Process>,
    frozen: BTreeMap<Process, Frozen>,
}

#[derive(Debug)]
struct Frozen {
    until: Instant,
    wakers: Vec<Waker>,
}

/// What happens to one call.
enum Fate {
    Fine,
    Refused,
    LostRequest,
    LostAnswer,
    Late(Duration),
}

impl Net {
    pub(crate) fn new(seed: u64, odds: Odds, faults: u32, story: Story) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                rng: SmallRng::seed_from_u64(seed),
                odds,
                faults,
                happened: BTreeMap::new(),
                away: BTreeMap::new(),
                cut: BTreeMap::new(),
                doomed: Vec::new(),
                panicked: Vec::new(),
                frozen: BTreeMap::new(),
            }),
            doomed: Notify::new(),
            story,
        })
    }

    /// From now on everything works.
    pub(crate) fn calm(&self) {
        let mut state = self.lock();
        state.faults = 0;
        state.away.clear();
        state.cut.clear();
        self.story.tell("from now on nothing fails");
    }

    /// How often each fault happened.
    pub(crate) fn happened(&self) -> BTreeMap<&'static str, u64> {
        self.lock().happened.clone()
    }

    /// A number below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.lock().rng.random_range(0..end.max(1))
    }

    /// True in so many of a thousand.
    pub(crate) fn chance(&self, per_mille: u32) -> bool {
        self.lock().chance(per_mille)
    }

    /// A server is away for everybody for a while.
    pub(crate) fn outage(&self, server: Server, duration: Duration) {
        let mut state = self.lock();
        state.count("outage");
        state.away.insert(server, Instant::now() + duration);
        self.story.tell(format!(
            "{server:?} is away for {} ms",
            duration.as_millis()
        ));
    }

    /// A process can't reach a server for a while.
    pub(crate) fn cut(&self, process: Process, server: Server, duration: Duration) {
        let mut state = self.lock();
        state.count("cut");
        let until = Instant::now() + duration;
        state.cut.insert((process, server), until);
        let millis = duration.as_millis();
        self.story.tell(format!(
            "process {process} can't reach {server:?} for {millis} ms"
        ));
    }

    /// A task of a process panicked.
    pub(crate) fn panicked(&self, process: Process) {
        self.lock().panicked.push(process);
        self.story
            .tell(format!("a task of process {process} panics"));
    }

    /// The processes of which a task panicked.
    pub(crate) fn panics(&self) -> Vec<Process> {
        self.lock().panicked.clone()
    }

    /// Processes that are to be ended now.
    pub(crate) fn take_doomed(&self) -> Vec<Process> {
        std::mem::take(&mut self.lock().doomed)
    }

    pub(crate) fn freeze(&self, process: Process, duration: Duration) {
        let mut state = self.lock();
        let until = Instant::now() + duration;
        state.count("freeze");
        let frozen = state.frozen.entry(process).or_insert(Frozen {
            until,
            wakers: Vec::new(),
        });
        frozen.until = frozen.until.max(until);
        let millis = duration.as_millis();
        self.story
            .tell(format!("process {process} freezes for {millis} ms"));
    }

    pub(crate) fn doom(&self, process: Process) {
        let mut state = self.lock();
        if !state.doomed.contains(&process) {
            state.doomed.push(process);
            state.count("crash");
            self.story.tell(format!("process {process} crashes"));
            self.doomed.notify_one();
        }
    }

    /// Lets frozen processes whose time is over go on; says when the next one may.
    pub(crate) fn thaw(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        let over: Vec<Process> = state
            .frozen
            .iter()
            .filter(|(_, frozen)| frozen.until <= now)
            .map(|(process, _)| *process)
            .collect();
        for process in over {
            if let Some(frozen) = state.frozen.remove(&process) {
                self.story.tell(format!("process {process} thaws"));
                frozen.wakers.into_iter().for_each(Waker::wake);
            }
        }
        state.frozen.values().map(|frozen| frozen.until).min()
    }

    /// A call: `serve` is asked until it has an answer, at the server, whatever becomes of the caller.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        process: Process,
        server: Server,
        changed: Arc<Notify>,
        mut serve: impl FnMut() -> Option<T> + Send + 'static,
    ) -> Result<T, Broken> {
        let (fate, there, back) = self.fate(process, server).await;
        let there = match fate {
            Fate::Refused => {
                sleep(there).await;
                return Err(Broken::Refused);
            }
            Fate::LostRequest => {
                sleep(PATIENCE).await;
                self.perhaps_pause(process).await;
                return Err(Broken::Unanswered);
            }
            Fate::Late(after) => there + after,
            Fate::Fine | Fate::LostAnswer => there,
        };
        let (answer, answered) = oneshot::channel();
        let net = self.clone();
        tokio::spawn(async move {
            sleep(there).await;
            net.until_there(server).await;
            loop {
                // Before it is looked at, so that a change meanwhile isn't missed.
                let waiting = changed.notified();
                if let Some(served) = serve() {
                    changed.notify_waiters();
                    sleep(back).await;
                    if !matches!(fate, Fate::LostAnswer) {
                        let _ = answer.send(served);
                    } else {
                        // The connection is dead, and the client doesn't know.
                        sleep(PATIENCE).await;
                    }
                    return;
                }
                waiting.await;
            }
        });
        let answered = timeout(PATIENCE, answered).await;
        self.perhaps_fail(process, "an answer").await;
        match answered {
            Ok(Ok(served)) => Ok(served),
            _ => Err(Broken::Unanswered),
        }
    }

    /// What happens to a call, and how long its ways are.
    async fn fate(&self, process: Process, server: Server) -> (Fate, Duration, Duration) {
        self.perhaps_fail(process, "a call").await;
        let mut state = self.lock();
        let there = Duration::from_micros(state.rng.random_range(100..3_000));
        let back = Duration::from_micros(state.rng.random_range(100..3_000));
        let now = Instant::now();
        let is_cut = |until: Option<&Instant>| until.is_some_and(|until| *until > now);
        if is_cut(state.cut.get(&(process, server))) || is_cut(state.away.get(&server)) {
            let fate = match state.chance(500) {
                true => Fate::Refused,
                false => Fate::LostRequest,
            };
            return (fate, there, back);
        }
        let odds = state.odds;
        let fate = if state.strikes(odds.lost, "lost request") {
            match state.chance(500) {
                true => Fate::Refused,
                false => Fate::LostRequest,
            }
        } else if state.strikes(odds.unanswered, "lost answer") {
            Fate::LostAnswer
        } else if state.strikes(odds.late, "late call") {
            Fate::Late(PATIENCE + Duration::from_millis(state.rng.random_range(0..20_000)))
        } else {
            Fate::Fine
        };
        if matches!(fate, Fate::Fine) && state.faults > 0 && state.chance(odds.slow) {
            state.count("slow call");
            let millis = state.rng.random_range(300..4_500);
            return (fate, there + Duration::from_millis(millis), back);
        }
        (fate, there, back)
    }

    /// A crash or a freeze at this place, perhaps.
    async fn perhaps_fail(&self, process: Process, at: &str) {
        let (crash, freeze) = {
            let mut state = self.lock();
            let odds = state.odds;
            let crash = state.strikes(odds.crash, "crash at a call");
            let freeze = !crash && state.strikes(odds.freeze, "freeze at a call");
            let millis = state.rng.random_range(200..25_000);
            (crash, freeze.then(|| Duration::from_millis(millis)))
        };
        if crash {
            self.story.tell(format!("at {at}:"));
            self.doom(process);
            // It never comes back from here.
            std::future::pending::<()>().await;
        }
        if let Some(duration) = freeze {
            self.story.tell(format!("at {at}:"));
            self.freeze(process, duration);
            tokio::task::yield_now().await;
        }
    }

    /// The fault that loses a request may also freeze its process, for longer than a session lasts.
    async fn perhaps_pause(&self, process: Process) {
        let pause = {
            let mut state = self.lock();
            let pauses = state.chance(300) && state.strikes(1000, "freeze at a lost request");
            pauses.then(|| Duration::from_millis(state.rng.random_range(5_000..15_000)))
        };
        if let Some(pause) = pause {
            self.freeze(process, pause);
            tokio::task::yield_now().await;
        }
    }

    /// Waits for a server that is away.
    async fn until_there(&self, server: Server) {
        let until = self.lock().away.get(&server).copied();
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }

    fn is_frozen(&self, process: Process, context: &Context<'_>) -> bool {
        match self.lock().frozen.get_mut(&process) {
            Some(frozen) => {
                frozen.wakers.push(context.waker().clone());
                true
            }
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.random_range(0..1000) < per_mille
    }

    /// Whether one of the faults that are to come comes now.
    fn strikes(&mut self, per_mille: u32, name: &'static str) -> bool {
        let strikes = self.faults > 0 && self.chance(per_mille);
        if strikes {
            self.faults -= 1;
            self.count(name);
        }
        strikes
    }

    fn count(&mut self, name: &'static str) {
        *self.happened.entry(name).or_default() += 1;
    }
}

/// Work of a process; it makes no progress while the process is frozen.
pub(crate) struct Freezable<F> {
    pub(crate) net: Arc<Net>,
    pub(crate) process: Process,
    pub(crate) work: Pin<Box<F>>,
}

impl<F: Future> Future for Freezable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match self.net.is_frozen(self.process, context) {
            true => Poll::Pending,
            false => self.work.as_mut().poll(context),
        }
    }
}
