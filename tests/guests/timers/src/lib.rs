//! A guest whose tasks set, replace and cancel a timer, as each message says.
//!
//! A message on `timers` names its task in `id`. With `after` it sets the timer `alarm`, so many milliseconds after its own
//! time, with its `mark` as the data: again means replacing it. Without, it cancels the timer. Each step is an event:
//! `thing.set`, `thing.cancelled`, and `thing.fired` when the timer is due, each with the mark.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskhost_sdk::{
    Context, Decision, Description, NoConfig, Plugin, Rejection, Task, TaskId, Transition, Wakeup,
};

/// The rule.
pub struct Timers;

/// A message's body.
#[derive(Debug, Deserialize)]
pub struct Message {
    after: Option<u64>,
    mark: u32,
}

/// What task, event and timer say.
#[derive(Debug, Serialize, Deserialize)]
struct Data {
    mark: u32,
}

fn step(event: &str, data: &Data) -> Transition {
    Transition::to("open").data(data).event(event, data)
}

impl Plugin for Timers {
    type Config = NoConfig;
    type Message = Message;

    fn describe(_: &NoConfig) -> Description {
        Description::new("guest-timers", "1.0.0")
            .initial("open")
            .transition("open", "open")
            .consumes("timers")
            .event("thing.set")
            .event("thing.cancelled")
            .event("thing.fired")
            .task_id(TaskId::Body("/id"))
    }

    fn transition(
        _: &NoConfig,
        _: Option<&Task>,
        message: Message,
        context: &Context,
    ) -> Result<Decision, Rejection> {
        let data = Data { mark: message.mark };
        Ok(match message.after {
            Some(after) => {
                let due = context.now().after(Duration::from_millis(after));
                step("thing.set", &data).set_timer("alarm", due, &data)
            }
            None => step("thing.cancelled", &data).cancel_timer("alarm"),
        }
        .into())
    }

    fn wakeup(_: &NoConfig, _: &Task, wakeup: &Wakeup, _: &Context) -> Result<Decision, Rejection> {
        Ok(step("thing.fired", &wakeup.data()?).into())
    }
}

taskhost_sdk::export!(Timers);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use taskhost_sdk::testing::{message, wakeup};

    use super::*;

    #[test]
    fn a_message_sets_or_cancels_and_the_timer_fires_with_its_mark() {
        let set = message(json!({"id": "a", "after": 1000, "mark": 1}));
        let set = set.decide::<Timers>().applied();
        assert_eq!(set.timers.len(), 1);
        let cancel = message(json!({"id": "a", "mark": 2}));
        let cancel = cancel.on(set.task).decide::<Timers>().applied();
        assert_eq!(cancel.timers.len(), 1);
        let fired = wakeup("alarm", json!({"mark": 3})).on(cancel.task);
        let fired = fired.decide::<Timers>().applied();
        assert_eq!(
            fired.events,
            [("thing.fired".to_owned(), json!({"mark": 3}))]
        );
    }
}
