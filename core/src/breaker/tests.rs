//! The breaker's laws: every short story exhaustively, long ones by chance.

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    failures_max: 2,
    backoff: Duration::from_millis(100),
    backoff_max: Duration::from_millis(1000),
    calm: Duration::from_secs(5),
    probes: 1,
};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Opens it at a time, with the longest backoff that jitter allows.
fn opened(at: Duration) -> Breaker {
    let mut breaker = Breaker::new(Rules {
        failures_max: 1,
        ..RULES
    });
    let era = breaker.enter().expect("it is closed");
    assert_eq!(breaker.failed(era, at, 1.0), Change::Opened);
    breaker
}

fn turn(breaker: &mut Breaker, at: Duration) -> Era {
    match breaker.probe(at) {
        Turn::Now(era) => era,
        other => panic!("no probe at {at:?}: {other:?}"),
    }
}

#[test]
fn it_opens_at_so_many_failures_in_a_row_and_a_success_between_begins_anew() {
    let mut breaker = Breaker::new(RULES);
    let era = breaker.enter().unwrap();
    assert_eq!(breaker.failed(era, ms(1), 0.5), Change::Nothing);
    assert_eq!(breaker.succeeded(era, ms(2)), Change::Nothing);
    assert_eq!(breaker.failed(era, ms(3), 0.5), Change::Nothing);
    assert_eq!(breaker.enter(), Some(era));
    assert_eq!(breaker.failed(era, ms(4), 0.5), Change::Opened);
    assert_eq!(breaker.enter(), None);
}

#[test]
fn one_probe_when_the_backoff_ends_closes_it_for_all() {
    let mut breaker = opened(ms(1000));
    assert_eq!(breaker.probe(ms(1099)), Turn::At(ms(1100)));
    let era = turn(&mut breaker, ms(1100));
    assert_eq!(breaker.probe(ms(1100)), Turn::Taken);
    assert_eq!(breaker.enter(), None);
    let closed = Change::Closed { after: ms(150) };
    assert_eq!(breaker.succeeded(era, ms(1150)), closed);
    assert!(breaker.enter().is_some());
}

#[test]
fn the_backoff_doubles_with_each_failed_probe_up_to_its_cap() {
    let mut breaker = opened(ms(0));
    let mut until = ms(100);
    for pause in [200, 400, 800, 1000, 1000] {
        let era = turn(&mut breaker, until);
        assert_eq!(breaker.failed(era, until, 1.0), Change::StillOpen);
        until += ms(pause);
        assert_eq!(breaker.probe(ms(0)), Turn::At(until));
    }
}

#[test]
fn an_opening_soon_after_a_closing_goes_on_with_the_backoff_and_a_later_one_begins_anew() {
    for (pause, until) in [(0, 200), (4999, 200), (5000, 100)] {
        let mut breaker = opened(ms(0));
        let era = turn(&mut breaker, ms(100));
        breaker.succeeded(era, ms(100));
        let (era, now) = (breaker.enter().unwrap(), ms(100 + pause));
        assert_eq!(breaker.failed(era, now, 1.0), Change::Opened);
        assert_eq!(breaker.probe(now), Turn::At(now + ms(until)));
    }
}

#[test]
fn a_try_that_began_before_it_opened_has_no_say_afterwards() {
    let mut breaker = Breaker::new(Rules {
        failures_max: 1,
        ..RULES
    });
    let before = breaker.enter().unwrap();
    breaker.failed(before, ms(0), 1.0);
    assert_eq!(breaker.succeeded(before, ms(1)), Change::Nothing);
    assert_eq!(breaker.failed(before, ms(1), 1.0), Change::Nothing);
    let probe = turn(&mut breaker, ms(100));
    assert_eq!(breaker.succeeded(before, ms(101)), Change::Nothing);
    assert_eq!(breaker.failed(before, ms(101), 1.0), Change::Nothing);
    breaker.succeeded(probe, ms(102));
    assert_eq!(breaker.failed(before, ms(103), 1.0), Change::Nothing);
    assert_eq!(breaker.failed(probe, ms(103), 1.0), Change::Nothing);
    assert!(breaker.enter().is_some());
}

/// What can happen to a breaker. A report is about the try of that number, counted back from the latest.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Enter,
    Probe,
    Succeeds(usize),
    Fails(usize),
    Passes(u64),
}

/// Plays a story and checks after each step what must hold.
fn play(story: &[Happens], rules: Rules, random: f64) {
    let (mut breaker, mut now) = (Breaker::new(rules), Duration::ZERO);
    // What is being tried, each with the number of changes that had been told when it began.
    let (mut tries, mut changes): (Vec<(Era, u32, bool)>, u32) = (Vec::new(), 0);
    let (mut open, mut opened_at, mut closed_failures) = (false, Duration::ZERO, 0);
    for step in story {
        match *step {
            Happens::Enter => {
                assert_eq!(breaker.enter().is_some(), !open, "{story:?}");
                tries.extend(breaker.enter().map(|era| (era, changes, false)));
            }
            Happens::Probe => match breaker.probe(now) {
                Turn::Now(era) => {
                    let in_hand = tries.iter().any(|(_, at, probe)| *probe && *at == changes);
                    assert!(!(open && in_hand), "two probes: {story:?}");
                    tries.push((era, changes, open));
                }
                Turn::At(until) => {
                    assert!(open && now < until && until <= opened_at + rules.backoff_max);
                }
                Turn::Taken => assert!(open),
            },
            Happens::Passes(millis) => now += ms(millis),
            Happens::Succeeds(back) | Happens::Fails(back) => {
                let Some(at) = tries.len().checked_sub(back + 1) else {
                    continue;
                };
                let (era, began, probe) = tries.remove(at);
                let current = began == changes && probe == open;
                let fails = matches!(step, Happens::Fails(_));
                let change = match fails {
                    true => breaker.failed(era, now, random),
                    false => breaker.succeeded(era, now),
                };
                closed_failures = match (current && !open, fails) {
                    (true, true) => closed_failures + 1,
                    (true, false) => 0,
                    (false, _) => closed_failures,
                };
                let expected = match (current, open, fails) {
                    (false, ..) | (true, false, false) => Change::Nothing,
                    (true, false, true) if closed_failures < rules.failures_max.max(1) => {
                        Change::Nothing
                    }
                    (true, false, true) => Change::Opened,
                    (true, true, true) => Change::StillOpen,
                    (true, true, false) => match change {
                        Change::Closed { .. } => change,
                        other => panic!("a probe that succeeded: {other:?} in {story:?}"),
                    },
                };
                assert_eq!(change, expected, "{story:?}");
                if change != Change::Nothing {
                    changes += 1;
                    open = !matches!(change, Change::Closed { .. });
                    (opened_at, closed_failures) = (now, 0);
                }
            }
        }
    }
    // Whatever happened: with a probe that works it is closed, at the latest after the longest backoff.
    if open && let Turn::Now(era) = breaker.probe(now + rules.backoff_max) {
        breaker.succeeded(era, now + rules.backoff_max);
        assert!(breaker.enter().is_some(), "{story:?}");
    }
}

#[test]
fn every_short_story_keeps_the_laws() {
    let alphabet = [
        Happens::Enter,
        Happens::Probe,
        Happens::Succeeds(0),
        Happens::Fails(0),
        Happens::Fails(1),
        Happens::Succeeds(1),
        Happens::Passes(150),
    ];
    for failures_max in [1, 2] {
        let rules = Rules {
            failures_max,
            ..RULES
        };
        let mut story = Vec::new();
        every(&alphabet, 7, &mut story, &mut |story| {
            play(story, rules, 1.0)
        });
    }
}

fn every(
    alphabet: &[Happens],
    length: usize,
    story: &mut Vec<Happens>,
    play: &mut impl FnMut(&[Happens]),
) {
    if length == 0 {
        return play(story);
    }
    for step in alphabet {
        story.push(*step);
        every(alphabet, length - 1, story, play);
        story.pop();
    }
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        Just(Happens::Enter),
        Just(Happens::Probe),
        (0usize..4).prop_map(Happens::Succeeds),
        (0usize..4).prop_map(Happens::Fails),
        (0u64..2000).prop_map(Happens::Passes),
    ]
}

proptest! {
    #[test]
    fn long_stories_keep_the_laws(
        story in prop::collection::vec(happens(), 0..200),
        failures_max in 0u32..5,
        random in 0.0f64..=1.0,
    ) {
        play(&story, Rules { failures_max, ..RULES }, random);
    }
}
