//! What a replica last heard of counters, for the time when it hears nothing: each replica then admits its share of what
//! was left.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::shared::{CounterId, Take, Window};

/// Counters whose level is remembered.
const MOST: usize = 100_000;
const SHARDS: usize = 64;

/// Levels by counter; of too many, some are forgotten.
#[derive(Debug)]
pub(super) struct Seen {
    shards: Box<[Mutex<HashMap<CounterId, Sight>>]>,
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    used: u64,
    /// By this process's steady clock, in milliseconds.
    at: u64,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    pub(super) fn note(&self, id: CounterId, used: u64, at: u64) {
        let mut shard = self.shard(id);
        if shard.len() >= MOST / SHARDS && !shard.contains_key(&id) {
            let some = shard.keys().next().copied();
            some.and_then(|some| shard.remove(&some));
        }
        shard.insert(id, Sight { used, at });
    }

    /// What this replica has told Redis, or is about to tell it, is in the level as well.
    pub(super) fn add(&self, id: CounterId, amount: u64, at: u64) {
        let before = self.shard(id).get(&id).copied();
        self.note(id, before.map_or(0, |sight| sight.used).saturating_add(amount), before.map_or(at, |sight| sight.at));
    }

    /// The level of a counter at `now`, as far as it is known.
    pub(super) fn used(&self, id: CounterId, window: Window, now: u64) -> u64 {
        let Some(sight) = self.shard(id).get(&id).copied() else { return 0 };
        match window {
            Window::Slots => 0,
            Window::Rolling { millis } if sight.at.saturating_add(millis) <= now => 0,
            Window::Period { .. } | Window::Rolling { .. } => sight.used,
        }
    }

    /// The take of one of `replicas` that cannot ask each other: if all take alike, all together stay below the limit.
    pub(super) fn share(&self, take: &Take, replicas: u64, now: u64) -> Take {
        let left = take.limit.saturating_sub(self.used(take.counter, take.window, now)) / replicas.max(1);
        let limit = match take.window {
            _ if take.limit == u64::MAX => u64::MAX,
            // One at least, or a limit below the number of replicas would stop everything.
            Window::Slots if take.limit > 0 => left.max(1),
            Window::Slots | Window::Period { .. } | Window::Rolling { .. } => left,
        };
        Take { limit, ..*take }
    }

    fn shard(&self, id: CounterId) -> MutexGuard<'_, HashMap<CounterId, Sight>> {
        let index = usize::try_from(id.bits() & (SHARDS as u128 - 1)).unwrap_or_default();
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::WhenDown;

    #[test]
    fn shares_of_all_replicas_stay_below_the_limit() {
        let seen = Seen::new();
        let id = CounterId::of([b"a".as_slice()]);
        let take = |window, limit| Take {
            counter: id,
            window,
            amount: 1,
            limit,
            when_down: WhenDown::Open,
            needs_history: false,
        };
        let share = |window, limit, now| seen.share(&take(window, limit), 4, now).limit;
        let (period, rolling) = (Window::Period { ends: 1 << 50 }, Window::Rolling { millis: 1_000 });
        assert_eq!((share(period, 100, 0), share(period, u64::MAX, 0)), (25, u64::MAX));
        seen.note(id, 60, 5_000);
        seen.add(id, 1, 5_500);
        assert_eq!((share(period, 100, 9_000), share(period, 50, 9_000)), (9, 0));
        // What was in a window then is not in it a window later.
        assert_eq!((share(rolling, 100, 5_999), share(rolling, 100, 6_000)), (9, 25));
        assert_eq!((share(Window::Slots, 10, 0), share(Window::Slots, 3, 0), share(Window::Slots, 0, 0)), (2, 1, 0));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let seen = Seen::new();
        for name in 0..300_000_u64 {
            seen.note(CounterId::of([name.to_le_bytes().as_slice()]), 1, 1);
        }
        let all: usize = seen.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(all <= MOST, "{all}");
    }
}
