//! Metrics, health, logs, and the trace of each message.
//!
//! The working parts of the host write here by plain setters, and don't know how the data are shown. The HTTP API reads from
//! here, and doesn't know who wrote.

pub mod health;
pub mod logs;
pub mod metrics;
pub mod names;
pub mod trace;

mod exposition;
mod life_cycle;
mod window;

pub use health::Status;
pub(crate) use life_cycle::LifeCycle;
pub use metrics::Metrics;
pub use trace::TraceContext;
