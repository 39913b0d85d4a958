//! Version 9.0.0 of the guest that is swapped: it fails at four messages of five, those whose id ends neither in 0 nor in 5.

use serde::{Deserialize, Serialize};
use taskhost_sdk::{
    Context, Decision, Description, NoConfig, Plugin, Rejection, Task, TaskId, Transition,
};

/// The rule that was shipped at night.
pub struct Broken;

/// A message's body.
#[derive(Debug, Deserialize)]
pub struct Message {
    id: String,
}

/// What task and event say.
#[derive(Debug, Serialize)]
struct Data {
    rule: u32,
}

impl Plugin for Broken {
    type Config = NoConfig;
    type Message = Message;

    fn describe(_: &NoConfig) -> Description {
        Description::new("guest-swap", env!("CARGO_PKG_VERSION"))
            .initial("open")
            .consumes("swap")
            .event("thing.opened")
            .task_id(TaskId::Body("/id"))
    }

    fn transition(
        _: &NoConfig,
        task: Option<&Task>,
        message: Message,
        _: &Context,
    ) -> Result<Decision, Rejection> {
        if task.is_some() {
            return Ok(Decision::ignore("open already"));
        }
        assert!(message.id.ends_with(['0', '5']), "this rule is broken");
        let data = Data { rule: 9 };
        Ok(Transition::to("open")
            .data(&data)
            .event("thing.opened", &data)
            .into())
    }
}

taskhost_sdk::export!(Broken);
