//! What the host tells about itself: metrics, health, logs, and the trace each message belongs to.
//!
//! The parts that do the work write in here by plain setters and know nothing of how it is shown; the HTTP API
//! reads from here and knows nothing of who wrote.

pub mod health;
pub mod logs;
pub mod metrics;
pub mod names;
pub mod trace;

mod exposition;
mod window;

pub use health::Status;
pub use metrics::Metrics;
pub use trace::TraceContext;
