//! Activates a version: compile, configure, check, save, compare-and-set, swap.
//!
//! Every activation (by a file, a command, a rollback) comes through here and ends as one compare-and-set on the route's
//! activation number. Nothing is saved or changed before every check has passed.

use std::sync::Arc;

use taskhost_core::timestamp;

use super::catalog::{Catalog, CatalogError, blocking};
use super::component::digest;
use super::refused::Refused;
use super::versions::{Activated, Activation, ActivationKind, NewActivation, SavedVersion};

/// A component that is offered for a route.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The route's number.
    pub route: usize,
    /// The component.
    pub bytes: Arc<[u8]>,
    /// Its configuration: JSON text.
    pub config: Arc<str>,
    /// The file, or another source.
    pub file: String,
    /// Who offers it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Whether a version that was replaced before is accepted: only from a command, never from a file.
    pub force: bool,
    /// Whether a version that was rolled back is accepted: only from a command that forces it.
    pub despite_rollback: bool,
    /// The number of the activation to replace, 0 for none. Without it the offer replaces the current activation.
    pub seen: Option<i64>,
}

/// An order to activate a stored version.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Who.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
    /// As in an [`Offer`].
    pub despite_rollback: bool,
    /// As in an [`Offer`].
    pub seen: Option<i64>,
}

/// The result of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// It was already the current one.
    Unchanged(Activation),
    /// It is the current one now.
    Activated(Activation),
    /// Somebody else activated another version meanwhile; that one is current.
    Lost(Option<Activation>),
}

impl Catalog {
    /// Offers a component; a refusal is remembered, logged and reported.
    ///
    /// # Errors
    /// Why it is refused, or that the versions can't be reached. The current version stays active.
    pub async fn offer(&self, offer: Offer) -> Result<Offered, CatalogError> {
        let (route, file, digest) = (offer.route, offer.file.clone(), digest(&offer.bytes));
        let offered = self.try_offer(offer).await;
        if let Err(CatalogError::Refused(refused)) = &offered {
            self.record_refusal(route, &file, Some(digest), refused);
        }
        offered
    }

    /// Activates a stored version: a rollback, or a command that names a digest.
    ///
    /// # Errors
    /// If no such version is stored, its stored bytes are damaged, it is refused, or the versions can't be reached.
    pub async fn activate_known(
        &self,
        route: usize,
        digest: &str,
        config: Arc<str>,
        wish: Wish<'_>,
    ) -> Result<Offered, CatalogError> {
        let bytes = self.stored(digest).await?;
        let (by, reason) = (wish.by.to_owned(), wish.reason.to_owned());
        let file = format!("version {digest}");
        self.offer(Offer {
            route,
            bytes,
            config,
            file,
            by,
            reason,
            force: true,
            despite_rollback: wish.despite_rollback,
            seen: wish.seen,
        })
        .await
    }

    /// Activates the previous version again, because this activation tripped the route's breaker on probation. A
    /// compare-and-set on its number makes it happen once, however many hosts saw it. None if there is no previous
    /// version.
    ///
    /// # Errors
    /// If the previous version can't run here, or the versions can't be reached.
    pub async fn roll_back(
        &self,
        route: usize,
        tripped: i64,
        by: &str,
        reason: &str,
    ) -> Result<Option<Offered>, CatalogError> {
        let Some(slot) = self.slots.get(route) else {
            return Ok(None);
        };
        let name = &slot.settings.route.name;
        let Some(before) = self.versions.before(name, tripped).await? else {
            return Ok(None);
        };
        let component = self.load(&before.digest).await?;
        let (code, config) = (component.clone(), before.config.clone());
        let descriptor = self.describe(route, code, config).await?;
        let new = NewActivation {
            route: name.clone(),
            seen: tripped,
            digest: before.digest,
            config: before.config,
            by: by.to_owned(),
            reason: reason.to_owned(),
            kind: ActivationKind::Rollback,
        };
        let turn = slot.turn.lock().await;
        match self.versions.activate(new).await? {
            Activated::Done(activation) => {
                self.swap(slot, &activation, component, descriptor);
                Ok(Some(Offered::Activated(activation)))
            }
            Activated::Lost(current) => {
                drop(turn);
                self.refresh(route).await?;
                Ok(Some(Offered::Lost(current)))
            }
        }
    }

    /// Offers a component without remembering a refusal.
    pub(super) async fn try_offer(&self, offer: Offer) -> Result<Offered, CatalogError> {
        let Some(slot) = self.slots.get(offer.route) else {
            let reason = format!("the host has no route number {}", offer.route);
            return Err(Refused::Route { reason }.into());
        };
        let name = &slot.settings.route.name;
        let bytes_max = self.library.engine().limits().component_bytes_max;
        if offer.bytes.len() > bytes_max {
            return Err(Refused::TooLarge {
                bytes: offer.bytes.len() as u64,
                bytes_max,
            }
            .into());
        }
        let digest = digest(&offer.bytes);
        let seen = self.versions.current(name).await?;
        if let Some(current) = seen
            .as_ref()
            .filter(|current| current.digest == digest && current.config == offer.config)
        {
            self.keep(&offer, digest).await?;
            return Ok(Offered::Unchanged(current.clone()));
        }
        let number = seen.as_ref().map_or(0, |activation| activation.number);
        if offer.seen.is_some_and(|chosen_by| chosen_by != number) {
            self.refresh(offer.route).await?;
            return Ok(Offered::Lost(seen));
        }
        let kind = self.allow(&offer, name, &digest).await?;
        let (library, code) = (self.library.clone(), offer.bytes.clone());
        let component = blocking(move || library.open(&code)).await?;
        let descriptor = self
            .describe(offer.route, component.clone(), offer.config.clone())
            .await?;

        let turn = slot.turn.lock().await;
        self.versions
            .save(SavedVersion {
                digest: digest.clone(),
                name: descriptor.name.clone(),
                version: descriptor.version.clone(),
                bytes: offer.bytes,
            })
            .await?;
        let new = NewActivation {
            route: name.clone(),
            seen: number,
            digest,
            config: offer.config,
            by: offer.by,
            reason: offer.reason,
            kind,
        };
        match self.versions.activate(new).await? {
            Activated::Done(activation) => {
                self.swap(slot, &activation, component, descriptor);
                Ok(Offered::Activated(activation))
            }
            Activated::Lost(current) => {
                drop(turn);
                self.refresh(offer.route).await?;
                Ok(Offered::Lost(current))
            }
        }
    }

    /// Saves once more what is active already: the component in memory is sound, whatever the store has.
    async fn keep(&self, offer: &Offer, digest: String) -> Result<(), CatalogError> {
        // It is kept until the pointer has it.
        let (library, code) = (self.library.clone(), offer.bytes.clone());
        let _kept = blocking(move || library.open(&code)).await?;
        if let Some(active) = self.refresh(offer.route).await?
            && active.version.digest == digest
        {
            let (name, version) = (&active.version.name, &active.version.version);
            self.versions
                .save(SavedVersion {
                    digest,
                    name: name.clone(),
                    version: version.clone(),
                    bytes: offer.bytes.clone(),
                })
                .await?;
        }
        Ok(())
    }

    /// Whether the route's history lets it be activated, and as what.
    async fn allow(
        &self,
        offer: &Offer,
        name: &str,
        digest: &str,
    ) -> Result<ActivationKind, CatalogError> {
        let config = &offer.config;
        let rolled_back = self.versions.rolled_back(name, digest, config).await?;
        if let (Some(rolled_back), false) = (&rolled_back, offer.despite_rollback) {
            return Err(Refused::RolledBack {
                route: name.to_owned(),
                digest: digest.to_owned(),
                activation: rolled_back.activation,
                since: timestamp::to_rfc3339(rolled_back.since),
                reason: rolled_back.reason.clone(),
            }
            .into());
        }
        if !offer.force && self.versions.is_superseded(name, digest, config).await? {
            return Err(Refused::Superseded {
                route: name.to_owned(),
                digest: digest.to_owned(),
            }
            .into());
        }
        Ok(match rolled_back {
            Some(_) => ActivationKind::Forced,
            None => ActivationKind::Ordinary,
        })
    }
}
