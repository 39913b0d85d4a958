//! A value that others watch. Like tokio's `watch`, but waiters are woken in the order in which they began to wait. tokio's
//! `watch` wakes them in a random order, which a simulation couldn't repeat.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The value, with the right to change it.
#[derive(Debug)]
pub struct Watched<T>(Arc<Inner<T>>);

/// One watcher of the value.
#[derive(Debug)]
pub struct Watcher<T> {
    inner: Arc<Inner<T>>,
    /// The last change that was seen.
    seen: u64,
}

#[derive(Debug)]
struct Inner<T> {
    /// The value, and how often it has changed.
    value: Mutex<(T, u64)>,
    changed: Notify,
}

impl<T> Inner<T> {
    fn lock(&self) -> MutexGuard<'_, (T, u64)> {
        // A panic in `change` leaves the value as far as it was changed; it can still be read.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Watched<T> {
    /// With a first value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Inner {
            value: Mutex::new((value, 0)),
            changed: Notify::new(),
        }))
    }

    /// What it is now.
    pub fn get(&self) -> T {
        self.0.lock().0.clone()
    }

    /// Changes it, and wakes all waiters.
    pub fn change(&self, change: impl FnOnce(&mut T)) {
        let mut value = self.0.lock();
        change(&mut value.0);
        value.1 += 1;
        drop(value);
        self.0.changed.notify_waiters();
    }

    /// Watches it from now on.
    pub fn watch(&self) -> Watcher<T> {
        let seen = self.0.lock().1;
        Watcher {
            inner: self.0.clone(),
            seen,
        }
    }
}

impl<T> Clone for Watcher<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            seen: self.seen,
        }
    }
}

impl<T: Clone> Watcher<T> {
    /// What it is now. Changes up to now count as seen.
    pub fn get(&mut self) -> T {
        let value = self.inner.lock();
        self.seen = value.1;
        value.0.clone()
    }

    /// What it is now.
    pub fn peek(&self) -> T {
        self.inner.lock().0.clone()
    }

    /// Waits for a change that was not seen yet. Dropping the future loses no change.
    pub async fn changed(&mut self) {
        self.until(|_| true).await;
    }

    /// Waits until `is_right` holds for the value; returns at once if it already does.
    pub async fn wait_for(&mut self, is_right: impl Fn(&T) -> bool) {
        if !is_right(&self.get()) {
            self.until(is_right).await;
        }
    }

    async fn until(&mut self, is_right: impl Fn(&T) -> bool) {
        loop {
            let inner = self.inner.clone();
            let mut notified = std::pin::pin!(inner.changed.notified());
            // From here on a change isn't missed.
            notified.as_mut().enable();
            let before = self.seen;
            let value = self.get();
            if self.seen != before && is_right(&value) {
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_once() {
        let watched = Watched::new(1);
        let mut watcher = watched.watch();
        assert_eq!(watcher.changed().now_or_never(), None);
        watched.change(|value| *value = 2);
        assert_eq!(watcher.changed().now_or_never(), Some(()));
        assert_eq!(watcher.changed().now_or_never(), None);
        assert_eq!(watcher.peek(), 2);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let watched = Watched::new(0);
        let mut watcher = watched.watch();
        let waiting = tokio::spawn(async move { watcher.wait_for(|value| *value == 2).await });
        tokio::task::yield_now().await;
        watched.change(|value| *value = 1);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        watched.change(|value| *value = 2);
        waiting.await.expect("it ends");
    }
}
