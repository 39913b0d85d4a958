//! What the two versions of the swapped guest have in common.
//!
//! A message on `swap` creates a task, whose id is the body's `id`, in the status `open`. Task and event say
//! in `rule` which version decided. A message for a task that exists is ignored.

use serde::{Deserialize, Serialize};
use taskhost_sdk::{
    Context, Decision, Description, NoConfig, Plugin, Rejection, Task, TaskId, Transition,
};

/// The rule of one version.
pub struct Swap<const RULE: u32>;

/// A message's body.
#[derive(Debug, Deserialize)]
pub struct Message {}

/// What task and event say.
#[derive(Debug, Serialize)]
struct Data {
    rule: u32,
}

impl<const RULE: u32> Plugin for Swap<RULE> {
    type Config = NoConfig;
    type Message = Message;

    fn describe(_: &NoConfig) -> Description {
        Description::new("guest-swap", &format!("{RULE}.0.0"))
            .initial("open")
            .consumes("swap")
            .event("thing.opened")
            .task_id(TaskId::Body("/id"))
    }

    fn transition(
        _: &NoConfig,
        task: Option<&Task>,
        _: Message,
        _: &Context,
    ) -> Result<Decision, Rejection> {
        if task.is_some() {
            return Ok(Decision::ignore("open already"));
        }
        let data = Data { rule: RULE };
        Ok(Transition::to("open")
            .data(&data)
            .event("thing.opened", &data)
            .into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use taskhost_sdk::testing::message;

    use super::*;

    #[test]
    fn each_version_says_which_one_decided() {
        let first = message(json!({"id": "a"})).decide::<Swap<1>>().applied();
        let second = message(json!({"id": "a"})).decide::<Swap<2>>().applied();
        assert_eq!(
            (&first.data, &second.data),
            (&json!({"rule": 1}), &json!({"rule": 2}))
        );
        assert_eq!(
            second.events,
            [("thing.opened".to_owned(), json!({"rule": 2}))]
        );
        message(json!({"id": "a"}))
            .on(first.task)
            .decide::<Swap<2>>()
            .ignored();
    }
}
