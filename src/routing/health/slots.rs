//! The keys of a target, and the choice among them.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use super::{
    Acquire, Known, Permit, Rest, SlotHealth, SlotState,
    breaker::{Breaker, Resting, Standing, Ticket},
    key::{KeyHealth, KeyTicket},
};
use crate::{
    providers::{Provider, ProviderKey},
    routing::settings::HealthSettings,
};

/// The keys of one target.
#[derive(Debug)]
pub(in crate::routing) struct Slots {
    slots: Vec<Arc<Slot>>,
    /// Where the next look for a key begins, so that equals take turns.
    turn: AtomicUsize,
}

/// One key of one target, as one snapshot of the settings sees it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) label: Arc<str>,
    /// The upstream's name of the model.
    pub(super) upstream: Arc<str>,
    pub(super) key: Arc<ProviderKey>,
    pub(super) settings: Arc<HealthSettings>,
    record: Arc<Record>,
    pub(super) key_health: Arc<KeyHealth>,
}

/// What has been learnt about one key of one target: outlives a reload.
#[derive(Debug, Default)]
pub(super) struct Record {
    breaker: Mutex<Breaker>,
    in_flight: AtomicU32,
}

impl Slots {
    /// One slot per key of `provider` for calls to its model `upstream`, with what is `known` about each.
    pub(in crate::routing) fn new(
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
    pub(in crate::routing) fn acquire(&self, now: Instant) -> Acquire {
        if let [slot] = self.slots.as_slice() {
            return slot.admit(now).map_or_else(Acquire::from, Acquire::Ready);
        }
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
        // `None` only if there are no keys; a provider has at least one.
        first.unwrap_or(Resting { until: now, why: Rest::Failing }).into()
    }

    /// A probe before its time, on the key whose rest ends first; never on one under a `Retry-After` or with a probe
    /// out.
    pub(in crate::routing) fn acquire_forced(&self, now: Instant) -> Option<Permit> {
        let forcible = self.slots.iter().filter(|slot| slot.forcible(now));
        let mut by_end: Vec<_> = forcible.map(|slot| (slot.resting(now).map(|resting| resting.until), slot)).collect();
        // `None`, not resting at all, sorts first.
        by_end.sort_by_key(|(until, _)| *until);
        by_end.into_iter().find_map(|(_, slot)| slot.force(now))
    }

    /// When the first key ends its rest; `None` if one is ready now.
    pub(in crate::routing) fn ready_at(&self, now: Instant) -> Option<Instant> {
        self.best(now).err().map(|resting| resting.until)
    }

    pub(in crate::routing) fn snapshot(&self, now: Instant) -> impl Iterator<Item = SlotHealth> {
        self.slots.iter().map(move |slot| slot.snapshot(now))
    }

    /// Whether nothing is under way and nothing is held against any key, so that forgetting changes nothing.
    pub(in crate::routing) fn is_quiet(&self) -> bool {
        self.slots.iter().all(|slot| slot.record.in_flight.load(Relaxed) == 0 && slot.breaker().is_quiet())
    }

    /// The least busy slot that is well, or the end of the first rest.
    fn best(&self, now: Instant) -> Result<&Arc<Slot>, Resting> {
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

    /// To be called when a permit ends.
    pub(super) fn leave(&self) {
        self.record.in_flight.fetch_sub(1, Relaxed);
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Nothing panics while the lock is held, and what a panic would leave behind would still be counts.
        self.record.breaker.lock().unwrap_or_else(PoisonError::into_inner)
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
