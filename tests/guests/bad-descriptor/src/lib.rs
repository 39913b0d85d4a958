//! Describes itself in a way that contradicts itself: the host must refuse the route.
//!
//! The configuration's `flaw` says how: `no-initial-status` (so also without one),
//! `terminal-with-transition`, `undeclared-status`, `no-statuses`, `duplicate-status`, `no-task-id`,
//! `bad-pointer`, `bad-name`, `bad-version`, `consumes-nothing`; `none` is a good description.

use taskhost_sdk::bindings::taskhost::plugin::types::{Status, TaskIdSource, TransitionRule};
use taskhost_sdk::bindings::{Decision, Descriptor, Guest, Work, export};

struct Component;

impl Guest for Component {
    fn configure(config: String) -> Result<Descriptor, String> {
        let config: serde_json::Value =
            serde_json::from_str(&config).map_err(|error| error.to_string())?;
        let flaw = config["flaw"].as_str().unwrap_or("no-initial-status");
        flawed(flaw).ok_or_else(|| format!("no flaw is called {flaw}"))
    }

    fn decide(works: Vec<Work>) -> Vec<Vec<Decision>> {
        let ignored = |_| Decision::Ignore("only the description matters".to_owned());
        works
            .into_iter()
            .map(|work| work.causes.into_iter().map(ignored).collect())
            .collect()
    }
}

/// The description with that flaw, if there is one of that name.
fn flawed(flaw: &str) -> Option<Descriptor> {
    let mut it = good();
    match flaw {
        "none" => {}
        "no-initial-status" => it.statuses[0].initial = false,
        "terminal-with-transition" => it.transitions.push(rule("closed", "open")),
        "undeclared-status" => it.transitions.push(rule("open", "lost")),
        "no-statuses" => {
            it.statuses.clear();
            it.transitions.clear();
        }
        "duplicate-status" => it.statuses.push(status("open", false, false)),
        "no-task-id" => it.task_id.clear(),
        "bad-pointer" => it.task_id = vec![TaskIdSource::Body("id".to_owned())],
        "bad-name" => it.name = "Bad Descriptor".to_owned(),
        "bad-version" => it.version = "first".to_owned(),
        "consumes-nothing" => it.consumes.clear(),
        _ => return None,
    }
    Some(it)
}

fn good() -> Descriptor {
    Descriptor {
        name: "guest-bad-descriptor".to_owned(),
        version: "1.0.0".to_owned(),
        statuses: vec![status("open", true, false), status("closed", false, true)],
        transitions: vec![rule("open", "closed")],
        consumes: vec!["misbehave".to_owned()],
        produces: Vec::new(),
        events: vec!["thing.opened".to_owned()],
        task_id: vec![TaskIdSource::Body("/id".to_owned())],
    }
}

fn status(name: &str, initial: bool, terminal: bool) -> Status {
    Status {
        name: name.to_owned(),
        initial,
        terminal,
    }
}

fn rule(from: &str, to: &str) -> TransitionRule {
    TransitionRule {
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

export!(Component with_types_in taskhost_sdk::bindings);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flaw_that_is_promised_exists() {
        for flaw in [
            "no-initial-status",
            "terminal-with-transition",
            "undeclared-status",
            "no-statuses",
            "duplicate-status",
            "no-task-id",
            "bad-pointer",
            "bad-name",
            "bad-version",
            "consumes-nothing",
        ] {
            assert_ne!(flawed(flaw), Some(good()), "{flaw}");
            assert!(flawed(flaw).is_some(), "{flaw}");
        }
        assert_eq!(flawed("none"), Some(good()));
        assert_eq!(flawed("another"), None);
    }
}
