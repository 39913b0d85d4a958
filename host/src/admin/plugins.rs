//! `/api/plugins`: the active versions with their start, and the refusals with their reason. `/api/plugins/history`: the
//! earlier activations.

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
                "rolledBack": now.rolled_back.get(&route.name).map(|all| &all[..]).unwrap_or_default(),
            })
        })
        .collect();
    Json(json!({ "routes": routes, "refused": now.refused })).into_response()
}

pub(super) async fn history(Shared(state): Shared<State>) -> Response {
    let now = state.status.snapshot();
    let all: Vec<_> = now
        .routes
        .iter()
        .flat_map(|route| {
            now.history
                .get(&route.name)
                .into_iter()
                .flat_map(|past| past.iter())
        })
        .collect();
    Json(json!({ "activations": all })).into_response()
}
