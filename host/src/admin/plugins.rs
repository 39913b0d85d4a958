//! `/api/plugins`: what runs since when, and what was refused and why.

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};

use super::State;

pub(super) async fn list(Shared(state): Shared<State>) -> Response {
    let now = state.status.snapshot();
    let routes: Vec<Value> = now
        .routes
        .iter()
        .map(|route| {
            json!({
                "route": route.name,
                "topic": route.real_topic,
                "taskType": route.task_type,
                "plugin": route.plugin,
                "active": now.plugins.get(&route.name),
            })
        })
        .collect();
    Json(json!({ "routes": routes, "refused": now.refused })).into_response()
}
