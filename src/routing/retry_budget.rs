//! The share of traffic that retries may add. When everything fails, each call would otherwise become several, and a
//! provider on its knees would be hit harder the worse it does.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// A token bucket without a lock. Each call deposits `max_share` of a token, each retry takes one. Beside it stands a
/// reserve that fills with time, so that a quiet gateway, whose calls deposit next to nothing, can retry at all.
#[derive(Debug)]
pub struct RetryBudget {
    /// What a call deposits, in millionths of a token.
    share: u64,
    /// What calls have deposited and retries not yet taken, in millionths of a token.
    deposited: AtomicU64,
    /// When the reserve will be full again, in nanoseconds since `start`: a bucket kept as the time it needs to refill
    /// (the generic cell rate algorithm of ATM, ITU-T I.371).
    full_at: AtomicU64,
    start: OnceLock<Instant>,
}

/// One token, in the unit of the deposit.
const TOKEN: u64 = 1_000_000;
/// The most that deposits add up to, in tokens.
const MAX_DEPOSIT: u64 = 100;
/// The reserve: 10 retries per second.
const RESERVE_INTERVAL: Duration = Duration::from_millis(100);
/// The most that the reserve adds up to, in tokens.
const RESERVE_BURST: u32 = 100;

impl RetryBudget {
    /// A budget for retries of `max_share` of all calls, from 0 to 1. 0 allows none at all, not even the reserve.
    pub fn new(max_share: f64) -> Self {
        // The cast turns NaN into 0.
        let share = (max_share.clamp(0.0, 1.0) * TOKEN as f64) as u64;
        Self { share, deposited: AtomicU64::new(0), full_at: AtomicU64::new(0), start: OnceLock::new() }
    }

    /// To be called once per client call.
    pub fn deposit(&self) {
        let add = |have: u64| (have < MAX_DEPOSIT * TOKEN).then(|| (have + self.share).min(MAX_DEPOSIT * TOKEN));
        // An error says that the bucket is full.
        _ = self.deposited.fetch_update(Relaxed, Relaxed, add);
    }

    /// Takes the right to one retry; `false` if there is none left.
    pub fn withdraw(&self, now: Instant) -> bool {
        if self.share == 0 {
            return false;
        }
        self.deposited.fetch_update(Relaxed, Relaxed, |have| have.checked_sub(TOKEN)).is_ok() || self.draw_reserve(now)
    }

    fn draw_reserve(&self, now: Instant) -> bool {
        let start = *self.start.get_or_init(|| now);
        let now = nanos(now.saturating_duration_since(start));
        let take = |full_at: u64| {
            let full_at = full_at.max(now).saturating_add(nanos(RESERVE_INTERVAL));
            (full_at - now <= nanos(RESERVE_INTERVAL * RESERVE_BURST)).then_some(full_at)
        };
        self.full_at.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Clock;

    /// How many retries in a row are granted at `now`.
    fn granted(budget: &RetryBudget, now: Instant) -> u32 {
        (0..).take_while(|_| budget.withdraw(now)).count() as u32
    }

    #[test]
    fn retries_get_their_share_of_calls_beyond_the_reserve() {
        for (share, calls, expected) in [(0.2, 0, 0), (0.2, 4, 0), (0.2, 50, 10), (1.0, 7, 7), (0.2, 1_000_000, 100)] {
            let budget = RetryBudget::new(share);
            let now = Clock::held().now();
            assert_eq!(granted(&budget, now), RESERVE_BURST);
            for _ in 0..calls {
                budget.deposit();
            }
            assert_eq!(granted(&budget, now), expected, "{share} {calls}");
        }
    }

    #[test]
    fn the_reserve_refills_with_time_up_to_its_burst() {
        let budget = RetryBudget::new(0.2);
        let start = Clock::held().now();
        assert_eq!(granted(&budget, start), 100);
        assert_eq!(granted(&budget, start + Duration::from_millis(99)), 0);
        assert_eq!(granted(&budget, start + Duration::from_millis(100)), 1);
        assert_eq!(granted(&budget, start + Duration::from_secs(2)), 19);
        assert_eq!(granted(&budget, start + Duration::from_secs(3_600)), 100);
        // A time from before the first one, as another thread may bring it, is no error.
        assert_eq!(granted(&budget, start), 0);
    }

    #[test]
    fn a_share_of_nothing_allows_no_retry() {
        for share in [0.0, -1.0, f64::NAN] {
            let budget = RetryBudget::new(share);
            budget.deposit();
            assert!(!budget.withdraw(Clock::held().now()), "{share}");
        }
    }

    #[test]
    fn under_total_failure_retries_stay_within_their_share() {
        let budget = RetryBudget::new(0.2);
        let start = Clock::held().now();
        let mut retries = 0;
        for call in 0..100_000 {
            budget.deposit();
            retries += u32::from(budget.withdraw(start + Duration::from_micros(call)));
        }
        // 20% of the calls, the burst of the reserve, and its refill over the 0.1 s that passed.
        assert_eq!(retries, 20_000 + 100);
    }
}
