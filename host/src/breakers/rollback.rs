//! Rolls a version back that trips its route's breaker on probation.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::told::Told;
use crate::background::{Background, duties::ROLLBACKS};
use crate::backoff::Backoff;
use crate::clock;
use crate::plugin::{Catalog, CatalogError, Offered};
use crate::telemetry::{LifeCycle, Metrics};

/// The longest pause between two tries while the database is away.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Rolls back versions that trip their breaker on probation.
pub(crate) async fn roll_back(
    catalog: Arc<Catalog>,
    mut tripped: mpsc::Receiver<Told>,
    backoff: Duration,
    by: String,
    metrics: Arc<Metrics>,
    life: LifeCycle,
    background: Background,
) {
    while let Some(told) = tripped.recv().await {
        // Its own task: one route's rollback doesn't wait for another's.
        let (catalog, metrics, life) = (catalog.clone(), metrics.clone(), life.clone());
        let by = by.clone();
        background.once(ROLLBACKS, async move {
            let route = &*told.name;
            let failed = |error: &CatalogError| {
                tracing::warn!(
                    route,
                    %error,
                    "a version on probation can't be rolled back now; trying again"
                );
            };
            Backoff::new(backoff, BACKOFF_MAX)
                .until_done(failed, || {
                    roll_back_once(&catalog, &told, &by, &metrics, &life)
                })
                .await;
        });
    }
}

async fn roll_back_once(
    catalog: &Catalog,
    told: &Told,
    by: &str,
    metrics: &Metrics,
    life: &LifeCycle,
) -> Result<(), CatalogError> {
    let tripped = told.deciding.activation;
    let Some(active) = catalog.current(told.route) else {
        return Ok(());
    };
    if active.number != tripped || !active.is_on_probation(clock::now()) {
        return Ok(());
    }
    let route = &*told.name;
    let reason = format!("rollback of activation {tripped}: {}", told.reason);
    match catalog.roll_back(told.route, tripped, by, &reason).await {
        Ok(Some(Offered::Activated(activation))) => {
            metrics.rolled_back(route);
            let (number, tripped) = (activation.number.to_string(), tripped.to_string());
            let fields = [
                ("route", route),
                ("activation", &*number),
                ("digest", &activation.digest),
                ("rolledBack", &tripped),
                ("rolledBackDigest", &active.version.digest),
                ("reason", &told.reason),
            ];
            life.tell("plugin.rolled-back", &fields);
            tracing::warn!(
                route,
                activation = number,
                digest = activation.digest,
                rolled_back = tripped,
                reason = told.reason,
                "the version before decides again: the new one failed on probation"
            );
            Ok(())
        }
        Ok(Some(Offered::Lost(_) | Offered::Unchanged(_))) => {
            tracing::info!(
                route,
                activation = tripped,
                "somebody else replaced the version that failed"
            );
            Ok(())
        }
        Ok(None) => {
            tracing::warn!(
                route,
                activation = tripped,
                "a version fails on probation and there is none to go back to; its messages wait"
            );
            Ok(())
        }
        Err(error @ CatalogError::Versions(_)) => Err(error),
        Err(error) => {
            tracing::error!(route, %error, "the version before can't decide any more; messages wait for one that can");
            Ok(())
        }
    }
}
