//! The common parts of `run` and `dev`: the runtime, the log, the signals.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::app;
use crate::config::{Config, Loaded};
use crate::telemetry::logs;

/// The exit code of a process that was interrupted twice: 128 plus SIGINT's number, as in shells.
const INTERRUPTED: i32 = 130;

/// Sets up the log, and logs the warnings of the configuration.
pub(super) fn begin(loaded: Loaded) -> Result<Config, Failure> {
    logs::init(&loaded.config.log).map_err(|error| Failure::Failed(error.to_string()))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded.config)
}

/// An async runtime for commands.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("taskhost")
        .build()
        .map_err(|error| Failure::Failed(format!("threads can't be started: {error}")))
}

/// Runs the host until SIGTERM or SIGINT; a second one ends the process at once, which is safe.
pub(super) fn serve(config: Config, ready: impl FnOnce(SocketAddr) + Send) -> Result<(), Failure> {
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let stop = stop_signal()?;
        Ok(app::run(config, stop.cancelled_owned(), ready).await?)
    });
    // Nothing is lost if a guest or a client library still runs.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

fn stop_signal() -> Result<CancellationToken, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::Failed(format!("signals: {error}")));
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let stop = CancellationToken::new();
    let first = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            first.cancel();
        }
    });
    Ok(stop)
}
