//! A compiled plugin: its description and its decisions.
//!
//! Every call makes a fresh instance and drops it, so nothing outlives a batch. Guests run on their own stacks and are
//! polled exactly once. A guest that waits returns control, and the call ends, because nothing it can wait for ever
//! comes. So no call blocks for longer than its deadline, and none needs an asynchronous runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use sha2::{Digest, Sha256};
use taskhost_core::decision::Decision;
use taskhost_core::descriptor::Descriptor;
use taskhost_core::fault::{Fault, Kind};
use taskhost_core::round::Unanswered;

use super::bindings::PluginPre;
use super::bindings::taskhost::plugin::types as wit;
use super::convert;
use super::diagnosis::{Stage, diagnose, waiting};
use super::engine::Engine;
use super::journal;
use super::lines::Lines;
use super::question::Question;
use super::refused::Refused;
use super::sandbox;
use super::state::State;
use super::world;

/// A compiled component of the plugin world.
pub struct Component {
    engine: Arc<Engine>,
    digest: String,
    pre: PluginPre<State>,
}

/// SHA-256 of a component's bytes as 64 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A decision for each cause of each work, or the plugin's fault.
type Answer = Result<Vec<Vec<Decision>>, Unanswered>;

impl Component {
    /// Compiles a component and checks its world. Takes a second for a large one: not for an async thread.
    ///
    /// # Errors
    /// Why it can't be a plugin.
    pub fn compile(engine: &Arc<Engine>, bytes: &[u8]) -> Result<Self, Refused> {
        let compiled = world::compile(engine, bytes)?;
        Self::new(engine, digest(bytes), &compiled)
    }

    /// Loads code that was compiled before.
    pub(super) fn new(
        engine: &Arc<Engine>,
        digest: String,
        compiled: &wasmtime::component::Component,
    ) -> Result<Self, Refused> {
        let pre = world::link(engine, compiled)?;
        Ok(Self {
            engine: engine.clone(),
            digest,
            pre,
        })
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Configures an instance and checks its description. Blocks for at most the plugin's deadline.
    ///
    /// # Errors
    /// Why it can't be used with this configuration.
    pub fn describe(&self, config: &str) -> Result<Descriptor, Refused> {
        let machine = |reason: String| Refused::Machine { reason };
        let _turn = self
            .engine
            .turn()
            .ok_or_else(|| machine(NO_ROOM.to_owned()))?;
        let mut store = sandbox::store(&self.engine);
        let answer = poll_once(async {
            let plugin = self
                .pre
                .instantiate_async(&mut store)
                .await
                .map_err(|error| (Stage::Instantiate, error))?;
            plugin
                .call_configure(&mut store, config)
                .await
                .map_err(|error| (Stage::Call, error))
        });
        let lines = store.data().lines();
        let answer = match answer {
            Some(Ok(answer)) => Ok(answer),
            // An export of another type is detected when the instance's exports are read.
            Some(Err((Stage::Instantiate, error))) if world::is_type_mismatch(&error) => {
                return Err(Refused::OtherWorld {
                    reason: format!("{error:#}"),
                });
            }
            Some(Err((stage, error))) => Err(diagnose(&error, stage, lines)),
            None => Err(waiting()),
        };
        journal::write(&lines.take(), &self.engine, &self.digest, None);
        match answer {
            Ok(Ok(said)) => checked(convert::descriptor(said)),
            Ok(Err(reason)) => Err(Refused::Configuration {
                reason: taskhost_core::decision::clean(&reason),
            }),
            Err(Unanswered::Fault(fault)) => Err(Refused::Faulty { fault }),
            Err(Unanswered::Machine { reason }) => Err(machine(reason)),
        }
    }

    /// Decides every cause of every work in a fresh instance. Blocks for at most the plugin's deadline. The caller checks
    /// whether the decisions are allowed.
    ///
    /// # Errors
    /// The plugin's fault, which any of the causes can have brought about, or the machine's trouble.
    pub fn decide(&self, question: &Question<'_>) -> Result<Vec<Vec<Decision>>, Unanswered> {
        let (answer, lines) = self.ask(question)?;
        let causes = question.works.iter().map(|work| work.causes.len());
        // After a failed call the same causes are decided in smaller calls, down to single ones. Their lines are logged.
        if answer.is_ok() || causes.sum::<usize>() == 1 {
            journal::write(&lines.take(), &self.engine, &self.digest, Some(question));
        }
        answer
    }

    /// [`Component::decide`] for causes that were decided before: nothing is logged a second time.
    ///
    /// # Errors
    /// The plugin's fault, or the machine's trouble.
    pub fn decide_again(&self, question: &Question<'_>) -> Result<Vec<Vec<Decision>>, Unanswered> {
        self.ask(question)?.0
    }

    /// The answer, and what was logged on the way to it.
    fn ask(&self, question: &Question<'_>) -> Result<(Answer, Lines), Unanswered> {
        #[cfg(feature = "bench")]
        if let Some(decisions) = super::compiled_in::decide(question) {
            return Ok((Ok(decisions), Lines::new(0)));
        }
        let no_room = || Unanswered::Machine {
            reason: NO_ROOM.to_owned(),
        };
        let works = convert::works(question.works, question.logical_topic);
        let causes = works.iter().map(|work| work.causes.len()).sum();
        let _turn = self.engine.turn().ok_or_else(no_room)?;
        let mut store = sandbox::store(&self.engine);
        let limits = self.engine.limits();
        let answer = poll_once(async {
            let plugin = self
                .pre
                .instantiate_async(&mut store)
                .await
                .map_err(|error| (Stage::Instantiate, error))?;
            let configured = plugin.call_configure(&mut store, question.config).await;
            if let Err(reason) = configured.map_err(|error| (Stage::Call, error))? {
                return Ok(Err(reason));
            }
            sandbox::allow(
                &mut store,
                limits.deadline_for(causes),
                limits.answer_bytes_max,
            );
            plugin
                .call_decide(&mut store, &works)
                .await
                .map(Ok)
                .map_err(|error| (Stage::Call, error))
        });
        let lines = store.data().lines().clone();
        let answer = match answer {
            Some(Ok(Ok(answer))) => counted(answer, &works).map(convert::decisions),
            Some(Ok(Err(reason))) => {
                let reason =
                    format!("it refuses the configuration that it was activated with: {reason}");
                Err(malformed(taskhost_core::decision::clean(&reason)))
            }
            Some(Err((stage, error))) => Err(diagnose(&error, stage, &lines)),
            None => Err(waiting()),
        };
        Ok((answer, lines))
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

const NO_ROOM: &str = "no instance became free in time";

/// Runs a guest as long as it doesn't wait; none if it waits.
fn poll_once<T>(guest: impl Future<Output = T>) -> Option<T> {
    match pin!(guest).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn checked(descriptor: Descriptor) -> Result<Descriptor, Refused> {
    match descriptor.validate() {
        Ok(()) => Ok(descriptor),
        Err(problems) => Err(Refused::Description { problems }),
    }
}

/// The answer, if it has a decision for each cause.
fn counted(
    answer: Vec<Vec<wit::Decision>>,
    works: &[wit::Work],
) -> Result<Vec<Vec<wit::Decision>>, Unanswered> {
    if answer.len() != works.len() {
        return Err(malformed(format!(
            "it answers {} works instead of {}",
            answer.len(),
            works.len()
        )));
    }
    for (work, decisions) in works.iter().zip(&answer) {
        if decisions.len() != work.causes.len() {
            let (given, asked) = (decisions.len(), work.causes.len());
            return Err(malformed(format!(
                "it returns {given} decisions for {asked} causes of a task"
            )));
        }
    }
    Ok(answer)
}

fn malformed(reason: String) -> Unanswered {
    Unanswered::Fault(Fault::new(Kind::MalformedAnswer, reason))
}
