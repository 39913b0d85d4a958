//! Activations and versions in memory, for tests and for hosts without a database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::ready;

use super::versions::{
    Activated, Activation, ActivationKind, Answer, NewActivation, RolledBack, SavedVersion,
    Versions, VersionsError,
};

/// The store in memory. Its content ends with the process.
#[derive(Debug, Default)]
pub struct InMemory {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    activations: HashMap<String, Vec<Activation>>,
    versions: HashMap<String, SavedVersion>,
    /// By route, digest and configuration, which is empty for any.
    rolled_back: HashMap<(String, String, String), RolledBack>,
    unavailable: bool,
}

impl InMemory {
    /// Nothing is activated yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every call fail until it is set back, like a database that is away.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.lock().unavailable = unavailable;
    }

    /// Every activation of a route, oldest first.
    pub fn history(&self, route: &str) -> Vec<Activation> {
        self.lock()
            .activations
            .get(route)
            .cloned()
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<T: Send + 'static>(&self, work: impl FnOnce(&mut Kept) -> T) -> Answer<'_, T> {
        let mut kept = self.lock();
        let answer = match kept.unavailable {
            true => Err(VersionsError {
                reason: "it is away".to_owned(),
            }),
            false => Ok(work(&mut kept)),
        };
        ready(answer).boxed()
    }
}

impl Versions for InMemory {
    fn current<'a>(&'a self, route: &'a str) -> Answer<'a, Option<Activation>> {
        self.answer(|kept| {
            kept.activations
                .get(route)
                .and_then(|all| all.last())
                .cloned()
        })
    }

    fn is_superseded<'a>(
        &'a self,
        route: &'a str,
        digest: &'a str,
        config: &'a str,
    ) -> Answer<'a, bool> {
        let same = |one: &Activation| one.digest == digest && *one.config == *config;
        self.answer(|kept| {
            let all = kept
                .activations
                .get(route)
                .map(Vec::as_slice)
                .unwrap_or_default();
            all.iter().any(same) && !all.last().is_some_and(same)
        })
    }

    fn rolled_back<'a>(
        &'a self,
        route: &'a str,
        digest: &'a str,
        config: &'a str,
    ) -> Answer<'a, Option<RolledBack>> {
        self.answer(|kept| kept.rolled_back(route, digest, config).cloned())
    }

    fn before<'a>(&'a self, route: &'a str, number: i64) -> Answer<'a, Option<Activation>> {
        self.answer(|kept| {
            let all = kept.activations.get(route)?;
            let tripped = all.iter().find(|one| one.number == number)?;
            let differs = |one: &&Activation| {
                (&one.digest, &one.config) != (&tripped.digest, &tripped.config)
                    && kept.rolled_back(route, &one.digest, &one.config).is_none()
            };
            let earlier = all.iter().rev().filter(|one| one.number < number);
            earlier.into_iter().find(differs).cloned()
        })
    }

    fn save(&self, version: SavedVersion) -> Answer<'_, ()> {
        self.answer(|kept| {
            kept.versions
                .entry(version.digest.clone())
                .or_insert(version);
        })
    }

    fn bytes<'a>(&'a self, digest: &'a str) -> Answer<'a, Option<Arc<[u8]>>> {
        self.answer(|kept| {
            kept.versions
                .get(digest)
                .map(|version| version.bytes.clone())
        })
    }

    fn activate(&self, new: NewActivation) -> Answer<'_, Activated> {
        self.answer(|kept| {
            let all = kept.activations.entry(new.route.clone()).or_default();
            if all.last().map_or(0, |last| last.number) != new.seen {
                return Activated::Lost(all.last().cloned());
            }
            let NewActivation {
                route,
                seen,
                digest,
                config,
                by,
                reason,
                kind,
            } = new;
            let tripped = all.last().cloned();
            let rolled = |one: Activation| {
                let config = match one.digest == digest {
                    true => one.config.to_string(),
                    false => String::new(),
                };
                let key = (route.clone(), one.digest.clone(), config);
                let told = RolledBack {
                    digest: one.digest,
                    activation: seen,
                    since: now(),
                    by: by.clone(),
                    reason: reason.clone(),
                };
                (key, told)
            };
            match kind {
                ActivationKind::Ordinary => {}
                ActivationKind::Rollback => kept.rolled_back.extend(tripped.map(rolled)),
                ActivationKind::Forced => kept.rolled_back.retain(|(on, what, with), _| {
                    (on, what) != (&route, &digest) || !(with.is_empty() || **with == *config)
                }),
            }
            all.push(Activation {
                route,
                number: seen + 1,
                digest,
                config,
                since: now(),
                by,
                reason,
                probation: kind == ActivationKind::Ordinary && seen > 0,
                rollback_of: (kind == ActivationKind::Rollback).then_some(seen),
            });
            all.last()
                .cloned()
                .map_or(Activated::Lost(None), Activated::Done)
        })
    }
}

impl Kept {
    fn rolled_back(&self, route: &str, digest: &str, config: &str) -> Option<&RolledBack> {
        ["", config].into_iter().find_map(|config| {
            let key = (route.to_owned(), digest.to_owned(), config.to_owned());
            self.rolled_back.get(&key)
        })
    }
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
