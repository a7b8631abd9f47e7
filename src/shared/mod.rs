//! What replicas must agree on now: counters of what was taken within a window, by calls that end or die.
//!
//! A call opens a [`Hold`] and takes from many counters at once, all or nothing; at its end it says what it really
//! consumed. What counters mean, and what their limits are, others know.

mod counter;
mod history;
mod hold;
mod memory;
mod redis;
pub mod settings;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::{
    counter::{CounterId, Full, Level, Refusal, SharedError, Spent, Take, WhenDown, Window},
    hold::Hold,
};
use self::{history::Past, memory::Memory, redis::Redis, settings::RedisSettings};
use crate::{
    telemetry::Metrics,
    types::{Clock, Tasks},
};

/// What replicas share; cheap to clone.
#[derive(Clone, Debug)]
pub struct Shared {
    inner: Inner,
}

#[derive(Clone, Debug)]
enum Inner {
    Memory(Arc<Memory>),
    Redis(Arc<Redis>),
}

impl Shared {
    /// Counters in this process, which has no replicas. Their history is lost: it has just begun.
    pub fn memory(clock: Clock) -> Self {
        Self::memory_with(clock, &Metrics::new())
    }

    /// The same, with its figures among `metrics`.
    pub fn memory_with(clock: Clock, metrics: &Metrics) -> Self {
        let memory = Memory::new(clock, memory::MAX_COUNTERS, metrics.quota_counters_shared.clone());
        Self { inner: Inner::Memory(Arc::new(memory)) }
    }

    /// Counters in Redis, shared by all gateways that use the same prefix. `tasks` should end after the last hold has:
    /// what must still be told is told then. A Redis that is absent is waited for a moment, and then looked for.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub async fn redis(
        settings: &RedisSettings,
        clock: Clock,
        tasks: &Tasks,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SharedError> {
        Ok(Self { inner: Inner::Redis(Redis::start(settings, redis::LEASE, clock, tasks, metrics).await?) })
    }

    /// Opens a hold, with a place in the queue of settlements: settling it later neither waits nor fails.
    ///
    /// # Errors
    /// [`Full`] when as many calls hold something, or have not been settled, as there are places.
    pub fn hold(&self) -> Result<Hold, Full> {
        match &self.inner {
            Inner::Memory(memory) => Ok(Hold::in_memory(memory.clone())),
            Inner::Redis(redis) => Ok(Hold::in_redis(redis.clone(), redis.open()?)),
        }
    }

    /// How full counters are, for people and metrics.
    pub async fn read(&self, counters: &[(CounterId, Window)]) -> Vec<Level> {
        match &self.inner {
            Inner::Memory(memory) => memory.read(counters),
            Inner::Redis(redis) => redis.read(counters).await,
        }
    }

    /// What was spent without a hold, by a call of a gateway that died. Never waits.
    pub fn add(&self, amounts: &[(CounterId, Window, u64)]) {
        match &self.inner {
            Inner::Memory(memory) => memory.add(amounts),
            Inner::Redis(redis) => redis.add(amounts),
        }
    }

    /// What was spent before, each at its moment: a rolling window forgets it a window after that. What is counted already stays.
    /// Never waits.
    pub fn add_past(&self, spent: &[Spent]) {
        match &self.inner {
            Inner::Memory(memory) => memory.add_past(spent),
            Inner::Redis(redis) => redis.add_past(spent),
        }
    }

    /// Ends when the counters have no history and nobody is rebuilding them.
    pub async fn history_lost(&self) {
        match &self.inner {
            Inner::Memory(memory) => memory.history.lost().await,
            Inner::Redis(redis) => redis.history.lost().await,
        }
    }

    /// The right to rebuild the counters. `None`: another has it, or there is nothing to rebuild.
    pub async fn begin_rebuild(&self) -> Option<Rebuild> {
        match &self.inner {
            Inner::Memory(memory) => {
                memory.history.begin().then(|| Rebuild { inner: Rebuilding::Memory(memory.clone()) })
            }
            Inner::Redis(redis) => {
                redis.begin_rebuild().await.map(|rebuilding| Rebuild { inner: Rebuilding::Redis(rebuilding) })
            }
        }
    }

    /// Whether this is the first to say `name` among all replicas within `ttl`.
    pub async fn once(&self, name: &str, ttl: Duration) -> bool {
        match &self.inner {
            Inner::Memory(memory) => memory.once(name, ttl),
            Inner::Redis(redis) => redis.once(name, ttl).await,
        }
    }

    /// Tells replicas something that they may forget. One process alone has better places to remember things.
    pub fn remember(&self, key: &str, value: Bytes, ttl: Duration) {
        match &self.inner {
            Inner::Memory(_) => drop((key, value, ttl)),
            Inner::Redis(redis) => redis.remember(key, value, ttl),
        }
    }

    /// What replicas have remembered under each of these keys; an answer comes within 20 ms.
    pub async fn recall(&self, keys: &[String]) -> Vec<Option<Bytes>> {
        match &self.inner {
            Inner::Memory(_) => vec![None; keys.len()],
            Inner::Redis(redis) => redis.recall(keys).await,
        }
    }

    /// Whether replicas can be asked.
    pub fn is_up(&self) -> bool {
        match &self.inner {
            Inner::Memory(_) => true,
            Inner::Redis(redis) => redis.standing() == redis::Standing::Up,
        }
    }

    /// Why replicas cannot be asked, where that is so and known, in words for the operator.
    pub fn why_away(&self) -> Option<Arc<String>> {
        match &self.inner {
            Inner::Memory(_) => None,
            Inner::Redis(redis) => redis.why_away(),
        }
    }

    /// Whether the counters are this process's own.
    pub fn counts_alone(&self) -> bool {
        matches!(self.inner, Inner::Memory(_))
    }

    /// How many replicas there are.
    pub fn replicas(&self) -> u32 {
        match &self.inner {
            Inner::Memory(_) => 1,
            Inner::Redis(redis) => redis.replicas(),
        }
    }

    /// How many counters this process keeps.
    pub fn counters(&self) -> usize {
        match &self.inner {
            Inner::Memory(memory) => memory.len(),
            Inner::Redis(redis) => redis.counters(),
        }
    }
}

/// The right to rebuild the counters from the ledger. Dropped before its end, it gives the right back.
#[derive(Debug)]
pub struct Rebuild {
    inner: Rebuilding,
}

#[derive(Debug)]
enum Rebuilding {
    Memory(Arc<Memory>),
    Redis(redis::Rebuilding),
    Done,
}

impl Rebuild {
    /// Sets what was spent of each counter that `spent` names: all of a counter's entries belong in one call. What calls
    /// hold stays.
    ///
    /// # Errors
    /// When Redis does not answer, or another replica has taken over.
    pub async fn put(&mut self, spent: &[Spent]) -> Result<(), SharedError> {
        match &self.inner {
            Rebuilding::Memory(memory) => memory.put(spent),
            Rebuilding::Redis(rebuilding) => rebuilding.put(spent).await?,
            Rebuilding::Done => {}
        }
        Ok(())
    }

    /// Since when (Unix milliseconds) this process has counted by itself, where nobody has to wait for history.
    pub fn counted_since(&self) -> u64 {
        match &self.inner {
            Rebuilding::Memory(memory) => memory.began_at(),
            Rebuilding::Redis(rebuilding) => rebuilding.counted_since(),
            Rebuilding::Done => u64::MAX,
        }
    }

    /// [`Rebuild::put`] for counters that have been counted in meanwhile: `spent` is what was spent before
    /// [`Rebuild::counted_since`], and is to be put once.
    ///
    /// # Errors
    /// When Redis does not answer, or another replica has taken over.
    pub async fn put_before(&mut self, spent: &[Spent]) -> Result<(), SharedError> {
        match &self.inner {
            Rebuilding::Memory(memory) => memory.add_past(spent),
            // Nobody counts in a Redis that is being rebuilt; what each replica has counted by itself, it tells afterwards.
            Rebuilding::Redis(rebuilding) => rebuilding.put(spent).await?,
            Rebuilding::Done => {}
        }
        Ok(())
    }

    /// From now on takes that need history are answered.
    ///
    /// # Errors
    /// When Redis does not answer, or another replica has taken over.
    pub async fn finish(mut self) -> Result<(), SharedError> {
        match std::mem::replace(&mut self.inner, Rebuilding::Done) {
            Rebuilding::Memory(memory) => memory.history.set(Past::Known),
            Rebuilding::Redis(rebuilding) => rebuilding.finish().await?,
            Rebuilding::Done => {}
        }
        Ok(())
    }
}

impl Drop for Rebuild {
    fn drop(&mut self) {
        if let Rebuilding::Memory(memory) = &self.inner {
            memory.history.set(Past::Lost);
        }
    }
}
