//! The HTTP API: health, metrics, and what runs.
//!
//! Every answer is made from what the host's parts wrote into [`Status`] and [`Metrics`]; a request never
//! reaches Kafka, Postgres or a plugin. Whatever is not found is a JSON 404.

mod health;
mod metrics;
mod plugins;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use crate::telemetry::{Metrics, Status};

/// What the API reads from.
#[derive(Clone, Debug)]
pub struct State {
    /// How the host is.
    pub status: Status,
    /// What it counted.
    pub metrics: Arc<Metrics>,
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
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(state)
}

/// Serves the API until `shutdown`, then finishes the requests that are on their way.
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
    let body = json!({ "status": "error", "message": "this address answers another method" });
    (StatusCode::METHOD_NOT_ALLOWED, Json(body)).into_response()
}

#[cfg(test)]
mod tests;
