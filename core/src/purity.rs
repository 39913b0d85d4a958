//! Law 6, watched: the same question asked again has the same answer, or the plugin is impure.
//!
//! What differs is told by the part of the answer, never by what stands in it.

use crate::batch::Decided;
use crate::decision::{Decision, Transition};

/// In what another answer to the same question differs; none if it is the same.
///
/// A deadline that is exceeded the second time says nothing: the machine may be at fault.
pub fn difference(first: &Decision, again: &Decided) -> Option<String> {
    let again = match again {
        Decided::Answer(again) => again,
        Decided::Fault(fault) if fault.kind.is_retriable() => return None,
        Decided::Fault(fault) => {
            return Some(format!(
                "alone it faults with {} instead of an answer",
                fault.kind.code()
            ));
        }
    };
    if first == again {
        return None;
    }
    let (was, is) = (kind(first), kind(again));
    if was != is {
        return Some(format!("alone it answers {is} instead of {was}"));
    }
    Some(format!("alone it answers another {}", part(first, again)))
}

fn kind(decision: &Decision) -> &'static str {
    match decision {
        Decision::Apply(_) => "apply",
        Decision::Ignore { .. } => "ignore",
        Decision::Defer { .. } => "defer",
        Decision::Reject { .. } => "reject",
    }
}

/// The first part in which two answers of a kind differ.
fn part(first: &Decision, again: &Decision) -> &'static str {
    match (first, again) {
        (Decision::Apply(first), Decision::Apply(again)) => part_of_transition(first, again),
        (Decision::Defer { delay: first, .. }, Decision::Defer { delay: again, .. })
            if first != again =>
        {
            "delay"
        }
        (Decision::Reject { code: first, .. }, Decision::Reject { code: again, .. })
            if first != again =>
        {
            "code"
        }
        _ => "reason",
    }
}

fn part_of_transition(first: &Transition, again: &Transition) -> &'static str {
    let parts = [
        ("status", first.status == again.status),
        ("data", first.data == again.data),
        ("list of events", first.events == again.events),
        ("list of messages", first.messages == again.messages),
    ];
    parts
        .into_iter()
        .find(|(_, same)| !same)
        .map_or("list of timers", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::decision::{Event, TimerOrder};
    use crate::fault::{Fault, Kind};

    fn apply(change: impl FnOnce(&mut Transition)) -> Decision {
        let mut transition = Transition {
            status: "open".into(),
            data: "{}".into(),
            events: vec![],
            messages: vec![],
            timers: vec![],
        };
        change(&mut transition);
        Decision::Apply(transition)
    }

    fn told(first: &Decision, again: Decision) -> Option<String> {
        difference(first, &Decided::Answer(again))
    }

    #[test]
    fn what_differs_is_named_and_never_shown() {
        let first = apply(|_| {});
        assert_eq!(told(&first, first.clone()), None);
        let event = Event {
            kind: "secret".into(),
            data: "secret".into(),
        };
        let timer = TimerOrder::Cancel {
            name: "secret".into(),
        };
        let others = [
            (apply(|it| it.status = "secret".into()), "another status"),
            (apply(|it| it.data = "secret".into()), "another data"),
            (apply(|it| it.events.push(event)), "another list of events"),
            (apply(|it| it.timers.push(timer)), "another list of timers"),
            (
                Decision::Ignore {
                    reason: "secret".into(),
                },
                "ignore instead of apply",
            ),
        ];
        for (again, says) in others {
            let said = told(&first, again).expect("a difference");
            assert!(said.ends_with(says) && !said.contains("secret"), "{said}");
        }
        let defer = |seconds| Decision::Defer {
            reason: "no".into(),
            delay: Duration::from_secs(seconds),
        };
        let said = told(&defer(1), defer(2)).expect("a difference");
        assert!(said.ends_with("another delay"), "{said}");
    }

    #[test]
    fn a_fault_alone_is_a_difference_and_a_slow_machine_is_none() {
        let again = |kind| difference(&apply(|_| {}), &Decided::Fault(Fault::new(kind, "because")));
        let said = again(Kind::Trap).expect("a difference");
        assert!(said.contains("plugin-trap"), "{said}");
        assert_eq!(again(Kind::Deadline), None);
    }
}
