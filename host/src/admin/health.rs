//! `/api/health/kafka`, `/api/health/detailed`, `/livez`, `/readyz`.

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;

use super::State;
use crate::telemetry::health::{self, Report};

pub(super) async fn kafka(Shared(state): Shared<State>) -> Response {
    answer(&health::kafka(&state.status.snapshot(), &state.metrics))
}

pub(super) async fn detailed(Shared(state): Shared<State>) -> Response {
    answer(&health::detailed(&state.status.snapshot(), &state.metrics))
}

/// The process answers. A liveness probe may ask for nothing more.
pub(super) async fn live() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

pub(super) async fn ready(Shared(state): Shared<State>) -> Response {
    let missing = health::missing(&state.status.snapshot());
    let status = if missing.is_empty() { "ok" } else { "error" };
    let body = Json(json!({ "status": status, "missing": missing }));
    (code(missing.is_empty()), body).into_response()
}

fn answer(report: &Report) -> Response {
    (code(report.is_ok()), Json(report)).into_response()
}

fn code(ok: bool) -> StatusCode {
    if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
