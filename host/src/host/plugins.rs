//! The plugins at the start: what is active is loaded, and what lies in the directory is offered.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Error, observe, real_topics, routes};
use crate::config::Config;
use crate::plugin::{
    Catalog, CatalogError, Engine, Library, Limits, Offer, PluginObserver, PluginRoute, Versions,
};
use crate::store::Store;
use crate::telemetry::{Metrics, Status};

/// How often the activations are read, for those of other hosts. A batch finds out by itself anyway.
const POLL: Duration = Duration::from_secs(1);

/// Keeps the directory watched.
pub(super) type Watching = ();

/// A catalog of the configured routes in which nothing runs yet.
///
/// # Errors
/// If this machine can't run plugins within the configured limits.
pub fn catalog(
    config: &Config,
    versions: Arc<dyn Versions>,
    observer: Arc<dyn PluginObserver>,
) -> Result<Catalog, Error> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let limits = Limits {
        memory_bytes_max: size(config.plugins.memory_bytes_max),
        decide_deadline: config.plugins.decide_deadline,
        answer_bytes_max: size(config.plugins.answer_bytes_max),
        log_lines_max: usize::try_from(config.plugins.log_lines_max).unwrap_or(usize::MAX),
        ..Limits::default()
    };
    let engine = Engine::new(limits, observer).map_err(|error| Error::Plugins(error.to_string()))?;
    let cache = &config.plugins.cache_dir;
    let library = Library::with_directory(engine, cache).map_err(|error| {
        Error::Plugins(format!(
            "the cache of compiled plugins, {}, can't be used: {error}; \
             let this user alone own it, or set TASKHOST_PLUGINS_CACHE_DIR",
            cache.display()
        ))
    })?;
    let settings = routes(config).into_iter().zip(&config.routes).map(|(route, configured)| PluginRoute {
        route,
        plugin: configured.plugin.clone(),
        config: configured.config.to_string().into(),
    });
    let topics: HashSet<String> = real_topics(config).into_keys().collect();
    Ok(Catalog::new(library, versions, settings.collect(), topics))
}

pub(super) async fn start(
    config: &Config,
    store: &Store,
    status: &Status,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) -> Result<(Arc<Catalog>, Option<Watching>), Error> {
    let observer = observe::Plugins { status: status.clone(), metrics: metrics.clone() };
    let catalog = Arc::new(catalog(config, Arc::new(store.clone()), Arc::new(observer))?);
    let mut without = Vec::new();
    for number in 0..catalog.routes().len() {
        if let Err(reason) = first(config, &catalog, number).await {
            without.push(reason);
        }
    }
    if !without.is_empty() {
        return Err(Error::Plugins(format!(
            "no plugin can decide:\n  {}\nput the file there (`make plugins` builds the shipped ones), \
             set TASKHOST_PLUGINS_DIR, or name a stored version by `taskhost plugin activate`",
            without.join("\n  ")
        )));
    }
    let watcher = match config.plugins.watch {
        false => None,
        true => Some(()),
    };
    let (polled, stop) = (catalog.clone(), stop.clone());
    tokio::spawn(async move {
        let forever = async {
            loop {
                tokio::time::sleep(POLL).await;
                polled.refresh_all().await;
            }
        };
        stop.run_until_cancelled(forever).await;
    });
    Ok((catalog, watcher))
}

/// Who activates what this host finds in its directory.
fn by() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("host {}", name.as_deref().unwrap_or("without a name"))
}

/// Makes a route's first plugin run; says why if none does.
async fn first(config: &Config, catalog: &Catalog, number: usize) -> Result<(), String> {
    let route = &config.routes[number];
    let active = match catalog.refresh(number).await {
        Ok(active) => active.is_some(),
        Err(error) => {
            tracing::error!(route = route.name, %error, "the active plugin version can't be loaded");
            false
        }
    };
    let file = config.plugins.file(&route.plugin);
    let said = match tokio::fs::read(&file).await {
        Err(error) => format!("{} can't be read: {error}", file.display()),
        Ok(bytes) => {
            let offer = Offer {
                route: number,
                bytes: bytes.into(),
                config: route.config.to_string().into(),
                file: file.display().to_string(),
                by: by(),
                reason: "found in the plugin directory at the start".to_owned(),
                force: false,
            };
            match catalog.offer(offer).await {
                Ok(_) => return Ok(()),
                Err(CatalogError::Refused(refused)) => format!("{} is refused: {refused}", file.display()),
                Err(error) => error.to_string(),
            }
        }
    };
    match active {
        true => Ok(()),
        false => Err(format!("route {}: {said}", route.name)),
    }
}
