//! Fixtures of the whole-system tests: a world with a broker, a database and hosts in it.
//!
//! ```no_run
//! use serde_json::json;
//! use taskhost_tests::{Message, World};
//!
//! let world = World::new();
//! let host = world.host().env("TASKHOST_DEFERRAL_ATTEMPTS_MAX", "3").start();
//! world.send(Message::to("task-status").key("t-1").json(&json!({"taskId": "t-1", "status": "new"})));
//! world.wait_caught_up();
//! assert_eq!(world.task("t-1").status, "new");
//! assert_eq!(world.read("task-events").len(), 1);
//! host.stop();
//! ```
//!
//! Everything blocks, so that a test reads from top to bottom. Each world has a database, topics and a group of its
//! own, so tests run side by side on one broker and one Postgres (`TEST_KAFKA_BROKERS`, `TEST_DATABASE_URL`; `make
//! test` starts both). Topics are named as routes name them (`task-status`): the world knows the real names.
//! Nothing sleeps a fixed time: what has to happen is awaited ([`soon`]), with a deadline that fails the test.

mod behind;
mod broker;
mod database;
mod exec;
mod fleet;
mod host;
mod page;
mod patience;
mod proxy;
mod row;
mod services;
mod tail;
mod world;

pub use broker::{Message, Record, Watermark};
pub use database::{DeadLetterRow, EventRow, ProgressRow, TaskRow, WaitingRow};
pub use exec::{Finished, run};
pub use fleet::{Pause, Steady, Step, now_ms, steady};
pub use host::{Answer, Host, HostBuilder};
pub use page::Page;
pub use patience::{PATIENCE, soon, soon_within};
pub use proxy::{Cut, Proxy};
pub use services::Services;
pub use tail::{Seen, Tail};
pub use world::{World, checkout};
