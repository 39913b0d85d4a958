//! Calls a plugin natively like the host, and checks the answer like the host.
//!
//! ```
//! # use serde::Deserialize;
//! # use taskhost_sdk::{Context, Decision, Description, NoConfig, Plugin, Rejection, Task, TaskId, Transition};
//! # struct Lamp;
//! # #[derive(Deserialize)]
//! # struct Switch { lamp: String }
//! # impl Plugin for Lamp {
//! #     type Config = NoConfig;
//! #     type Message = Switch;
//! #     fn describe(_: &NoConfig) -> Description {
//! #         Description::new("lamp", "1.0.0").initial("on").terminal("off").transition("on", "off")
//! #             .consumes("switches").event("switched").task_id(TaskId::Body("/lamp"))
//! #     }
//! #     fn transition(_: &NoConfig, task: Option<&Task>, _: Switch, _: &Context) -> Result<Decision, Rejection> {
//! #         let status = match task.map(Task::status) {
//! #             None => "on",
//! #             Some("on") => "off",
//! #             Some(_) => return Ok(Decision::ignore("broken")),
//! #         };
//! #         Ok(Transition::to(status).event("switched", &()).into())
//! #     }
//! # }
//! use serde_json::json;
//! use taskhost_sdk::testing::message;
//!
//! let on = message(json!({"lamp": "kitchen"})).decide::<Lamp>().applied();
//! assert_eq!(on.status, "on");
//!
//! let off = message(json!({"lamp": "kitchen"})).on(on.task).decide::<Lamp>().applied();
//! assert_eq!(off.status, "off");
//!
//! message(json!({"lamp": "kitchen"})).on(off.task).decide::<Lamp>().ignored();
//! assert_eq!(message(json!({})).task_id("kitchen").decide::<Lamp>().rejected(), "invalid-body");
//! ```
//!
//! Everything here panics where an assertion would fail.

mod answer;
mod case;
mod check;

pub use answer::{Answer, Applied, Sent, TimerOrder};
pub use case::{Case, message, task, wakeup};
