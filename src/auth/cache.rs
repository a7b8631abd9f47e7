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
use smallvec::SmallVec;

use super::principal::Known;
use crate::store::{KeyHash, KeyRow};

/// The cache.
pub(super) struct KeyCache {
    /// A key is in the map that the first byte of its hash names.
    maps: [ArcSwap<Map>; 256],
    /// Held by whoever writes.
    index: Mutex<Index>,
}

type Map = HashMap<KeyHash, Arc<Known>>;

#[derive(Default)]
struct Index {
    generation: Generation,
    /// Under which hashes a key is known, by its id: a rotation changes what they are.
    hashes: HashMap<Arc<str>, SmallVec<[KeyHash; 2]>>,
}

/// A span of time in which no change was noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// The bound of each map: about 100,000 keys in all, of about 0.5 KB each.
const MAX_IN_MAP: usize = 400;

impl KeyCache {
    pub(super) fn new() -> Self {
        Self { maps: std::array::from_fn(|_| ArcSwap::default()), index: Mutex::default() }
    }

    pub(super) fn get(&self, hash: &KeyHash) -> Option<Arc<Known>> {
        self.map(hash).load().get(hash).cloned()
    }

    /// To be asked for before the store is.
    pub(super) fn generation(&self) -> Generation {
        self.lock().generation
    }

    /// Keeps what the store said, unless a change was noticed since `asked`.
    pub(super) fn put(&self, hash: KeyHash, known: Arc<Known>, asked: Generation) {
        let mut index = self.lock();
        if index.generation == asked {
            self.insert(&mut index, hash, known);
        }
    }

    /// Takes over rows that have changed. Keys that nobody has presented yet stay out, and so does a secret that is no
    /// longer the key's.
    pub(super) fn apply(&self, changed: &[KeyRow]) {
        let mut index = self.lock();
        index.generation.0 += 1;
        for row in changed {
            let hashes = index.hashes.get(row.id.as_str()).cloned().unwrap_or_default();
            for hash in hashes {
                match Known::from_row(row, &hash) {
                    Some(known) => self.insert(&mut index, hash, Arc::new(known)),
                    None => self.remove(&mut index, &hash),
                }
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let mut index = self.lock();
        index.generation.0 += 1;
        index.hashes.clear();
        for map in &self.maps {
            map.store(Arc::default());
        }
    }

    /// A full map gives up any one of its keys: it costs that key one lookup when it is next used.
    fn insert(&self, index: &mut Index, hash: KeyHash, known: Arc<Known>) {
        let full = {
            let map = self.map(&hash).load();
            let victim = || map.keys().nth(fastrand::usize(..map.len())).copied();
            (map.len() >= MAX_IN_MAP && !map.contains_key(&hash)).then(victim).flatten()
        };
        if let Some(victim) = full {
            self.remove(index, &victim);
        }
        let hashes = index.hashes.entry(known.id.clone()).or_default();
        if !hashes.contains(&hash) {
            hashes.push(hash);
        }
        self.change(&hash, |map| drop(map.insert(hash, known)));
    }

    fn remove(&self, index: &mut Index, hash: &KeyHash) {
        let Some(known) = self.get(hash) else { return };
        self.change(hash, |map| drop(map.remove(hash)));
        if let Some(hashes) = index.hashes.get_mut(&known.id) {
            hashes.retain(|other| other != hash);
            if hashes.is_empty() {
                index.hashes.remove(&known.id);
            }
        }
    }

    /// The caller holds the lock.
    fn change(&self, hash: &KeyHash, change: impl FnOnce(&mut Map)) {
        let map = self.map(hash);
        let mut next = Map::clone(&map.load());
        change(&mut next);
        map.store(Arc::new(next));
    }

    fn map(&self, hash: &KeyHash) -> &ArcSwap<Map> {
        &self.maps[usize::from(hash.first_byte())]
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Each step leaves an index that can be used, so a panic leaves nothing broken behind.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{super::principal::Standing, *};
    use crate::store::OldSecret;

    fn row(key: &str, enabled: bool) -> KeyRow {
        KeyRow {
            id: key.to_owned(),
            name: key.to_owned(),
            hash: KeyHash::of(key),
            hint: String::new(),
            old: None,
            project: "default".to_owned(),
            tags: Vec::new(),
            models: Vec::new(),
            endpoints: Vec::new(),
            addresses: Vec::new(),
            max_tokens: None,
            log_content: None,
            enabled,
            expires: None,
            created: Timestamp::UNIX_EPOCH,
            revoked: None,
            version: 1,
        }
    }

    fn put(cache: &KeyCache, row: &KeyRow, asked: Generation) {
        put_as(cache, row, row.hash, asked);
    }

    fn put_as(cache: &KeyCache, row: &KeyRow, hash: KeyHash, asked: Generation) {
        cache.put(hash, Arc::new(Known::from_row(row, &hash).unwrap()), asked);
    }

    /// The key `a` after a rotation from the secret `old` to the secret `new`.
    fn rotated(old: &str, new: &str) -> KeyRow {
        let old = OldSecret { hash: KeyHash::of(old), hint: String::new(), until: Timestamp::MAX };
        KeyRow { hash: KeyHash::of(new), old: Some(old), ..row("a", true) }
    }

    #[test]
    fn a_rotation_leaves_two_secrets_and_the_next_one_ends_the_older() {
        let cache = KeyCache::new();
        let [one, two, three] = ["a", "a2", "a3"].map(KeyHash::of);
        put(&cache, &row("a", true), cache.generation());
        cache.apply(&[rotated("a", "a2")]);
        assert_eq!(cache.get(&one).unwrap().replaced, Some(Timestamp::MAX));
        put_as(&cache, &rotated("a", "a2"), two, cache.generation());
        assert_eq!(cache.get(&two).unwrap().replaced, None);

        cache.apply(&[rotated("a2", "a3")]);
        assert!(cache.get(&one).is_none(), "the first secret is nobody's any more");
        assert_eq!(cache.get(&two).unwrap().replaced, Some(Timestamp::MAX));
        put_as(&cache, &rotated("a2", "a3"), three, cache.generation());
        cache.apply(&[KeyRow { revoked: Some(Timestamp::UNIX_EPOCH), ..rotated("a2", "a3") }]);
        for hash in [two, three] {
            assert_eq!(cache.get(&hash).unwrap().standing, Standing::Revoked);
        }
        let index = cache.lock();
        assert_eq!(index.hashes.values().map(SmallVec::len).collect::<Vec<_>>(), [2]);
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
        assert_eq!(cache.lock().hashes.len(), MAX_IN_MAP, "what gave way left the index, too");
    }
}
