//! Decides when a watched file is complete, from its observed states and their times.
//!
//! ```text
//!            another stamp                quiet                      offered
//!   handled ───────────────► unsettled ──────────► ready to offer ──────────► handled
//!                               ▲  another stamp         │ looks half written, or can't be tried now
//!                               └────────────────────────┘ later
//! ```

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant, SystemTime};

/// Metadata that distinguishes contents of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    /// The file's size.
    pub(super) bytes: u64,
    /// Seconds and nanoseconds of the last write.
    written: (i64, i64),
    /// Seconds and nanoseconds of the last change of the file's entry, by the kernel's own clock.
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// How long ago the file was last touched; zero if its clock is ahead of ours.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        let seconds = u64::try_from(self.changed.0).unwrap_or_default();
        let nanoseconds = u32::try_from(self.changed.1).unwrap_or_default();
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        now.duration_since(changed).unwrap_or_default()
    }
}

/// How long a watcher waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How long a file must stay unchanged before it is read.
    pub settle: Duration,
    /// How long an apparently incomplete file must stay unchanged before it is refused.
    pub settle_broken: Duration,
    /// How often the directory is read without a notification, for file systems that send none.
    pub rescan: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(200),
            settle_broken: Duration::from_secs(2),
            rescan: Duration::from_secs(3),
        }
    }
}

/// What to do about a file now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Rest,
    /// Look again then.
    Wait(Instant),
    /// Read it and offer it.
    Offer(Stamp),
    /// The file was removed; reported once.
    Gone,
}

/// One file.
#[derive(Debug, Default)]
pub(super) struct Settling {
    handled: Option<Stamp>,
    unsettled: Option<Unsettled>,
    gone: bool,
}

#[derive(Debug, Clone, Copy)]
struct Unsettled {
    stamp: Stamp,
    since: Instant,
    not_before: Instant,
}

impl Settling {
    /// Records the file's current state. `age` is the time since it was last touched.
    pub(super) fn look(
        &mut self,
        stamp: Option<Stamp>,
        age: Duration,
        now: Instant,
        timing: &Timing,
    ) -> Look {
        let Some(stamp) = stamp else {
            self.unsettled = None;
            let known = self.handled.take().is_some();
            let news = known && !self.gone;
            self.gone |= known;
            return if news { Look::Gone } else { Look::Rest };
        };
        self.gone = false;
        if self.handled == Some(stamp) {
            self.unsettled = None;
            return Look::Rest;
        }
        let unsettled = match self.unsettled {
            Some(unsettled) if unsettled.stamp == stamp => unsettled,
            _ => Unsettled {
                stamp,
                since: now,
                not_before: now + timing.settle.saturating_sub(age),
            },
        };
        self.unsettled = Some(unsettled);
        if now >= unsettled.not_before {
            Look::Offer(stamp)
        } else {
            Look::Wait(unsettled.not_before)
        }
    }

    /// The file was offered, and no further offer is needed, whatever the result.
    pub(super) fn note_handled(&mut self, stamp: Stamp) {
        self.handled = Some(stamp);
        self.unsettled = None;
    }

    /// The file is not to be offered before then.
    pub(super) fn put_off(&mut self, not_before: Instant) {
        if let Some(unsettled) = &mut self.unsettled {
            unsettled.not_before = not_before;
        }
    }

    /// If the file was touched too recently to be called broken: when it may be.
    pub(super) fn broken_not_before(&self, now: Instant, timing: &Timing) -> Option<Instant> {
        let not_before = self.unsettled?.since + timing.settle_broken;
        (now < not_before).then_some(not_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Duration = Duration::ZERO;

    fn stamp(inode: u64) -> Stamp {
        Stamp {
            device: 1,
            inode,
            bytes: 10,
            written: (1, 0),
            changed: (1, 0),
        }
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_file_is_offered_once_it_was_left_alone_and_then_never_again() {
        let (timing, start) = (Timing::default(), Instant::now());
        let mut file = Settling::default();
        let wait = file.look(Some(stamp(1)), FRESH, start, &timing);
        assert_eq!(wait, Look::Wait(after(start, 200)));
        // Written again: the wait begins anew.
        let wait = file.look(Some(stamp(2)), FRESH, after(start, 150), &timing);
        assert_eq!(wait, Look::Wait(after(start, 350)));
        assert_eq!(
            file.look(Some(stamp(2)), FRESH, after(start, 350), &timing),
            Look::Offer(stamp(2))
        );
        file.note_handled(stamp(2));
        assert_eq!(
            file.look(Some(stamp(2)), FRESH, after(start, 9_999), &timing),
            Look::Rest
        );
    }

    #[test]
    fn a_file_that_was_at_rest_before_it_was_seen_is_offered_at_once() {
        let (timing, start) = (Timing::default(), Instant::now());
        let look = Settling::default().look(Some(stamp(1)), Duration::from_secs(1), start, &timing);
        assert_eq!(look, Look::Offer(stamp(1)));
    }

    #[test]
    fn a_file_that_looks_half_written_gets_time_to_be_finished() {
        let (timing, start) = (Timing::default(), Instant::now());
        let mut file = Settling::default();
        file.look(Some(stamp(1)), FRESH, start, &timing);
        let later = file
            .broken_not_before(after(start, 200), &timing)
            .expect("it is too young to be broken");
        file.put_off(later);
        assert_eq!(
            file.look(Some(stamp(1)), FRESH, after(start, 400), &timing),
            Look::Wait(after(start, 2_000))
        );
        assert_eq!(
            file.look(Some(stamp(1)), FRESH, after(start, 2_000), &timing),
            Look::Offer(stamp(1))
        );
        assert_eq!(file.broken_not_before(after(start, 2_000), &timing), None);
    }

    #[test]
    fn a_removed_file_is_news_once_and_offered_again_when_it_returns() {
        let (timing, start) = (Timing::default(), Instant::now());
        let mut file = Settling::default();
        assert_eq!(file.look(None, FRESH, start, &timing), Look::Rest);
        file.note_handled(stamp(1));
        assert_eq!(file.look(None, FRESH, start, &timing), Look::Gone);
        assert_eq!(file.look(None, FRESH, start, &timing), Look::Rest);
        let back = file.look(Some(stamp(1)), Duration::from_secs(1), start, &timing);
        assert_eq!(back, Look::Offer(stamp(1)));
    }
}
