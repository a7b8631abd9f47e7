//! Known keys in memory: bounded, and never older than the last look at the store.
//!
//! Every call reads here, so reading takes no lock and writes nothing but a counter: the table is many small maps, each
//! replaced as a whole by whoever adds to it. A key is added once and read for as long as it is used, and copying a
//! small map costs less than the lookup in the store that led to it.
//!
//! Somebody may look a key up, and be handed its row, just before another process revokes it; if that row were written
//! here after the revocation was noticed, the key would live on. So whoever looks up notes the *generation* first,
//! every noticed change begins a new one, and rows of an older generation are not taken.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;

use super::principal::Known;
use crate::store::{KeyHash, KeyRow};

/// The cache.
pub(super) struct KeyCache {
    /// A key is in the map that the first byte of its hash names.
    maps: [ArcSwap<Map>; 256],
    /// Held by whoever writes.
    generation: Mutex<Generation>,
}

type Map = HashMap<KeyHash, Arc<Known>>;

/// A span of time in which no change was noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// The bound of each map: about 100,000 keys in all, of about 0.5 KB each.
const MAX_IN_MAP: usize = 400;

impl KeyCache {
    pub(super) fn new() -> Self {
        Self { maps: std::array::from_fn(|_| ArcSwap::default()), generation: Mutex::default() }
    }

    pub(super) fn get(&self, hash: &KeyHash) -> Option<Arc<Known>> {
        self.map(hash).load().get(hash).cloned()
    }

    /// To be asked for before the store is.
    pub(super) fn generation(&self) -> Generation {
        *self.lock()
    }

    /// Keeps what the store said, unless a change was noticed since `asked`.
    pub(super) fn put(&self, hash: KeyHash, known: Arc<Known>, asked: Generation) {
        let generation = self.lock();
        if *generation == asked {
            self.insert(hash, known);
        }
    }

    /// Takes over rows that have changed. Keys that nobody has presented yet stay out.
    pub(super) fn apply(&self, changed: &[KeyRow]) {
        let mut generation = self.lock();
        generation.0 += 1;
        for row in changed.iter().filter(|row| self.get(&row.hash).is_some()) {
            self.insert(row.hash, Arc::new(Known::from_row(row)));
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let mut generation = self.lock();
        generation.0 += 1;
        for map in &self.maps {
            map.store(Arc::default());
        }
    }

    /// A full map gives up any one of its keys: it costs that key one lookup when it is next used. The caller holds the
    /// lock.
    fn insert(&self, hash: KeyHash, known: Arc<Known>) {
        let map = self.map(&hash);
        let mut next = Map::clone(&map.load());
        if next.len() >= MAX_IN_MAP
            && !next.contains_key(&hash)
            && let Some(victim) = next.keys().nth(fastrand::usize(..next.len())).copied()
        {
            next.remove(&victim);
        }
        next.insert(hash, known);
        map.store(Arc::new(next));
    }

    fn map(&self, hash: &KeyHash) -> &ArcSwap<Map> {
        &self.maps[usize::from(hash.first_byte())]
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
            project: "default".to_owned(),
            tags: Vec::new(),
            models: Vec::new(),
            enabled,
            expires: None,
            created: Timestamp::UNIX_EPOCH,
            revoked: None,
            version: 1,
        }
    }

    fn put(cache: &KeyCache, row: &KeyRow, asked: Generation) {
        cache.put(row.hash, Arc::new(Known::from_row(row)), asked);
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

    #[test]
    fn the_cache_is_bounded_and_keeps_the_newest() {
        let cache = KeyCache::new();
        let mut in_one_map: Vec<KeyRow> = Vec::new();
        for n in 0.. {
            let row = row(&n.to_string(), true);
            if row.hash.first_byte() == 7 {
                in_one_map.push(row);
            }
            if in_one_map.len() == MAX_IN_MAP + 10 {
                break;
            }
        }
        for row in &in_one_map {
            put(&cache, row, cache.generation());
            assert!(cache.get(&row.hash).is_some());
        }
        assert_eq!(in_one_map.iter().filter(|row| cache.get(&row.hash).is_some()).count(), MAX_IN_MAP);
        assert_eq!(cache.map(&in_one_map[0].hash).load().len(), MAX_IN_MAP);
    }
}
