//! How long to wait before a target that failed is tried again.

use std::time::Duration;

/// Exponential backoff with full jitter: `draw × min(max, base × 2^(retry − 1))`, `draw` uniform in [0, 1) and `retry`
/// counted from 1. Full jitter spreads the retries of many clients best; see "Exponential Backoff And Jitter", AWS
/// Architecture Blog, 2015.
pub fn full_jitter(retry: u32, base: Duration, max: Duration, draw: f64) -> Duration {
    let ceiling = base.saturating_mul(1 << retry.saturating_sub(1).min(31)).min(max);
    Duration::try_from_secs_f64(ceiling.as_secs_f64() * draw).unwrap_or(ceiling).min(ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_with_each_retry_up_to_the_longest() {
        let (base, max) = (Duration::from_millis(250), Duration::from_secs(8));
        for (retry, millis) in [(0, 250), (1, 250), (2, 500), (3, 1_000), (6, 8_000), (7, 8_000), (u32::MAX, 8_000)] {
            assert_eq!(full_jitter(retry, base, max, 1.0), Duration::from_millis(millis), "{retry}");
            assert_eq!(full_jitter(retry, base, max, 0.5), Duration::from_millis(millis) / 2, "{retry}");
            assert_eq!(full_jitter(retry, base, max, 0.0), Duration::ZERO, "{retry}");
        }
    }

    #[test]
    fn absurd_settings_and_draws_do_not_overflow() {
        for draw in [0.0, 0.999, 1.0, 2.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(full_jitter(40, Duration::MAX, Duration::MAX, draw) <= Duration::MAX);
            assert!(full_jitter(2, Duration::from_secs(1), Duration::from_secs(1), draw) <= Duration::from_secs(1));
        }
    }
}
