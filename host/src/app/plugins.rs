//! The plugins at the start: what is active is loaded, and what lies in the directory is offered.

use std::collections::HashSet;
use std::sync::Arc;

use super::Error;
use super::identity::by;
use super::observe;
use super::settings::routes;
use super::topics::real_topics;
use crate::background::Background;
use crate::background::duties::{ACTIVATIONS, DIRECTORY};
use crate::config::Config;
use crate::config::fixed::{ANSWER_BYTES_MAX, LOG_LINES_MAX};
use crate::plugin::{
    Catalog, Engine, Library, Limits, PluginObserver, PluginRoute, Timing, Versions, Watcher,
};
use crate::store::Store;

/// A catalog of the configured routes in which nothing runs yet.
///
/// # Errors
/// If this machine can't run plugins within the configured limits.
pub fn catalog(
    config: &Config,
    versions: Arc<dyn Versions>,
    observer: Arc<dyn PluginObserver>,
    background: &Background,
) -> Result<Catalog, Error> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let limits = Limits {
        memory_bytes_max: size(config.plugins.memory_bytes_max),
        decide_deadline: config.plugins.decide_deadline,
        answer_bytes_max: ANSWER_BYTES_MAX,
        log_lines_max: LOG_LINES_MAX,
        ..Limits::default()
    };
    let engine = Engine::new(limits, observer, background)
        .map_err(|error| Error::Plugins(error.to_string()))?;
    let cache = &config.plugins.cache_dir;
    let library = Library::with_directory(engine, cache).map_err(|error| {
        Error::Plugins(format!(
            "the cache of compiled plugins, {}, can't be used: {error}; \
             let this user alone own it, or set TASKHOST_PLUGINS_CACHE_DIR",
            cache.display()
        ))
    })?;
    let settings = routes(config)
        .into_iter()
        .zip(&config.routes)
        .map(|(route, configured)| PluginRoute {
            route,
            plugin: configured.plugin.clone(),
            config: configured.config.to_string().into(),
        });
    let topics: HashSet<String> = real_topics(config).into_keys().collect();
    let catalog = Catalog::new(library, versions, settings.collect(), topics);
    Ok(catalog.with_probation(config.breaker.probation))
}

pub(super) async fn start(
    config: &Config,
    store: &Store,
    observer: observe::Plugins,
    background: &Background,
) -> Result<Arc<Catalog>, Error> {
    let catalog = Arc::new(catalog(
        config,
        Arc::new(store.clone()),
        Arc::new(observer),
        background,
    )?);
    catalog.refresh_all().await;
    let mut watcher = Watcher::new(
        catalog.clone(),
        &config.plugins.dir,
        by(),
        Timing::default(),
    );
    watcher.offer_all().await;
    let without: Vec<String> = (0..catalog.routes().len())
        .filter(|number| catalog.current(*number).is_none())
        .map(|number| why_none(config, &catalog, number))
        .collect();
    if !without.is_empty() {
        return Err(Error::Plugins(format!(
            "no plugin can decide:\n  {}\nput the file there (`make plugins` builds the shipped ones), \
             set TASKHOST_PLUGINS_DIR, or name a stored version by `taskhost plugin activate`",
            without.join("\n  ")
        )));
    }
    if config.plugins.watch {
        let watching = watcher.run(background.stop_token());
        drop(background.until_the_end(DIRECTORY, watching));
    }
    let (polled, every) = (catalog.clone(), config.plugins.poll_interval);
    background.again(ACTIVATIONS, move || {
        let polled = polled.clone();
        async move {
            loop {
                // A hint or the time, whatever is first.
                let _ = tokio::time::timeout(every, polled.hinted()).await;
                polled.refresh_all().await;
            }
        }
    });
    Ok(catalog)
}

/// Why nothing decides for a route.
fn why_none(config: &Config, catalog: &Catalog, number: usize) -> String {
    let route = &config.routes[number];
    let file = config.plugins.file(&route.plugin);
    match catalog.refusals(number).pop() {
        Some(refusal) => format!(
            "route {}: {} is refused: {}",
            route.name, refusal.file, refusal.reason
        ),
        None => format!("route {}: there is no {}", route.name, file.display()),
    }
}
