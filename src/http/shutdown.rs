//! The way out, in phases, so that a rolling restart fails no call.
//!
//! On SIGTERM `/readyz` says no at once while connections are still accepted for `pre_stop`, so that load balancers
//! can notice. Then nothing new is accepted, idle connections are closed and busy ones may finish within `grace`.
//! Streams still open after that are told to end with an error event, and [`LAST_WORDS`] later what is left is dropped.

use std::time::Duration;

use tokio::sync::watch;

use super::settings::Drain;
use crate::types::Clock;

/// How long a stream that was cut has to send its error event.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where the gateway is between its start and its end. Phases only move forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Still serving and accepting, but no longer ready.
    PreStop,
    /// Accepting nothing; calls in flight go on.
    Draining,
    /// Calls still in flight must end now, with an error their client can read.
    Cut,
    /// Connections are dropped.
    Closed,
}

/// The phase, shared by everyone who must know it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<Phase>);

impl Shutdown {
    /// A gateway that runs.
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }

    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Whether `/readyz` should say yes.
    pub fn ready(&self) -> bool {
        self.phase() == Phase::Running
    }

    /// Ends when `phase` has been reached, at once if it already has. A body that streams waits for [`Phase::Cut`].
    pub async fn reached(&self, phase: Phase) {
        // It cannot fail: this future holds a sender.
        let _ = self.0.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Walks through all phases. Run it beside the servers and drop it when they have all returned: they do as soon
    /// as their last connection has ended.
    pub async fn stop(&self, clock: &Clock, drain: &Drain) {
        self.advance(Phase::PreStop);
        clock.sleep(drain.pre_stop.0).await;
        self.advance(Phase::Draining);
        clock.sleep(drain.grace.0).await;
        self.advance(Phase::Cut);
        clock.sleep(LAST_WORDS).await;
        self.advance(Phase::Closed);
    }

    /// Goes to `phase` unless it is already behind: a second signal may jump ahead.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let ahead = phase > *now;
            *now = phase.max(*now);
            ahead
        });
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Period;

    #[tokio::test]
    async fn phases_come_in_order_and_only_forward() {
        let (shutdown, clock) = (Shutdown::new(), Clock::held());
        let drain = Drain { pre_stop: Period::from_secs(5), grace: Period::from_secs(30) };
        assert!(shutdown.ready());
        let mut stop = std::pin::pin!(shutdown.stop(&clock, &drain));
        for (advance, expected) in
            [(0, Phase::PreStop), (4, Phase::PreStop), (1, Phase::Draining), (30, Phase::Cut), (1, Phase::Closed)]
        {
            clock.advance(Duration::from_secs(advance));
            let _ = futures_util::poll!(stop.as_mut());
            assert_eq!(shutdown.phase(), expected);
            assert!(!shutdown.ready());
        }
        shutdown.advance(Phase::Draining);
        assert_eq!(shutdown.phase(), Phase::Closed);
        shutdown.reached(Phase::Cut).await;
    }
}
