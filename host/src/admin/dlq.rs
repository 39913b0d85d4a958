//! `/api/dlq`: the operations of `taskhost dlq` over HTTP.
//!
//! A change is a POST with a JSON body that says who makes it. The requests use their own pool of Postgres connections;
//! while Postgres is away they answer 503.

mod change;

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State as Shared};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use taskhost_core::record::Message;
use uuid::Uuid;

use super::{Letters, State};
use crate::letters;
use crate::store::{self, Edited, Filter, Imported, Key, Place, StoredDeadLetter};

pub(super) use change::{cancel, discard, replay};

/// The most bytes in an edit's body: the largest message in its longest form.
pub(super) const EDIT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most bytes in an import's body.
pub(super) const IMPORT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Dead letters in a page: by default, and at most.
const LIMIT: (u32, u32) = (50, 1000);

/// The most dead letters in a page of an export: each may have megabytes.
const EXPORT_MAX: u32 = 50;

/// The header with the place of an export's next page.
const NEXT: HeaderName = HeaderName::from_static("taskhost-next");

/// Why a request is refused.
pub(super) enum Refusal {
    /// There is no database.
    NoDatabase,
    /// The request is wrong.
    Wrong(String),
    /// There is no such dead letter.
    Missing(Uuid),
    /// The dead letter's state doesn't allow it.
    Conflict(String),
    /// Postgres failed or is away.
    Store(store::Error),
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, message) = match self {
            Self::NoDatabase => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no database is configured".to_owned(),
            ),
            Self::Wrong(why) => (StatusCode::BAD_REQUEST, why),
            Self::Missing(id) => (
                StatusCode::NOT_FOUND,
                format!("there is no dead letter {id}"),
            ),
            Self::Conflict(why) => (StatusCode::CONFLICT, why),
            Self::Store(error) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("postgres: {error}"),
            ),
        };
        (code, Json(json!({ "status": "error", "message": message }))).into_response()
    }
}

type Answer = Result<Response, Refusal>;

fn letters_of(state: &State) -> Result<&Letters, Refusal> {
    state.letters.as_ref().ok_or(Refusal::NoDatabase)
}

/// A filter, the beginning of a page, and its length.
struct Asked {
    filter: Filter,
    after: Option<Place>,
    limit: u32,
}

fn asked(mut query: BTreeMap<String, String>, (usual, most): (u32, u32)) -> Result<Asked, Refusal> {
    let limit = match query.remove("limit") {
        None => usual,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=most).contains(limit))
            .ok_or_else(|| Refusal::Wrong(format!("limit must be a number from 1 to {most}")))?,
    };
    let after = query
        .remove("after")
        .map(|text| {
            letters::place_of(&text)
                .ok_or_else(|| Refusal::Wrong("after must be the `next` of a page".to_owned()))
        })
        .transpose()?;
    let parts = query
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let filter = letters::filter(parts).map_err(Refusal::Wrong)?;
    Ok(Asked {
        filter,
        after,
        limit,
    })
}

pub(super) async fn list(
    Shared(state): Shared<State>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Answer {
    let (page, next) = page(letters_of(&state)?, asked(query, LIMIT)?).await?;
    let items: Vec<Value> = page
        .iter()
        .map(|(stored, _)| letters::summary(stored))
        .collect();
    Ok(Json(json!({ "items": items, "next": next })).into_response())
}

/// The page that was asked for, and the place of the next one.
async fn page(
    letters: &Letters,
    asked: Asked,
) -> Result<(Vec<(StoredDeadLetter, Place)>, Option<String>), Refusal> {
    let Letters { store, group, .. } = letters;
    let (filter, after) = (&asked.filter, asked.after.as_ref());
    let mut page = store
        .dead_letter_page(group, filter, after, asked.limit + 1)
        .await?;
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let more = page.len() > limit;
    page.truncate(limit);
    let last = page.last().filter(|_| more);
    let next = last.map(|(_, place)| letters::place_text(place));
    Ok((page, next))
}

pub(super) async fn show(Shared(state): Shared<State>, Path(id): Path<String>) -> Answer {
    let Letters { store, group, .. } = letters_of(&state)?;
    let id = id_of(&id)?;
    let (stored, edits) = store
        .show_dead_letter(group, id)
        .await?
        .ok_or(Refusal::Missing(id))?;
    Ok(Json(letters::whole(&stored, &edits)).into_response())
}

fn id_of(text: &str) -> Result<Uuid, Refusal> {
    Uuid::parse_str(text)
        .map_err(|_| Refusal::Wrong(format!("{text:?} is not the id of a dead letter")))
}

pub(super) async fn export(
    Shared(state): Shared<State>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Answer {
    let Letters { store, group, .. } = letters_of(&state)?;
    let (page, next) = page(letters_of(&state)?, asked(query, (EXPORT_MAX, EXPORT_MAX))?).await?;
    let mut text = String::new();
    for (stored, _) in &page {
        let edits = match stored.edits {
            0 => Vec::new(),
            _ => store
                .show_dead_letter(group, stored.letter.id)
                .await?
                .map(|(_, edits)| edits)
                .unwrap_or_default(),
        };
        text.push_str(&format!("{}\n", letters::whole(stored, &edits)));
    }
    let mut headers = HeaderMap::new();
    if let Some(next) = next.and_then(|next| next.parse().ok()) {
        headers.insert(NEXT, next);
    }
    Ok((headers, [(CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

pub(super) async fn import(
    Shared(state): Shared<State>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let Letters { store, group, .. } = letters_of(&state)?;
    // A page of another origin can't send this type without asking first.
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    if kind != Some("application/x-ndjson") {
        return Err(Refusal::Wrong(
            "the body must be application/x-ndjson, like an export".to_owned(),
        ));
    }
    let text = std::str::from_utf8(&body).map_err(|error| Refusal::Wrong(error.to_string()))?;
    let mut read = Vec::new();
    for (number, line) in (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let line = letters::from_line(line)
            .map_err(|why| Refusal::Wrong(format!("nothing was imported: line {number}: {why}")))?;
        read.push(line);
    }
    let (count, mut new, mut homeless) = (read.len(), 0, 0);
    for line in read {
        let key = Key::new(group.clone(), line.owner);
        let id = line.letter.id;
        let imported = store
            .import_dead_letters(&key, &[(line.letter, "over HTTP".to_owned())])
            .await?;
        match imported {
            Imported::New(rows) => new += rows,
            Imported::NoSuchPartition => homeless += 1,
        }
        if let Some(value) = line.edited {
            let reason = "as it was edited before it was exported";
            store
                .edit_dead_letter(group, id, 0, value.as_deref(), "import", reason)
                .await?;
        }
    }
    Ok(Json(json!({ "read": count, "new": new, "withoutPartition": homeless })).into_response())
}

/// Another payload.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    /// `{"text"}`, `{"hex"}`, or null for a tombstone.
    value: Value,
    by: String,
    reason: String,
    #[serde(default)]
    force: bool,
}

pub(super) async fn edit(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    body: Result<Json<Edit>, JsonRejection>,
) -> Answer {
    let Letters {
        store,
        group,
        routes,
        ..
    } = letters_of(&state)?;
    let (Json(edit), id) = (wanted(body)?, id_of(&id)?);
    let value = letters::from_bytes(&edit.value)
        .map_err(|why| Refusal::Wrong(format!("value is {why}")))?;
    let (stored, _) = store
        .show_dead_letter(group, id)
        .await?
        .ok_or(Refusal::Missing(id))?;
    if !edit.force {
        let message = Message {
            value: value.clone(),
            ..Message::clone(&stored.letter.message)
        };
        letters::check(&message, &stored.owner.partition.topic, routes).map_err(|why| {
            Refusal::Conflict(format!(
                "nothing changed: this payload would be a dead letter again: {} ({}); \"force\": true takes it anyway",
                why.reason, why.code
            ))
        })?;
    }
    let edited = store
        .edit_dead_letter(
            group,
            id,
            stored.edits,
            value.as_deref(),
            &edit.by,
            &edit.reason,
        )
        .await?;
    match edited {
        Edited::Edited => Ok(Json(json!({ "id": id, "edits": stored.edits + 1 })).into_response()),
        Edited::Missing => Err(Refusal::Missing(id)),
        Edited::Raced => Err(Refusal::Conflict(
            "somebody else edited it meanwhile".to_owned(),
        )),
        Edited::Refused(state) => Err(Refusal::Conflict(format!(
            "the dead letter is {}; only one that is open or parked can be edited",
            state.name()
        ))),
    }
}

fn wanted<T>(body: Result<Json<T>, JsonRejection>) -> Result<Json<T>, Refusal> {
    body.map_err(|why| Refusal::Wrong(why.body_text()))
}
