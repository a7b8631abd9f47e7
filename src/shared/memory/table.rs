//! The counters of this process, by their ids: a table in many parts, so that calls seldom meet at a lock, and with a
//! bound, so that a client who makes up names cannot fill the memory.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::IntCounter;

use super::pot::{Now, Pot};
use crate::shared::{CounterId, Window};

/// Counters of one process. A rolling one in use is some 200 bytes, so this is 40 MB.
pub(in crate::shared) const MAX_COUNTERS: usize = 200_000;

const SHARDS: usize = 256;

/// A shard is looked through for idle counters when it has twice as many as were left last time, but not below this.
const FIRST_LOOK: usize = 32;

const LOOK_EVERY: u64 = 1_000;

/// A counter, with a lock of its own. Who takes several locks them in the order of their ids.
#[derive(Debug)]
pub(in crate::shared) struct Counter {
    id: CounterId,
    pot: Mutex<Pot>,
}

impl Counter {
    /// Its place in the order of locks.
    pub(in crate::shared) fn id(&self) -> CounterId {
        self.id
    }

    pub(in crate::shared) fn pot(&self) -> MutexGuard<'_, Pot> {
        // Nothing below panics while the lock is held, and a number is a number.
        self.pot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(in crate::shared) struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// Counters in a shard before further ones share.
    max: usize,
    /// How often a counter was not given its own.
    overflowed: IntCounter,
}

#[derive(Debug)]
struct Shard {
    counters: HashMap<CounterId, Arc<Counter>, BuildHasherDefault<IdHasher>>,
    look_at: usize,
    /// When a full shard was last looked through: once a second, or names made up by clients would cost a look each.
    looked: u64,
}

impl Table {
    pub(in crate::shared) fn new(max: usize, overflowed: IntCounter) -> Self {
        let shard = || Mutex::new(Shard { counters: HashMap::default(), look_at: FIRST_LOOK, looked: 0 });
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), max: max.div_ceil(SHARDS), overflowed }
    }

    /// The counter `id`, if there is one.
    pub(in crate::shared) fn find(&self, id: CounterId) -> Option<Arc<Counter>> {
        self.shard(id).counters.get(&id).cloned()
    }

    /// The counter `id`, made if need be; the one its rule's latecomers share when there are too many.
    pub(in crate::shared) fn get(&self, id: CounterId, window: Window, now: Now) -> Arc<Counter> {
        let made = {
            let mut shard = self.shard(id);
            if let Some(counter) = shard.counters.get(&id) {
                return counter.clone();
            }
            if shard.counters.len() >= shard.look_at.min(self.max) && now.steady >= shard.looked + LOOK_EVERY {
                shard.drop_idle(now);
            }
            (shard.counters.len() < self.max).then(|| shard.make(id, window))
        };
        made.unwrap_or_else(|| {
            self.overflowed.inc();
            let shared = id.overflow();
            let mut shard = self.shard(shared);
            // There are no more of these than rules, so they may go beyond the bound.
            shard.counters.get(&shared).cloned().unwrap_or_else(|| shard.make(shared, window))
        })
    }

    /// Counters there are.
    pub(in crate::shared) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).counters.len()).sum()
    }

    fn shard(&self, id: CounterId) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(id.bits() >> 64 & (SHARDS as u128 - 1)).unwrap_or_default();
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn make(&mut self, id: CounterId, window: Window) -> Arc<Counter> {
        let counter = Arc::new(Counter { id, pot: Mutex::new(Pot::new(window)) });
        self.counters.insert(id, counter.clone());
        counter
    }

    /// Drops what nobody holds and nothing is in. A counter is only ever found under this lock, so one that no hold
    /// has now is had by nobody until the lock is let go.
    fn drop_idle(&mut self, now: Now) {
        self.counters.retain(|_, counter| Arc::strong_count(counter) > 1 || !counter.pot().is_idle(now));
        self.look_at = (self.counters.len() * 2).max(FIRST_LOOK);
        self.looked = now.steady;
    }
}

/// Ids are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, bits: u128) {
        // The lower half is of all parts; hash maps want its upper bits spread as well, which they are.
        self.0 = u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(rule: &str, name: usize) -> CounterId {
        CounterId::of([rule.as_bytes(), name.to_le_bytes().as_slice()])
    }

    fn at(millis: u64) -> Now {
        Now { steady: millis, wall: millis }
    }

    fn table(most: usize) -> (Table, IntCounter) {
        let shared = IntCounter::new("shared", "how often").unwrap();
        (Table::new(most, shared.clone()), shared)
    }

    #[test]
    fn beyond_the_bound_latecomers_of_a_rule_share_a_counter() {
        let (table, shared) = table(1_024);
        let forever = Window::Period { ends: u64::MAX };
        for name in 0..5_000 {
            table.get(id("a", name), forever, at(1_000)).pot().add(at(1_000), 1);
        }
        let sharing = shared.get();
        assert!((3_976..4_500).contains(&sharing), "{sharing} shared");
        let common = table.find(id("a", 0).overflow()).unwrap();
        assert_eq!(common.pot().used(at(1_000)), sharing);
        let other = table.get(id("b", 5_000), forever, at(1_000));
        assert!(table.len() <= 1_024 + 2 && other.pot().used(at(1_000)) == 0);
        // Who has a counter keeps it.
        let own = (0..5_000).filter(|name| table.find(id("a", *name)).is_some()).count();
        assert_eq!(own as u64, 5_000 - sharing);
    }

    #[test]
    fn idle_counters_make_room_and_those_in_use_stay() {
        let (table, shared) = table(100_000);
        let second = Window::Rolling { millis: 1_000 };
        let held = table.get(id("held", 0), Window::Slots, at(0));
        let (full, period) = (id("full", 0), id("period", 0));
        table.get(full, Window::Slots, at(0)).pot().add(at(0), 1);
        table.get(full, Window::Slots, at(0)).pot().take(at(0), 1);
        table.get(period, Window::Period { ends: u64::MAX / 2 }, at(0)).pot().add(at(0), 1);
        for name in 0..200_000_usize {
            let now = at(10_000 + name as u64);
            table.get(id("a", name), second, now).pot().add(now, 1);
        }
        // A second's worth and as much again, in shards that are looked through once a second.
        assert!(table.len() < 20_000, "{} counters", table.len());
        assert_eq!(shared.get(), 0);
        assert!(Arc::ptr_eq(&held, &table.find(id("held", 0)).unwrap()));
        assert!(table.find(full).is_some() && table.find(period).is_some());
    }
}
