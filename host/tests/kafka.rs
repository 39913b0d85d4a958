//! The Kafka side against a real broker, whose address is in `TEST_KAFKA_BROKERS`.
//!
//! Every test has topics, groups and transactional ids of its own.
#![expect(
    clippy::unwrap_used,
    reason = "a test that unwraps says what it expects by failing there"
)]

#[path = "kafka/fixture.rs"]
mod fixture;

#[path = "kafka/admin.rs"]
mod admin;
#[path = "kafka/consume.rs"]
mod consume;
#[path = "kafka/hanging.rs"]
mod hanging;
#[path = "kafka/publish.rs"]
mod publish;
#[path = "kafka/rebalance.rs"]
mod rebalance;
