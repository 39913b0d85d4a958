//! Every limit ends the guest that passes it, as the fault that it is, and costs nobody else anything.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use taskhost::background::Background;
use taskhost::plugin::{Component, Engine, Limits, Refused};
use taskhost_core::decision::Decision;
use taskhost_core::fault::{Fault, Kind};
use taskhost_core::round::Unanswered;

use crate::support::{Heard, ask, engine, guest, misbehaving, quick};

fn fault(component: &Component, behaviour: &str) -> Fault {
    match ask(component, &[behaviour]) {
        Err(Unanswered::Fault(fault)) => fault,
        Err(other) => panic!("{behaviour} is no fault: {other}"),
        Ok(_) => panic!("{behaviour} is answered"),
    }
}

#[test]
fn each_way_to_misbehave_is_the_fault_that_it_is() {
    let component = misbehaving(quick());
    for (behaviour, kind, says) in [
        ("trap", Kind::Trap, "told to"),
        ("spin", Kind::Deadline, "in time"),
        ("sleep", Kind::Trap, "waits for a clock"),
        ("allocate", Kind::Memory, "bytes of memory"),
        ("recurse", Kind::Stack, "stack"),
        ("exit", Kind::Trap, "exited with code"),
        ("grow-table", Kind::Memory, "more handles than allowed"),
        ("answer-huge", Kind::Memory, "bytes of memory"),
        (
            "wrong-count",
            Kind::MalformedAnswer,
            "0 decisions for 1 causes",
        ),
        (
            "answer-elsewhere",
            Kind::MalformedAnswer,
            "0 decisions for 1 causes",
        ),
        (
            "too-many",
            Kind::MalformedAnswer,
            "2 decisions for 1 causes",
        ),
    ] {
        let started = Instant::now();
        let fault = fault(&component, behaviour);
        assert_eq!(fault.kind, kind, "{behaviour}: {fault:?}");
        assert!(fault.reason.contains(says), "{behaviour}: {}", fault.reason);
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{behaviour} took {:?}",
            started.elapsed()
        );
        if let Some(backtrace) = &fault.backtrace {
            assert!(
                backtrace.contains("guest_misbehave"),
                "{behaviour}: the guest's functions have names: {backtrace}"
            );
        }
        let traced = matches!(
            kind,
            Kind::Trap | Kind::Deadline | Kind::Memory | Kind::Stack
        ) && behaviour != "sleep";
        assert_eq!(
            fault.backtrace.is_some(),
            traced,
            "{behaviour}: {:?}",
            fault.backtrace
        );
    }
    // And the component is as good as new.
    assert!(matches!(
        ask(&component, &[""]).expect("it answers")[0][0],
        Decision::Apply(_)
    ));
}

#[test]
fn a_backtrace_names_the_function_that_faults() {
    let component = misbehaving(quick());
    for (behaviour, function) in [
        ("recurse", "deeper"),
        ("grow-table", "grow_table"),
        ("allocate", "allocate"),
    ] {
        let backtrace = fault(&component, behaviour).backtrace.expect("a backtrace");
        assert!(backtrace.contains(function), "{behaviour}: {backtrace}");
    }
}

#[test]
fn a_decision_for_another_task_is_no_answer_alone_or_among_others() {
    let component = misbehaving(quick());
    for behaviours in [
        &["answer-elsewhere"][..],
        &["answer-elsewhere", ""],
        &["", "answer-elsewhere", ""],
    ] {
        match ask(&component, behaviours) {
            Err(Unanswered::Fault(fault)) => assert_eq!(fault.kind, Kind::MalformedAnswer),
            other => panic!("{behaviours:?}: {other:?}"),
        }
    }
}

#[test]
fn an_answer_is_not_copied_out_beyond_its_limit() {
    // Room to make the answer, none to hand it over.
    let limits = Limits {
        memory_bytes_max: 1 << 30,
        answer_bytes_max: 1 << 20,
        decide_deadline: Duration::from_secs(5),
        ..quick()
    };
    let component = misbehaving(limits);
    for behaviour in ["answer-large", "answer-huge", "many-events"] {
        assert_eq!(
            fault(&component, behaviour).kind,
            Kind::AnswerTooLarge,
            "{behaviour}"
        );
    }
}

#[test]
fn a_guest_that_sleeps_ends_at_once_rather_than_at_its_deadline() {
    let component = misbehaving(Limits {
        decide_deadline: Duration::from_secs(60),
        ..quick()
    });
    let started = Instant::now();
    assert_eq!(fault(&component, "sleep").kind, Kind::Trap);
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "it took {:?}",
        started.elapsed()
    );
}

#[test]
fn configure_has_a_deadline_of_its_own() {
    let component = Component::compile(&engine(quick()), &guest("guest_spins_in_configure"))
        .expect("it is a plugin");
    let started = Instant::now();
    match component.describe("{}") {
        Err(Refused::Faulty { fault }) => assert_eq!(fault.kind, Kind::Deadline),
        other => panic!("it is not refused for being slow: {other:?}"),
    }
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn memory_is_limited_when_an_instance_is_made_too() {
    let limits = Limits {
        memory_bytes_max: 64 << 10,
        ..quick()
    };
    match Component::compile(&engine(limits), &guest("guest_misbehave")) {
        Err(Refused::OverLimit { reason }) => assert!(reason.contains("bytes"), "{reason}"),
        other => panic!("it is not refused for its memory: {other:?}"),
    }
}

#[test]
fn log_lines_carry_their_causes_coordinates_and_those_beyond_the_limit_are_counted() {
    let limits = Limits {
        log_lines_max: 10,
        decide_deadline: Duration::from_secs(30),
        ..quick()
    };
    let heard = Arc::new(Heard::default());
    let engine = Engine::new(limits, heard.clone(), &Background::unsupervised())
        .expect("the machine has room for an engine");
    let component = Component::compile(&engine, &guest("guest_misbehave")).expect("it is a plugin");
    for (behaviour, expected) in [
        ("log-flood", r#"INFO plugin: flood 9 digest="#),
        ("print-flood", "WARN plugin: flood 4 on stderr digest="),
    ] {
        let written = logged(|| {
            let answer = ask(&component, &["", behaviour]).expect("it answers");
            assert!(matches!(answer[1][0], Decision::Apply(_)));
        });
        let flood: Vec<&str> = written
            .lines()
            .filter(|line| line.contains("flood"))
            .collect();
        assert_eq!(flood.len(), 10, "{written}");
        let last = flood[9];
        assert!(last.contains(expected), "{last}");
        // The import names its cause; a stream only has its batch.
        let at = if behaviour == "log-flood" {
            r#"at="misbehave[0]@1" task_id="t1""#
        } else {
            r#"at="misbehave[0]""#
        };
        assert!(last.contains(at), "{last}");
    }
    assert_eq!(heard.all(), ["dropped 99990", "dropped 99990"]);
}

/// What is logged on this thread meanwhile.
fn logged(work: impl FnOnce()) -> String {
    let written = Arc::new(Mutex::new(Vec::new()));
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || Sink(writer.clone()))
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = written.lock().expect("nobody panics").clone();
    String::from_utf8(bytes).expect("it is text")
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .expect("nobody panics")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_call_waits_its_turn_when_every_instance_is_taken() {
    let component = misbehaving(Limits {
        instances_max: 2,
        ..quick()
    });
    std::thread::scope(|scope| {
        let spinning: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| fault(&component, "spin").kind))
            .collect();
        for one in spinning {
            assert_eq!(one.join().expect("it ends"), Kind::Deadline);
        }
    });
}

#[test]
fn what_core_refuses_comes_through_as_the_guest_said_it() {
    let component = misbehaving(quick());
    for behaviour in [
        "undeclared-status",
        "undeclared-event",
        "undeclared-topic",
        "bad-json",
        "nul",
    ] {
        let answer = ask(&component, &[behaviour]).expect("it answers");
        assert!(matches!(answer[0][0], Decision::Apply(_)), "{behaviour}");
    }
    let answer = ask(&component, &["reject", "defer", "ignore"]).expect("it answers");
    assert!(matches!(answer[0][0], Decision::Reject { .. }));
    assert!(
        matches!(answer[1][0], Decision::Defer { delay, .. } if delay == Duration::from_secs(1))
    );
    assert!(matches!(answer[2][0], Decision::Ignore { .. }));
}
