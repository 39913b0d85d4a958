//! Puts the parts together from the configuration: `run(config, shutdown)`.
//!
//! ```text
//!   HTTP ─ Postgres, migrated ─ topics ─ publisher, plugins ─ consumer ─ a worker for each assigned partition
//! ```
//!
//! What runs beside the messages is supervised (`crate::background` with its `duties`): a task that fails ends the host with its
//! reason, or is started again.
//!
//! The order is that of the start; what is not there yet is waited for and said (log, `/readyz`), what is
//! wrong stops the start with all its reasons. The end goes the other way, once a rebalance that is under way is over:
//! workers finish the batch in hand and publish it, the publisher drains, the consumer leaves the group.

mod dead_letters;
mod ensure;
mod error;
mod held;
mod history;
mod identity;
mod observe;
mod partitions;
mod parts;
mod plugins;
mod probe;
mod rights;
mod running;
mod settings;
mod start;
mod tasks;
mod topics;
mod versions;
mod waiting;

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::admin;
use crate::background::{Background, Failed, Supervisor, duties};
use crate::config::Config;
use crate::telemetry::{Metrics, Status};
use running::{CLIENTS_PATIENCE, Running};
use start::{Surroundings, start};

pub use error::Error;
pub use history::shown;
pub use plugins::catalog;
pub use settings::{connect, kafka_settings, routes, store_settings};
pub use topics::{consumed, needs, produced};

/// Runs the host until `shutdown`. `ready` is told the HTTP address once everything is there and the group
/// is being joined; the API answers before, and says what is missing.
///
/// # Errors
/// Why it can't start, or had to end.
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
    ready: impl FnOnce(std::net::SocketAddr) + Send,
) -> Result<(), Error> {
    let status = Status::new(&config.kafka.group_id, &config.routes);
    let metrics = Arc::new(Metrics::new());
    topics::declare(&config, &metrics);
    let address = config.http.addr;
    let listen = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    tracing::info!(%address, "the HTTP API answers");
    let (background, mut supervisor) = Background::new();
    let desk = admin::Desk::default();
    let router = admin::router(admin::State {
        status: status.clone(),
        metrics: metrics.clone(),
        desk: desk.clone(),
        letters: settings::letters(&config),
    });
    let stopped = background.stop_token().cancelled_owned();
    let serving = async move {
        if let Err(error) = admin::serve(listener, router, stopped).await {
            tracing::error!(%error, "the HTTP API failed");
        }
    };
    let http = background.until_the_end(duties::HTTP, serving);

    tokio::pin!(shutdown);
    let surroundings = Surroundings {
        config: &config,
        status: &status,
        metrics: &metrics,
        desk: &desk,
        background: &background,
    };
    let started = tokio::select! {
        biased;
        () = &mut shutdown => None,
        failed = failure(&mut supervisor, &status) => return Err(failed.into()),
        started = start(surroundings) => Some(started?),
    };
    let result = match started {
        None => Ok(()),
        Some(running) => {
            ready(address);
            serve(
                running,
                &mut shutdown,
                &mut supervisor,
                &status,
                &background,
            )
            .await
        }
    };
    background.stop();
    let _ = tokio::time::timeout(CLIENTS_PATIENCE, http).await;
    result
}

/// Runs until it is told to stop, the group's consumer fails or a task that is needed does; then ends in order.
async fn serve(
    mut running: Running,
    shutdown: &mut (impl Future<Output = ()> + Unpin),
    supervisor: &mut Supervisor,
    status: &Status,
    background: &Background,
) -> Result<(), Error> {
    let result = tokio::select! {
        biased;
        failed = failure(supervisor, status) => Err(failed.into()),
        result = running.serve(shutdown) => result,
    };
    status.set_stopping();
    background.expect_ends();
    running.end().await;
    result
}

/// Waits for a task to fail that the host can't do without, and tells health of it and of those that are started again.
async fn failure(supervisor: &mut Supervisor, status: &Status) -> Failed {
    let restarted = |failed: &Failed| status.set_restarted(failed.duty.name, &failed.reason);
    let failed = supervisor.failed(restarted).await;
    status.set_trouble("background", Some(failed.to_string()));
    failed
}
