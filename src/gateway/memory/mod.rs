//! What is remembered of reasoning: thinking that a client of another format cannot send back, by the key that it was
//! thought for and the id of the tool call that it led to. Bounded in bytes and in time; what is forgotten is as if the
//! client had never been given it.
//!
//! Replicas tell each other through Redis, sealed ([`seal`]). Nobody waits for the telling, and only a call whose thinking
//! is not known here asks, once and for a moment.

mod seal;

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::HeaderMap;

use self::seal::Seal;
use crate::{auth::presented, shared::Shared, wire::conversation::memory::Memo};

/// How long a memo is kept: longer than a tool takes, as a rule.
const KEPT: Duration = Duration::from_secs(3_600);

/// How much is kept in all, in bytes.
const ROOM: usize = 64 * 1024 * 1024;

/// What a memo takes beside its contents, roughly, in bytes.
const OVERHEAD: usize = 256;

const SHARDS: usize = 16;

/// The largest memo that replicas are told, with its overhead, in bytes. Larger ones are rare, and many would fill Redis.
const LARGEST_SHARED: usize = 128 * 1024;

/// How many memos replicas are asked for at most, the newest first: what is older than that has been seen here, or is
/// older than what is kept.
const MOST_ASKED: usize = 64;

/// The memory of one gateway.
#[derive(Debug)]
pub struct Memory {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Of one shard, in bytes.
    room: usize,
    replicas: Option<Replicas>,
}

/// Where replicas tell each other.
#[derive(Debug)]
struct Replicas {
    shared: Shared,
    allowance: Mutex<Allowance>,
}

/// How much replicas may still be told: it grows by half of the bound within the time that a memo is kept, up to half of
/// the bound, so that what has not been forgotten stays below the whole.
#[derive(Debug)]
struct Allowance {
    bytes: usize,
    half: usize,
    since: Instant,
}

/// For whom something is remembered.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    principal: Arc<str>,
    /// For what replicas are told; `None` where there are none.
    seal: Option<Arc<Seal>>,
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
    /// A memory that is shared with replicas. `bytes` is what they may be told within the time that it is kept.
    pub fn shared_by(shared: Shared, bytes: usize, now: Instant) -> Self {
        let half = bytes / 2;
        let allowance = Mutex::new(Allowance { bytes: half, half, since: now });
        let replicas = (half > 0 && !shared.counts_alone()).then_some(Replicas { shared, allowance });
        Self { replicas, ..Self::default() }
    }

    fn with_room(bytes: usize) -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), room: bytes / SHARDS, replicas: None }
    }

    /// Whom the call is for that has these headers.
    pub(super) fn owner(&self, principal: &Arc<str>, headers: &HeaderMap) -> Owner {
        let seal = self.replicas.as_ref().and_then(|_| Seal::of(principal, presented(headers)?)).map(Arc::new);
        Owner { principal: principal.clone(), seal }
    }

    /// Keeps memos for `owner`, and tells replicas. What is older makes room.
    pub(super) fn remember(&self, owner: &Owner, memos: Vec<Memo>, now: Instant) {
        for memo in memos {
            self.tell(owner, &memo, now);
            self.keep(owner, memo, now);
        }
    }

    /// What is remembered here of these calls.
    pub(super) fn recall(&self, principal: &Arc<str>, calls: &[String], now: Instant) -> Vec<Memo> {
        let recalled = calls.iter().filter_map(|call| {
            let key: Key = (principal.clone(), call.as_str().into());
            let mut shard = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
            let kept = shard.memos.get(&key).filter(|kept| now < kept.until)?;
            let (memo, left) = (kept.memo.clone(), kept.until - now);
            // What a conversation still uses is kept while it goes on: without its older part, Claude may refuse the rest.
            if left < KEPT / 2 {
                shard.put(&key, memo.clone(), now + KEPT);
            }
            Some(memo)
        });
        recalled.collect()
    }

    /// Whether replicas can be asked.
    pub(super) fn can_ask(&self) -> bool {
        self.replicas.as_ref().is_some_and(|replicas| replicas.shared.is_up())
    }

    /// Asks replicas for what is not known here of `calls`, in the order of the conversation, and keeps what they know.
    /// Takes 20 ms at most; that nobody answers is no failure.
    pub(super) async fn ask(&self, owner: &Owner, calls: &[String], now: Instant) {
        let (Some(replicas), Some(seal)) = (&self.replicas, &owner.seal) else { return };
        let newest = &calls[calls.len().saturating_sub(MOST_ASKED)..];
        let names: Vec<String> = newest.iter().map(|call| seal.name(call)).collect();
        let found = replicas.shared.recall(&names).await;
        for ((call, name), sealed) in newest.iter().zip(&names).zip(found) {
            if let Some(memo) = sealed.and_then(|sealed| seal.open(name, call, &sealed)) {
                self.keep(owner, memo, now);
            }
        }
    }

    fn keep(&self, owner: &Owner, memo: Memo, now: Instant) {
        let key: Key = (owner.principal.clone(), memo.call_id.as_str().into());
        let mut shard = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
        shard.put(&key, memo, now + KEPT);
        shard.make_room(self.room, now);
    }

    fn tell(&self, owner: &Owner, memo: &Memo, now: Instant) {
        let (Some(replicas), Some(seal)) = (&self.replicas, &owner.seal) else { return };
        if !replicas.may_tell(memo.blocks.len() + OVERHEAD, now) {
            return;
        }
        let name = seal.name(&memo.call_id);
        if let Some(sealed) = seal.close(&name, memo) {
            replicas.shared.remember(&name, sealed, KEPT);
        }
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        // The remainder is smaller than the number of shards.
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

impl Replicas {
    fn may_tell(&self, bytes: usize, now: Instant) -> bool {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, now)
    }
}

impl Allowance {
    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        if bytes > LARGEST_SHARED {
            return false;
        }
        let share = now.saturating_duration_since(self.since).as_secs_f64() / KEPT.as_secs_f64();
        // What is below a byte is waited for, not lost.
        let grown = (self.half as f64 * share.min(1.0)) as usize;
        if grown > 0 {
            self.bytes = self.bytes.saturating_add(grown).min(self.half);
            let took = KEPT.mul_f64(grown as f64 / self.half as f64);
            self.since = if self.bytes == self.half { now } else { self.since + took };
        }
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => return false,
        }
        true
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

    fn owner(principal: &str) -> Owner {
        Owner { principal: principal.into(), seal: None }
    }

    fn blocks(memory: &Memory, principal: &str, call: &str, now: Instant) -> Option<usize> {
        memory.recall(&principal.into(), &[call.into()], now).pop().map(|memo| memo.blocks.len())
    }

    #[test]
    fn a_memo_is_for_its_own_key_and_its_own_time() {
        let (memory, now) = (Memory::default(), crate::types::Clock::held().now());
        memory.remember(&owner("k1"), vec![memo("c1", 10), memo("c2", 20)], now);
        memory.remember(&owner("k1"), vec![memo("c1", 30)], now);
        assert_eq!(blocks(&memory, "k1", "c1", now), Some(30));
        assert_eq!(blocks(&memory, "k1", "c2", now), Some(20));
        assert_eq!(blocks(&memory, "k2", "c1", now), None);
        assert_eq!(blocks(&memory, "k1", "c1", now + KEPT), None);
        // What is used stays.
        assert_eq!(blocks(&memory, "k1", "c1", now + KEPT / 2), Some(30));
        assert_eq!(blocks(&memory, "k1", "c1", now + KEPT), None);
        assert_eq!(blocks(&memory, "k1", "c1", now + KEPT * 2 / 3), Some(30));
        assert_eq!(blocks(&memory, "k1", "c1", now + KEPT), Some(30));
        assert_eq!(blocks(&memory, "k1", "c2", now + KEPT), None);
    }

    #[test]
    fn the_oldest_makes_room_and_the_count_stays_right() {
        let (memory, now) = (Memory::with_room(SHARDS * 10_000), crate::types::Clock::held().now());
        for index in 0..2_000 {
            memory.remember(&owner("k"), vec![memo(&format!("c{}", index % 1_500), 1_000)], now);
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

    #[test]
    fn what_replicas_are_told_within_an_hour_has_a_bound() {
        let start = crate::types::Clock::held().now();
        let mut allowance = Allowance { bytes: 500, half: 500, since: start };
        let told = |allowance: &mut Allowance, now| (0..1_000).filter(|_| allowance.take(10, now)).count();
        assert_eq!(told(&mut allowance, start), 50);
        assert_eq!(told(&mut allowance, start + KEPT / 10), 5);
        // Asked at every moment, it grows no less.
        let mut all = 0;
        for step in 1..=3_600 {
            all += told(&mut allowance, start + KEPT / 10 + Duration::from_secs(step));
        }
        assert_eq!(all, 50);
        assert_eq!(told(&mut allowance, start + KEPT * 9), 50);
    }

    #[test]
    fn replicas_are_told_of_no_very_large_thinking_and_it_takes_no_room() {
        let start = crate::types::Clock::held().now();
        let half = 2 * LARGEST_SHARED;
        let mut allowance = Allowance { bytes: half, half, since: start };
        assert!(!allowance.take(LARGEST_SHARED + 1, start));
        assert!(allowance.take(LARGEST_SHARED, start) && allowance.take(LARGEST_SHARED, start));
        assert!(!allowance.take(1, start));
    }
}
