//! The crate for authors of taskhost plugins.
//!
//! A plugin is a type that implements [`Plugin`], and a line that exports it:
//!
//! ```text
//!  record ──► host ──► Message (your serde type) ──► validate ──► transition ──► Decision ──► host
//!                      does not fit: invalid-body    Err: dead letter            task, events, messages, timers
//! ```
//!
//! - [`Plugin::describe`] describes the plugin: statuses, transitions, topics, the places of the task id.
//! - [`Plugin::validate`] rejects a message that is wrong whatever its task is.
//! - [`Plugin::transition`] decides what a valid message does to its task.
//! - [`Plugin::wakeup`] does the same for a due timer.
//!
//! The host asks in batches. The SDK hides them: it folds the causes of each task in order, each on the task as the causes
//! before it left it. All functions are pure. They see only the arguments, the record's own time, and ids derived from its
//! position. So the same question always gets the same answer.
//!
//! Native code calls no import, so `cargo test` can test a plugin; see [`testing`].
//!
//! ```
//! use serde::Deserialize;
//! use taskhost_sdk::{
//!     Context, Decision, Description, NoConfig, Plugin, Rejection, Task, TaskId, Transition,
//! };
//!
//! struct Greeter;
//!
//! #[derive(Deserialize)]
//! struct Greeting {
//!     name: String,
//! }
//!
//! impl Plugin for Greeter {
//!     type Config = NoConfig;
//!     type Message = Greeting;
//!
//!     fn describe(_: &NoConfig) -> Description {
//!         Description::new("greeter", env!("CARGO_PKG_VERSION"))
//!             .initial("greeted")
//!             .consumes("greetings")
//!             .event("greeted")
//!             .task_id(TaskId::Position)
//!     }
//!
//!     fn transition(
//!         _: &NoConfig,
//!         task: Option<&Task>,
//!         greeting: Greeting,
//!         _: &Context,
//!     ) -> Result<Decision, Rejection> {
//!         if task.is_some() {
//!             return Ok(Decision::ignore("already greeted"));
//!         }
//!         Ok(Transition::to("greeted").data(&greeting.name).event("greeted", &()).into())
//!     }
//! }
//!
//! taskhost_sdk::export!(Greeter);
//! # fn main() {}
//! ```

pub mod bindings;
#[doc(hidden)]
pub mod component;
mod context;
mod decision;
mod description;
mod json;
mod log;
mod plugin;
mod task;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod timestamp;

pub use context::Context;
pub use decision::{Decision, Outgoing, Rejection, Transition};
pub use description::{Description, TaskId};
pub use log::Level;
pub use plugin::{NoConfig, Plugin};
pub use task::{Task, Wakeup};
pub use timestamp::{NotRfc3339, Timestamp};
pub use uuid::Uuid;

/// Exports a [`Plugin`] as the component's world. Use it once in a crate of type `cdylib`.
///
/// In a native build it becomes a function that decides, and links no import.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        #[doc(hidden)]
        #[allow(
            missing_docs,
            unreachable_pub,
            dead_code,
            reason = "for programs that link the rules"
        )]
        pub fn decide_natively(
            config: &str,
            works: ::std::vec::Vec<$crate::bindings::Work>,
        ) -> ::core::result::Result<
            ::std::vec::Vec<::std::vec::Vec<$crate::bindings::Decision>>,
            ::std::string::String,
        > {
            $crate::component::decide_natively::<$plugin>(config, works)
        }

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            static CONFIG: ::std::sync::OnceLock<<$plugin as $crate::Plugin>::Config> =
                ::std::sync::OnceLock::new();

            impl $crate::bindings::Guest for Component {
                fn configure(
                    config: ::std::string::String,
                ) -> ::core::result::Result<$crate::bindings::Descriptor, ::std::string::String>
                {
                    $crate::component::configure::<$plugin>(&CONFIG, &config)
                }

                fn decide(
                    works: ::std::vec::Vec<$crate::bindings::Work>,
                ) -> ::std::vec::Vec<::std::vec::Vec<$crate::bindings::Decision>> {
                    $crate::component::decide::<$plugin>(CONFIG.get(), works)
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);
        };
    };
}

/// The guide's code is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/plugins.md")]
struct Guide;
