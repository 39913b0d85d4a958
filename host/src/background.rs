//! Tasks and threads that run beside the messages, supervised: none of them ends without a word.
//!
//! Each has a [`Duty`]: its name, and what is not done without it. One that panics, or ends before the host does, is
//! logged. Then the host ends with that reason ([`Supervisor::failed`]), because whoever starts it again gets all of its
//! tasks; or the task is started again, where it keeps nothing between two rounds ([`Background::again`]).

pub(crate) mod duties;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::failpoint;

/// The pause before a task is started again: one that fails each time costs a log line in so many seconds.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What a task or a thread is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duty {
    /// Its name: in the log, in health, and of its failpoint (`background-<name>`).
    pub name: &'static str,
    /// What happens without it, as a sentence without its full stop.
    pub without: &'static str,
}

/// A task or a thread that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the background task {} failed: {reason}. Without it, {}. Nothing is lost: start the host again, and report this as \
     a bug with the log", duty.name, duty.without
)]
pub struct Failed {
    /// Which.
    pub duty: Duty,
    /// The panic's text, or that it ended.
    pub reason: String,
}

/// What the supervisor is told.
enum Report {
    /// The host can't go on.
    Failed(Failed),
    /// The task is started again.
    Again(Failed),
}

/// Starts tasks and threads; clones share their supervisor.
#[derive(Clone)]
pub struct Background {
    reports: mpsc::UnboundedSender<Report>,
    /// Ends the tasks.
    stop: CancellationToken,
    /// Whether the host is on its way out, so that an end is expected.
    ending: Arc<AtomicBool>,
    /// The pause before a task is started again.
    pause: Duration,
}

/// Hears how tasks end.
pub struct Supervisor(mpsc::UnboundedReceiver<Report>);

impl Background {
    /// A supervisor, and the handle that starts what it watches.
    #[must_use]
    pub fn new() -> (Self, Supervisor) {
        let (reports, heard) = mpsc::unbounded_channel();
        let background = Self {
            reports,
            stop: CancellationToken::new(),
            ending: Arc::default(),
            pause: AGAIN_AFTER,
        };
        (background, Supervisor(heard))
    }

    /// For commands and tests, which end by themselves: what fails is logged, and nobody else hears of it.
    #[must_use]
    pub fn unsupervised() -> Self {
        Self::new().0
    }

    /// What the tasks are stopped by.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The host ends: from now on tasks may, too.
    pub fn expect_ends(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    /// Stops the tasks.
    pub fn stop(&self) {
        self.expect_ends();
        self.stop.cancel();
    }

    /// Runs a task until the host stops. Its end before that ends the host.
    pub fn forever(&self, duty: Duty, work: impl Future<Output = ()> + Send + 'static) {
        let (stop, work) = (self.stop.clone(), Box::pin(work));
        drop(self.until_the_end(duty, async move {
            stop.run_until_cancelled(work).await;
        }));
    }

    /// Runs a task that sees by itself when the host stops, and may still do something then. Its end before that ends the
    /// host.
    pub fn until_the_end(
        &self,
        duty: Duty,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let (this, work) = (self.clone(), Box::pin(work));
        tokio::spawn(async move {
            match survived(duty, work).await {
                Err(panic) => this.failed(duty, panic),
                Ok(()) if this.ending.load(Ordering::SeqCst) => {}
                Ok(()) => this.failed(duty, "it ended".to_owned()),
            }
        })
    }

    /// Runs a task that has an end, or ends when the host stops. A panic ends the host.
    pub fn once(&self, duty: Duty, work: impl Future<Output = ()> + Send + 'static) {
        let (this, work) = (self.clone(), Box::pin(work));
        tokio::spawn(async move {
            let work = this.stop.run_until_cancelled(work).map(drop);
            if let Err(panic) = survived(duty, Box::pin(work)).await {
                this.failed(duty, panic);
            }
        });
    }

    /// Runs a task until the host stops, and starts it again when it fails: for one that keeps nothing between two rounds
    /// and that others can do without for a while.
    pub fn again<F>(&self, duty: Duty, work: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        let forever = async move {
            loop {
                let reason = match survived(duty, Box::pin(work())).await {
                    Err(panic) => panic,
                    Ok(()) => "it ended".to_owned(),
                };
                this.started_again(duty, reason);
                tokio::time::sleep(this.pause).await;
            }
        };
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(forever).await });
    }

    /// Runs a thread. A panic ends the host; its end is its owner's matter.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn thread(&self, duty: Duty, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let this = self.clone();
        thread(duty, move || {
            if let Err(panic) = survives(duty, work) {
                this.failed(duty, panic);
            }
        })
    }

    /// Runs a thread, and starts its work again when it panics. Its end is its owner's matter.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn thread_again(
        &self,
        duty: Duty,
        mut work: impl FnMut() + Send + 'static,
    ) -> std::io::Result<()> {
        let this = self.clone();
        thread(duty, move || {
            while let Err(panic) = survives(duty, &mut work) {
                this.started_again(duty, panic);
                std::thread::sleep(this.pause);
            }
        })
    }

    fn failed(&self, duty: Duty, reason: String) {
        let failed = Failed { duty, reason };
        tracing::error!(task = duty.name, "{failed}");
        // Nobody hears it where nobody supervises, or where the host has ended meanwhile.
        let _ = self.reports.send(Report::Failed(failed));
    }

    fn started_again(&self, duty: Duty, reason: String) {
        tracing::error!(
            task = duty.name,
            reason,
            "a background task failed and is started again in {} s; without it, {}; report this as a bug with the log",
            self.pause.as_secs(),
            duty.without
        );
        let _ = self.reports.send(Report::Again(Failed { duty, reason }));
    }
}

impl Supervisor {
    /// Waits for a failure that the host can't go on after. Of tasks that are started again, `restarted` is told.
    pub async fn failed(&mut self, restarted: impl Fn(&Failed)) -> Failed {
        loop {
            match self.0.recv().await {
                Some(Report::Failed(failed)) => return failed,
                Some(Report::Again(failed)) => restarted(&failed),
                // No handle is left, so nothing runs any more that could fail.
                None => std::future::pending().await,
            }
        }
    }
}

/// Runs a future to its end, or until it panics: then the panic's text. It is boxed, since what wraps it is moved, and
/// futures that ask the database are so large that a build without optimisation would run out of stack.
async fn survived(duty: Duty, work: Pin<Box<impl Future<Output = ()>>>) -> Result<(), String> {
    let begun = async {
        failpoint::hit(&failpoint_of(duty));
        work.await;
    };
    let ended = AssertUnwindSafe(begun).catch_unwind().await;
    // What a panic left half done is not looked at again: the host ends, or the work begins anew.
    ended.map_err(|panic| text_of(&*panic))
}

/// The same of a thread's work.
fn survives(duty: Duty, work: impl FnOnce()) -> Result<(), String> {
    let begun = || {
        failpoint::hit(&failpoint_of(duty));
        work();
    };
    catch_unwind(AssertUnwindSafe(begun)).map_err(|panic| text_of(&*panic))
}

fn thread(duty: Duty, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name(duty.name.to_owned());
    thread.spawn(work).map(drop)
}

fn failpoint_of(duty: Duty) -> String {
    format!("background-{}", duty.name)
}

/// What a panic says.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a text"))
}

#[cfg(test)]
mod tests;
