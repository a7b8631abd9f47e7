//! Calls and failures of the last while, in constant memory.

use std::time::{Duration, Instant};

/// Into how many parts the window is cut; it slides by one part at a time.
const PARTS: usize = 10;

/// A ring of counts, one per part of the window.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    parts: [Counts; PARTS],
    /// The part that is being filled.
    current: usize,
    /// When the current part began; `None` before the first call.
    began: Option<Instant>,
}

/// What happened in a part of the window, or in all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u32,
    pub(super) failures: u32,
}

impl Window {
    /// Counts what happened at `now` in a window of length `length`.
    pub(super) fn add(&mut self, counts: Counts, now: Instant, length: Duration) {
        self.slide(now, length);
        let part = &mut self.parts[self.current];
        part.calls = part.calls.saturating_add(counts.calls);
        part.failures = part.failures.saturating_add(counts.failures);
    }

    /// What happened in the window that ends at `now`: in its nine last whole parts and the current one.
    pub(super) fn total(&mut self, now: Instant, length: Duration) -> Counts {
        self.slide(now, length);
        self.parts.iter().fold(Counts::default(), |sum, part| Counts {
            calls: sum.calls.saturating_add(part.calls),
            failures: sum.failures.saturating_add(part.failures),
        })
    }

    /// Empties the parts that lie before the window that ends at `now`.
    fn slide(&mut self, now: Instant, length: Duration) {
        let part = (length / PARTS as u32).max(Duration::from_millis(1));
        let Some(began) = self.began else {
            self.began = Some(now);
            return;
        };
        let passed = now.saturating_duration_since(began).as_nanos() / part.as_nanos();
        if passed >= PARTS as u128 {
            *self = Self { began: Some(now), ..Self::default() };
            return;
        }
        for _ in 0..passed {
            self.current = (self.current + 1) % PARTS;
            self.parts[self.current] = Counts::default();
        }
        // Less than PARTS, so the cast keeps the value.
        self.began = Some(began + part * passed as u32);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::Clock;

    proptest! {
        #[test]
        fn the_total_is_that_of_the_last_nine_to_ten_parts(
            calls in prop::collection::vec((0..3_000u64, any::<bool>()), 1..200),
        ) {
            let length = Duration::from_secs(10);
            let mut window = Window::default();
            let mut now = Clock::held().now();
            let mut past: Vec<(Instant, bool)> = Vec::new();
            for (step, failed) in calls {
                now += Duration::from_millis(step);
                past.push((now, failed));
                window.add(Counts { calls: 1, failures: u32::from(failed) }, now, length);
                let total = window.total(now, length);
                let within = |age: Duration| past.iter().filter(move |(at, _)| now - *at < age);
                let (inner, outer) = (Duration::from_secs(9), length);
                prop_assert!(total.calls as usize >= within(inner).count() && total.calls as usize <= within(outer).count());
                let failures = total.failures as usize;
                prop_assert!(failures >= within(inner).filter(|c| c.1).count());
                prop_assert!(failures <= within(outer).filter(|c| c.1).count());
            }
        }
    }

    #[test]
    fn a_window_of_no_length_is_no_division_by_zero() {
        let mut window = Window::default();
        let now = Clock::held().now();
        window.add(Counts { calls: 1, failures: 0 }, now, Duration::ZERO);
        assert_eq!(window.total(now, Duration::ZERO).calls, 1);
        assert_eq!(window.total(now + Duration::from_secs(1), Duration::ZERO).calls, 0);
    }
}
