//! `taskhost run`: runs the host until a signal stops it.

use clap::Args;

use super::{EXIT_CODES, Failure, Global, serve};

/// Run the host until SIGTERM or SIGINT: consume, decide, commit, publish.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  DATABASE_URL=postgres://taskhost@db/taskhost KAFKA_BROKERS=kafka:9092 taskhost run\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {}

pub(super) fn run(_arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = serve::begin(global.load()?)?;
    config.database_url()?;
    serve::serve(config, |_| tracing::info!("ready, joining the group"))
}
