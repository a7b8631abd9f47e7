//! The breaker under a held clock.

use proptest::prelude::*;

use super::*;
use crate::types::{Clock, Period};

const SECOND: Duration = Duration::from_secs(1);

/// A breaker, its settings and a time that the test moves.
struct Bench {
    breaker: Breaker,
    settings: HealthSettings,
    now: Instant,
}

impl Bench {
    /// Three failures in a row rest it for 5 s, at most 60 s; the share of failures does not matter.
    fn new() -> Self {
        let settings = HealthSettings { consecutive_failures: 3, min_calls: u32::MAX, ..HealthSettings::default() };
        Self { breaker: Breaker::default(), settings, now: Clock::held().now() }
    }

    fn with_ratio(failure_ratio: f64, min_calls: u32) -> Self {
        let mut bench = Self::new();
        bench.settings = HealthSettings {
            consecutive_failures: u32::MAX,
            failure_ratio,
            min_calls,
            window: Period::from_secs(10),
            ..bench.settings
        };
        bench
    }

    fn admit(&mut self) -> Ticket {
        self.breaker.admit(self.now).unwrap()
    }

    fn report(&mut self, ticket: &mut Ticket, outcome: Outcome) -> Option<Change> {
        self.breaker.report(ticket, outcome, self.now, &self.settings)
    }

    /// A whole call.
    fn call(&mut self, outcome: Outcome) -> Option<Change> {
        let mut ticket = self.admit();
        self.report(&mut ticket, outcome)
    }

    fn opened() -> Self {
        let mut bench = Self::new();
        for _ in 0..3 {
            bench.call(Outcome::Failure);
        }
        bench
    }

    fn rests_for(&self) -> Option<Duration> {
        self.breaker.resting(self.now).map(|resting| resting.until - self.now)
    }
}

fn limited(seconds: Option<u64>) -> Outcome {
    Outcome::RateLimited { retry_after: seconds.map(Duration::from_secs) }
}

#[test]
fn failures_in_a_row_open_it_and_a_success_between_does_not() {
    use Outcome::{Failure as F, KeyRefused as K, NoFault as N, Success as S};
    let cases: &[(&[Outcome], bool)] = &[
        (&[F, F], false),
        (&[F, F, F], true),
        (&[F, F, S, F, F], false),
        (&[F, F, S, F, F, F], true),
        (&[F, F, N, F], true),
        (&[F, F, K, F], true),
        (&[N, N, N, N], false),
        (&[K, K, K, K], false),
    ];
    for (outcomes, opens) in cases {
        let mut bench = Bench::new();
        let changes: Vec<_> = outcomes.iter().map(|outcome| bench.call(*outcome)).collect();
        let expected = opens.then_some(Change::Opened { failures: 3, rest: 5 * SECOND });
        assert_eq!(changes.last().copied().flatten(), expected, "{outcomes:?}");
        assert_eq!(bench.rests_for(), opens.then_some(5 * SECOND), "{outcomes:?}");
    }
}

#[test]
fn a_share_of_failures_opens_it_once_there_were_enough_calls() {
    // (share, least calls, calls of which every n-th fails, opens at call)
    let cases = [(0.5, 10, 2, Some(10)), (0.5, 10, 3, None), (0.3, 9, 3, Some(9)), (1.0, 5, 1, Some(5))];
    for (ratio, min_calls, every, opens_at) in cases {
        let mut bench = Bench::with_ratio(ratio, min_calls);
        let opened = (1..=100).find(|call| {
            let outcome = if call % every == 0 { Outcome::Failure } else { Outcome::Success };
            bench.call(outcome).is_some()
        });
        assert_eq!(opened, opens_at, "{ratio} {min_calls} {every}");
    }
    let mut slow = Bench::with_ratio(0.5, 10);
    for _ in 0..100 {
        slow.now += 2 * SECOND;
        assert_eq!(slow.call(Outcome::Failure), None, "five calls in ten seconds are too few to judge");
    }
}

#[test]
fn half_open_admits_one_probe_whose_outcome_decides() {
    let mut bench = Bench::opened();
    bench.now += 5 * SECOND;
    assert_eq!(bench.breaker.standing(bench.now), Standing::HalfOpen { probing: false });
    let mut probe = bench.admit();
    assert!(probe.probe);
    assert_eq!(bench.breaker.admit(bench.now).unwrap_err().until, bench.now + PROBE_GUESS);
    assert_eq!(bench.report(&mut probe, Outcome::Success), Some(Change::Closed));
    assert_eq!(bench.breaker.standing(bench.now), Standing::Closed);
    assert!(!bench.admit().probe);
    for _ in 0..2 {
        assert_eq!(bench.call(Outcome::Failure), None, "the count begins anew");
    }
}

#[test]
fn failed_probes_double_the_rest_up_to_the_longest() {
    let mut bench = Bench::opened();
    for seconds in [5, 10, 20, 40, 60, 60] {
        assert_eq!(bench.rests_for(), Some(seconds * SECOND));
        bench.now += seconds * SECOND;
        let rest = (seconds * 2 * SECOND).min(60 * SECOND);
        assert_eq!(bench.call(Outcome::Failure), Some(Change::Reopened { rest }));
    }
    bench.now += 60 * SECOND;
    bench.call(Outcome::Success);
    for _ in 0..3 {
        bench.call(Outcome::Failure);
    }
    assert_eq!(bench.rests_for(), Some(5 * SECOND), "a success ends the doubling");
}

#[test]
fn a_probe_without_a_verdict_lets_another_go() {
    for outcome in [Outcome::NoFault, Outcome::KeyRefused] {
        let mut bench = Bench::opened();
        bench.now += 5 * SECOND;
        bench.call(outcome);
        assert!(bench.admit().probe, "{outcome:?}");
    }
    let mut bench = Bench::opened();
    bench.now += 5 * SECOND;
    let mut dropped = bench.admit();
    bench.breaker.release(&mut dropped);
    assert!(bench.admit().probe);
}

#[test]
fn calls_sent_before_it_opened_or_closed_say_nothing_after() {
    let mut bench = Bench::new();
    let mut early: Vec<Ticket> = (0..8).map(|_| bench.admit()).collect();
    for ticket in &mut early[..3] {
        bench.report(ticket, Outcome::Failure);
    }
    assert_eq!(bench.rests_for(), Some(5 * SECOND));
    bench.now += SECOND;
    assert_eq!(bench.report(&mut early[3], Outcome::Success), None, "it does not close it");
    assert_eq!(bench.report(&mut early[4], Outcome::Failure), None);
    assert_eq!(bench.rests_for(), Some(4 * SECOND), "nor does it rest longer");
    bench.now += 4 * SECOND;
    bench.call(Outcome::Success);
    for ticket in &mut early[5..] {
        assert_eq!(bench.report(ticket, Outcome::Failure), None);
    }
    assert_eq!(bench.breaker.standing(bench.now), Standing::Closed);
}

#[test]
fn a_stream_that_dies_counts_as_a_failure_in_place_of_its_success() {
    let mut bench = Bench::new();
    let die = |bench: &mut Bench| {
        let mut ticket = bench.admit();
        bench.report(&mut ticket, Outcome::Success);
        bench.report(&mut ticket, Outcome::Failure)
    };
    assert_eq!(die(&mut bench), None);
    assert_eq!(die(&mut bench), None);
    assert!(matches!(die(&mut bench), Some(Change::Opened { failures: 3, .. })));

    bench.now += 5 * SECOND;
    assert!(matches!(die(&mut bench), Some(Change::Opened { .. })), "a probe that dies opens it again");

    let mut bench = Bench::new();
    die(&mut bench);
    die(&mut bench);
    let mut ticket = bench.admit();
    bench.report(&mut ticket, Outcome::Success);
    bench.call(Outcome::Success);
    assert_eq!(bench.report(&mut ticket, Outcome::Failure), None, "another success came between");

    let mut bench = Bench::with_ratio(1.0, 4);
    let changes: Vec<_> = (0..4).map(|_| die(&mut bench).is_some()).collect();
    assert_eq!(changes, [false, false, false, true], "each is one call");
}

#[test]
fn a_retry_after_is_kept_to_the_letter_even_by_probes() {
    let mut bench = Bench::new();
    assert_eq!(bench.call(limited(Some(30))), Some(Change::Limited { rest: 30 * SECOND, hard: true }));
    bench.now += 29 * SECOND;
    assert_eq!(bench.breaker.admit(bench.now).unwrap_err().why, Rest::RateLimited);
    assert!(bench.breaker.force(bench.now).is_none());
    bench.now += SECOND;
    assert!(!bench.admit().probe, "the breaker itself was never open");
}

#[test]
fn the_later_of_two_deadlines_holds() {
    let mut bench = Bench::new();
    let mut two = [bench.admit(), bench.admit()];
    bench.report(&mut two[0], limited(Some(30)));
    assert_eq!(bench.report(&mut two[1], limited(Some(5))), None);
    assert_eq!(bench.rests_for(), Some(30 * SECOND));

    let mut bench = Bench::opened();
    bench.now += 5 * SECOND;
    bench.call(limited(Some(2)));
    assert_eq!(bench.rests_for(), Some(2 * SECOND));
    bench.now += 2 * SECOND;
    assert!(bench.admit().probe, "after the limit the breaker is still half-open");
}

#[test]
fn a_limit_without_retry_after_doubles_once_per_round() {
    let mut bench = Bench::new();
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        // A hundred calls meet the same limit.
        let mut tickets: Vec<Ticket> = (0..100).map(|_| bench.admit()).collect();
        for ticket in &mut tickets {
            bench.report(ticket, limited(None));
        }
        assert_eq!(bench.rests_for(), Some(seconds * SECOND));
        bench.now += seconds * SECOND;
    }
    bench.call(Outcome::Success);
    bench.call(limited(None));
    assert_eq!(bench.rests_for(), Some(SECOND), "a success ends the doubling");
}

#[test]
fn a_soft_limit_may_be_probed_and_a_success_ends_it() {
    let mut bench = Bench::new();
    bench.call(limited(None));
    let mut probe = bench.breaker.force(bench.now).unwrap();
    assert!(probe.probe);
    assert!(bench.breaker.force(bench.now).is_none(), "one at a time");
    bench.report(&mut probe, Outcome::Success);
    assert_eq!(bench.rests_for(), None);
}

#[test]
fn odd_values_of_retry_after_do_no_harm() {
    for (wait, rest) in [(Duration::ZERO, SECOND), (Duration::MAX, LONGEST_LIMIT)] {
        let mut bench = Bench::new();
        bench.call(Outcome::RateLimited { retry_after: Some(wait) });
        assert_eq!(bench.rests_for(), Some(rest), "{wait:?}");
    }
}

#[test]
fn a_rate_limit_is_no_failure() {
    let mut bench = Bench::new();
    for outcome in [Outcome::Failure, Outcome::Failure, limited(Some(1))] {
        bench.call(outcome);
    }
    bench.now += SECOND;
    assert_eq!(bench.breaker.standing(bench.now), Standing::Closed);
    assert!(matches!(bench.call(Outcome::Failure), Some(Change::Opened { .. })), "nor does it end the row");
}

#[test]
fn a_forced_probe_that_fails_is_no_news() {
    let mut bench = Bench::opened();
    bench.now += SECOND;
    let mut probe = bench.breaker.force(bench.now).unwrap();
    assert_eq!(bench.report(&mut probe, Outcome::Failure), None, "it was open and stays so");
    assert_eq!(bench.rests_for(), Some(10 * SECOND));
    let mut probe = bench.breaker.force(bench.now).unwrap();
    assert_eq!(bench.report(&mut probe, Outcome::Success), Some(Change::Closed));
}

#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Admit,
    Force,
    Report(usize, Outcome),
    Drop(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Success),
        6 => Just(Outcome::Failure),
        1 => prop::option::of(0..90_000u64)
            .prop_map(|ms| Outcome::RateLimited { retry_after: ms.map(Duration::from_millis) }),
        1 => Just(Outcome::KeyRefused),
        1 => Just(Outcome::NoFault),
    ];
    prop_oneof![
        2 => (0..8_000u64).prop_map(Event::Pass),
        6 => Just(Event::Admit),
        1 => Just(Event::Force),
        6 => (any::<prop::sample::Index>(), outcome).prop_map(|(i, outcome)| Event::Report(i.index(64), outcome)),
        1 => any::<prop::sample::Index>().prop_map(|i| Event::Drop(i.index(64))),
    ]
}

/// What the rules say, kept apart from how the breaker keeps it.
#[derive(Default)]
struct Model {
    /// Opened and closed so often.
    changes: usize,
    failures_in_a_row: u32,
    failed_probes: u32,
    open_until: Option<Instant>,
    hard_until: Option<Instant>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_rules_hold_under_any_sequence_of_events(events in prop::collection::vec(event(), 1..120)) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        // Calls under way, and how often the breaker had changed when they were sent.
        let mut calls: Vec<(Ticket, usize)> = Vec::new();
        for event in events {
            let now = bench.now;
            match event {
                Event::Pass(millis) => bench.now += Duration::from_millis(millis),
                Event::Admit => if let Ok(ticket) = bench.breaker.admit(now) {
                    prop_assert!(model.hard_until.is_none_or(|until| until <= now));
                    prop_assert!(model.open_until.is_none_or(|until| until <= now && ticket.probe));
                    calls.push((ticket, model.changes));
                }
                Event::Force => if let Some(ticket) = bench.breaker.force(now) {
                    prop_assert!(model.hard_until.is_none_or(|until| until <= now));
                    prop_assert!(model.open_until.is_none() || ticket.probe);
                    calls.push((ticket, model.changes));
                }
                Event::Report(_, _) | Event::Drop(_) if calls.is_empty() => {}
                Event::Drop(i) => {
                    let mut call = calls.swap_remove(i % calls.len());
                    bench.breaker.release(&mut call.0);
                }
                Event::Report(i, outcome) => {
                    let (mut ticket, sent_at) = calls.swap_remove(i % calls.len());
                    let (probe, current) = (ticket.probe, sent_at == model.changes);
                    let change = bench.report(&mut ticket, outcome);
                    let mut expected_open = model.open_until;
                    match outcome {
                        Outcome::Success if current && (model.open_until.is_none() || probe) => {
                            model.failures_in_a_row = 0;
                            expected_open = None;
                        }
                        Outcome::Failure if current && model.open_until.is_none() => {
                            model.failures_in_a_row += 1;
                            if model.failures_in_a_row == 3 {
                                (model.failures_in_a_row, model.failed_probes) = (0, 0);
                                expected_open = Some(now + 5 * SECOND);
                            }
                        }
                        Outcome::Failure if current && probe => {
                            model.failed_probes += 1;
                            let rest = (5 * SECOND * (1 << model.failed_probes.min(6))).min(60 * SECOND);
                            expected_open = expected_open.max(Some(now + rest));
                        }
                        Outcome::RateLimited { retry_after: Some(wait) } if !wait.is_zero() => {
                            model.hard_until = model.hard_until.max(Some(now + wait));
                        }
                        _ => {}
                    }
                    model.changes += usize::from(expected_open.is_some() != model.open_until.is_some());
                    prop_assert_eq!(expected_open.is_some() && model.open_until.is_none(),
                        matches!(change, Some(Change::Opened { .. })));
                    prop_assert_eq!(expected_open.is_none() && model.open_until.is_some(),
                        change == Some(Change::Closed));
                    model.open_until = expected_open;
                }
            }
            prop_assert_eq!(bench.breaker.open.as_ref().map(|open| open.until), model.open_until);
            prop_assert!(calls.iter().filter(|(ticket, _)| ticket.probe).count() <= 1, "one probe at a time");
        }
        // Whatever happened, once calls have ended and rests are over it can be used, and a success makes it well.
        for (ticket, _) in &mut calls {
            bench.breaker.release(ticket);
        }
        bench.now += LONGEST_LIMIT;
        bench.call(Outcome::Success);
        prop_assert_eq!(bench.breaker.standing(bench.now), Standing::Closed);
        prop_assert!(bench.breaker.is_quiet());
    }
}
