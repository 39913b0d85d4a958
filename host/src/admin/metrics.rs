//! `/api/metrics` for Prometheus, `/api/metrics/json` in the shape of prom-client.

use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};

use super::State;
use crate::telemetry::metrics::TEXT_CONTENT_TYPE;

pub(super) async fn text(Shared(state): Shared<State>) -> Response {
    ([(CONTENT_TYPE, TEXT_CONTENT_TYPE)], state.metrics.text()).into_response()
}

pub(super) async fn json(Shared(state): Shared<State>) -> Response {
    Json(state.metrics.json()).into_response()
}
