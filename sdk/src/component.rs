//! The component's two exports over a [`Plugin`]: what [`export!`](crate::export) calls.
//!
//! In: a batch of works. Out: a decision for each cause. Causes are folded in order: each is decided on the task as the
//! causes before it left it. A cause that isn't applied doesn't change the task. Causes behind a deferred one are answered
//! too, and the host asks again.

use std::sync::OnceLock;

use crate::bindings::taskhost::plugin::types;
use crate::{Context, Decision, Description, Plugin, Rejection, Task, Wakeup, decision, json};

#[cfg(test)]
mod tests;

/// Reads and checks a configuration, and describes the plugin under it.
///
/// # Errors
///
/// A sentence that says what is wrong with the configuration.
pub fn describe<P: Plugin>(config: &str) -> Result<Description, String> {
    read_config::<P>(config).map(|config| P::describe(&config))
}

/// The export `configure`. The configuration is kept for [`decide`].
///
/// # Errors
///
/// A sentence that says what is wrong with the configuration.
pub fn configure<P: Plugin>(
    kept: &OnceLock<P::Config>,
    config: &str,
) -> Result<types::Descriptor, String> {
    let config = read_config::<P>(config)?;
    let description = P::describe(&config);
    if kept.set(config).is_err() {
        return Err("the plugin is already configured".to_owned());
    }
    Ok(description.into())
}

/// The export `decide`.
///
/// # Panics
///
/// When the host didn't configure the plugin first.
pub fn decide<P: Plugin>(
    config: Option<&P::Config>,
    works: Vec<types::Work>,
) -> Vec<Vec<types::Decision>> {
    let config = config.expect("the host configures a plugin before it asks for decisions");
    works
        .into_iter()
        .map(|work| fold::<P>(config, work))
        .collect()
}

/// Both exports in one call, for a program that links the plugin.
///
/// # Errors
///
/// A sentence that says what is wrong with the configuration.
pub fn decide_natively<P: Plugin>(
    config: &str,
    works: Vec<types::Work>,
) -> Result<Vec<Vec<types::Decision>>, String> {
    let config = read_config::<P>(config)?;
    Ok(decide::<P>(Some(&config), works))
}

/// Decides the causes of one task, in order.
fn fold<P: Plugin>(config: &P::Config, work: types::Work) -> Vec<types::Decision> {
    let types::Work {
        task_id,
        task,
        causes,
    } = work;
    let mut task = task.map(Task::new);
    let mut decisions = Vec::with_capacity(causes.len());
    for (index, cause) in causes.iter().enumerate() {
        let answer = match cause {
            types::Cause::Message(message) => {
                on_message::<P>(config, task.as_ref(), &task_id, message)
            }
            types::Cause::Wakeup(wakeup) => on_wakeup::<P>(config, task.as_ref(), &task_id, wakeup),
        };
        // No cause follows the last one, so nobody needs the task.
        if let Ok(Decision::Apply(transition)) = &answer
            && index + 1 < causes.len()
        {
            let raw = transition.raw();
            task = Some(after(task, &task_id, cause, raw));
        }
        decisions.push(decision::to_wit(answer));
    }
    decisions
}

pub(crate) fn on_message<P: Plugin>(
    config: &P::Config,
    task: Option<&Task>,
    task_id: &str,
    message: &types::Message,
) -> Result<Decision, Rejection> {
    let context = Context::of_message(task_id, message);
    let message = P::validate(config, context.body()?, &context)?;
    P::transition(config, task, message, &context)
}

pub(crate) fn on_wakeup<P: Plugin>(
    config: &P::Config,
    task: Option<&Task>,
    task_id: &str,
    wakeup: &types::Wakeup,
) -> Result<Decision, Rejection> {
    let Some(task) = task else {
        return Ok(Decision::ignore("a timer of a task that does not exist"));
    };
    let context = Context::of_wakeup(task_id, task.task_type(), wakeup);
    P::wakeup(config, task, &Wakeup::new(wakeup), &context)
}

/// The task after a transition.
pub(crate) fn after(
    task: Option<Task>,
    task_id: &str,
    cause: &types::Cause,
    transition: &types::Transition,
) -> Task {
    let (at, task_type) = match cause {
        types::Cause::Message(message) => (message.timestamp, message.meta.task_type.as_str()),
        types::Cause::Wakeup(wakeup) => (wakeup.due, ""),
    };
    let (status, data) = (transition.status.clone(), transition.data.clone());
    match task {
        Some(task) => task.moved(status, data, at),
        None => Task::new(types::Task {
            id: task_id.to_owned(),
            type_: task_type.to_owned(),
            status,
            data,
            version: 1,
            created_at: at,
            updated_at: at,
        }),
    }
}

fn read_config<P: Plugin>(config: &str) -> Result<P::Config, String> {
    let config = json::read_config(config)?;
    P::check(&config)?;
    Ok(config)
}
