//! Known keys in memory: bounded, and never older than the last look at the store.
//!
//! Somebody may look a key up, and be handed its row, just before another process revokes it; if that row were written here
//! after the revocation was noticed, the key would live on. So whoever looks up notes the *generation* first, every
//! noticed change begins a new one, and rows of an older generation are not taken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::{policy::EvictionPolicy, sync::Cache};

use super::principal::Known;
use crate::store::{KeyHash, KeyRow};

/// How many keys are kept. About 0.5 KB each.
const MAX_KEYS: u64 = 100_000;

/// The cache. Reading takes no lock; only lookups and changes do.
pub(super) struct KeyCache {
    known: Cache<KeyHash, Arc<Known>>,
    generation: Mutex<Generation>,
}

/// A span of time in which no change was noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation(u64);

impl KeyCache {
    pub(super) fn new() -> Self {
        // Only keys that exist come in, so there is no scan to resist, and the least recently used is the one to drop.
        let known = Cache::builder().max_capacity(MAX_KEYS).eviction_policy(EvictionPolicy::lru()).build();
        Self { known, generation: Mutex::default() }
    }

    pub(super) fn get(&self, hash: &KeyHash) -> Option<Arc<Known>> {
        self.known.get(hash)
    }

    /// To be asked for before the store is.
    pub(super) fn generation(&self) -> Generation {
        *self.lock()
    }

    /// Keeps what the store said, unless a change was noticed since `asked`.
    pub(super) fn put(&self, hash: KeyHash, known: &Arc<Known>, asked: Generation) {
        let generation = self.lock();
        if *generation == asked {
            self.known.insert(hash, known.clone());
        }
    }

    /// Takes over rows that have changed. Keys that nobody has presented yet stay out.
    pub(super) fn apply(&self, changed: &[KeyRow]) {
        let mut generation = self.lock();
        generation.0 += 1;
        for row in changed.iter().filter(|row| self.known.contains_key(&row.hash)) {
            self.known.insert(row.hash, Arc::new(Known::from_row(row)));
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let mut generation = self.lock();
        generation.0 += 1;
        self.known.invalidate_all();
    }

    fn lock(&self) -> MutexGuard<'_, Generation> {
        // A number has no broken state that a panic could leave behind.
        self.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{super::principal::Standing, *};

    fn row(key: &str, enabled: bool) -> KeyRow {
        KeyRow {
            id: key.to_owned(),
            name: key.to_owned(),
            hash: KeyHash::of(key),
            hint: String::new(),
            models: Vec::new(),
            enabled,
            expires: None,
            created: Timestamp::UNIX_EPOCH,
            revoked: None,
            version: 1,
        }
    }

    fn put(cache: &KeyCache, row: &KeyRow, asked: Generation) {
        cache.put(row.hash, &Arc::new(Known::from_row(row)), asked);
    }

    #[test]
    fn a_row_read_before_a_change_is_not_written_back_after_it() {
        let cache = KeyCache::new();
        let asked = cache.generation();
        let stale = row("a", true);
        cache.apply(&[row("a", false)]);
        put(&cache, &stale, asked);
        assert!(cache.get(&stale.hash).is_none());

        put(&cache, &stale, cache.generation());
        assert!(cache.get(&stale.hash).is_some());
        let asked = cache.generation();
        cache.clear();
        put(&cache, &stale, asked);
        assert!(cache.get(&stale.hash).is_none());
    }

    #[test]
    fn a_change_replaces_what_is_kept_and_adds_nothing() {
        let cache = KeyCache::new();
        put(&cache, &row("a", true), cache.generation());
        cache.apply(&[row("a", false), row("b", true)]);
        assert_eq!(cache.get(&KeyHash::of("a")).unwrap().standing, Standing::Disabled);
        assert!(cache.get(&KeyHash::of("b")).is_none());
    }
}
