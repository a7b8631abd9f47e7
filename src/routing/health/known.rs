//! What is known about the health of keys and upstream models, by what makes them the same. Targets that mean the same
//! find the same record here, within a snapshot and from one snapshot to the next.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use sha2::{Digest, Sha256};

use super::{key::KeyHealth, slots::Record};
use crate::providers::{Provider, ProviderKey};

/// A register that holds nothing alive: what no target uses any more is forgotten.
#[derive(Debug, Default)]
pub(in crate::routing) struct Known {
    maps: Mutex<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    keys: Register<KeyId, KeyHealth>,
    records: Register<(KeyId, Arc<str>), Record>,
}

#[derive(Debug)]
struct Register<K, V> {
    entries: HashMap<K, Weak<V>>,
    /// At this many entries the dead ones are removed.
    sweep_at: usize,
}

/// What makes two keys the same: the account's name and address, and the key itself; only a digest is kept.
type KeyId = [u8; 32];

impl Known {
    /// The record of calls to `model` with `key`, and the health of the key as such.
    pub(super) fn of(&self, provider: &Provider, key: &ProviderKey, model: &Arc<str>) -> (Arc<Record>, Arc<KeyHealth>) {
        let id = key_id(provider, key);
        // Nothing panics while the lock is held.
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        (maps.records.get((id, model.clone())), maps.keys.get(id))
    }
}

impl<K: Eq + Hash, V: Default> Register<K, V> {
    fn get(&mut self, id: K) -> Arc<V> {
        if let Some(value) = self.entries.get(&id).and_then(Weak::upgrade) {
            return value;
        }
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, value| value.strong_count() > 0);
            self.sweep_at = (self.entries.len() * 2).max(64);
        }
        let value = Arc::<V>::default();
        self.entries.insert(id, Arc::downgrade(&value));
        value
    }
}

impl<K, V> Default for Register<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), sweep_at: 64 }
    }
}

fn key_id(provider: &Provider, key: &ProviderKey) -> KeyId {
    let mut digest = Sha256::new();
    let (name, value) =
        key.header.as_ref().map_or(("", [].as_slice()), |(name, value)| (name.as_str(), value.as_bytes()));
    let origin = [provider.origin.scheme.as_str(), provider.origin.authority.as_str(), &provider.prefix];
    for part in origin.into_iter().chain([&*provider.name, name]).map(str::as_bytes).chain([value]) {
        // The length first, so that no two lists of parts give the same bytes.
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_is_forgotten_and_makes_room() {
        let mut register = Register::<usize, KeyHealth>::default();
        let kept = register.get(0);
        for id in 1..10_000 {
            register.get(id);
            assert!(register.entries.len() <= 64);
        }
        assert!(Arc::ptr_eq(&kept, &register.get(0)));
    }
}
