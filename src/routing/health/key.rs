//! The health of a provider's key as such. A key that was refused (401, 403) or has no money left (402) is so for every
//! target, so all targets of the provider that use the key share this.
//!
//! The rest is soft: nothing says that the key will not be repaired sooner, so a forced probe may use it at once.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Rest, breaker::PROBE_GUESS, breaker::Resting};

/// Whether a key is accepted.
#[derive(Debug, Default)]
pub(super) struct KeyHealth {
    /// Even: accepted; odd: refused. Grows with each change, under the lock; read without it, since every call asks.
    epoch: AtomicU32,
    refusal: Mutex<Refusal>,
}

/// What is known about a refused key.
#[derive(Debug, Default)]
struct Refusal {
    until: Option<Instant>,
    probing: bool,
}

/// What a call knows of the key it was sent with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyTicket {
    probe: bool,
    epoch: u32,
}

impl KeyHealth {
    /// Why and until when the key is avoided; `None` if it is not.
    pub(super) fn resting(&self, now: Instant) -> Option<Resting> {
        if self.accepted() {
            return None;
        }
        self.refusal().resting(now)
    }

    /// Lets a call use the key, as a probe if it was refused and its rest is over.
    pub(super) fn admit(&self, now: Instant) -> Result<KeyTicket, Resting> {
        if self.accepted() {
            return Ok(self.ticket(false));
        }
        let mut refusal = self.refusal();
        match refusal.resting(now) {
            Some(resting) => Err(resting),
            None => Ok(self.issue(&mut refusal)),
        }
    }

    /// Lets a probe use the key before its rest is over; `None` if one is out.
    pub(super) fn force(&self) -> Option<KeyTicket> {
        if self.accepted() {
            return Some(self.ticket(false));
        }
        let mut refusal = self.refusal();
        (!refusal.probing).then(|| self.issue(&mut refusal))
    }

    /// Whether [`KeyHealth::force`] would let a call go.
    pub(super) fn forcible(&self) -> bool {
        self.accepted() || !self.refusal().probing
    }

    /// The key was refused. Returns whether that is news.
    pub(super) fn refused(&self, ticket: &mut KeyTicket, rest: Duration, now: Instant) -> bool {
        let mut refusal = self.refusal();
        refusal.release(ticket);
        let is_news = self.accepted();
        if is_news && ticket.epoch != self.epoch.load(Ordering::Relaxed) {
            // Sent before the key was repaired.
            return false;
        }
        if is_news {
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
        refusal.until = refusal.until.max(Some(now + rest));
        is_news
    }

    /// The key was accepted. Returns whether that is news.
    pub(super) fn worked(&self, ticket: &mut KeyTicket) -> bool {
        if self.accepted() && !ticket.probe {
            return false;
        }
        let mut refusal = self.refusal();
        refusal.release(ticket);
        let is_news = !self.accepted() && ticket.epoch == self.epoch.load(Ordering::Relaxed);
        if is_news {
            self.epoch.fetch_add(1, Ordering::Relaxed);
            *refusal = Refusal::default();
        }
        is_news
    }

    /// Takes back a probe that ended without word about the key.
    pub(super) fn release(&self, ticket: &mut KeyTicket) {
        if ticket.probe {
            self.refusal().release(ticket);
        }
    }

    fn accepted(&self) -> bool {
        self.epoch.load(Ordering::Relaxed).is_multiple_of(2)
    }

    fn issue(&self, refusal: &mut Refusal) -> KeyTicket {
        // Between the look without the lock and now, the key may have been accepted again: then nothing is refused.
        let probe = !self.accepted();
        refusal.probing |= probe;
        self.ticket(probe)
    }

    fn ticket(&self, probe: bool) -> KeyTicket {
        KeyTicket { probe, epoch: self.epoch.load(Ordering::Relaxed) }
    }

    fn refusal(&self) -> MutexGuard<'_, Refusal> {
        // Nothing panics while the lock is held, and what a panic would leave behind would still be a deadline.
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusal {
    fn resting(&self, now: Instant) -> Option<Resting> {
        let until = self.until.filter(|until| *until > now).or(self.probing.then(|| now + PROBE_GUESS))?;
        Some(Resting { until, why: Rest::KeyRefused })
    }

    fn release(&mut self, ticket: &mut KeyTicket) {
        if std::mem::take(&mut ticket.probe) {
            self.probing = false;
        }
    }
}
