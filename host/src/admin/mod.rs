//! The HTTP API: health, metrics, plugins, breakers and dead letters.
//!
//! Answers come from [`Status`](crate::telemetry::Status) and [`Metrics`](crate::telemetry::Metrics), which the host's parts write; no request reaches Kafka or a plugin. Only
//! requests about dead letters reach Postgres, over two separate connections, and an order to a breaker writes one row there.
//! An unknown path is a JSON 404.

mod breakers;
mod dlq;
mod health;
mod metrics;
mod plugins;
mod state;

use std::io;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;

pub use state::{Desk, Letters, State};

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
