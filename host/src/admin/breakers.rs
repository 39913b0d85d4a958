//! `/api/breakers`: the state of the routes' breakers on this host, and orders to breakers, which apply to all hosts.

use axum::extract::State as Shared;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use serde_json::json;
use taskhost_core::timestamp;

use super::State;
use crate::store::OrderedState;

pub(super) async fn list(Shared(state): Shared<State>) -> Response {
    let now = state.status.snapshot();
    let all: Vec<_> = now.breakers.values().collect();
    Json(json!({ "breakers": all })).into_response()
}

/// The order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    route: String,
    /// `open`, `closed` or `held-closed`.
    state: String,
    reason: String,
    by: String,
}

pub(super) async fn order(
    Shared(state): Shared<State>,
    order: Result<Json<Order>, JsonRejection>,
) -> Response {
    let order = match order {
        Ok(Json(order)) => order,
        Err(error) => return failed(error.status(), &error.body_text()),
    };
    let Some(ordered) = OrderedState::from_name(&order.state) else {
        let expected = "state is `open`, `closed` or `held-closed`";
        return failed(StatusCode::BAD_REQUEST, expected);
    };
    if order.reason.trim().is_empty() || order.by.trim().is_empty() {
        return failed(
            StatusCode::BAD_REQUEST,
            "reason and by must say why, and who",
        );
    }
    let snapshot = state.status.snapshot();
    if !snapshot
        .routes
        .iter()
        .any(|route| route.name == order.route)
    {
        let unknown = format!("there is no route {}", order.route);
        return failed(StatusCode::NOT_FOUND, &unknown);
    }
    let Some(store) = state.desk.store() else {
        return failed(
            StatusCode::SERVICE_UNAVAILABLE,
            "Postgres is not connected yet",
        );
    };
    let done = store.order_breaker(&order.route, ordered, &order.by, &order.reason);
    match done.await {
        Ok(done) => Json(json!({
            "route": done.route,
            "state": done.state.as_str(),
            "since": timestamp::to_rfc3339(done.since),
            "by": done.by,
            "reason": done.reason,
        }))
        .into_response(),
        Err(error) => failed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn failed(code: StatusCode, message: &str) -> Response {
    let body = json!({ "status": "error", "message": message });
    (code, Json(body)).into_response()
}
