//! Making a version the one that decides: compile, configure, check, save, compare-and-set, swap.
//!
//! Whatever comes (a file, a command, a rollback) ends here, and here ends as one compare-and-set on the
//! route's activation number. Nothing is saved or changed before every check has passed.

use std::sync::Arc;

use super::catalog::{Catalog, CatalogError, blocking};
use super::component::digest;
use super::refused::Refused;
use super::versions::{Activated, Activation, NewActivation, SavedVersion};

/// A component that wants to decide for a route.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The route's number.
    pub route: usize,
    /// The component.
    pub bytes: Arc<[u8]>,
    /// Its configuration: JSON text.
    pub config: Arc<str>,
    /// The file, or where else it comes from.
    pub file: String,
    /// Who offers it.
    pub by: String,
    /// What for.
    pub reason: String,
    /// Whether it may be one that was replaced before: a command's wish, never a file's.
    pub force: bool,
}

/// What became of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// It is the current one already.
    Unchanged(Activation),
    /// It is the current one now.
    Activated(Activation),
    /// Somebody else activated something in between; that one is current.
    Lost(Option<Activation>),
}

impl Catalog {
    /// Offers a component; a refusal is remembered, logged and reported.
    ///
    /// # Errors
    /// Why it is refused, or that the versions can't be reached. What ran before still does.
    pub async fn offer(&self, offer: Offer) -> Result<Offered, CatalogError> {
        let (route, file, digest) = (offer.route, offer.file.clone(), digest(&offer.bytes));
        let offered = self.try_offer(offer).await;
        if let Err(CatalogError::Refused(refused)) = &offered {
            self.record_refusal(route, &file, Some(digest), refused);
        }
        offered
    }

    /// Activates a version that is stored already: a rollback, or a command that names a digest.
    ///
    /// # Errors
    /// If no such version is stored, it is refused, or the versions can't be reached.
    pub async fn activate_known(
        &self,
        route: usize,
        digest: &str,
        config: Arc<str>,
        by: &str,
        reason: &str,
    ) -> Result<Offered, CatalogError> {
        let unknown = || CatalogError::Unknown {
            digest: digest.to_owned(),
        };
        let bytes = self.versions.bytes(digest).await?.ok_or_else(unknown)?;
        let (by, reason) = (by.to_owned(), reason.to_owned());
        let file = format!("version {digest}");
        self.offer(Offer {
            route,
            bytes,
            config,
            file,
            by,
            reason,
            force: true,
        })
        .await
    }

    /// Offers a component without remembering a refusal.
    pub(super) async fn try_offer(&self, offer: Offer) -> Result<Offered, CatalogError> {
        let Offer {
            route,
            bytes,
            config,
            by,
            reason,
            force,
            ..
        } = offer;
        let Some(slot) = self.slots.get(route) else {
            let reason = format!("the host has no route number {route}");
            return Err(Refused::Route { reason }.into());
        };
        let name = &slot.settings.route.name;
        let bytes_max = self.library.engine().limits().component_bytes_max;
        if bytes.len() > bytes_max {
            return Err(Refused::TooLarge {
                bytes: bytes.len() as u64,
                bytes_max,
            }
            .into());
        }
        let digest = digest(&bytes);
        let seen = self.versions.current(name).await?;
        if let Some(current) = seen
            .as_ref()
            .filter(|current| current.digest == digest && current.config == config)
        {
            self.refresh(route).await?;
            return Ok(Offered::Unchanged(current.clone()));
        }
        if !force && self.versions.is_superseded(name, &digest, &config).await? {
            return Err(Refused::Superseded {
                route: name.clone(),
                digest,
            }
            .into());
        }
        let (library, code) = (self.library.clone(), bytes.clone());
        let component = blocking(move || library.open(&code)).await?;
        let descriptor = self
            .describe(route, component.clone(), config.clone())
            .await?;

        let _turn = slot.turn.lock().await;
        let (plugin, version) = (descriptor.name.clone(), descriptor.version.clone());
        self.versions
            .save(SavedVersion {
                digest: digest.clone(),
                name: plugin,
                version,
                bytes,
            })
            .await?;
        let seen = seen.map_or(0, |activation| activation.number);
        let new = NewActivation {
            route: name.clone(),
            seen,
            digest,
            config,
            by,
            reason,
        };
        match self.versions.activate(new).await? {
            Activated::Done(activation) => {
                self.swap(slot, &activation, component, descriptor);
                Ok(Offered::Activated(activation))
            }
            Activated::Lost(current) => {
                drop(_turn);
                self.refresh(route).await?;
                Ok(Offered::Lost(current))
            }
        }
    }
}
