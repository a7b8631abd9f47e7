//! Counters in this process: for a gateway that has no replicas, and for one that cannot ask them.
//!
//! A take locks its counters in the order of their ids, looks at all of them, then changes all of them: it is atomic,
//! a refusal has changed nothing, and a limit of L admits exactly L.

mod pot;
mod table;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use prometheus::IntCounter;
use smallvec::SmallVec;

use self::table::{Counter, Table};
pub(in crate::shared) use self::{
    pot::{Now, Part, Pot},
    table::MAX_COUNTERS,
};
use super::{
    CounterId, Level, Refusal, Spent, Take, Window,
    history::{History, Past},
};
use crate::types::Clock;

/// Names that [`Memory::once`] remembers.
const MAX_NAMES: usize = 100_000;

/// Takes of one call that need no memory of their own.
const USUAL: usize = 12;

/// The counters of one process.
#[derive(Debug)]
pub(super) struct Memory {
    clock: Clock,
    began: Instant,
    began_at: u64,
    table: Table,
    pub(super) history: History,
    names: Mutex<HashMap<Box<str>, Instant>>,
}

/// What a hold has of one counter.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: CounterId,
    counter: Arc<Counter>,
    parts: SmallVec<[Part; 2]>,
}

impl Held {
    pub(super) fn amount(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.amount))
    }

    pub(super) fn window(&self) -> Window {
        self.counter.pot().window()
    }

    pub(super) fn has_history(&self) -> bool {
        self.counter.history.load(Relaxed)
    }
}

impl Memory {
    /// Counters for a process that has just begun, so that their history is lost.
    pub(super) fn new(clock: Clock, most: usize, overflowed: IntCounter) -> Self {
        Self {
            began: clock.now(),
            began_at: clock.unix_millis(),
            clock,
            table: Table::new(most, overflowed),
            history: History::new(Past::Lost),
            names: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Now {
        let elapsed = self.clock.now().saturating_duration_since(self.began).as_millis();
        let steady = self.began_at.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX));
        Now { steady, wall: self.clock.unix_millis() }
    }

    /// When it began to count, in Unix milliseconds.
    pub(super) fn began_at(&self) -> u64 {
        self.began_at
    }

    /// Waits for history where a take needs it.
    pub(super) async fn ready(&self, takes: &[Take]) -> Result<(), Refusal> {
        match takes.iter().position(|take| take.needs_history) {
            Some(index) if !self.history.known(&self.clock).await => Err(Refusal::Unavailable { index }),
            _ => Ok(()),
        }
    }

    /// Takes all of `takes` on top of `held`, or nothing. `levels` gets what their counters hold afterwards.
    pub(super) fn take(
        &self,
        held: &mut Vec<Held>,
        levels: &mut Vec<(CounterId, Level)>,
        takes: &[Take],
    ) -> Result<(), Refusal> {
        let now = self.now();
        let mut wanted: SmallVec<[(usize, Arc<Counter>); USUAL]> = takes
            .iter()
            .enumerate()
            .map(|(index, take)| {
                let counter = held.iter().find(|held| held.id == take.counter).map(|held| held.counter.clone());
                (index, counter.unwrap_or_else(|| self.table.get(take.counter, take.window, now)))
            })
            .collect();
        wanted.sort_unstable_by_key(|(index, counter)| (counter.id(), *index));

        // Two takes of one counter are behind one lock: the second finds the first's.
        let mut locks: SmallVec<[MutexGuard<'_, Pot>; USUAL]> = SmallVec::new();
        let mut places: SmallVec<[usize; USUAL]> = SmallVec::new();
        for (place, (_, counter)) in wanted.iter().enumerate() {
            if place == 0 || wanted[place - 1].1.id() != counter.id() {
                locks.push(counter.pot());
            }
            places.push(locks.len() - 1);
        }
        if let Some(refusal) = worst(takes, &wanted, &places, &mut locks, now) {
            return Err(refusal);
        }
        for ((index, counter), place) in wanted.iter().zip(&places) {
            let (take, pot) = (&takes[*index], &mut locks[*place]);
            if take.needs_history {
                counter.history.store(true, Relaxed);
            }
            let part = pot.take(now, take.amount);
            note_level(levels, take.counter, level(pot, now));
            match held.iter_mut().find(|held| held.id == take.counter) {
                Some(held) => held.grow(part),
                None => {
                    held.push(Held {
                        id: take.counter,
                        counter: counter.clone(),
                        parts: SmallVec::from_slice(&[part]),
                    });
                }
            }
        }
        Ok(())
    }

    /// Ends what is held: of each counter what `actual` says was consumed, and nothing of those it does not name.
    pub(super) fn end(&self, held: impl IntoIterator<Item = Held>, actual: &[(CounterId, u64)]) {
        let now = self.now();
        for held in held {
            let consumed = actual.iter().filter(|(id, _)| *id == held.id);
            let consumed = consumed.fold(0_u64, |sum, (_, amount)| sum.saturating_add(*amount));
            held.counter.pot().end(now, &held.parts, consumed);
        }
    }

    pub(super) fn add(&self, amounts: &[(CounterId, Window, u64)]) {
        let now = self.now();
        for (id, window, amount) in amounts {
            self.table.get(*id, *window, now).pot().add(now, *amount);
        }
    }

    pub(super) fn read(&self, counters: &[(CounterId, Window)]) -> Vec<Level> {
        let now = self.now();
        let read = |(id, _): &(CounterId, Window)| {
            self.table.find(*id).map_or_else(Level::default, |counter| level(&mut counter.pot(), now))
        };
        counters.iter().map(read).collect()
    }

    /// Sets what was spent of the counters that `spent` names.
    pub(super) fn put(&self, spent: &[Spent]) {
        let now = self.now();
        for entry in spent {
            self.table.get(entry.counter, entry.window, now).pot().forget_spent();
        }
        self.add_past(spent);
    }

    /// Adds what was spent before, each at its moment.
    pub(super) fn add_past(&self, spent: &[Spent]) {
        let now = self.now();
        for entry in spent {
            let age = now.wall.saturating_sub(entry.at);
            let then = Now { steady: now.steady.saturating_sub(age), wall: now.wall };
            self.table.get(entry.counter, entry.window, now).pot().add(then, entry.amount);
        }
    }

    /// Takes out what was spent, with the moments by the steady clock: to be told to others.
    pub(super) fn take_spent(&self) -> Vec<Spent> {
        let (now, mut spent) = (self.now(), Vec::new());
        self.table.each(|counter| {
            let mut pot = counter.pot();
            let (id, window) = (counter.id(), pot.window());
            pot.take_spent(now, |amount, at| spent.push(Spent { counter: id, window, amount, at }));
        });
        spent
    }

    /// Forgets what was spent of counters that the ledger knows: they are being rebuilt from it.
    pub(super) fn forget_what_the_ledger_knows(&self) {
        self.table.each(|counter| {
            if counter.history.load(Relaxed) {
                counter.pot().forget_spent();
            }
        });
    }

    /// Whether nobody has said `name` within its time.
    pub(super) fn once(&self, name: &str, ttl: Duration) -> bool {
        let now = self.clock.now();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.get(name).is_some_and(|until| *until > now) {
            return false;
        }
        if names.len() >= MAX_NAMES {
            names.retain(|_, until| *until > now);
        }
        // Beyond that something is said twice rather than never.
        if names.len() < MAX_NAMES {
            names.insert(name.into(), now + ttl);
        }
        true
    }

    /// Counters there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

impl Held {
    fn grow(&mut self, part: Part) {
        match self.parts.last_mut() {
            Some(last) if last.bucket == part.bucket => last.amount = last.amount.saturating_add(part.amount),
            _ => self.parts.push(part),
        }
    }
}

/// Of the takes that do not fit, the one that will last.
fn worst(
    takes: &[Take],
    wanted: &[(usize, Arc<Counter>)],
    places: &[usize],
    locks: &mut [MutexGuard<'_, Pot>],
    now: Now,
) -> Option<Refusal> {
    let mut worst: Option<(Option<u64>, Refusal)> = None;
    let (mut last, mut more) = (usize::MAX, 0_u64);
    for ((index, _), place) in wanted.iter().zip(places) {
        let (take, pot) = (&takes[*index], &mut locks[*place]);
        more = if last == *place { more.saturating_add(take.amount) } else { take.amount };
        last = *place;
        let wait = pot.wait(now, more, take.limit);
        if wait == Some(0) {
            continue;
        }
        let later = |than: &Option<u64>| wait.unwrap_or(u64::MAX) > than.unwrap_or(u64::MAX);
        if worst.as_ref().is_none_or(|(than, _)| later(than)) {
            let retry_after = wait.map(Duration::from_millis);
            worst = Some((wait, Refusal::Short { index: *index, level: level(pot, now), retry_after }));
        }
    }
    worst.map(|(_, refusal)| refusal)
}

fn level(pot: &mut Pot, now: Now) -> Level {
    Level { used: pot.used(now), resets_in: Duration::from_millis(pot.resets_in(now)) }
}

/// Keeps one level for each counter, the newest.
pub(super) fn note_level(levels: &mut Vec<(CounterId, Level)>, id: CounterId, level: Level) {
    match levels.iter_mut().find(|(known, _)| *known == id) {
        Some((_, known)) => *known = level,
        None => levels.push((id, level)),
    }
}
