//! What one counter holds, and its arithmetic. Pure: moments are handed in.

use std::collections::VecDeque;

use crate::shared::Window;

/// Buckets of a rolling window: an amount leaves at most a sixtieth of the window late, and never early.
const BUCKETS: u64 = 60;

/// When to try again for a slot: nobody knows when one is given back.
const SLOT_WAIT: u64 = 1_000;

/// A moment, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shared) struct Now {
    /// By a clock that is never set, for rolling windows. It began as the wall's.
    pub(in crate::shared) steady: u64,
    /// By the wall's clock, which periods are made of.
    pub(in crate::shared) wall: u64,
}

/// What was taken by one hold, and where it is counted: settling corrects the bucket it was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shared) struct Part {
    pub(in crate::shared) bucket: u64,
    pub(in crate::shared) amount: u64,
}

/// A counter's number, or numbers.
#[derive(Debug)]
pub(in crate::shared) enum Pot {
    Rolling(Rolling),
    Period { ends: u64, spent: u64, held: u64 },
    Slots { held: u64 },
}

/// A window that moves with time. Buckets that are empty do not exist.
#[derive(Debug)]
pub(in crate::shared) struct Rolling {
    millis: u64,
    width: u64,
    /// By their index, the oldest first.
    buckets: VecDeque<Bucket>,
    /// The sum of all buckets.
    used: u64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    index: u64,
    spent: u64,
    held: u64,
}

impl Pot {
    pub(in crate::shared) fn new(window: Window) -> Self {
        match window {
            Window::Rolling { millis } => Self::Rolling(Rolling::new(millis.max(1))),
            Window::Period { ends } => Self::Period { ends, spent: 0, held: 0 },
            Window::Slots => Self::Slots { held: 0 },
        }
    }

    /// Held and spent at `now`.
    pub(in crate::shared) fn used(&mut self, now: Now) -> u64 {
        match self {
            Self::Rolling(rolling) => {
                rolling.leave(now.steady);
                rolling.used
            }
            Self::Period { spent, held, .. } => spent.saturating_add(*held),
            Self::Slots { held } => *held,
        }
    }

    /// Milliseconds until there is room for `more` under `limit`; 0: there is. `None`: there never will be.
    pub(in crate::shared) fn wait(&mut self, now: Now, more: u64, limit: u64) -> Option<u64> {
        let used = self.used(now);
        let over = used.saturating_add(more).saturating_sub(limit);
        // A limit of all numbers is none: what is counted under it may not stop at the last one.
        if over == 0 || limit == u64::MAX {
            return Some(0);
        }
        if more > limit {
            return None;
        }
        Some(match self {
            Self::Rolling(rolling) => rolling.until_freed(now.steady, over),
            Self::Period { ends, .. } => ends.saturating_sub(now.wall).max(1),
            Self::Slots { .. } => SLOT_WAIT,
        })
    }

    /// Takes `amount`, whatever the limit, for a hold.
    pub(in crate::shared) fn take(&mut self, now: Now, amount: u64) -> Part {
        let bucket = match self {
            Self::Rolling(rolling) => {
                rolling.change(now.steady, |bucket| bucket.held = bucket.held.saturating_add(amount))
            }
            Self::Period { held, .. } | Self::Slots { held } => {
                *held = held.saturating_add(amount);
                0
            }
        };
        Part { bucket, amount }
    }

    /// Ends what a hold has taken: `actual` of it was consumed. Of a rolling window the parts taken first are the ones
    /// consumed; what exceeds them is consumed now.
    pub(in crate::shared) fn end(&mut self, now: Now, parts: &[Part], actual: u64) {
        match self {
            Self::Rolling(rolling) => {
                rolling.leave(now.steady);
                let mut rest = actual;
                for part in parts {
                    let consumed = rest.min(part.amount);
                    rest -= consumed;
                    rolling.settle(*part, consumed);
                }
                if rest > 0 {
                    rolling.change(now.steady, |bucket| bucket.spent = bucket.spent.saturating_add(rest));
                }
            }
            Self::Period { spent, held, .. } => {
                *held = held.saturating_sub(total(parts));
                *spent = spent.saturating_add(actual);
            }
            Self::Slots { held } => *held = held.saturating_sub(total(parts)),
        }
    }

    /// Spends `amount` without a hold.
    pub(in crate::shared) fn add(&mut self, now: Now, amount: u64) {
        self.end(now, &[], amount);
    }

    /// Forgets what was spent; what is held stays.
    pub(in crate::shared) fn forget_spent(&mut self) {
        match self {
            Self::Rolling(rolling) => rolling.forget_spent(),
            Self::Period { spent, .. } => *spent = 0,
            Self::Slots { .. } => {}
        }
    }

    /// Milliseconds to a period's end, or until a rolling window is empty.
    pub(in crate::shared) fn resets_in(&self, now: Now) -> u64 {
        match self {
            Self::Rolling(rolling) => {
                rolling.buckets.back().map_or(0, |last| rolling.leaves_at(last.index).saturating_sub(now.steady))
            }
            Self::Period { ends, .. } => ends.saturating_sub(now.wall),
            Self::Slots { .. } => 0,
        }
    }

    /// Whether nothing is lost when it is forgotten.
    pub(in crate::shared) fn is_idle(&mut self, now: Now) -> bool {
        match self {
            // A period's end is told by clocks that may differ a little.
            Self::Period { ends, .. } => now.wall > ends.saturating_add(60_000),
            Self::Rolling(_) | Self::Slots { .. } => self.used(now) == 0,
        }
    }
}

impl Rolling {
    fn new(millis: u64) -> Self {
        Self { millis, width: millis.div_ceil(BUCKETS), buckets: VecDeque::new(), used: 0 }
    }

    /// When a bucket leaves: its last millisecond is a whole window old.
    fn leaves_at(&self, index: u64) -> u64 {
        index.saturating_add(1).saturating_mul(self.width).saturating_sub(1).saturating_add(self.millis)
    }

    fn leave(&mut self, now: u64) {
        while let Some(first) = self.buckets.front()
            && self.leaves_at(first.index) <= now
        {
            self.used = self.used.saturating_sub(first.spent.saturating_add(first.held));
            self.buckets.pop_front();
        }
        if self.buckets.is_empty() {
            self.used = 0;
        }
    }

    /// Milliseconds until the oldest buckets that hold `amount` together have left.
    fn until_freed(&self, now: u64, amount: u64) -> u64 {
        let mut freed = 0_u64;
        for bucket in &self.buckets {
            freed = freed.saturating_add(bucket.spent).saturating_add(bucket.held);
            if freed >= amount {
                return self.leaves_at(bucket.index).saturating_sub(now).max(1);
            }
        }
        self.millis
    }

    /// Changes the bucket of the moment `at`, which is made if need be, and says which that is.
    fn change(&mut self, at: u64, change: impl FnOnce(&mut Bucket)) -> u64 {
        let index = at / self.width;
        let place = match self.buckets.back() {
            Some(last) if last.index == index => self.buckets.len() - 1,
            None => self.insert(0, index),
            Some(last) if last.index < index => self.insert(self.buckets.len(), index),
            // The past: from the ledger, or by a caller who looked at the clock before another and came after it.
            Some(_) => match self.find(index) {
                Ok(place) => place,
                Err(place) => self.insert(place, index),
            },
        };
        if let Some(bucket) = self.buckets.get_mut(place) {
            let before = bucket.spent.saturating_add(bucket.held);
            change(bucket);
            let after = bucket.spent.saturating_add(bucket.held);
            self.used = self.used.saturating_sub(before).saturating_add(after);
        }
        index
    }

    fn insert(&mut self, place: usize, index: u64) -> usize {
        self.buckets.insert(place, Bucket { index, spent: 0, held: 0 });
        place
    }

    fn find(&self, index: u64) -> Result<usize, usize> {
        self.buckets.binary_search_by_key(&index, |bucket| bucket.index)
    }

    /// Of `part`, `consumed` is spent and the rest is given back; what has left the window is nobody's any more.
    fn settle(&mut self, part: Part, consumed: u64) {
        let Ok(place) = self.find(part.bucket) else { return };
        let Some(bucket) = self.buckets.get_mut(place) else { return };
        bucket.held = bucket.held.saturating_sub(part.amount);
        bucket.spent = bucket.spent.saturating_add(consumed);
        self.used = self.used.saturating_sub(part.amount).saturating_add(consumed);
        if bucket.held == 0 && bucket.spent == 0 {
            self.buckets.remove(place);
        }
    }

    fn forget_spent(&mut self) {
        for bucket in &mut self.buckets {
            self.used = self.used.saturating_sub(bucket.spent);
            bucket.spent = 0;
        }
        self.buckets.retain(|bucket| bucket.held > 0);
    }
}

fn total(parts: &[Part]) -> u64 {
    parts.iter().fold(0, |sum, part| sum.saturating_add(part.amount))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        Now { steady: millis, wall: millis }
    }

    #[test]
    fn a_rolling_window_frees_what_is_a_whole_window_old_and_nothing_sooner() {
        let mut pot = Pot::new(Window::Rolling { millis: 60_000 });
        // Buckets of a second: one that begins before the take and ends after it.
        pot.take(at(10_500), 3);
        pot.take(at(40_000), 4);
        assert_eq!((pot.used(at(69_999)), pot.used(at(70_998))), (7, 7));
        assert_eq!((pot.used(at(70_999)), pot.used(at(100_998)), pot.used(at(100_999))), (4, 4, 0));
    }

    #[test]
    fn the_wait_is_the_time_after_which_it_fits() {
        let mut pot = Pot::new(Window::Rolling { millis: 60_000 });
        for (moment, amount) in [(1_000, 3), (20_000, 3), (41_000, 4)] {
            assert_eq!(pot.wait(at(moment), amount, 10), Some(0));
            pot.take(at(moment), amount);
        }
        for (more, limit) in [(1, 10), (3, 10), (4, 10), (7, 10), (10, 10)] {
            let now = 50_000;
            let wait = pot.wait(at(now), more, limit).unwrap();
            assert!(wait > 0);
            // Looking ahead forgets what leaves on the way, so each look has a copy.
            let Pot::Rolling(rolling) = &pot else { panic!() };
            let copy = || {
                let buckets = rolling.buckets.clone();
                Pot::Rolling(Rolling { buckets, ..*rolling })
            };
            assert_ne!(copy().wait(at(now + wait - 1), more, limit), Some(0), "{more} fits sooner");
            assert_eq!(copy().wait(at(now + wait), more, limit), Some(0), "{more} does not fit after {wait} ms");
        }
        assert_eq!(pot.wait(at(50_000), 11, 10), None);
    }

    #[test]
    fn settling_corrects_the_bucket_and_what_has_left_is_not_corrected() {
        let mut pot = Pot::new(Window::Rolling { millis: 60_000 });
        let early = pot.take(at(1_000), 5);
        let late = pot.take(at(50_000), 5);
        pot.end(at(61_500), &[early], 9);
        // The five of the first second are still in the window; the four beyond them are of now.
        assert_eq!(pot.used(at(61_500)), 14);
        assert_eq!(pot.used(at(61_999)), 9);
        pot.end(at(200_000), &[late], 1);
        assert_eq!(pot.used(at(200_000)), 0);
    }

    #[test]
    fn the_parts_taken_first_are_the_ones_consumed() {
        let mut pot = Pot::new(Window::Rolling { millis: 60_000 });
        let parts = [pot.take(at(1_000), 5), pot.take(at(30_000), 5)];
        pot.end(at(31_000), &parts, 6);
        assert_eq!((pot.used(at(60_999)), pot.used(at(61_999))), (6, 1));
    }
}
