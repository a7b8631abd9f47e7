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
mod tests;
