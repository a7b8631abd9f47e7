//! The breaker of one key of one target: a state machine that is told the time and does nothing but count.
//!
//! ```text
//!           failures in a row, or share of failures            rest is over
//!   closed ───────────────────────────────────────────▶ open ───────────────▶ half-open
//!     ▲                                                  ▲  rest doubled          │ one probe
//!     │                                                  └──────── failure ───────┤
//!     └────────────────────────────────────────────────────────── success ────────┘
//! ```
//!
//! A rate limit is not a failure and stands beside this. With a `Retry-After` it is *hard*: nothing is sent before
//! that time, not even a probe. Without one it is *soft*: a guess, doubled each time the limit is still there.
//!
//! Many calls may be under way when something changes. A call that was sent before the breaker last opened or closed
//! says nothing about the time since, so its report is not counted; likewise a hundred calls that meet one rate limit
//! double its rest once. Each call carries a [`Ticket`] that tells in which epoch it was sent.

use std::time::{Duration, Instant};

use super::{
    Outcome, Rest,
    window::{Counts, Window},
};
use crate::routing::settings::HealthSettings;

/// The first rest after a rate limit without `Retry-After`.
const FIRST_LIMIT: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that is believed. Daily quotas end within it; beyond it lies a misprint.
const LONGEST_LIMIT: Duration = Duration::from_secs(86_400);
/// How soon the outcome of a probe that is out may be expected: a guess, for those who would wait for it.
pub(super) const PROBE_GUESS: Duration = Duration::from_secs(1);

/// The state of one key of one target.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// `None`: closed.
    open: Option<Open>,
    /// A probe is out: nobody else may go until it is back.
    probing: bool,
    /// Grows each time the breaker opens or closes.
    epoch: u32,
    /// Failures since the last success.
    in_a_row: u32,
    /// Successes so far, for taking back one that was followed by no other.
    successes: u32,
    window: Window,
    limit: Limit,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    failed_probes: u32,
}

#[derive(Debug, Default)]
struct Limit {
    hard: Option<Instant>,
    soft: Option<Instant>,
    /// Rate limits without `Retry-After` since the last success.
    in_a_row: u32,
    /// Grows with each limit that was met by a call sent after the last one.
    epoch: u32,
}

/// What a call knows of the breaker that let it go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ticket {
    /// The call is the probe. Cleared once it has been reported.
    pub(super) probe: bool,
    epoch: u32,
    limit_epoch: u32,
    success: Option<Success>,
}

/// A success that may yet be taken back, because the stream died after its first output.
#[derive(Clone, Copy, Debug)]
struct Success {
    /// Its number among the successes of the breaker.
    number: u32,
    /// Failures in a row before it.
    in_a_row: u32,
}

/// Why a call may not go, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resting {
    pub(super) until: Instant,
    pub(super) why: Rest,
}

/// A change worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened { failures: u32, rest: Duration },
    Reopened { rest: Duration },
    Closed,
    Limited { rest: Duration, hard: bool },
}

/// Where the breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Closed,
    /// Rest is over; a probe is out or may go.
    HalfOpen {
        probing: bool,
    },
    Open {
        until: Instant,
    },
    Limited {
        until: Instant,
        hard: bool,
    },
}

impl Breaker {
    pub(super) fn standing(&self, now: Instant) -> Standing {
        let later = |at: &Option<Instant>| at.filter(|at| *at > now);
        let open = self.open.as_ref();
        match (later(&self.limit.hard).max(later(&self.limit.soft)), open) {
            (Some(until), open) if open.is_none_or(|open| open.until <= until) => {
                Standing::Limited { until, hard: later(&self.limit.hard).is_some() }
            }
            (_, Some(open)) if open.until > now => Standing::Open { until: open.until },
            (_, Some(_)) => Standing::HalfOpen { probing: self.probing },
            (_, None) => Standing::Closed,
        }
    }

    /// Why a call may not go at `now`; `None` if it may.
    pub(super) fn resting(&self, now: Instant) -> Option<Resting> {
        match self.standing(now) {
            Standing::Closed | Standing::HalfOpen { probing: false } => None,
            Standing::HalfOpen { probing: true } => Some(Resting { until: now + PROBE_GUESS, why: Rest::Failing }),
            Standing::Open { until } => Some(Resting { until, why: Rest::Failing }),
            Standing::Limited { until, .. } => Some(Resting { until, why: Rest::RateLimited }),
        }
    }

    /// Lets a call go if nothing is resting. In the half-open state it is the probe.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Ticket, Resting> {
        match self.resting(now) {
            Some(resting) => Err(resting),
            None => Ok(self.issue(self.open.is_some())),
        }
    }

    /// Lets a probe go before its time. `None` under a hard limit, or if a probe is out.
    pub(super) fn force(&mut self, now: Instant) -> Option<Ticket> {
        self.forcible(now).then(|| self.issue(self.standing(now) != Standing::Closed))
    }

    /// Whether [`Breaker::force`] would let a call go.
    pub(super) fn forcible(&self, now: Instant) -> bool {
        match self.standing(now) {
            Standing::Closed => true,
            _ => !self.probing && self.limit.hard.is_none_or(|until| until <= now),
        }
    }

    /// Whether nothing is held against the target: a fresh breaker would do the same, but for the share of failures.
    pub(super) fn is_quiet(&self) -> bool {
        let limit = &self.limit;
        self.open.is_none() && !self.probing && self.in_a_row == 0 && limit.hard.is_none() && limit.soft.is_none()
    }

    fn issue(&mut self, probe: bool) -> Ticket {
        self.probing |= probe;
        Ticket { probe, epoch: self.epoch, limit_epoch: self.limit.epoch, success: None }
    }

    /// Counts what became of a call.
    pub(super) fn report(
        &mut self,
        ticket: &mut Ticket,
        outcome: Outcome,
        now: Instant,
        settings: &HealthSettings,
    ) -> Option<Change> {
        // A probe of a soft limit may have been overtaken by the breaker's opening; then it says as little as the others.
        let probe = ticket.probe && ticket.epoch == self.epoch;
        self.release(ticket);
        match outcome {
            Outcome::Success => self.succeeded(ticket, probe, now, settings),
            Outcome::Failure => self.failed(ticket, probe, now, settings),
            Outcome::RateLimited { retry_after } => self.limited(ticket, retry_after, now, settings),
            Outcome::KeyRefused | Outcome::NoFault => None,
        }
    }

    /// Takes back a probe, so that another may go.
    pub(super) fn release(&mut self, ticket: &mut Ticket) {
        if std::mem::take(&mut ticket.probe) {
            self.probing = false;
        }
    }

    fn succeeded(
        &mut self,
        ticket: &mut Ticket,
        probe: bool,
        now: Instant,
        settings: &HealthSettings,
    ) -> Option<Change> {
        if ticket.limit_epoch == self.limit.epoch {
            // A hard limit stands until its time: an older call may have brought it while this one was under way.
            self.limit.hard = self.limit.hard.filter(|until| *until > now);
            self.limit.soft = None;
            self.limit.in_a_row = 0;
        }
        let mut change = None;
        if probe && self.open.take().is_some() {
            self.turn();
            ticket.epoch = self.epoch;
            // Should the probe's stream die after all, this one failure is enough to open again.
            self.in_a_row = settings.consecutive_failures.saturating_sub(1);
            change = Some(Change::Closed);
        }
        if ticket.epoch == self.epoch && self.open.is_none() {
            self.successes = self.successes.wrapping_add(1);
            ticket.success = Some(Success { number: self.successes, in_a_row: self.in_a_row });
            self.in_a_row = 0;
            self.window.add(Counts { calls: 1, failures: 0 }, now, settings.window.0);
        }
        change
    }

    fn failed(&mut self, ticket: &mut Ticket, probe: bool, now: Instant, settings: &HealthSettings) -> Option<Change> {
        if let Some(open) = &mut self.open {
            if !probe {
                return None;
            }
            let was_due = open.until <= now;
            open.failed_probes = open.failed_probes.saturating_add(1);
            let rest = doubled(settings.rest.0, open.failed_probes, settings.max_rest.0);
            open.until = open.until.max(now + rest);
            return was_due.then_some(Change::Reopened { rest });
        }
        if ticket.epoch != self.epoch {
            return None;
        }
        let success = ticket.success.take();
        if let Some(success) = success
            && success.number == self.successes
        {
            self.in_a_row = self.in_a_row.saturating_add(success.in_a_row);
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        // A success that is taken back has already been counted as a call.
        self.window.add(Counts { calls: u32::from(success.is_none()), failures: 1 }, now, settings.window.0);
        let recent = self.window.total(now, settings.window.0);
        let share = f64::from(recent.failures) / f64::from(recent.calls.max(1));
        let mostly = recent.calls >= settings.min_calls && share >= settings.failure_ratio;
        if self.in_a_row < settings.consecutive_failures && !mostly {
            return None;
        }
        let failures = self.in_a_row.max(if mostly { recent.failures } else { 0 });
        let rest = doubled(settings.rest.0, 0, settings.max_rest.0);
        self.turn();
        self.open = Some(Open { until: now + rest, failed_probes: 0 });
        Some(Change::Opened { failures, rest })
    }

    fn limited(
        &mut self,
        ticket: &Ticket,
        retry_after: Option<Duration>,
        now: Instant,
        settings: &HealthSettings,
    ) -> Option<Change> {
        let was_limited = matches!(self.standing(now), Standing::Limited { .. });
        let is_new = ticket.limit_epoch == self.limit.epoch;
        self.limit.epoch = self.limit.epoch.wrapping_add(u32::from(is_new));
        let (rest, hard) = match retry_after {
            Some(wait) if !wait.is_zero() => (wait.min(LONGEST_LIMIT), true),
            _ => {
                self.limit.in_a_row = self.limit.in_a_row.saturating_add(u32::from(is_new)).max(1);
                (doubled(FIRST_LIMIT, self.limit.in_a_row - 1, settings.max_rest.0), false)
            }
        };
        let deadline = if hard { &mut self.limit.hard } else { &mut self.limit.soft };
        *deadline = (*deadline).max(Some(now + rest));
        (!was_limited).then_some(Change::Limited { rest, hard })
    }

    /// Begins a new epoch with nothing counted.
    fn turn(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.in_a_row = 0;
        self.window = Window::default();
    }
}

/// `base × 2^times`, at most `max`.
fn doubled(base: Duration, times: u32, max: Duration) -> Duration {
    base.saturating_mul(1 << times.min(31)).min(max)
}

#[cfg(test)]
mod tests {
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
}
