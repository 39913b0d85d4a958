//! The two shipped plugins compiled into the host, for comparison in the benchmark only.
//!
//! Only with the feature `bench`, which is off by default; only the programs `taskhost-native` and `taskhost-bare` use it. The
//! rest of the host is unchanged: it still loads, activates and checks the plugins, but decisions come from here.

use std::sync::{OnceLock, PoisonError, RwLock};

use taskhost_core::cause::{Cause, Source};
use taskhost_core::decision::Decision;

use taskhost_core::round::Work;

use super::question::Question;

#[path = "convert.rs"]
#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same conversion, but to the types that plugins are written with; descriptors need none"
)]
mod convert;

/// The interface's types as plugins have them.
mod bindings {
    pub(super) use taskhost_sdk::bindings::taskhost;
}

/// The source of decisions, instead of WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// The plugins' own code, called natively.
    Native,
    /// Earlier answers to a message of the same kind about a task in the same status. This leaves out the cost of deciding, but
    /// not the cost of its effects. It is right only for the benchmark's messages, which differ in nothing else.
    Prepared,
}

static RULES: OnceLock<Rules> = OnceLock::new();

/// Sets the source of decisions once, before the host runs.
pub fn decide_by(rules: Rules) {
    let _ = RULES.set(rules);
}

/// The decisions, if they don't come from WebAssembly.
pub(super) fn decide(question: &Question<'_>) -> Option<Vec<Vec<Decision>>> {
    let rules = *RULES.get()?;
    let decisions = question.works.iter().map(|work| match rules {
        Rules::Native => natively(question, work),
        Rules::Prepared => prepared(question, work),
    });
    decisions.collect()
}

fn natively(question: &Question<'_>, work: &Work<'_>) -> Option<Vec<Decision>> {
    let works = convert::works(std::slice::from_ref(work), question.logical_topic);
    let answer = match question.logical_topic {
        "requests-web-crawl" => web_crawl::decide_natively(question.config, works),
        "task-status" => task_status::decide_natively(question.config, works),
        _ => return None,
    };
    convert::decisions(answer.ok()?).into_iter().next()
}

/// An answer that was given before.
struct Answer {
    topic: String,
    /// The message's status.
    said: String,
    /// The task's status before; empty if there was no task.
    found: String,
    /// The task that it was about, which the messages name.
    id: String,
    decision: Decision,
}

/// A handful: as many as there are kinds of messages and statuses.
static ANSWERS: RwLock<Vec<Answer>> = RwLock::new(Vec::new());

fn prepared(question: &Question<'_>, work: &Work<'_>) -> Option<Vec<Decision>> {
    if let Some(decisions) = remembered(question, work) {
        return Some(decisions);
    }
    let decisions = natively(question, work)?;
    let mut answers = ANSWERS.write().unwrap_or_else(PoisonError::into_inner);
    let mut found = work.task.map_or("", |task| &task.status).to_owned();
    for (cause, decision) in work.causes.iter().zip(&decisions) {
        answers.push(Answer {
            topic: question.logical_topic.to_owned(),
            said: said(cause).to_owned(),
            id: work.task_id.as_str().to_owned(),
            decision: decision.clone(),
            found: found.clone(),
        });
        if let Decision::Apply(transition) = decision {
            found.clone_from(&transition.status);
        }
    }
    Some(decisions)
}

fn remembered(question: &Question<'_>, work: &Work<'_>) -> Option<Vec<Decision>> {
    let answers = ANSWERS.read().unwrap_or_else(PoisonError::into_inner);
    let mut found: &str = work.task.map_or("", |task| &task.status);
    let mut decisions = Vec::with_capacity(work.causes.len());
    for cause in &work.causes {
        let said = said(cause);
        let answer = answers.iter().find(|answer| {
            answer.topic == question.logical_topic && answer.said == said && answer.found == found
        })?;
        let mut decision = answer.decision.clone();
        if let Decision::Apply(transition) = &mut decision {
            for message in &mut transition.messages {
                message.body = message.body.replace(&answer.id, work.task_id.as_str());
            }
        }
        if let Decision::Apply(transition) = &answer.decision {
            found = &transition.status;
        }
        decisions.push(decision);
    }
    Some(decisions)
}

/// The status that a message names, as far as it can be seen without reading it.
fn said(cause: &Cause) -> &str {
    let Source::Message { envelope, .. } = &cause.source else {
        return "";
    };
    let rest = envelope.body.split_once("\"status\":\"");
    rest.and_then(|(_, rest)| rest.split('"').next())
        .unwrap_or("")
}
