//! Changes of several dead letters at once: replay, cancel, discard.

use std::collections::BTreeMap;

use axum::extract::State as Shared;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{Answer, Refusal, letters_of, wanted};
use crate::admin::{Letters, State};
use crate::letters;
use crate::store::{self, Filter, Place};

/// Dead letters in one statement of a request.
const IDS_MAX: u32 = 500;

/// The chosen dead letters, and the change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Change {
    #[serde(default)]
    ids: Vec<Uuid>,
    filter: Option<BTreeMap<String, String>>,
    by: String,
    #[serde(default)]
    reason: String,
    #[serde(default, rename = "dryRun")]
    dry_run: bool,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    republish: bool,
}

/// The kind of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Replay,
    Cancel,
    Discard,
}

impl Doing {
    /// The states of a filter that names none: those that the change applies to.
    fn states(self, force: bool) -> Vec<store::State> {
        match self {
            Self::Cancel => vec![store::State::Replaying],
            Self::Replay | Self::Discard if force => vec![store::State::Open, store::State::Parked],
            Self::Replay | Self::Discard => vec![store::State::Open],
        }
    }

    fn told(self) -> (StatusCode, &'static str) {
        match self {
            // The dead letters' states show the result.
            Self::Replay => (StatusCode::ACCEPTED, "requested"),
            Self::Cancel => (StatusCode::OK, "cancelled"),
            Self::Discard => (StatusCode::OK, "discarded"),
        }
    }
}

impl Change {
    /// The chosen dead letters: ids, or a filter of those that can be changed.
    fn filter(&self, doing: Doing) -> Result<Option<Filter>, Refusal> {
        match (&self.filter, self.ids.is_empty()) {
            (Some(parts), true) => {
                let parts = parts
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()));
                let mut filter = letters::filter(parts).map_err(Refusal::Wrong)?;
                if filter.states.is_empty() {
                    filter.states = doing.states(self.force);
                }
                Ok(Some(filter))
            }
            (None, false) => Ok(None),
            _ => Err(Refusal::Wrong("name either ids or a filter".to_owned())),
        }
    }
}

/// The chosen dead letters, some at a time, in the order in which they failed.
struct Walk<'a> {
    letters: &'a Letters,
    filter: Option<Filter>,
    ids: Vec<Uuid>,
    after: Option<Place>,
}

impl Walk<'_> {
    async fn count(&self) -> Result<i64, store::Error> {
        match &self.filter {
            None => Ok(i64::try_from(self.ids.len()).unwrap_or(i64::MAX)),
            Some(filter) => {
                let Letters { store, group, .. } = self.letters;
                store.count_dead_letters(group, filter).await
            }
        }
    }

    async fn next(&mut self) -> Result<Vec<Uuid>, store::Error> {
        let Some(filter) = &self.filter else {
            let most = usize::try_from(IDS_MAX)
                .unwrap_or(usize::MAX)
                .min(self.ids.len());
            return Ok(self.ids.drain(..most).collect());
        };
        let Letters { store, group, .. } = self.letters;
        let places = store
            .dead_letter_places(group, filter, self.after.as_ref(), IDS_MAX)
            .await?;
        self.after = places.last().copied().or(self.after);
        Ok(places.into_iter().map(|place| place.id).collect())
    }
}

impl Letters {
    /// Changes some of them. Returns how many were changed.
    async fn change(
        &self,
        change: &Change,
        doing: Doing,
        ids: &[Uuid],
    ) -> Result<usize, store::Error> {
        let (Self { store, group, .. }, by) = (self, &*change.by);
        match doing {
            Doing::Replay => {
                let (force, republish) = (change.force, change.republish);
                let some = store
                    .request_replays(group, ids, force, republish, by)
                    .await?;
                if let Err(error) = store.notify(&some.keys).await {
                    tracing::debug!(%error, "the hosts can't be notified of replays; they find them within a second");
                }
                Ok(some.ids.len())
            }
            Doing::Cancel => {
                let most = self.replays_max;
                Ok(store.cancel_replays(group, ids, most, by).await?.len())
            }
            Doing::Discard => {
                let discarded = store
                    .discard_dead_letters(group, ids, by, &change.reason)
                    .await?;
                Ok(discarded.len())
            }
        }
    }
}

/// Requests replays and doesn't wait for them.
pub(in crate::admin) async fn replay(
    Shared(state): Shared<State>,
    body: Result<Json<Change>, JsonRejection>,
) -> Answer {
    change(&state, body, Doing::Replay).await
}

/// Cancels replays that are not decided yet.
pub(in crate::admin) async fn cancel(
    Shared(state): Shared<State>,
    body: Result<Json<Change>, JsonRejection>,
) -> Answer {
    change(&state, body, Doing::Cancel).await
}

pub(in crate::admin) async fn discard(
    Shared(state): Shared<State>,
    body: Result<Json<Change>, JsonRejection>,
) -> Answer {
    change(&state, body, Doing::Discard).await
}

async fn change(state: &State, body: Result<Json<Change>, JsonRejection>, doing: Doing) -> Answer {
    let letters = letters_of(state)?;
    let Json(change) = wanted(body)?;
    if doing == Doing::Discard && change.reason.trim().is_empty() {
        return Err(Refusal::Wrong("a discard needs a reason".to_owned()));
    }
    let mut walk = Walk {
        letters,
        filter: change.filter(doing)?,
        ids: change.ids.clone(),
        after: None,
    };
    if change.dry_run {
        let count = walk.count().await?;
        return Ok(Json(json!({ "dryRun": true, "count": count })).into_response());
    }
    let (mut named, mut done) = (0, 0);
    loop {
        let ids = walk.next().await?;
        if ids.is_empty() {
            break;
        }
        named += ids.len();
        done += letters.change(&change, doing, &ids).await?;
    }
    let (code, what) = doing.told();
    Ok((code, Json(json!({ what: done, "notTaken": named - done }))).into_response())
}
