//! Follows the activations: reads the current one of each route and makes its version active on this host.
//!
//! Activations are read at intervals, and at once after a hint. A lost hint costs only time, never a wrong decision: a
//! batch compares its activation with the current one in its own transaction. A version that can't be loaded here (it is
//! refused, or its stored bytes are damaged) is reported once, in the log and among the refusals. Until it can be loaded,
//! no batch of the route commits on this host.

use std::sync::{Arc, PoisonError};

use super::catalog::{Active, Catalog, CatalogError, Slot, blocking};
use super::component::{Component, digest};
use super::versions::Activation;

impl Catalog {
    /// Signals that an activation may have changed, and wakes [`Catalog::hinted`].
    pub fn hint(&self) {
        self.hinted.notify_one();
    }

    /// Waits for a hint; several hints meanwhile count as one.
    pub async fn hinted(&self) {
        self.hinted.notified().await;
    }

    /// Reads a route's activation and makes its version active here.
    ///
    /// # Errors
    /// If it can't be read, or the version can't run here. The current version stays active.
    pub async fn refresh(&self, route: usize) -> Result<Option<Arc<Active>>, CatalogError> {
        let Some(slot) = self.slots.get(route) else {
            return Ok(None);
        };
        let _turn = slot.turn.lock().await;
        let Some(activation) = self.versions.current(&slot.settings.route.name).await? else {
            return Ok(None);
        };
        let current = slot.active.load_full();
        if current
            .as_ref()
            .is_some_and(|active| active.is(&activation))
        {
            slot.follows();
            return Ok(current);
        }
        match self.follow(route, slot, &activation).await {
            Ok(active) => {
                slot.follows();
                Ok(Some(active))
            }
            Err(error) => {
                self.cannot_follow(route, &activation, &error);
                Err(error)
            }
        }
    }

    /// Reads every route's activation. Problems are logged; the route keeps its version.
    pub async fn refresh_all(&self) {
        for (number, slot) in self.slots.iter().enumerate() {
            // Problems of the version itself were logged when they were found.
            if let Err(error @ CatalogError::Versions(_)) = self.refresh(number).await {
                let route = &slot.settings.route.name;
                tracing::warn!(route, %error, "the active plugin version can't be read; the current one stays active");
            }
        }
    }

    /// Why a route's current activation can't be followed on this host, if it can't.
    pub fn behind(&self, route: usize) -> Option<CatalogError> {
        let slot = self.slots.get(route)?;
        let behind = slot.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind.clone()
    }

    /// The component of a digest: in use, compiled before, or from the stored bytes.
    ///
    /// # Errors
    /// If no such version is stored, its stored bytes are damaged, or it can't run here.
    pub async fn load(&self, digest: &str) -> Result<Arc<Component>, CatalogError> {
        let (library, wanted) = (self.library.clone(), digest.to_owned());
        if let Some(component) = blocking(move || Ok(library.find(&wanted))).await? {
            return Ok(component);
        }
        let bytes = self.stored(digest).await?;
        let library = self.library.clone();
        Ok(blocking(move || library.open(&bytes)).await?)
    }

    /// The stored bytes of a digest, checked.
    pub(super) async fn stored(&self, wanted: &str) -> Result<Arc<[u8]>, CatalogError> {
        let Some(bytes) = self.versions.bytes(wanted).await? else {
            return Err(CatalogError::Unknown {
                digest: wanted.to_owned(),
            });
        };
        let found = digest(&bytes);
        match found == wanted {
            true => Ok(bytes),
            false => Err(CatalogError::Damaged {
                digest: wanted.to_owned(),
                found,
            }),
        }
    }

    /// Makes an activation's version active. The caller holds the slot's lock.
    async fn follow(
        &self,
        route: usize,
        slot: &Slot,
        activation: &Activation,
    ) -> Result<Arc<Active>, CatalogError> {
        let component = self.load(&activation.digest).await?;
        let descriptor = self
            .describe(route, component.clone(), activation.config.clone())
            .await?;
        Ok(self.swap(slot, activation, component, descriptor))
    }

    /// Logs once why an activation can't be followed.
    fn cannot_follow(&self, route: usize, activation: &Activation, error: &CatalogError) {
        let Some(slot) = self.slots.get(route) else {
            return;
        };
        if matches!(error, CatalogError::Versions(_)) {
            return;
        }
        {
            let mut behind = slot.behind.lock().unwrap_or_else(PoisonError::into_inner);
            if behind.as_ref() == Some(error) {
                return;
            }
            *behind = Some(error.clone());
        }
        let (name, number) = (&slot.settings.route.name, activation.number);
        tracing::error!(
            route = name,
            activation = number,
            digest = activation.digest,
            %error,
            "the active plugin version can't be loaded; this host commits nothing of the route until it can"
        );
        let (from, digest) = (format!("activation {number}"), activation.digest.clone());
        self.record_refusal(route, &from, Some(digest), error);
    }
}

impl Slot {
    fn follows(&self) {
        *self.behind.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
