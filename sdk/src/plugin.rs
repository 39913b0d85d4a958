//! What an author writes.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Context, Decision, Description, Rejection, Task, Wakeup};

/// The rules of one kind of task.
///
/// Every function is pure: it is called again for the same cause after a crash, on another machine, and
/// when a history is verified, and must answer the same then.
pub trait Plugin {
    /// The route's `[config]` table. Fields it doesn't have are refused by the SDK, with a sentence that
    /// names them; give those that may be left out a default with `#[serde(default)]`.
    type Config: DeserializeOwned + Default + Send + Sync + 'static;

    /// The body of a message. One that doesn't fit becomes a dead letter with the code `invalid-body`.
    type Message: DeserializeOwned;

    /// What is wrong with a configuration whose fields are all well-formed, as a sentence.
    ///
    /// # Errors
    ///
    /// The sentence. The host refuses the route with it.
    fn check(_config: &Self::Config) -> Result<(), String> {
        Ok(())
    }

    /// What the plugin is. The host checks each later answer against it.
    fn describe(config: &Self::Config) -> Description;

    /// Turns down what is wrong with a message whatever its task is, and normalizes what is not.
    ///
    /// # Errors
    ///
    /// Why the message becomes a dead letter.
    fn validate(
        _config: &Self::Config,
        message: Self::Message,
        _context: &Context,
    ) -> Result<Self::Message, Rejection> {
        Ok(message)
    }

    /// Decides what a message does to its task; `None` is a task that doesn't exist yet.
    ///
    /// # Errors
    ///
    /// Why the message becomes a dead letter.
    fn transition(
        config: &Self::Config,
        task: Option<&Task>,
        message: Self::Message,
        context: &Context,
    ) -> Result<Decision, Rejection>;

    /// Decides what a due timer does to its task. By default it does nothing.
    ///
    /// # Errors
    ///
    /// Why the wakeup becomes a dead letter.
    fn wakeup(
        _config: &Self::Config,
        _task: &Task,
        wakeup: &Wakeup,
        _context: &Context,
    ) -> Result<Decision, Rejection> {
        Ok(Decision::ignore(format!(
            "no rule for the timer {}",
            wakeup.name()
        )))
    }
}

/// The configuration of a plugin that has nothing to configure.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct NoConfig {}
