//! Law 3 where a plugin faults: a batch that is halved until the culprits are found comes out as if each message had been
//! decided alone.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use taskhost_core::batch::{Decided, Fold, Halves, Step};
use taskhost_core::cause::{Cause, Source};
use taskhost_core::decision::Decision;
use taskhost_core::fault::{Fault, Kind};
use taskhost_core::record::Message;
use taskhost_core::task::{Task, TaskId};

use crate::world::{World, cause, decider, message, messages, rule};

/// What the message asks of the rule.
fn asked(cause: &Cause) -> String {
    let Source::Message { message, .. } = &cause.source else {
        panic!("a message");
    };
    let value = message.value.as_deref().expect("a value");
    let body: HashMap<String, String> = serde_json::from_slice(value).expect("JSON");
    body["ask"].clone()
}

/// One call about several causes: all answers, or a fault and none. The plugin carries each task from cause to cause.
fn together(fold: &Fold, causes: &[(usize, Cause)]) -> Result<HashMap<usize, Decision>, Fault> {
    let mut tasks: HashMap<&TaskId, Option<Task>> = HashMap::new();
    let mut answers = HashMap::new();
    for (number, cause) in causes {
        let task = tasks
            .entry(&cause.task_id)
            .or_insert_with(|| fold.task(&cause.task_id).cloned());
        let answer = match rule(task.as_ref(), &asked(cause)) {
            Decided::Answer(answer) => answer,
            Decided::Fault(fault) => return Err(fault),
        };
        if let Decision::Apply(transition) = &answer {
            *task = Some(Task {
                id: cause.task_id.clone(),
                kind: cause.task_type.clone(),
                status: transition.status.as_str().into(),
                data: transition.data.as_str().into(),
                version: task.as_ref().map_or(0, |task| task.version) + 1,
                created_at: task.as_ref().map_or(cause.at, |task| task.created_at),
                updated_at: cause.at,
            });
        }
        answers.insert(*number, answer);
    }
    Ok(answers)
}

impl World {
    /// Decides a run of messages as one batch, halving it where the plugin faults, as the host does.
    fn halved(&mut self, messages: &[Arc<Message>], piece: usize) {
        let blocked = self.waiting.iter().map(|row| row.task_id.clone()).collect();
        let mut fold = self.fold(blocked);
        let mut halves = Halves::of(messages.len(), piece);
        while let Some(step) = halves.step() {
            let range = match step {
                Step::Together(range) => range,
                Step::Alone(item) => item..item + 1,
            };
            let causes: Vec<(usize, Cause)> = range
                .clone()
                .filter_map(|number| Some((number, cause(&messages[number]).ok()?)))
                .filter(|(_, cause)| !fold.is_blocked(cause))
                .collect();
            let is_alone = range.len() == 1;
            let mut answers = match together(&fold, &causes) {
                Ok(answers) => answers,
                Err(fault) if is_alone => {
                    let (_, cause) = &causes[0];
                    fold.decided(cause, Decided::Fault(fault), &decider())
                        .expect("a fault is taken");
                    halves.failed();
                    continue;
                }
                // A deadline ends the batch; what is left is decided one by one.
                Err(fault) if fault.kind == Kind::Deadline => {
                    self.write(fold.finish());
                    for message in &messages[range.start..] {
                        self.batch(std::slice::from_ref(message));
                    }
                    return;
                }
                Err(_) => {
                    halves.failed();
                    continue;
                }
            };
            for number in range {
                let cause = match cause(&messages[number]) {
                    Ok(cause) => cause,
                    Err(why) => {
                        fold.undecodable(&messages[number], &why, None);
                        continue;
                    }
                };
                let answer = answers.remove(&number).filter(|_| !fold.is_blocked(&cause));
                let Some(answer) = answer else {
                    fold.behind(&cause, &decider());
                    continue;
                };
                if let Err(fault) = fold.decided(&cause, Decided::Answer(answer), &decider()) {
                    if is_alone {
                        fold.decided(&cause, Decided::Fault(fault), &decider())
                            .expect("a fault is taken");
                        halves.failed();
                    } else {
                        halves.broke(number);
                    }
                    break;
                }
            }
        }
        self.write(fold.finish());
    }
}

proptest! {
    #[test]
    fn a_batch_that_is_halved_comes_out_as_one_by_one(
        asks in messages(),
        size in 1usize..40,
        piece in 1usize..50,
    ) {
        let log: Vec<_> = (0..).zip(&asks).map(|(offset, (id, ask))| message(offset, *id, *ask)).collect();
        let (mut halved, mut single) = (World::default(), World::default());
        for batch in log.chunks(size) {
            halved.halved(batch, piece);
        }
        for message in &log {
            single.batch(std::slice::from_ref(message));
        }
        prop_assert_eq!(halved, single);
    }
}
