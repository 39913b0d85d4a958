//! The breakers of two routes of a topic, as workers and people see them.

use taskhost_core::fault::Kind;

use super::*;

#[derive(Default)]
struct Heard(Mutex<Vec<(usize, State, Why)>>);

impl Observer for Arc<Heard> {
    fn changed(&self, told: &Told) {
        let change = (told.route, told.state, told.why);
        self.0.lock().unwrap().push(change);
    }
}

const RULES: Rules = Rules {
    window: Duration::from_secs(60),
    minimum: 1,
    percent: 50,
    open_time: Duration::ZERO,
    open_time_max: Duration::ZERO,
};

const FAILED: Tally = Tally {
    decided: 1,
    faults: 1,
};

fn breakers() -> (Arc<RouteBreakers>, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let routes = ["a", "b"].into_iter();
    let breakers = RouteBreakers::new(RULES, routes, heard.clone());
    (Arc::new(breakers), heard)
}

fn fault() -> Fault {
    Fault::new(Kind::Trap, "it panicked")
}

fn trip(breakers: &RouteBreakers, route: usize) {
    let era = breakers.enter(route).expect("it is closed");
    let deciding = Deciding::default();
    let judged = breakers.judge(route, era, FAILED, Some(&fault()), &deciding);
    assert_eq!(judged, None);
}

fn order(number: i64, route: &str, state: OrderedState) -> BreakerOrder {
    BreakerOrder {
        route: route.to_owned(),
        number,
        state,
        since: 0,
        by: "me".to_owned(),
        reason: "I say so".to_owned(),
    }
}

fn reason(breakers: &RouteBreakers) -> Option<String> {
    match breakers.gate(&[0, 1]) {
        Gate::Go(_) => None,
        Gate::Shut { reason, .. } => Some(reason),
    }
}

#[test]
fn one_open_breaker_shuts_the_whole_topic_and_says_why() {
    let (breakers, heard) = breakers();
    assert_eq!(reason(&breakers), None);
    trip(&breakers, 1);
    let why = reason(&breakers).expect("it is shut");
    for part in [
        "breaker of b",
        "1 of 1 decisions",
        "plugin-trap: it panicked",
    ] {
        assert!(why.contains(part), "{part} in {why}");
    }
    assert!(matches!(breakers.gate(&[0]), Gate::Go(_)), "another topic");
    let heard = heard.0.lock().unwrap().clone();
    assert_eq!(heard, [(1, State::Open, Why::Faults)]);
}

#[test]
fn there_is_one_probe_at_a_time_and_one_that_is_dropped_makes_room() {
    let (breakers, heard) = breakers();
    trip(&breakers, 1);
    let probe = breakers.probe(&[0, 1], Some(1)).expect("the right to try");
    assert!(breakers.probe(&[0, 1], Some(1)).is_none());
    drop(probe);
    // A message of the closed route has to go first.
    let probe = breakers.probe(&[0, 1], Some(0)).expect("the right to try");
    assert_eq!(probe.route(), 1);
    probe.failed(&fault(), Tally::default());
    for _ in 0..3 {
        assert!(reason(&breakers).is_some());
        let probe = breakers.probe(&[0, 1], None).expect("the right to try");
        probe.succeeded();
    }
    assert_eq!(reason(&breakers), None);
    let heard = heard.0.lock().unwrap().clone();
    let told = [
        (1, State::Open, Why::Faults),
        (1, State::HalfOpen, Why::Probe),
        (1, State::Open, Why::Probe),
        (1, State::HalfOpen, Why::Probe),
        (1, State::Closed, Why::Probe),
    ];
    assert_eq!(heard, told);
}

#[test]
fn while_a_person_holds_one_route_no_message_of_its_topic_is_tried() {
    let (breakers, _) = breakers();
    trip(&breakers, 1);
    breakers.ordered(&order(1, "a", OrderedState::Open));
    let Gate::Shut { until, reason } = breakers.gate(&[0, 1]) else {
        panic!("it is open");
    };
    assert_eq!(until, None);
    assert!(reason.contains("held open by me: I say so"), "{reason}");
    breakers.ordered(&order(2, "a", OrderedState::Closed));
    assert!(matches!(
        breakers.gate(&[0, 1]),
        Gate::Shut { until: Some(_), .. }
    ));
}

#[test]
fn an_order_is_carried_out_once_and_an_old_one_to_close_changes_nothing() {
    let (breakers, heard) = breakers();
    breakers.ordered(&order(5, "a", OrderedState::Closed));
    assert!(heard.0.lock().unwrap().is_empty());
    trip(&breakers, 0);
    breakers.ordered(&order(5, "a", OrderedState::Closed));
    assert!(reason(&breakers).is_some(), "that was before");
    breakers.ordered(&order(6, "a", OrderedState::Closed));
    assert_eq!(reason(&breakers), None);
    let heard = heard.0.lock().unwrap().clone();
    assert_eq!(
        heard,
        [
            (0, State::Open, Why::Faults),
            (0, State::Closed, Why::Person)
        ]
    );
}
