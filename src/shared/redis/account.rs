//! What one hold has, here and in Redis, and the queue in which what must be told of it waits.
//!
//! In Redis a hold is a *record* under a number. Usually there is one. There are more when an answer was lost, so that
//! nobody knows whether there is a record; when part of a hold was taken here, because Redis was away; or when a counter
//! is taken again that is being given back.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus::IntGauge;
use smallvec::SmallVec;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::shared::{CounterId, Full, Take, Window, memory::Held};

/// Calls that hold something or wait to be settled.
const PLACES: usize = 100_000;

/// What an epoch is called. Holds that Redis was not told of have none.
pub(super) type Epoch = Arc<str>;

/// One hold's account.
#[derive(Debug)]
pub(in crate::shared) struct Account {
    number: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) records: SmallVec<[Record; 1]>,
    /// Taken here while Redis was away.
    pub(super) local: Vec<Held>,
    /// Slots that Redis counts, counted here as well while it is away.
    pub(super) mirror: Vec<Held>,
    pub(super) ended: bool,
    queued: bool,
    listed: bool,
    place: Option<OwnedSemaphorePermit>,
}

/// What Redis has of a hold.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) number: u64,
    /// The epoch it was last registered in; `None`: it is not in Redis, as far as is known.
    pub(super) epoch: Option<Epoch>,
    pub(super) entries: Vec<Entry>,
    /// Being given back before the hold ends.
    pub(super) returning: Vec<Entry>,
    /// The moment, by Redis's clock, until which a command whose answer was lost may still change it.
    pub(super) until: u64,
    /// It may not exist, and if it does, nothing of it was consumed.
    pub(super) doubtful: bool,
    /// What Redis has is exactly `entries` and `returning`.
    pub(super) sure: bool,
    /// At the end: what was consumed.
    pub(super) actual: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) id: CounterId,
    pub(super) window: Window,
    pub(super) amount: u64,
    pub(super) history: bool,
    /// When it was taken, by Redis's clock; of meaning only where the record is sure.
    pub(super) at: u64,
}

impl Entry {
    pub(super) fn of(take: &Take, at: u64) -> Self {
        Self { id: take.counter, window: take.window, amount: take.amount, history: take.needs_history, at }
    }

    pub(super) fn held(held: &Held) -> Self {
        Self { id: held.id, window: held.window(), amount: held.amount(), history: held.has_history(), at: 0 }
    }

    pub(super) fn parts(&self) -> (CounterId, Window, u64) {
        (self.id, self.window, self.amount)
    }
}

impl Record {
    pub(super) fn new(number: u64, epoch: Option<Epoch>, entries: Vec<Entry>) -> Self {
        Self {
            number,
            epoch,
            entries,
            returning: Vec::new(),
            until: 0,
            doubtful: false,
            sure: false,
            actual: Vec::new(),
        }
    }

    /// Whether its end can be told by what changes: it is as Redis has it in this epoch, and no command is on its way.
    pub(super) fn is_plain(&self, epoch: &Epoch) -> bool {
        self.sure && !self.doubtful && self.until == 0 && self.epoch.as_ref() == Some(epoch)
    }

    /// Whether something must be told of it.
    pub(super) fn is_due(&self, ended: bool) -> bool {
        ended || self.doubtful || !self.returning.is_empty()
    }
}

impl Account {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much of `id` is held, here and in Redis.
    pub(in crate::shared) fn held(&self, id: CounterId) -> u64 {
        let state = self.state();
        let local = state.local.iter().filter(|held| held.id == id).map(Held::amount);
        local.chain(state.records.iter().map(|record| record.held(id))).fold(0, u64::saturating_add)
    }
}

impl Record {
    fn held(&self, id: CounterId) -> u64 {
        let mine = self.entries.iter().filter(|entry| entry.id == id && !self.doubtful);
        mine.fold(0, |sum, entry| sum.saturating_add(entry.amount))
    }
}

impl State {
    pub(super) fn record(&mut self, number: u64) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.number == number)
    }

    /// Divides what was consumed among the records and what was taken here, which is returned; that part is what Redis
    /// does not account for.
    pub(super) fn divide(&mut self, actual: &[(CounterId, u64)]) -> Vec<(CounterId, u64)> {
        let mut here = Vec::new();
        for (id, amount) in actual {
            let mut rest = *amount;
            let taken_here = self.local.iter().any(|held| held.id == *id);
            let mine = |record: &Record| !record.doubtful && record.entries.iter().any(|entry| entry.id == *id);
            let last = self.records.iter().rposition(mine);
            for (index, record) in self.records.iter_mut().enumerate().filter(|(_, record)| mine(record)) {
                let held = record.held(*id);
                let part = if Some(index) == last && !taken_here { rest } else { rest.min(held) };
                rest -= part;
                let first = record.entries.iter().find(|entry| entry.id == *id).copied();
                record.actual.extend(first.map(|entry| Entry { amount: part, ..entry }).filter(|_| part > 0));
            }
            if taken_here {
                here.push((*id, rest));
            }
        }
        here
    }
}

/// All accounts that have something, and those of which something must be told.
#[derive(Debug)]
pub(super) struct Accounts {
    live: Mutex<HashMap<u64, Arc<Account>>>,
    queue: Mutex<VecDeque<Arc<Account>>>,
    places: Arc<Semaphore>,
    numbers: AtomicU64,
    waiting: IntGauge,
    /// Something is in the queue.
    pub(super) wake: Notify,
}

impl Accounts {
    pub(super) fn new(waiting: IntGauge) -> Self {
        Self {
            live: Mutex::default(),
            queue: Mutex::default(),
            places: Arc::new(Semaphore::new(PLACES)),
            numbers: AtomicU64::new(1),
            waiting,
            wake: Notify::new(),
        }
    }

    /// A new account, with its place.
    ///
    /// # Errors
    /// [`Full`] when all places are taken.
    pub(super) fn open(&self) -> Result<Arc<Account>, Full> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Full)?;
        let state = State { place: Some(place), ..State::default() };
        Ok(Arc::new(Account { number: self.number(), state: Mutex::new(state) }))
    }

    /// A number that no hold or record of this process has had.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed)
    }

    /// Makes an account that has something known. `state` is its own.
    pub(super) fn list(&self, account: &Arc<Account>, state: &mut State) {
        if !std::mem::replace(&mut state.listed, true) {
            self.live().insert(account.number, account.clone());
        }
    }

    /// Lets something be told of an account, soon. An account is in the queue once, so the queue is no longer than there are
    /// places. `state` is its own.
    pub(super) fn queue(&self, account: &Arc<Account>, state: &mut State) {
        if !std::mem::replace(&mut state.queued, true) {
            self.waiting.inc();
            self.waiting_accounts().push_back(account.clone());
            self.wake.notify_one();
        }
    }

    /// The next accounts of which something must be told.
    pub(super) fn next(&self, most: usize) -> Vec<Arc<Account>> {
        let mut queue = self.waiting_accounts();
        let count = queue.len().min(most);
        let next: Vec<_> = queue.drain(..count).collect();
        drop(queue);
        for account in &next {
            account.state().queued = false;
            self.waiting.dec();
        }
        next
    }

    /// Puts back what could not be told.
    pub(super) fn put_back(&self, accounts: impl IntoIterator<Item = Arc<Account>>) {
        for account in accounts {
            let mut state = account.state();
            if !std::mem::replace(&mut state.queued, true) {
                self.waiting.inc();
                self.waiting_accounts().push_back(account.clone());
            }
        }
    }

    pub(super) fn are_waiting(&self) -> bool {
        self.waiting() > 0
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting_accounts().len()
    }

    /// An account that has ended and of which nothing is left to be told.
    pub(super) fn close(&self, account: &Account, state: &mut State) {
        if std::mem::take(&mut state.listed) {
            self.live().remove(&account.number);
        }
        state.place = None;
    }

    /// Every account that has something.
    pub(super) fn all(&self) -> Vec<Arc<Account>> {
        self.live().values().cloned().collect()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<u64, Arc<Account>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting_accounts(&self) -> MutexGuard<'_, VecDeque<Arc<Account>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
