//! Named places where a test makes the host die on the spot, as if its machine had lost power, or freeze.
//!
//! Compiled always, so that what is tested is what is shipped; off unless the environment variable
//! `TASKHOST_FAILPOINT` is set to `name` or `name:n` when the process starts: then the n-th hit of
//! that name, counted from 1, kills the process with SIGKILL, which runs no destructor and flushes nothing.
//!
//! With `=stop` behind it (`name:n=stop`) the process gets SIGSTOP instead: all of it stands still
//! until somebody continues it, and then goes on from there. With `=panic` the task or thread that comes there panics, as
//! by a bug of the host.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, raise};

/// The environment variable that arms one failpoint.
pub const VARIABLE: &str = "TASKHOST_FAILPOINT";

static ARMED: OnceLock<Option<Failpoint>> = OnceLock::new();

/// Dies or freezes here, if this is the armed failpoint and its turn has come.
pub fn hit(name: &str) {
    let armed = ARMED.get_or_init(|| {
        std::env::var(VARIABLE)
            .ok()
            .and_then(|text| Failpoint::parse(&text))
    });
    let Some(failpoint) = armed
        .as_ref()
        .filter(|failpoint| failpoint.counts_down(name))
    else {
        return;
    };
    let signal = match failpoint.end {
        End::Signal(signal) => signal,
        End::Panic => panic!("the failpoint {name} was hit"),
    };
    // To this very thread, so that it does nothing more before the signal takes effect on all of them.
    let sent = raise(signal);
    if signal != Signal::SIGSTOP || sent.is_err() {
        // Nothing can be done about a signal that can't be sent but to end in the next best way.
        std::process::abort();
    }
}

struct Failpoint {
    name: String,
    end: End,
    /// Hits that are still survived, plus one.
    left: AtomicU64,
}

/// What becomes of who comes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The process gets it.
    Signal(Signal),
    /// The task or thread panics.
    Panic,
}

impl Failpoint {
    fn parse(text: &str) -> Option<Self> {
        let (text, end) = match text.split_once('=') {
            Some((text, "stop")) => (text, End::Signal(Signal::SIGSTOP)),
            Some((text, "panic")) => (text, End::Panic),
            Some(_) => return None,
            None => (text, End::Signal(Signal::SIGKILL)),
        };
        let (name, turn) = match text.rsplit_once(':') {
            Some((name, turn)) => (name, turn.parse().ok().filter(|turn| *turn > 0)?),
            None => (text, 1),
        };
        (!name.is_empty()).then(|| Self {
            name: name.to_owned(),
            end,
            left: AtomicU64::new(turn),
        })
    }

    fn counts_down(&self, name: &str) -> bool {
        self.name == name
            && self
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                == Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_strikes_at_its_turn_only() {
        let failpoint = Failpoint::parse("before-commit:3").expect("well-formed");
        let struck: Vec<bool> = (0..5)
            .map(|_| failpoint.counts_down("before-commit"))
            .collect();
        assert_eq!(struck, [false, false, true, false, false]);
    }

    #[test]
    fn another_name_does_not_count() {
        let failpoint = Failpoint::parse("before-commit").expect("well-formed");
        assert!(!failpoint.counts_down("after-commit"));
        assert!(failpoint.counts_down("before-commit"));
    }

    #[test]
    fn a_failpoint_kills_unless_it_is_told_to_freeze_or_to_panic() {
        let end = |text| Failpoint::parse(text).map(|failpoint| (failpoint.name, failpoint.end));
        let (kill, stop) = (End::Signal(Signal::SIGKILL), End::Signal(Signal::SIGSTOP));
        assert_eq!(end("a:2"), Some(("a".to_owned(), kill)));
        assert_eq!(end("a:2=stop"), Some(("a".to_owned(), stop)));
        assert_eq!(end("a=stop"), Some(("a".to_owned(), stop)));
        assert_eq!(end("a=panic"), Some(("a".to_owned(), End::Panic)));
    }

    #[test]
    fn a_malformed_turn_arms_nothing() {
        for text in ["", ":1", "name:0", "name:x", "name=go", "=stop"] {
            assert!(Failpoint::parse(text).is_none(), "{text}");
        }
    }
}
