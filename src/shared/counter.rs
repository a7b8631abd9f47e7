//! The words of what replicas agree on: counters, what is taken from them, and why it is refused.

use std::time::Duration;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Names a counter. The same on every replica and in every version, because it is a hash of what the counter counts and
/// nothing else.
///
/// The upper 32 bits are of the first part alone. By convention that is the rule: where there are too many counters, the
/// new ones of one rule share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterId(u128);

const RULE: u128 = 0xffff_ffff << 96;

impl CounterId {
    /// The counter of `parts`: the rule, then what tells its counters apart. Each part goes in with its length, so that
    /// `ab, c` is not `a, bc`.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Xxh3::new();
        let mut rule = None;
        for part in parts {
            rule.get_or_insert_with(|| xxh3_64(part));
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let rule = u128::from(rule.unwrap_or_default()) << 64;
        Self((rule & RULE) | (hash.digest128() & !RULE))
    }

    /// The counter that further counters of its rule share when there are too many.
    pub(super) fn overflow(self) -> Self {
        Self(self.0 & RULE)
    }

    pub(super) fn bits(self) -> u128 {
        self.0
    }
}

/// Over which time a counter counts. A counter has one window for as long as it lives: put it into the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// What was taken within the last `millis`; never more than the limit in any such span.
    Rolling { millis: u64 },
    /// Until this moment, in Unix milliseconds. The period's start belongs into the counter's id, so no job has to reset
    /// anything.
    Period { ends: u64 },
    /// Concurrency: held until it is given back.
    Slots,
}

/// What becomes of a take while Redis is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// This replica's share of what was left.
    #[default]
    Open,
    /// Refused.
    Closed,
}

/// What a call wants of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    pub counter: CounterId,
    pub window: Window,
    /// Requests, tokens, nano-dollars, slots.
    pub amount: u64,
    /// `u64::MAX`: counted only.
    pub limit: u64,
    pub when_down: WhenDown,
    /// Not answered before the counters are rebuilt from the ledger: money and long windows.
    pub needs_history: bool,
}

/// How full a counter is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Held and spent.
    pub used: u64,
    /// To a period's end, or until all that was taken from a rolling window is free again.
    pub resets_in: Duration,
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room.
    Short {
        /// Which of the takes: of several, the one that will have room last.
        index: usize,
        /// Without the take.
        level: Level,
        /// When there will be room if nothing else is taken. `None`: never, it is more than the limit. Nobody knows when
        /// slots are given back: a second.
        retry_after: Option<Duration>,
    },
    /// Redis is away and this take is [`WhenDown::Closed`], or its history is not there.
    Unavailable { index: usize },
}

/// What was spent, as the ledger knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    pub counter: CounterId,
    pub window: Window,
    pub amount: u64,
    /// When, in Unix milliseconds; a rolling window forgets it a window later. Of no meaning to a period.
    pub at: u64,
}

/// There are as many holds as can be settled without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many calls hold quotas or wait to be settled")]
pub struct Full;

/// What is shared cannot be reached or used. The text names no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharedError {
    #[error("Redis {0}")]
    Redis(String),
    #[error("another replica has taken over the rebuilding of the counters")]
    TakenOver,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_depends_on_where_parts_end_and_never_changes() {
        let id = |parts: &[&str]| CounterId::of(parts.iter().map(|part| part.as_bytes()));
        assert_ne!(id(&["r", "ab", "c"]), id(&["r", "a", "bc"]));
        assert_ne!(id(&["r", "a"]), id(&["r", "a", ""]));
        assert_eq!(id(&["r", "a"]).overflow(), id(&["r", "b"]).overflow());
        assert_ne!(id(&["r", "a"]).overflow(), id(&["q", "a"]).overflow());
        // Replicas of two versions must mean the same counter.
        assert_eq!(format!("{:032x}", id(&["rule", "key"]).bits()), "c938c9e574b9a83a50b9f3969d156266");
    }
}
