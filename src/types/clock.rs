//! The one place that tells the time. Tests hold the clock and move it by hand, so nothing ever waits for real.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Tells the time and sleeps. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    Real,
    /// A clock that moves only when [`Clock::advance`] is called.
    Held(Arc<Held>),
}

/// The state of a held clock.
#[derive(Debug)]
pub struct Held {
    start: Instant,
    wall_start: SystemTime,
    state: Mutex<HeldState>,
}

#[derive(Debug, Default)]
struct HeldState {
    elapsed: Duration,
    sleepers: Vec<(Instant, Waker)>,
}

impl Clock {
    /// A clock that stands still until [`Clock::advance`]; its wall clock starts at the real one.
    #[expect(clippy::disallowed_methods, reason = "the clock is the one door to the machine's time")]
    pub fn held() -> Self {
        let (start, wall_start) = (Instant::now(), SystemTime::now());
        Self::Held(Arc::new(Held { start, wall_start, state: Mutex::default() }))
    }

    /// Monotonic time, for deadlines and latencies.
    #[expect(clippy::disallowed_methods, reason = "the clock is the one door to the machine's time")]
    pub fn now(&self) -> Instant {
        match self {
            Self::Real => Instant::now(),
            Self::Held(held) => held.start + held.state().elapsed,
        }
    }

    /// Wall-clock time, for dates of expiry and log lines.
    #[expect(clippy::disallowed_methods, reason = "the clock is the one door to the machine's time")]
    pub fn wall(&self) -> SystemTime {
        match self {
            Self::Real => SystemTime::now(),
            Self::Held(held) => held.wall_start + held.state().elapsed,
        }
    }

    /// Wall-clock time in Unix milliseconds.
    pub fn unix_millis(&self) -> u64 {
        self.wall().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    /// A future that ends at `deadline`. It may be re-armed with [`Sleep::reset`].
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        match self {
            Self::Real => Sleep::Real(Box::pin(tokio::time::sleep_until(deadline.into()))),
            Self::Held(held) => Sleep::Held { held: held.clone(), deadline },
        }
    }

    /// A future that ends after `period`.
    pub fn sleep(&self, period: Duration) -> Sleep {
        self.sleep_until(self.now() + period)
    }

    /// Runs `future` until it ends or `deadline` passes.
    ///
    /// # Errors
    /// [`Elapsed`] when the deadline came first; the future is dropped.
    pub async fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
        let mut future = std::pin::pin!(future);
        // The common case ends before anything is armed: no timer entry for work that is already done.
        if let Poll::Ready(output) = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Ok(output);
        }
        let mut sleep = self.sleep_until(deadline);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Moves a held clock forward and wakes whoever slept until then. Does nothing to the real one.
    pub fn advance(&self, by: Duration) {
        let Self::Held(held) = self else { return };
        let mut state = held.state();
        state.elapsed += by;
        let now = held.start + state.elapsed;
        let (due, rest) = state.sleepers.drain(..).partition(|(deadline, _)| *deadline <= now);
        state.sleepers = rest;
        drop(state);
        let due: Vec<(Instant, Waker)> = due;
        for (_, waker) in due {
            waker.wake();
        }
    }
}

/// A deadline passed before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// A future that ends when its deadline has come.
#[derive(Debug)]
pub enum Sleep {
    Real(Pin<Box<tokio::time::Sleep>>),
    Held { held: Arc<Held>, deadline: Instant },
}

impl Sleep {
    /// Moves the deadline.
    pub fn reset(&mut self, to: Instant) {
        match self {
            Self::Real(sleep) => sleep.as_mut().reset(to.into()),
            Self::Held { deadline, .. } => *deadline = to,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Self::Real(sleep) => sleep.as_mut().poll(cx),
            Self::Held { held, deadline } => {
                let mut state = held.state();
                if held.start + state.elapsed >= *deadline {
                    return Poll::Ready(());
                }
                state.sleepers.push((*deadline, cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Held {
    fn state(&self) -> MutexGuard<'_, HeldState> {
        // Nothing below can panic while the lock is held, and a poisoned time would still be a time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
