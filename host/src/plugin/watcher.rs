//! Offers the files of the plugin directory as they change.
//!
//! A notification of the file system is only a hint to look. [`settling`](super::settling) decides, from the state of
//! each file that a route names. So a rename into place, a burst of writes, a swapped symbolic link and a lost
//! notification all have the same result, and an editor's temporary files are ignored. A removed file changes nothing: it
//! is only logged.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::activation::{Offer, Offered};
use super::catalog::{Catalog, CatalogError};
use super::component::digest;
use super::refused::Refused;
use super::settling::{Look, Settling, Stamp};

pub use super::settling::Timing;

/// Watches one directory for the files that the catalog's routes name.
#[derive(Debug)]
pub struct Watcher {
    catalog: Arc<Catalog>,
    directory: PathBuf,
    /// The name in the activations that this watcher causes.
    by: String,
    timing: Timing,
    files: BTreeMap<String, Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    routes: Vec<usize>,
    settling: Settling,
}

impl Watcher {
    /// A watcher that has seen nothing yet. `by` names this host in the activations that it causes.
    pub fn new(
        catalog: Arc<Catalog>,
        directory: impl Into<PathBuf>,
        by: impl Into<String>,
        timing: Timing,
    ) -> Self {
        let mut files: BTreeMap<String, Watched> = BTreeMap::new();
        for (number, route) in catalog.routes().enumerate() {
            files
                .entry(format!("{}.wasm", route.plugin))
                .or_default()
                .routes
                .push(number);
        }
        Self {
            catalog,
            directory: directory.into(),
            by: by.into(),
            timing,
            files,
        }
    }

    /// Offers every file as it is, without waiting until it is complete, for the host's start. A file that can't be offered
    /// now is offered later by [`run`](Self::run).
    pub async fn offer_all(&mut self) {
        let timing = Timing {
            settle: std::time::Duration::ZERO,
            ..self.timing.clone()
        };
        self.look_at_all(&timing).await;
    }

    /// Watches until it is stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let (hint, mut hints) = mpsc::channel(1);
        let listening = self.listen(hint);
        if let Err(error) = &listening {
            let directory = self.directory.display();
            tracing::warn!(%directory, %error, "the plugin directory can't be watched; the host reads it at intervals only");
        }
        let timing = self.timing.clone();
        loop {
            let next = self
                .look_at_all(&timing)
                .await
                .min(Instant::now() + timing.rescan);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(next.into()) => {}
                Some(()) = hints.recv() => {}
            }
        }
    }

    fn listen(&self, hint: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
        let names: Vec<String> = self.files.keys().cloned().collect();
        let heard = move |result: notify::Result<Event>| {
            // A failure of the notifications is also a reason to look.
            let matters = result.map_or(true, |event| {
                // Reading changes nothing, and this host itself reads.
                !event.kind.is_access() && event.paths.iter().any(|path| matters(path, &names))
            });
            if matters {
                // If a hint is already waiting, one look serves both.
                let _ = hint.try_send(());
            }
        };
        let mut watcher = notify::recommended_watcher(heard)?;
        watcher.watch(&self.directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }

    /// Looks at every file, offers complete ones, and returns when to look again at the latest.
    async fn look_at_all(&mut self, timing: &Timing) -> Instant {
        let mut next = Instant::now() + timing.rescan;
        for (name, watched) in &mut self.files {
            let path = self.directory.join(name);
            // Follows symbolic links: the content of their target counts.
            let stamp = fs::metadata(&path)
                .ok()
                .filter(fs::Metadata::is_file)
                .map(|found| Stamp::of(&found));
            let age = stamp
                .map(|stamp| stamp.age(SystemTime::now()))
                .unwrap_or_default();
            match watched.settling.look(stamp, age, Instant::now(), timing) {
                Look::Rest => {}
                Look::Wait(until) => next = next.min(until),
                Look::Gone => {
                    let file = path.display();
                    tracing::warn!(%file, "a plugin file was removed; its last version stays active");
                }
                Look::Offer(stamp) => {
                    let offering = Offering {
                        catalog: &self.catalog,
                        path: &path,
                        name,
                        by: &self.by,
                    };
                    match offering
                        .offer(&watched.routes, stamp, &watched.settling, timing)
                        .await
                    {
                        None => watched.settling.note_handled(stamp),
                        Some(later) => {
                            watched.settling.put_off(later);
                            next = next.min(later);
                        }
                    }
                }
            }
        }
        next
    }
}

/// One file to offer to the catalog.
struct Offering<'a> {
    catalog: &'a Catalog,
    path: &'a Path,
    name: &'a str,
    by: &'a str,
}

impl Offering<'_> {
    /// Reads the file and offers it to its routes. Returns when to try again, if a retry can help.
    async fn offer(
        &self,
        routes: &[usize],
        stamp: Stamp,
        settling: &Settling,
        timing: &Timing,
    ) -> Option<Instant> {
        let bytes_max = self.catalog.library().engine().limits().component_bytes_max;
        if stamp.bytes > bytes_max as u64 {
            let refused = Refused::TooLarge {
                bytes: stamp.bytes,
                bytes_max,
            };
            routes.iter().for_each(|route| {
                self.catalog
                    .record_refusal(*route, self.name, None, &refused)
            });
            return None;
        }
        let path = self.path.to_owned();
        let read = tokio::task::spawn_blocking(move || read(&path, bytes_max))
            .await
            .ok()?;
        let soon = || Some(Instant::now() + timing.settle);
        let (bytes, stamp_after) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(file = self.name, %error, "a plugin file can't be read; trying again");
                return Some(Instant::now() + timing.rescan);
            }
        };
        if stamp_after != stamp {
            return soon();
        }
        let mut again = None;
        for route in routes {
            let later = self.offer_to(*route, bytes.clone(), settling, timing).await;
            again = again.into_iter().chain(later).min();
        }
        again
    }

    async fn offer_to(
        &self,
        route: usize,
        bytes: Arc<[u8]>,
        settling: &Settling,
        timing: &Timing,
    ) -> Option<Instant> {
        let found = digest(&bytes);
        let config = self.catalog.routes().nth(route)?.config.clone();
        let (file, by) = (self.name.to_owned(), self.by.to_owned());
        let reason = format!("the file {} changed", self.name);
        let offer = Offer {
            route,
            bytes,
            config,
            file,
            by,
            reason,
            force: false,
            despite_rollback: false,
            seen: None,
        };
        match self.catalog.try_offer(offer).await {
            // Another version was activated meanwhile: offer this file again after it.
            Ok(Offered::Lost(Some(current))) if current.digest != found => Some(Instant::now()),
            Ok(_) => None,
            Err(CatalogError::Refused(refused)) => {
                if refused.looks_half_written()
                    && let Some(later) = settling.broken_not_before(Instant::now(), timing)
                {
                    return Some(later);
                }
                self.catalog
                    .record_refusal(route, self.name, Some(found), &refused);
                (!refused.is_final()).then(|| Instant::now() + timing.rescan)
            }
            Err(error) => {
                tracing::warn!(file = self.name, %error, "a plugin file can't be activated now; trying again");
                Some(Instant::now() + timing.rescan)
            }
        }
    }
}

/// Reads a file and its metadata. It reads at most one byte more than allowed: that is enough to refuse it.
fn read(path: &Path, bytes_max: usize) -> io::Result<(Arc<[u8]>, Stamp)> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    file.by_ref()
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)?;
    let stamp = Stamp::of(&file.metadata()?);
    Ok((bytes.into(), stamp))
}

/// Whether an event can be about one of the files: itself, or the hidden link `..data` that Kubernetes swaps.
fn matters(path: &Path, names: &[String]) -> bool {
    let Some(name) = path.file_name().and_then(OsStr::to_str) else {
        return true;
    };
    name.starts_with("..") || names.iter().any(|watched| watched == name)
}
