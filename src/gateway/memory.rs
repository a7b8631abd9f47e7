//! What is remembered of reasoning: thinking that a client of another format cannot send back, by the key that it was
//! thought for and the id of the tool call that it led to. Bounded in bytes and in time; what is forgotten is as if the
//! client had never been given it.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::wire::conversation::memory::Memo;

/// How long a memo is kept: longer than a tool takes, as a rule.
const KEPT: Duration = Duration::from_secs(3_600);

/// How much is kept in all, in bytes.
const ROOM: usize = 64 * 1024 * 1024;

/// What a memo takes beside its contents, roughly, in bytes.
const OVERHEAD: usize = 256;

const SHARDS: usize = 16;

/// The memory of one gateway.
#[derive(Debug)]
pub struct Memory {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Of one shard, in bytes.
    room: usize,
}

#[derive(Debug, Default)]
struct Shard {
    memos: HashMap<Key, Kept>,
    /// Oldest first, each with its number: one that was replaced since has another.
    order: VecDeque<(Key, u64)>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    memo: Memo,
    until: Instant,
    number: u64,
}

/// The id of a gateway key, and that of a call.
type Key = (Arc<str>, Box<str>);

impl Default for Memory {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl Memory {
    fn with_room(bytes: usize) -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), room: bytes / SHARDS }
    }

    /// Keeps memos for `principal`. What is older makes room.
    pub fn remember(&self, principal: &Arc<str>, memos: Vec<Memo>, now: Instant) {
        for memo in memos {
            let key: Key = (principal.clone(), memo.call_id.as_str().into());
            let mut shard = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
            shard.put(&key, memo, now + KEPT);
            shard.make_room(self.room, now);
        }
    }

    /// What is remembered of these calls.
    pub fn recall(&self, principal: &Arc<str>, calls: &[String], now: Instant) -> Vec<Memo> {
        let recalled = calls.iter().filter_map(|call| {
            let key: Key = (principal.clone(), call.as_str().into());
            let shard = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
            shard.memos.get(&key).filter(|kept| now < kept.until).map(|kept| kept.memo.clone())
        });
        recalled.collect()
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        // The remainder is smaller than the number of shards.
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

impl Shard {
    fn put(&mut self, key: &Key, memo: Memo, until: Instant) {
        self.next += 1;
        let number = self.next;
        self.bytes += size(key, &memo);
        self.order.push_back((key.clone(), number));
        let replaced = self.memos.insert(key.clone(), Kept { memo, until, number });
        if let Some(replaced) = replaced {
            self.bytes -= size(key, &replaced.memo);
        }
    }

    fn make_room(&mut self, room: usize, now: Instant) {
        while let Some((key, number)) = self.order.front() {
            let kept = self.memos.get(key).filter(|kept| kept.number == *number);
            if kept.is_some_and(|kept| now < kept.until) && self.bytes <= room {
                return;
            }
            if let Some(kept) = kept {
                self.bytes -= size(key, &kept.memo);
                self.memos.remove(key);
            }
            self.order.pop_front();
        }
    }
}

fn size((principal, call): &Key, memo: &Memo) -> usize {
    OVERHEAD + principal.len() + 2 * call.len() + memo.blocks.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memo(call: &str, bytes: usize) -> Memo {
        Memo { call_id: call.into(), first: true, blocks: vec![b' '; bytes] }
    }

    fn blocks(memory: &Memory, principal: &str, call: &str, now: Instant) -> Option<usize> {
        memory.recall(&principal.into(), &[call.into()], now).pop().map(|memo| memo.blocks.len())
    }

    #[test]
    fn a_memo_is_for_its_own_key_and_its_own_time() {
        let (memory, now) = (Memory::default(), crate::types::Clock::held().now());
        memory.remember(&"k1".into(), vec![memo("c1", 10), memo("c2", 20)], now);
        memory.remember(&"k1".into(), vec![memo("c1", 30)], now);
        assert_eq!(blocks(&memory, "k1", "c1", now), Some(30));
        assert_eq!(blocks(&memory, "k1", "c2", now), Some(20));
        assert_eq!(blocks(&memory, "k2", "c1", now), None);
        assert_eq!(blocks(&memory, "k1", "c1", now + KEPT), None);
    }

    #[test]
    fn the_oldest_makes_room_and_the_count_stays_right() {
        let (memory, now) = (Memory::with_room(SHARDS * 10_000), crate::types::Clock::held().now());
        for index in 0..2_000 {
            memory.remember(&"k".into(), vec![memo(&format!("c{}", index % 1_500), 1_000)], now);
        }
        for shard in &memory.shards {
            let shard = shard.lock().unwrap();
            let bytes: usize = shard.memos.iter().map(|(key, kept)| size(key, &kept.memo)).sum();
            assert_eq!(shard.bytes, bytes);
            assert!(bytes <= 10_000 && shard.order.len() < 100, "{bytes} {}", shard.order.len());
        }
        assert_eq!(blocks(&memory, "k", "c499", now), Some(1_000));
        assert_eq!(blocks(&memory, "k", "c500", now), None);
    }
}
