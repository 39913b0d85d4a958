//! The trait that a plugin implements.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Context, Decision, Description, Rejection, Task, Wakeup};

/// The rules of one kind of task.
///
/// Every function is pure: it is called again for the same cause, for example after a crash or on another machine, and must
/// give the same answer.
pub trait Plugin {
    /// The route's `[route.config]` table. The SDK refuses unknown fields, with a sentence that names them. Give optional
    /// fields a default with `#[serde(default)]`.
    type Config: DeserializeOwned + Default + Send + Sync + 'static;

    /// The body of a message. A body that doesn't fit becomes a dead letter with the code `invalid-body`.
    type Message: DeserializeOwned;

    /// Checks a configuration whose fields are all well-formed.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong. The host refuses the route with it.
    fn check(_config: &Self::Config) -> Result<(), String> {
        Ok(())
    }

    /// Describes the plugin. The host checks each later answer against the description.
    fn describe(config: &Self::Config) -> Description;

    /// Rejects a message that is wrong whatever its task is, and normalizes other messages.
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

    /// Decides what a message does to its task; the task is `None` if it doesn't exist yet.
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

/// The configuration of a plugin without settings.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct NoConfig {}
