//! How targets and keys have been doing, and which key of a target the next attempt may use.
//!
//! A target has a *slot* for each key of its provider: a breaker and a count of attempts under way. Targets of several
//! models that mean the same upstream model share their breakers and counts, and all targets of a provider share what
//! is known about its keys as such. Both outlive a reload as long as provider, address, model and key stay the same
//! ([`Known`]).

mod breaker;
mod key;
mod known;
mod window;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

pub(super) use self::known::Known;
use self::{
    breaker::{Breaker, Change, Resting, Standing, Ticket},
    key::{KeyHealth, KeyTicket},
};
use super::settings::HealthSettings;
use crate::providers::{Provider, ProviderKey};

/// What came of asking a target for a key.
#[derive(Debug)]
pub enum Acquire {
    Ready(Permit),
    /// Every key is resting; `until` is when the first one ends.
    Resting {
        until: Instant,
        why: Rest,
    },
}

/// Why a key of a target is resting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Its calls failed.
    Failing,
    /// The provider said 429.
    RateLimited,
    /// The provider refused the key, or the key has no money left.
    KeyRefused,
}

/// What became of an attempt, as far as health is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Real output is in hand.
    Success,
    /// The target failed: no connection, a time-out, a 5xx, an empty answer, a stream that died.
    Failure,
    /// The provider said 429. With `retry_after` nothing is sent before that time has passed.
    RateLimited { retry_after: Option<Duration> },
    /// The provider refused the key as such (401, 403) or it has no money left (402). A refusal of one *model* is
    /// [`Outcome::NoFault`]: this rests the key for all targets.
    KeyRefused,
    /// The client's own fault: a permanent 4xx. Says nothing about the target.
    NoFault,
}

/// The right to one attempt on one key of one target. It counts as under way until dropped. Dropped without a report it
/// gives back a probe and counts as neither success nor failure.
#[derive(Debug)]
pub struct Permit {
    slot: Arc<Slot>,
    ticket: Ticket,
    key_ticket: KeyTicket,
}

/// How one key of one target is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotHealth {
    /// The target's label.
    pub target: Arc<str>,
    /// The upstream's name of the model. A target with a `*` has a row for each model that it was called for, up to a
    /// bound; the row with a `*` stands for all others.
    pub model: Arc<str>,
    /// The key's place in its provider's list.
    pub key: usize,
    pub state: SlotState,
    /// When its rest ends; `None` if it is not resting.
    pub until: Option<Instant>,
    /// Attempts under way.
    pub in_flight: u32,
}

/// The state of one key of one target, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotState {
    Closed,
    /// Its rest is over; the next call is a probe, or one is out.
    HalfOpen,
    Limited,
    Open,
    KeyRefused,
}

/// The keys of one target.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Arc<Slot>>,
    /// Where the next look for a key begins, so that equals take turns.
    turn: AtomicUsize,
}

/// One key of one target, as one snapshot of the settings sees it.
#[derive(Debug)]
struct Slot {
    label: Arc<str>,
    /// The upstream's name of the model.
    upstream: Arc<str>,
    key: Arc<ProviderKey>,
    settings: Arc<HealthSettings>,
    record: Arc<Record>,
    key_health: Arc<KeyHealth>,
}

/// What has been learnt about one key of one target: outlives a reload.
#[derive(Debug, Default)]
struct Record {
    breaker: Mutex<Breaker>,
    in_flight: AtomicU32,
}

impl Slots {
    /// One slot per key of `provider` for calls to its model `upstream`, with what is `known` about each.
    pub(super) fn new(
        provider: &Provider,
        label: &Arc<str>,
        upstream: &Arc<str>,
        settings: &Arc<HealthSettings>,
        known: &Known,
    ) -> Self {
        let slots = provider.keys.iter().map(|key| {
            let (record, key_health) = known.of(provider, key, upstream);
            let (label, upstream) = (label.clone(), upstream.clone());
            Arc::new(Slot { label, upstream, key: key.clone(), settings: settings.clone(), record, key_health })
        });
        Self { slots: slots.collect(), turn: AtomicUsize::new(0) }
    }

    /// The least busy key that is well, taking turns among equals.
    pub(super) fn acquire(&self, now: Instant) -> Acquire {
        // Between the look and the admission another call may take the probe that was seen. Each round loses at most
        // one key that way, so this many rounds are enough to have tried them all.
        let mut first = None;
        for _ in 0..self.slots.len() {
            let slot = match self.best(now) {
                Ok(slot) => slot,
                Err(resting) => return resting.into(),
            };
            match slot.admit(now) {
                Ok(permit) => return Acquire::Ready(permit),
                Err(resting) => first = earliest(first, resting),
            }
        }
        // A provider has at least one key, so that there was at least one round.
        first.unwrap_or(Resting { until: now, why: Rest::Failing }).into()
    }

    /// A probe before its time, on the key whose rest ends first; never on one under a `Retry-After` or with a probe
    /// out.
    pub(super) fn acquire_forced(&self, now: Instant) -> Option<Permit> {
        let forcible = self.slots.iter().filter(|slot| slot.forcible(now));
        let mut by_end: Vec<_> = forcible.map(|slot| (slot.resting(now).map(|resting| resting.until), slot)).collect();
        // `None`, not resting at all, sorts first.
        by_end.sort_by_key(|(until, _)| *until);
        by_end.into_iter().find_map(|(_, slot)| slot.force(now))
    }

    /// When the first key ends its rest; `None` if one is ready now.
    pub(super) fn ready_at(&self, now: Instant) -> Option<Instant> {
        self.best(now).err().map(|resting| resting.until)
    }

    pub(super) fn snapshot(&self, now: Instant) -> impl Iterator<Item = SlotHealth> {
        self.slots.iter().map(move |slot| slot.snapshot(now))
    }

    /// Whether nothing is under way and nothing is held against any key, so that forgetting changes nothing.
    pub(super) fn is_quiet(&self) -> bool {
        self.slots.iter().all(|slot| slot.record.in_flight.load(Relaxed) == 0 && slot.breaker().is_quiet())
    }

    /// The least busy slot that is well, or the end of the first rest.
    fn best(&self, now: Instant) -> Result<&Arc<Slot>, Resting> {
        if let [slot] = self.slots.as_slice() {
            return slot.resting(now).map_or(Ok(slot), Err);
        }
        let (mut best, mut first) = (None, None);
        let turn = self.turn.fetch_add(1, Relaxed) % self.slots.len().max(1);
        for slot in self.slots[turn..].iter().chain(&self.slots[..turn]) {
            match slot.resting(now) {
                Some(resting) => first = earliest(first, resting),
                None => {
                    let busy = slot.record.in_flight.load(Relaxed);
                    if best.is_none_or(|(least, _)| busy < least) {
                        best = Some((busy, slot));
                    }
                }
            }
        }
        best.map(|(_, slot)| slot).ok_or(first.unwrap_or(Resting { until: now, why: Rest::Failing }))
    }
}

impl Slot {
    /// Why and until when the slot rests: the later of the key's rest and its own.
    fn resting(&self, now: Instant) -> Option<Resting> {
        let of_key = self.key_health.resting(now);
        let own = self.breaker().resting(now);
        [of_key, own].into_iter().flatten().max_by_key(|resting| resting.until)
    }

    fn admit(self: &Arc<Self>, now: Instant) -> Result<Permit, Resting> {
        let mut key_ticket = self.key_health.admit(now)?;
        let admitted = self.breaker().admit(now);
        match admitted {
            Ok(ticket) => Ok(self.permit(ticket, key_ticket)),
            Err(resting) => {
                self.key_health.release(&mut key_ticket);
                Err(resting)
            }
        }
    }

    fn forcible(&self, now: Instant) -> bool {
        self.key_health.forcible() && self.breaker().forcible(now)
    }

    fn force(self: &Arc<Self>, now: Instant) -> Option<Permit> {
        let mut key_ticket = self.key_health.force()?;
        let forced = self.breaker().force(now);
        if forced.is_none() {
            self.key_health.release(&mut key_ticket);
        }
        Some(self.permit(forced?, key_ticket))
    }

    fn permit(self: &Arc<Self>, ticket: Ticket, key_ticket: KeyTicket) -> Permit {
        self.record.in_flight.fetch_add(1, Relaxed);
        Permit { slot: self.clone(), ticket, key_ticket }
    }

    fn snapshot(&self, now: Instant) -> SlotHealth {
        let of_key = self.key_health.resting(now);
        let own = self.breaker().standing(now);
        let (state, until) = match (own, of_key) {
            (_, Some(resting)) => (SlotState::KeyRefused, Some(resting.until)),
            (Standing::Closed, None) => (SlotState::Closed, None),
            (Standing::HalfOpen { .. }, None) => (SlotState::HalfOpen, None),
            (Standing::Open { until }, None) => (SlotState::Open, Some(until)),
            (Standing::Limited { until, .. }, None) => (SlotState::Limited, Some(until)),
        };
        let in_flight = self.record.in_flight.load(Relaxed);
        SlotHealth {
            target: self.label.clone(),
            model: self.upstream.clone(),
            key: self.key.index,
            state,
            until,
            in_flight,
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Nothing panics while the lock is held, and what a panic would leave behind would still be counts.
        self.record.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, change: Change) {
        let (provider, model, key) = (provider_of(&self.label), &*self.upstream, self.key.index);
        match change {
            Change::Opened { failures, rest } => {
                tracing::warn!(provider, model, key, failures, rest_ms = millis(rest), "target is failing and rests");
            }
            Change::Reopened { rest } => {
                tracing::info!(
                    provider,
                    model,
                    key,
                    rest_ms = millis(rest),
                    "target is still failing and rests longer"
                );
            }
            Change::Closed => tracing::info!(provider, model, key, "target is well again"),
            // Providers that ask for a pause of milliseconds do so many times a second.
            Change::Limited { rest, hard } if rest < Duration::from_secs(1) => {
                tracing::debug!(
                    provider,
                    model,
                    key,
                    retry_after = hard,
                    rest_ms = millis(rest),
                    "target is rate limited"
                );
            }
            Change::Limited { rest, hard } => {
                tracing::warn!(
                    provider,
                    model,
                    key,
                    retry_after = hard,
                    rest_ms = millis(rest),
                    "target is rate limited"
                );
            }
        }
    }
}

impl Permit {
    /// The key to sign the attempt with.
    pub fn key(&self) -> &Arc<ProviderKey> {
        &self.slot.key
    }

    /// Tells health what became of the attempt. A success at the first output may be followed by a failure when the
    /// stream dies: the failure then takes the place of the success.
    pub fn report(&mut self, outcome: Outcome, now: Instant) {
        let Self { slot, ticket, key_ticket } = self;
        let change = slot.breaker().report(ticket, outcome, now, &slot.settings);
        if let Some(change) = change {
            slot.log(change);
        }
        let (provider, key) = (provider_of(&slot.label), slot.key.index);
        match outcome {
            Outcome::Success if slot.key_health.worked(key_ticket) => {
                tracing::info!(provider, key, "provider key is accepted again");
            }
            Outcome::KeyRefused if slot.key_health.refused(key_ticket, slot.settings.dead_key_rest.0, now) => {
                let rest_ms = millis(slot.settings.dead_key_rest.0);
                tracing::warn!(provider, key, rest_ms, "provider key was refused and is avoided");
            }
            Outcome::Success | Outcome::KeyRefused => {}
            Outcome::Failure | Outcome::RateLimited { .. } | Outcome::NoFault => slot.key_health.release(key_ticket),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.slot.record.in_flight.fetch_sub(1, Relaxed);
        if self.ticket.probe {
            self.slot.breaker().release(&mut self.ticket);
        }
        self.slot.key_health.release(&mut self.key_ticket);
    }
}

impl From<Resting> for Acquire {
    fn from(Resting { until, why }: Resting) -> Self {
        Self::Resting { until, why }
    }
}

fn earliest(first: Option<Resting>, other: Resting) -> Option<Resting> {
    Some(first.filter(|first| first.until <= other.until).unwrap_or(other))
}

/// The provider in a label `provider/model`.
fn provider_of(label: &str) -> &str {
    label.split_once('/').map_or(label, |(provider, _)| provider)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
