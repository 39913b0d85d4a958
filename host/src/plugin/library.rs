//! Compiled components by digest: in memory while they are used, else in the directory of compiled components.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::compiled::CompiledDir;
use super::component::{Component, digest};
use super::engine::Engine;
use super::refused::Refused;
use super::world;

/// Returns compiled components. Its calls block while something is compiled: not for an async thread.
#[derive(Debug)]
pub struct Library {
    engine: Arc<Engine>,
    /// Dead entries are dropped when new ones arrive, so that memory doesn't grow over a thousand reloads.
    used: Mutex<HashMap<String, Weak<Component>>>,
    compiled: Option<CompiledDir>,
}

impl Library {
    /// A library that compiles everything once for each process.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            used: Mutex::default(),
            compiled: None,
        }
    }

    /// A library that stores compiled code in its own directory.
    ///
    /// # Errors
    /// If the directory can't be created, or others can use it.
    pub fn with_directory(engine: Arc<Engine>, path: &Path) -> io::Result<Self> {
        let compiled = Some(CompiledDir::open(path, &engine)?);
        Ok(Self {
            engine,
            used: Mutex::default(),
            compiled,
        })
    }

    /// The process's engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// A component that is in use, or was compiled before.
    pub fn find(&self, digest: &str) -> Option<Arc<Component>> {
        if let Some(component) = self.used().get(digest).and_then(Weak::upgrade) {
            return Some(component);
        }
        let compiled = self.compiled.as_ref()?.load(&self.engine, digest)?;
        // Code compiled under other limits may not fit these.
        let component = Component::new(&self.engine, digest.to_owned(), &compiled).ok()?;
        Some(self.keep(component))
    }

    /// The component of these bytes.
    ///
    /// # Errors
    /// Why it can't be a plugin.
    pub fn open(&self, bytes: &[u8]) -> Result<Arc<Component>, Refused> {
        let digest = digest(bytes);
        if let Some(component) = self.find(&digest) {
            return Ok(component);
        }
        let compiled = world::compile(&self.engine, bytes)?;
        let component = Component::new(&self.engine, digest, &compiled)?;
        if let Some(directory) = &self.compiled {
            directory.store(component.digest(), &compiled);
        }
        Ok(self.keep(component))
    }

    /// How many components are in use.
    pub fn used_count(&self) -> usize {
        self.used()
            .values()
            .filter(|component| component.strong_count() > 0)
            .count()
    }

    fn keep(&self, component: Component) -> Arc<Component> {
        let mut used = self.used();
        used.retain(|_, component| component.strong_count() > 0);
        // Two threads may have compiled the same component: the first stays.
        if let Some(first) = used.get(component.digest()).and_then(Weak::upgrade) {
            return first;
        }
        let component = Arc::new(component);
        used.insert(component.digest().to_owned(), Arc::downgrade(&component));
        component
    }

    fn used(&self) -> MutexGuard<'_, HashMap<String, Weak<Component>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
