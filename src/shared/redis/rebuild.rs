//! Rebuilding counters that Redis has lost, by one replica for all, under a lock that ends with whoever dies; and, while
//! Redis is away, rebuilding what this replica knows of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{
    Redis, Standing,
    pack::Pack,
    pack_spent,
    scripts::{Answer, OK, PUT, REBUILD},
};
use crate::shared::{CounterId, SharedError, Spent, Window, history::Past};

/// Entries for one run of the script.
const AT_ONCE: usize = 200;

/// Who did not get the right asks again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// The right to rebuild.
#[derive(Debug)]
pub(in crate::shared) struct Rebuilding {
    redis: Arc<Redis>,
    /// Redis's counters, or what this replica knows of them.
    there: bool,
    done: bool,
}

impl Redis {
    pub(in crate::shared) async fn begin_rebuild(self: &Arc<Self>) -> Option<Rebuilding> {
        if !self.history.begin() {
            return None;
        }
        let there = match self.standing() {
            Standing::Away => false,
            Standing::Empty => {
                // What was given up a moment ago is taken up again.
                self.left.store(false, Relaxed);
                if self.rebuild("begin", "").await.is_none_or(|answer| answer.status != OK) {
                    // Another has it, or Redis did not answer. The keeper sees which, or this one asks again.
                    self.clock.sleep(AGAIN).await;
                    self.lost_again();
                    return None;
                }
                true
            }
            // The keeper is at it.
            Standing::Joining | Standing::Up => return None,
        };
        Some(Rebuilding { redis: self.clone(), there, done: false })
    }

    /// What was being rebuilt is not, unless it has been in the meantime.
    fn lost_again(&self) {
        if matches!(self.standing(), Standing::Away | Standing::Empty) && !self.history.is_known() {
            self.history.set(Past::Lost);
        }
    }

    pub(super) async fn rebuild(&self, what: &str, epoch: &str) -> Option<Answer> {
        let lock = format!("{}rebuild", self.prefix);
        let keys = [&*self.epoch_key, lock.as_bytes()];
        self.ask(&REBUILD, &keys, &[self.session.as_bytes(), what.as_bytes(), epoch.as_bytes()]).await
    }
}

impl Rebuilding {
    pub(in crate::shared) fn counted_since(&self) -> u64 {
        self.redis.alone_since.load(Relaxed)
    }

    /// # Errors
    /// When Redis does not answer, or another has taken over.
    pub(in crate::shared) async fn put(&self, spent: &[Spent]) -> Result<(), SharedError> {
        let mut counters: BTreeMap<CounterId, Vec<Spent>> = BTreeMap::new();
        for entry in spent {
            counters.entry(entry.counter).or_default().push(*entry);
        }
        if !self.there {
            self.put_here(&counters);
            return Ok(());
        }
        let mut batch: Vec<Spent> = Vec::new();
        for entries in counters.into_values() {
            if !batch.is_empty() && batch.len() + entries.len() > AT_ONCE {
                self.put_there(&std::mem::take(&mut batch)).await?;
            }
            batch.extend(entries);
        }
        self.put_there(&batch).await
    }

    async fn put_there(&self, spent: &[Spent]) -> Result<(), SharedError> {
        let redis = &self.redis;
        let mut pack = Pack::new(64 + spent.len() * 48);
        pack.text(&redis.prefix).text(&redis.session);
        pack_spent(&mut pack, spent, redis.clock.unix_millis());
        let lock = format!("{}rebuild", redis.prefix);
        judge(redis.ask(&PUT, &[lock.as_bytes()], &[&pack.finish()]).await)
    }

    /// What was spent is what was last seen of a counter, had Redis been asked now.
    fn put_here(&self, counters: &BTreeMap<CounterId, Vec<Spent>>) {
        let (steady, wall) = (self.redis.local.now().steady, self.redis.clock.unix_millis());
        for (id, entries) in counters {
            let inside = |entry: &&Spent| match entry.window {
                Window::Rolling { millis } => entry.at.saturating_add(millis) > wall,
                Window::Period { .. } | Window::Slots => true,
            };
            let used = entries.iter().filter(inside).fold(0, |sum: u64, entry| sum.saturating_add(entry.amount));
            self.redis.seen.note(*id, used, steady);
        }
    }

    /// # Errors
    /// When Redis does not answer, or another has taken over.
    pub(in crate::shared) async fn finish(mut self) -> Result<(), SharedError> {
        if self.there {
            let epoch = format!("{:016x}", fastrand::u64(..));
            judge(self.redis.rebuild("finish", &epoch).await)?;
            self.redis.accounts.wake.notify_one();
        } else if self.redis.standing() == Standing::Away {
            self.redis.history.set(Past::Known);
        }
        self.done = true;
        Ok(())
    }
}

fn judge(answer: Option<Answer>) -> Result<(), SharedError> {
    match answer.map(|answer| answer.status) {
        Some(OK) => Ok(()),
        Some(_) => Err(SharedError::TakenOver),
        None => Err(SharedError::Redis("does not answer".to_owned())),
    }
}

impl Drop for Rebuilding {
    fn drop(&mut self) {
        if !self.done {
            // The keeper gives the lock back, and then sees that nobody has it.
            self.redis.left.store(true, Relaxed);
            self.redis.accounts.wake.notify_one();
            self.redis.lost_again();
        }
    }
}
