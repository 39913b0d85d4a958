//! Creates a task for each message, unless the body's `misbehave` tells it to do something else.
//!
//! Good behaviour: topic `misbehave`, task id in the body's `id` (else from the position), a task in the
//! status `open`, the event `thing.opened`, data `{"seen": null}`. A message for a task that exists is
//! ignored.
//!
//! | `misbehave`                                              | what it does                                     |
//! |----------------------------------------------------------|--------------------------------------------------|
//! | `trap`                                                   | panics                                           |
//! | `spin`                                                   | never returns                                    |
//! | `sleep`                                                  | sleeps for an hour                               |
//! | `allocate`, `recurse`                                    | grows its memory, its call stack without end     |
//! | `exit`                                                   | ends the process                                 |
//! | `answer-huge`, `answer-large`                            | answers with data of 100 MB, of 20 MB            |
//! | `many-events`                                            | answers with 100,000 events                      |
//! | `wrong-count`, `too-many`                                | one decision too few, one too many               |
//! | `undeclared-status`, `-event`, `-topic`                  | uses what it didn't describe                     |
//! | `non-initial-status`                                     | creates a task in `closed`                       |
//! | `bad-json`, `bad-event-json`                             | data, event data that is no JSON                 |
//! | `event-not-an-object`                                    | event data that is a number                      |
//! | `nul`, `lone-surrogate`, `huge-number`, `deep-json`      | data that JSON allows and Postgres doesn't       |
//! | `bad-code`, `huge-reason`                                | rejects with a code of 1 MB and capitals, a reason of 1 MB |
//! | `grow-table`                                             | takes handles without end                        |
//! | `answer-elsewhere`                                       | puts its decision to another task's, if there is one |
//! | `answer-of-another`                                      | data `{"seen": id}`: the first task that this call is about |
//! | `read-clock`, `-random`, `-env`, `-args`, `-file`, `write-file`, `open-socket` | data `{"seen": …}` with what it found |
//! | `keep-state`                                             | data `{"seen": n}`: how often this instance was asked so |
//! | `log-flood`, `print-flood`                               | 100,000 log lines, lines on stdout and stderr    |
//! | `reject`, `defer`, `ignore`                              | the ordinary answers, delay 1 s                  |

mod answers;
mod escapes;

use serde_json::Value;
use taskhost_sdk::bindings::taskhost::plugin::types::{
    Cause, Message, Status, TaskIdSource, TransitionRule,
};
use taskhost_sdk::bindings::{Decision, Descriptor, Guest, Work, export};

struct Component;

impl Guest for Component {
    fn configure(_: String) -> Result<Descriptor, String> {
        let status = |name: &str, initial, terminal| Status {
            name: name.to_owned(),
            initial,
            terminal,
        };
        Ok(Descriptor {
            name: "guest-misbehave".to_owned(),
            version: "1.0.0".to_owned(),
            statuses: vec![status("open", true, false), status("closed", false, true)],
            transitions: vec![TransitionRule {
                from: "open".to_owned(),
                to: "closed".to_owned(),
            }],
            consumes: vec!["misbehave".to_owned()],
            produces: Vec::new(),
            events: vec!["thing.opened".to_owned()],
            task_id: vec![TaskIdSource::Body("/id".to_owned()), TaskIdSource::Position],
        })
    }

    fn decide(works: Vec<Work>) -> Vec<Vec<Decision>> {
        let first = works
            .first()
            .map(|work| work.task_id.clone())
            .unwrap_or_default();
        let mut answers: Vec<Vec<Decision>> =
            works.iter().map(|work| decide_work(work, &first)).collect();
        for (number, work) in works.iter().enumerate() {
            let is_elsewhere = |cause: &Cause| matches!(cause, Cause::Message(it) if behaviour(it) == "answer-elsewhere");
            if work.causes.iter().any(is_elsewhere) {
                let given = std::mem::take(&mut answers[number]);
                let other = if number == 0 { 1 } else { number - 1 };
                if let Some(other) = answers.get_mut(other) {
                    other.extend(given);
                }
            }
        }
        answers
    }
}

fn decide_work(work: &Work, first: &str) -> Vec<Decision> {
    let mut exists = work.task.is_some();
    let mut decisions = Vec::new();
    for cause in &work.causes {
        let Cause::Message(message) = cause else {
            decisions.push(Decision::Ignore("this guest sets no timers".to_owned()));
            continue;
        };
        match behaviour(message).as_str() {
            "wrong-count" => {}
            "too-many" => {
                decisions.extend([answers::open(&Value::Null), answers::open(&Value::Null)])
            }
            "" if exists => decisions.push(Decision::Ignore("open already".to_owned())),
            behaviour => {
                let decision = decide(behaviour, message, first);
                exists |= matches!(decision, Decision::Apply(_));
                decisions.push(decision);
            }
        }
    }
    decisions
}

/// What the body tells; empty to be good.
fn behaviour(message: &Message) -> String {
    let body: Value = serde_json::from_str(&message.body).expect("the host sends JSON");
    body["misbehave"].as_str().unwrap_or_default().to_owned()
}

fn decide(behaviour: &str, message: &Message, first: &str) -> Decision {
    match behaviour {
        "" | "answer-elsewhere" => answers::open(&Value::Null),
        "trap" => panic!("told to"),
        "spin" => escapes::spin(),
        "sleep" => escapes::sleep(),
        "allocate" => escapes::allocate(),
        "recurse" => answers::open(&escapes::recurse().into()),
        "grow-table" => escapes::grow_table(),
        "answer-of-another" => answers::open(&first.into()),
        "exit" => std::process::exit(3),
        "read-clock" => answers::open(&escapes::clock()),
        "read-random" => answers::open(&escapes::random()),
        "read-env" => answers::open(&escapes::environment()),
        "read-args" => answers::open(&escapes::arguments()),
        "read-file" => answers::open(&escapes::read_file()),
        "write-file" => answers::open(&escapes::write_file()),
        "open-socket" => answers::open(&escapes::socket()),
        "keep-state" => answers::open(&escapes::state()),
        "log-flood" => {
            escapes::log_flood(message.cause);
            answers::open(&Value::Null)
        }
        "print-flood" => {
            escapes::print_flood();
            answers::open(&Value::Null)
        }
        other => answers::answer(other),
    }
}

export!(Component with_types_in taskhost_sdk::bindings);

#[cfg(test)]
mod tests;
