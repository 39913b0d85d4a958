//! The laws of a route's breaker: short stories by hand, long ones by chance.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    window: Duration::from_secs(10),
    minimum: 10,
    percent: 50,
    open_time: Duration::from_secs(1),
    open_time_max: Duration::from_secs(8),
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn tally(decided: u64, faults: u64) -> Tally {
    Tally { decided, faults }
}

fn judged(breaker: &mut RouteBreaker, at: u64, batch: Tally) -> Judged {
    let era = breaker.enter().expect("it is closed");
    breaker.judge(era, secs(at), batch, 1.0)
}

fn commits(breaker: &mut RouteBreaker, at: u64, batch: Tally) -> Receipt {
    match judged(breaker, at, batch) {
        Judged::Commit(receipt) => receipt,
        other => panic!("{batch:?} at {at} s: {other:?}"),
    }
}

fn opened(at: u64) -> RouteBreaker {
    let mut breaker = RouteBreaker::new(RULES);
    let batch = tally(10, 10);
    assert_eq!(judged(&mut breaker, at, batch), Judged::Opened(batch));
    breaker
}

fn probe(breaker: &mut RouteBreaker, at: u64) -> Era {
    match breaker.probe(secs(at)) {
        Turn::Now(era) => era,
        other => panic!("no probe at {at} s: {other:?}"),
    }
}

#[test]
fn the_batch_that_reaches_volume_and_ratio_is_not_committed() {
    let mut breaker = RouteBreaker::new(RULES);
    commits(&mut breaker, 0, tally(9, 9));
    let opened = judged(&mut breaker, 1, tally(1, 1));
    assert_eq!(opened, Judged::Opened(tally(10, 10)));
    assert_eq!(breaker.enter(), None);
}

#[test]
fn few_faults_among_many_decisions_never_open_it() {
    let mut breaker = RouteBreaker::new(RULES);
    for at in 0..100 {
        commits(&mut breaker, at, tally(100, 49));
    }
}

#[test]
fn a_batch_without_a_fault_is_committed_whatever_came_before() {
    let mut breaker = RouteBreaker::new(RULES);
    commits(&mut breaker, 0, tally(9, 9));
    commits(&mut breaker, 1, tally(5, 0));
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let mut breaker = RouteBreaker::new(RULES);
    commits(&mut breaker, 0, tally(9, 9));
    commits(&mut breaker, 10, tally(9, 9));
    assert_eq!(breaker.figures(secs(19)), tally(9, 9));
    assert_eq!(breaker.figures(secs(20)), tally(0, 0));
}

#[test]
fn what_was_not_committed_after_all_does_not_count() {
    let mut breaker = RouteBreaker::new(RULES);
    let receipt = commits(&mut breaker, 0, tally(9, 9));
    breaker.withdraw(receipt);
    assert_eq!(breaker.figures(secs(0)), tally(0, 0));
    commits(&mut breaker, 0, tally(9, 9));
}

#[test]
fn batches_in_hand_see_each_other() {
    let mut breaker = RouteBreaker::new(RULES);
    let (first, second) = (breaker.enter().unwrap(), breaker.enter().unwrap());
    let first = breaker.judge(first, secs(0), tally(6, 6), 1.0);
    assert!(matches!(first, Judged::Commit(_)), "{first:?}");
    let second = breaker.judge(second, secs(0), tally(6, 6), 1.0);
    assert_eq!(second, Judged::Opened(tally(12, 12)));
}

#[test]
fn a_batch_that_began_before_it_opened_is_not_committed() {
    let mut breaker = RouteBreaker::new(RULES);
    let before = breaker.enter().unwrap();
    judged(&mut breaker, 0, tally(10, 10));
    let late = breaker.judge(before, secs(0), tally(5, 0), 1.0);
    assert_eq!(late, Judged::Stale);
}

#[test]
fn certainty_needs_the_minimum_and_the_ratio_whatever_the_rest_brings() {
    let breaker = RouteBreaker::new(RULES);
    assert!(!breaker.is_certain(secs(0), tally(9, 9), 0), "too few");
    assert!(!breaker.is_certain(secs(0), tally(10, 10), 11), "maybe not");
    assert!(breaker.is_certain(secs(0), tally(10, 10), 10));
}

#[test]
fn three_probes_in_a_row_close_it_and_the_window_begins_anew() {
    let mut breaker = opened(0);
    assert_eq!(breaker.probe(secs(0)), Turn::At(secs(1)));
    for _ in 0..2 {
        let era = probe(&mut breaker, 1);
        assert_eq!(breaker.probe(secs(1)), Turn::Taken, "one at a time");
        assert_eq!(breaker.probe_succeeded(era, secs(1)), Change::Nothing);
        assert_eq!(breaker.enter(), None);
    }
    let era = probe(&mut breaker, 1);
    let closed = Change::Closed { after: secs(1) };
    assert_eq!(breaker.probe_succeeded(era, secs(1)), closed);
    assert_eq!(breaker.figures(secs(1)), tally(0, 0));
    commits(&mut breaker, 1, tally(9, 9));
}

#[test]
fn a_probe_that_fails_opens_it_for_longer_and_those_before_it_count_no_more() {
    let mut breaker = opened(0);
    let era = probe(&mut breaker, 1);
    breaker.probe_succeeded(era, secs(1));
    let era = probe(&mut breaker, 1);
    assert_eq!(breaker.probe_failed(era, secs(1), 1.0), Change::StillOpen);
    assert_eq!(breaker.probe(secs(1)), Turn::At(secs(3)));
    assert_eq!(breaker.open_since().unwrap().2, 0);
}

#[test]
fn a_probe_that_found_nothing_out_makes_room_for_another_at_once() {
    let mut breaker = opened(0);
    let era = probe(&mut breaker, 1);
    breaker.probe_undecided(era, secs(2));
    probe(&mut breaker, 2);
}

#[test]
fn a_probe_that_fails_alone_among_others_closes_it_and_does_not_open_it_again_by_itself() {
    let rules = Rules {
        minimum: 1,
        ..RULES
    };
    let mut breaker = RouteBreaker::new(rules);
    let opened = judged(&mut breaker, 0, tally(1, 1));
    assert_eq!(opened, Judged::Opened(tally(1, 1)));
    assert_eq!(breaker.others(), 10);
    let era = probe(&mut breaker, 1);
    let change = breaker.probe_sampled(era, secs(1), tally(10, 1), 1.0);
    assert_eq!(change, Change::Closed { after: secs(1) });
    assert_eq!(
        breaker.figures(secs(1)),
        tally(10, 1),
        "the others, and not the one that is decided next"
    );
    commits(&mut breaker, 1, tally(1, 1));
    let late = breaker.probe_sampled(era, secs(1), tally(10, 0), 1.0);
    assert_eq!(late, Change::Nothing, "it has no say any more");
}

#[test]
fn a_probe_that_fails_among_too_few_others_or_too_many_faults_opens_it_for_longer() {
    for others in [
        tally(0, 0),
        tally(2, 0),
        tally(3, 0),
        tally(10, 2),
        tally(10, 10),
    ] {
        let mut breaker = opened(0);
        let era = probe(&mut breaker, 1);
        let change = breaker.probe_sampled(era, secs(1), others, 1.0);
        assert_eq!(change, Change::StillOpen, "{others:?}");
        assert_eq!(breaker.probe(secs(1)), Turn::At(secs(3)));
    }
}

#[test]
fn the_lower_the_ratio_the_more_others_are_asked_about() {
    for (percent, others) in [(100, 10), (50, 10), (10, 40), (3, 133), (1, 200)] {
        let breaker = RouteBreaker::new(Rules { percent, ..RULES });
        assert_eq!(breaker.others(), others, "{percent}");
    }
}

#[test]
fn another_version_is_probed_at_once_and_begins_with_an_empty_window() {
    let mut breaker = opened(0);
    let old = probe(&mut breaker, 1);
    assert!(breaker.activated(secs(1)));
    let new = probe(&mut breaker, 1);
    assert_eq!(
        breaker.probe_failed(old, secs(1), 1.0),
        Change::Nothing,
        "the old one has no say"
    );
    assert_eq!(breaker.probe_failed(new, secs(1), 1.0), Change::StillOpen);
    assert_eq!(breaker.probe(secs(1)), Turn::At(secs(2)), "the base again");

    let mut closed = RouteBreaker::new(RULES);
    commits(&mut closed, 0, tally(9, 9));
    let began = closed.enter().unwrap();
    assert!(!closed.activated(secs(0)));
    assert_eq!(closed.figures(secs(0)), tally(0, 0));
    let late = closed.judge(began, secs(0), tally(1, 1), 1.0);
    assert_eq!(late, Judged::Stale, "decided by the old one");
}

#[test]
fn a_person_holds_it_open_until_it_is_let_go() {
    let mut breaker = RouteBreaker::new(RULES);
    let began = breaker.enter().unwrap();
    breaker.order(Hold::Open);
    assert_eq!(
        breaker.judge(began, secs(0), tally(1, 0), 1.0),
        Judged::Stale
    );
    for at in [0, 100, 10_000] {
        assert_eq!(breaker.enter(), None);
        assert_eq!(breaker.probe(secs(at)), Turn::Taken);
    }
    assert!(!breaker.activated(secs(10_000)), "no version opens it");
    assert_eq!(breaker.probe(secs(10_000)), Turn::Taken);
    breaker.order(Hold::Free);
    assert!(breaker.enter().is_some());
}

#[test]
fn a_person_closes_one_that_opened_by_itself_and_it_may_open_again() {
    let mut breaker = opened(0);
    breaker.order(Hold::Free);
    assert_eq!(breaker.figures(secs(0)), tally(0, 0));
    let batch = tally(10, 10);
    assert_eq!(judged(&mut breaker, 0, batch), Judged::Opened(batch));
}

#[test]
fn held_closed_it_never_opens() {
    let mut breaker = opened(0);
    breaker.order(Hold::Closed);
    commits(&mut breaker, 0, tally(1000, 1000));
    assert!(!breaker.is_certain(secs(0), tally(1000, 1000), 0));
}

#[test]
fn with_a_minimum_of_0_it_never_opens_by_itself() {
    let mut breaker = RouteBreaker::new(Rules {
        minimum: 0,
        ..RULES
    });
    commits(&mut breaker, 0, tally(1000, 1000));
}

/// What can happen. Times are in tenths of the window.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Batch {
        decided: u64,
        faults: u64,
        committed: bool,
    },
    Probe(Option<bool>),
    Sampled {
        decided: u64,
        faults: u64,
    },
    Passes(u64),
    Activated,
    Order(Hold),
}

fn happens() -> impl Strategy<Value = Happens> {
    let batch =
        (0u64..20, 0u64..20, any::<bool>()).prop_map(|(good, faults, committed)| Happens::Batch {
            decided: good + faults,
            faults,
            committed,
        });
    let hold = prop_oneof![Just(Hold::Free), Just(Hold::Open), Just(Hold::Closed)];
    prop_oneof![
        8 => batch,
        4 => any::<Option<bool>>().prop_map(Happens::Probe),
        2 => (0u64..12, 0u64..5).prop_map(|(good, faults)| Happens::Sampled { decided: good + faults, faults }),
        4 => (0u64..15).prop_map(Happens::Passes),
        1 => Just(Happens::Activated),
        1 => hold.prop_map(Happens::Order),
    ]
}

proptest! {
    /// A model that remembers each batch: it opens exactly when volume and ratio are reached within the window.
    #[test]
    fn it_opens_exactly_when_the_window_says_so(story in prop::collection::vec(happens(), 0..200), random in 0.0f64..=1.0) {
        let (mut breaker, mut piece) = (RouteBreaker::new(RULES), 100u64);
        let mut kept: VecDeque<(u64, Tally)> = VecDeque::new();
        let (mut open, mut hold, mut proven) = (false, Hold::Free, 0);
        for step in story {
            let now = RULES.window / 10 * u32::try_from(piece).unwrap();
            prop_assert_eq!(breaker.enter().is_some(), !open && hold != Hold::Open);
            match step {
                Happens::Passes(pieces) => piece += pieces,
                Happens::Activated => {
                    breaker.activated(now);
                    kept.clear();
                    proven = 0;
                }
                Happens::Order(to) => {
                    breaker.order(to);
                    (open, hold, proven) = (false, to, 0);
                    kept.clear();
                }
                Happens::Probe(outcome) => {
                    let Turn::Now(era) = breaker.probe(now) else { continue };
                    if !open {
                        continue;
                    }
                    match outcome {
                        None => breaker.probe_undecided(era, now),
                        Some(false) => {
                            prop_assert_eq!(breaker.probe_failed(era, now, random), Change::StillOpen);
                            proven = 0;
                        }
                        Some(true) => {
                            let closed = matches!(breaker.probe_succeeded(era, now), Change::Closed { .. });
                            proven += 1;
                            prop_assert_eq!(closed, proven == PROBES);
                            if closed {
                                (open, proven) = (false, 0);
                            }
                        }
                    }
                }
                Happens::Sampled { decided, faults } => {
                    let Turn::Now(era) = breaker.probe(now) else { continue };
                    if !open {
                        continue;
                    }
                    proven = 0;
                    let is_fine = decided - faults >= 3 && (faults + 1) * 4 < decided + 1;
                    match breaker.probe_sampled(era, now, tally(decided, faults), random) {
                        Change::Closed { .. } => {
                            prop_assert!(is_fine);
                            open = false;
                            kept.push_back((piece, tally(decided, faults)));
                        }
                        change => {
                            prop_assert!(!is_fine);
                            prop_assert_eq!(change, Change::StillOpen);
                        }
                    }
                }
                Happens::Batch { decided, faults, committed } => {
                    let Some(era) = breaker.enter() else { continue };
                    kept.retain(|(at, _)| piece - at < u64::from(PIECES));
                    let batch = tally(decided, faults);
                    let all = kept.iter().fold(batch, |sum, (_, one)| sum.plus(*one));
                    let opens = hold == Hold::Free && faults > 0 && all.decided >= 10 && all.faults * 2 >= all.decided;
                    prop_assert_eq!(breaker.is_certain(now, batch, 0), opens);
                    match breaker.judge(era, now, batch, random) {
                        Judged::Opened(figures) => {
                            prop_assert!(opens);
                            prop_assert_eq!(figures, all);
                            kept.clear();
                            open = true;
                        }
                        Judged::Commit(receipt) => {
                            prop_assert!(!opens);
                            match committed {
                                true => kept.push_back((piece, batch)),
                                false => breaker.withdraw(receipt),
                            }
                        }
                        Judged::Stale => prop_assert!(false, "nothing came in between"),
                    }
                    prop_assert_eq!(breaker.figures(now), kept.iter().fold(Tally::default(), |sum, (_, one)| sum.plus(*one)));
                }
            }
        }
        // Nothing is stuck: with probes that work it is closed after the longest backoff.
        let end = RULES.window / 10 * u32::try_from(piece).unwrap() + RULES.open_time_max;
        for _ in 0..PROBES {
            if open && hold != Hold::Open {
                let Turn::Now(era) = breaker.probe(end) else { panic!("no probe") };
                breaker.probe_succeeded(era, end);
            }
        }
        prop_assert_eq!(breaker.enter().is_some(), hold != Hold::Open);
    }
}
