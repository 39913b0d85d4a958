//! The HTTP API: health, metrics, plugins, breakers and dead letters.
//!
//! Answers come from [`Status`] and [`Metrics`], which the host's parts write; no request reaches Kafka or a plugin. Only
//! requests about dead letters reach Postgres, over two separate connections, and an order to a breaker writes one row there.
//! An unknown path is a JSON 404.

mod breakers;
mod dlq;
mod health;
mod metrics;
mod plugins;

use std::io;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;

use crate::store::Store;
use crate::telemetry::{Metrics, Status};

pub use dlq::Letters;

/// The sources of the API's answers.
#[derive(Clone, Debug)]
pub struct State {
    /// The host's health.
    pub status: Status,
    /// The host's metrics.
    pub metrics: Arc<Metrics>,
    /// The receiver of orders to breakers.
    pub desk: Desk,
    /// Dead letters; none without a configured database.
    pub letters: Option<Letters>,
}

/// The store of orders, once the host is connected to it.
#[derive(Clone, Debug, Default)]
pub struct Desk(Arc<OnceLock<Store>>);

impl Desk {
    /// Postgres is connected: orders can be stored.
    pub fn open(&self, store: Store) {
        // It is set only once.
        let _ = self.0.set(store);
    }

    pub(super) fn store(&self) -> Option<&Store> {
        self.0.get()
    }
}

/// All routes of the API.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/api/health/kafka", get(health::kafka))
        .route("/api/health/detailed", get(health::detailed))
        .route("/api/metrics", get(metrics::text))
        .route("/api/metrics/json", get(metrics::json))
        .route("/api/plugins", get(plugins::list))
        .route("/api/plugins/history", get(plugins::history))
        .route("/api/breakers", get(breakers::list).post(breakers::order))
        .route("/api/dlq", get(dlq::list))
        .route("/api/dlq/export", get(dlq::export))
        .route(
            "/api/dlq/import",
            post(dlq::import).layer(DefaultBodyLimit::max(dlq::IMPORT_BYTES_MAX)),
        )
        .route("/api/dlq/replay", post(dlq::replay))
        .route("/api/dlq/cancel", post(dlq::cancel))
        .route("/api/dlq/discard", post(dlq::discard))
        .route("/api/dlq/{id}", get(dlq::show))
        .route(
            "/api/dlq/{id}/edit",
            post(dlq::edit).layer(DefaultBodyLimit::max(dlq::EDIT_BYTES_MAX)),
        )
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(state)
}

/// Serves the API until `shutdown`, then finishes the running requests.
///
/// # Errors
/// Those of the listener.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

async fn not_found(uri: Uri) -> Response {
    let body = json!({ "status": "error", "message": format!("nothing is at {}", uri.path()) });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

async fn not_allowed() -> Response {
    let body = json!({ "status": "error", "message": "this path doesn't support this method" });
    (StatusCode::METHOD_NOT_ALLOWED, Json(body)).into_response()
}

#[cfg(test)]
mod tests;
