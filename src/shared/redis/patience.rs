//! How long an answer is waited for.
//!
//! Nobody can see whether an answer that does not come is late or will never come. What can be seen is whether *anything*
//! comes: while Redis answers others on the same link, it works, and the answer is on its way. A call that went on alone then
//! would spend beside Redis what others spend in it. So the time-out is one of progress. It ends a wait when nothing at
//! all was heard for so long; and lateness is excused for [`EXCUSED`] in a row, because calls should not queue for long
//! before a Redis that cannot keep up.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::types::{Clock, clock::Elapsed};

/// For how long in a row answers may come late, as long as they come.
const EXCUSED: Duration = Duration::from_secs(1);

/// A process in which a timer fires so much late, or a few turns of all tasks take so long, is short of CPU.
const STARVED: Duration = Duration::from_millis(5);

/// How many turns of all tasks that are.
const TURNS: usize = 4;

/// So often an answer is waited for anew then.
const MOST_ROUNDS: u32 = 20;

/// What is known of answers on the link of all calls.
#[derive(Debug)]
pub(super) struct Patience {
    clock: Clock,
    began: Instant,
    /// The moment of the last answer, whoever got it, in microseconds since the beginning.
    heard: AtomicU64,
    /// Since when answers come late; 0: they do not.
    late_since: AtomicU64,
    waiting: AtomicU32,
}

impl Patience {
    pub(super) fn new(clock: Clock) -> Self {
        let began = clock.now();
        Self { clock, began, heard: AtomicU64::new(0), late_since: AtomicU64::new(0), waiting: AtomicU32::new(0) }
    }

    /// Notes that Redis has answered somebody.
    pub(super) fn heard(&self) {
        self.heard.store(self.micros(self.clock.now()), Relaxed);
    }

    /// Waits for `answer`: until nothing was heard of Redis for `timeout`, or answers have been late for too long.
    ///
    /// # Errors
    /// [`Elapsed`] when it is waited for no longer; the future is dropped.
    pub(super) async fn wait<F: Future>(&self, timeout: Duration, answer: F) -> Result<F::Output, Elapsed> {
        let mut answer = pin!(answer);
        let _waiting = Waiting::of(self);
        let asked = self.clock.now();
        let (mut deadline, mut rounds) = (asked + timeout, 0);
        loop {
            if let Ok(output) = self.clock.timeout_at(deadline, answer.as_mut()).await {
                if self.clock.now() <= asked + timeout {
                    self.late_since.store(0, Relaxed);
                }
                return Ok(output);
            }
            let fired = self.clock.now();
            // Whatever else wants to run gets its turns. If those take long, this process has had no time, and it was not
            // Redis that took it: the answer may lie there.
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            if let std::task::Poll::Ready(output) = futures_util::poll!(answer.as_mut()) {
                return Ok(output);
            }
            let now = self.clock.now();
            if fired >= deadline + STARVED || now >= fired + STARVED {
                if rounds >= MOST_ROUNDS {
                    return Err(Elapsed);
                }
                rounds += 1;
                deadline = now + timeout;
                self.late_since.store(0, Relaxed);
                continue;
            }
            deadline = self.excused(now, timeout).ok_or(Elapsed)?;
        }
    }

    /// Until when an answer that is late at `now` is waited for.
    fn excused(&self, now: Instant, timeout: Duration) -> Option<Instant> {
        let until = self.began + Duration::from_micros(self.heard.load(Relaxed)) + timeout;
        let at = self.micros(now);
        let since = match self.late_since.compare_exchange(0, at, Relaxed, Relaxed) {
            Ok(_) => at,
            Err(since) => since,
        };
        let end = self.began + Duration::from_micros(since) + EXCUSED;
        Some(until.min(end)).filter(|until| *until > now)
    }

    /// At least 1.
    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX).max(1)
    }
}

/// One that waits. When nobody does, whatever was late is over.
struct Waiting<'a>(&'a Patience);

impl<'a> Waiting<'a> {
    fn of(patience: &'a Patience) -> Self {
        patience.waiting.fetch_add(1, Relaxed);
        Self(patience)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Relaxed) == 1 {
            self.0.late_since.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::{FutureExt, poll};

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(50);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Moves the clock as smoothly as a machine with time to spare does, and lets `answered` hear of it each millisecond.
    async fn pass<F: Future + Unpin>(
        clock: &Clock,
        period: u64,
        wait: &mut F,
        mut each: impl FnMut(u64),
    ) -> Option<F::Output> {
        for milli in 0..period {
            clock.advance(millis(1));
            each(milli);
            for _ in 0..=TURNS + 1 {
                if let std::task::Poll::Ready(output) = poll!(&mut *wait) {
                    return Some(output);
                }
            }
        }
        None
    }

    #[tokio::test]
    async fn without_a_word_from_redis_the_wait_ends_with_the_time_out() {
        let clock = Clock::held();
        let patience = Patience::new(clock.clone());
        patience.heard();
        clock.advance(millis(500));
        let mut wait = pin!(patience.wait(TIMEOUT, pending::<()>()));
        assert!(poll!(&mut wait).is_pending());
        assert_eq!(pass(&clock, 49, &mut wait, |_| ()).await, None);
        assert_eq!(pass(&clock, 1, &mut wait, |_| ()).await, Some(Err(Elapsed)));
    }

    #[tokio::test]
    async fn while_others_are_answered_the_wait_goes_on_until_the_last_word_and_for_a_second() {
        let clock = Clock::held();
        let patience = Patience::new(clock.clone());
        // Every 40 ms somebody hears something, the last time after 400.
        let word = |milli: u64| {
            if milli % 40 == 39 {
                patience.heard();
            }
        };
        let mut wait = pin!(patience.wait(TIMEOUT, pending::<()>()));
        assert!(poll!(&mut wait).is_pending());
        assert_eq!(pass(&clock, 400, &mut wait, word).await, None);
        assert_eq!(pass(&clock, 49, &mut wait, |_| ()).await, None);
        assert_eq!(pass(&clock, 1, &mut wait, |_| ()).await, Some(Err(Elapsed)));
        // Late since the fiftieth, so the excuse ends a second after it, whatever is heard.
        let mut wait = pin!(patience.wait(TIMEOUT, pending::<()>()));
        assert!(poll!(&mut wait).is_pending());
        assert_eq!(pass(&clock, 1_049, &mut wait, word).await, None);
        assert_eq!(pass(&clock, 1, &mut wait, word).await, Some(Err(Elapsed)));
    }

    #[tokio::test]
    async fn when_nobody_waits_any_more_or_an_answer_is_in_time_the_excuse_begins_anew() {
        let clock = Clock::held();
        let patience = Patience::new(clock.clone());
        for round in 0..3 {
            let mut wait = pin!(patience.wait(TIMEOUT, pending::<()>()));
            assert!(poll!(&mut wait).is_pending());
            assert_eq!(pass(&clock, 700, &mut wait, |_| patience.heard()).await, None, "round {round}");
            if round == 1 {
                assert_eq!(patience.wait(TIMEOUT, ready(7)).await, Ok(7));
                assert_eq!(pass(&clock, 700, &mut wait, |_| patience.heard()).await, None, "it begins anew");
            }
        }
        let mut wait = pin!(patience.wait(TIMEOUT, pending::<()>()));
        assert!(poll!(&mut wait).is_pending());
        assert_eq!(pass(&clock, 1_100, &mut wait, |_| patience.heard()).await, Some(Err(Elapsed)));
    }

    #[tokio::test]
    async fn a_process_short_of_cpu_waits_anew_and_not_for_ever() {
        let clock = Clock::held();
        let patience = Patience::new(clock.clone());
        let mut wait = pin!(patience.wait(TIMEOUT, pending::<()>()));
        assert!(poll!(&mut wait).is_pending());
        let mut ended = None;
        for round in 0..=MOST_ROUNDS {
            assert_eq!(ended, None, "round {round}");
            clock.advance(TIMEOUT + STARVED);
            for _ in 0..=TURNS + 1 {
                ended = ended.or_else(|| (&mut wait).now_or_never());
                if ended.is_some() {
                    break;
                }
            }
        }
        assert_eq!(ended, Some(Err(Elapsed)));
    }
}
