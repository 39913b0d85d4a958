//! `taskhost test-kafka`: whether the brokers answer, and what they have.

use clap::Args;

use super::{EXIT_CODES, Failure, Global, Output};

/// Connect to Kafka with the configured brokers, TLS and login, and list its topics.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  KAFKA_BROKERS=kafka:9092 taskhost test-kafka\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) output: Output,
}

pub(super) fn run(_arguments: &Arguments, _global: &Global) -> Result<(), Failure> {
    Err(Failure::not_here("test-kafka"))
}
