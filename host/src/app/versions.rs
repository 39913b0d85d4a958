//! The catalog's view of the store: what runs is decided in Postgres.

use std::sync::Arc;

use futures::FutureExt as _;

use crate::plugin::{
    Activated, Activation, Answer, NewActivation, RolledBack, SavedVersion, Versions, VersionsError,
};
use crate::store::{self, Store};

impl Versions for Store {
    fn current<'a>(&'a self, route: &'a str) -> Answer<'a, Option<Activation>> {
        async move {
            Self::current(self, route)
                .await
                .map_err(|error| failed(&error))
        }
        .boxed()
    }

    fn is_superseded<'a>(
        &'a self,
        route: &'a str,
        digest: &'a str,
        config: &'a str,
    ) -> Answer<'a, bool> {
        async move {
            Self::is_superseded(self, route, digest, config)
                .await
                .map_err(|error| failed(&error))
        }
        .boxed()
    }

    fn rolled_back<'a>(
        &'a self,
        route: &'a str,
        digest: &'a str,
        config: &'a str,
    ) -> Answer<'a, Option<RolledBack>> {
        async move {
            Self::rolled_back(self, route, digest, config)
                .await
                .map_err(|error| failed(&error))
        }
        .boxed()
    }

    fn before<'a>(&'a self, route: &'a str, number: i64) -> Answer<'a, Option<Activation>> {
        async move {
            Self::before(self, route, number)
                .await
                .map_err(|error| failed(&error))
        }
        .boxed()
    }

    fn save(&self, version: SavedVersion) -> Answer<'_, ()> {
        async move {
            let SavedVersion {
                digest,
                name,
                version,
                bytes,
            } = version;
            Self::save(self, &digest, &name, &version, &bytes)
                .await
                .map_err(|error| failed(&error))
        }
        .boxed()
    }

    fn bytes<'a>(&'a self, digest: &'a str) -> Answer<'a, Option<Arc<[u8]>>> {
        async move {
            Self::bytes(self, digest)
                .await
                .map_err(|error| failed(&error))
        }
        .boxed()
    }

    fn activate(&self, new: NewActivation) -> Answer<'_, Activated> {
        async move {
            Self::activate(self, &new)
                .await
                .map_err(|error| failed(&error))
        }
        .boxed()
    }
}

fn failed(error: &store::Error) -> VersionsError {
    VersionsError {
        reason: error.to_string(),
    }
}
