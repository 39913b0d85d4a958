//! Postgres or Kafka goes away under load, for longer than a session: the breaker opens, nothing is blamed, everything
//! goes on by itself when it is back, and was done exactly once.

mod kafka;
mod network;
mod postgres;
mod refusing;
mod stopping;
mod story;
